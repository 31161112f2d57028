"""The command line: a thin layer over `medrobust.api`. Heavy imports wait until a command runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from medrobust import __version__
from medrobust.core import Task
from medrobust.errors import MedrobustError

FAILED, INTERRUPTED = 1, 3


class Guarded(TyperGroup):
    """One readable message and the right exit code for everything that can go wrong.

    Typer itself exits with 2 on wrong usage.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run a command; 1 where the data, the study or the run failed, 3 where a person interrupted it."""
        errors = Console(stderr=True, soft_wrap=True)
        try:
            return super().invoke(ctx)
        except MedrobustError as error:
            errors.print(f"Error: {error}", style="red", markup=False, highlight=False)
            raise typer.Exit(FAILED) from None
        except BrokenPipeError:
            raise  # of `medrobust list | head`; Click ends quietly
        except OSError as error:
            errors.print(f"Error: {error}", style="red", markup=False, highlight=False)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            errors.print("Interrupted. What is finished is kept; the same command goes on from there.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class DemoTask(StrEnum):
    """What `medrobust demo` runs."""

    CLASSIFICATION = "classification"
    SEGMENTATION = "segmentation"
    BOTH = "both"


class Listing(StrEnum):
    """What `medrobust list` shows."""

    MODELS = "models"
    PERTURBATIONS = "perturbations"
    DATASETS = "datasets"


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"medrobust {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find out which medical-imaging network to trust.

    Clean, noisy and adversarial performance, with intervals.
    """


StudyFile = Annotated[
    Path, typer.Argument(help="The study, a YAML file. `medrobust init` writes one.", show_default=False)
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder that the `root` of the study's data is relative to.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Change a key of the study, e.g. models.unet.width=16."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps; auto takes the best there is.")]


@app.command()
def demo(
    task: Annotated[DemoTask, typer.Option(help="Which of the two studies to run.")] = DemoTask.BOTH,
    out: Annotated[Path, typer.Option(help="Folder for the run folders and reports.")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Run the whole protocol on embedded phantoms: train, attack, report."""
    from medrobust import api

    # Segmentation first: its report is there within minutes.
    both = [Task.SEGMENTATION, Task.CLASSIFICATION]
    for chosen in both if task is DemoTask.BOTH else [Task(task)]:
        folder = out / chosen if task is DemoTask.BOTH else out
        finished = api.run(api.demo_study(chosen), out=folder, device=device, console=Console())
        _say_where(finished.report)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write the study.", show_default=False)],
    task: Annotated[Task, typer.Option(help="What your networks do.")] = Task.SEGMENTATION,
    data: Annotated[str | None, typer.Option(help="A data set from `medrobust list datasets`.")] = None,
) -> None:
    """Write a commented study to start from."""
    from medrobust import api

    api.write_template(file, task, data)
    typer.echo(f"Wrote {file}. Edit it, then: medrobust run {file} --out runs/{file.stem}")


@app.command()
def run(
    study: StudyFile,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; runs/<name of the study> by default.")
    ] = None,
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Run a study, or go on where it stopped."""
    from medrobust import api

    folder = out or Path("runs") / study.stem
    finished = api.run(study, out=folder, data=data, changes=changes or (), device=device, console=Console())
    _say_where(finished.report)


@app.command()
def selftest(
    study: StudyFile,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; runs/<name of the study> by default.")
    ] = None,
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """See whether the attacks of a study are as strong as they should be on its networks.

    Trains what is not trained yet; `medrobust run` goes on in the same folder. Ends with exit code 1 where a
    test failed.
    """
    from medrobust import api

    folder, console = out or Path("runs") / study.stem, Console()
    rows = api.selftest(study, out=folder, data=data, changes=changes or (), device=device, console=console)
    console.print(api.selftest_table(rows))
    if not rows["passed"].fill_null(True).all():
        raise typer.Exit(FAILED)


@app.command()
def audit(
    study: StudyFile,
    data: DataFolder = None,
    changes: Changes = None,
    document: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything found as JSON.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with thumbnails that opens offline."),
    ] = None,
) -> None:
    """Read the data as a run would, change nothing, and say what is wrong with them.

    Ends with exit code 0 where there is no error (warnings and notes may be), and 1 where there is one.
    """
    from medrobust import api

    console = Console()
    found = api.audit(study, data=data, changes=changes or (), console=console)
    if found.findings:
        console.print(api.findings_table(found))
    console.print(api.summary(found), markup=False, highlight=False, soft_wrap=True)
    if document:
        api.write_audit(found, document)
    if page:
        api.write_audit_page(found, page)
    if not found.is_sound:
        raise typer.Exit(FAILED)


@app.command()
def report(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="A finished run folder.", show_default=False)
    ],
) -> None:
    """Make tables, figures and report.html anew from a run folder."""
    from medrobust import api

    _say_where(api.Run.open(run_folder).write_report())


@app.command(name="list")
def listing(
    what: Annotated[Listing | None, typer.Argument(help="One catalogue; all of them by default.")] = None,
) -> None:
    """List the networks, perturbations and data sets there are."""
    from medrobust import api

    console = Console()
    for chosen in [what] if what else list(Listing):
        console.print(api.catalogue_table(chosen.value))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a study, for editors."""
    import json

    from medrobust.study.schema import study_schema

    typer.echo(json.dumps(study_schema(), indent=2))


def _say_where(path: Path) -> None:
    typer.echo(f"Report: {path}")

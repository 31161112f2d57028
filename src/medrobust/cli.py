"""The command line. Each command is a few lines over `medrobust.api`, which is imported when one runs."""

import json
import os
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from typer.core import TyperGroup

from medrobust import __version__
from medrobust.core import Task
from medrobust.errors import MedrobustError, reason
from medrobust.text import output
from medrobust.threads import sharing_cores

os.environ.update(sharing_cores(os.environ))  # before torch is imported

FAILED, INTERRUPTED = 1, 3
"""Exit codes beside 0 (done) and 2 (wrong usage, which Typer finds)."""


class Guarded(TyperGroup):
    """Ends whatever goes wrong with one message and the right exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        before = signal.signal(signal.SIGTERM, _interrupt)  # what a cluster sends before it kills
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # of `medrobust list | head`; Typer ends quietly
        except (MedrobustError, OSError) as error:
            _say_error(str(error))
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            Console(stderr=True, soft_wrap=True).print(
                "Interrupted. Finished work is kept; the same command resumes from there."
            )
            raise typer.Exit(INTERRUPTED) from None
        finally:
            signal.signal(signal.SIGTERM, before)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program; an unexpected error is kept in a file, so that it can be reported."""
        try:
            return super().main(*args, **extra)
        except Exception as error:
            with tempfile.NamedTemporaryFile("w", prefix="medrobust-", suffix=".txt", delete=False) as file:
                traceback.print_exc(file=file)
            _say_error(
                f"{reason(error)}. This should not happen. Please report it together with {file.name}, which "
                "says where."
            )
            sys.exit(FAILED)


def _interrupt(number: int, frame: object) -> None:
    """End as after Ctrl-C."""
    raise KeyboardInterrupt


def _say_error(message: str) -> None:
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"Error: {message}", style="red", markup=False, highlight=False)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"medrobust {__version__}")
        raise typer.Exit
    return wanted


app = typer.Typer(
    cls=Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# What several commands take.
StudyFile = Annotated[
    Path, typer.Argument(help="The study, a YAML file. `medrobust init` writes one.", show_default=False)
]
RunDir = Annotated[
    str,
    typer.Argument(
        metavar="RUN_DIR", help="A finished run folder, or its URL (s3://bucket/run).", show_default=False
    ),
]
RunOut = Annotated[
    str | None,
    typer.Option(metavar="RUN_DIR", help="The run folder, or its URL. Default: runs/<name of the study>."),
]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder to which the `root` of the study's data is relative.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Change a key of the study, e.g. models.unet.width=16."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps; auto takes the best available.")]


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find out which medical-imaging network to trust.

    Clean, noisy and adversarial performance, with intervals.
    """


@app.command()
def demo(
    task: Annotated[
        Literal["classification", "segmentation", "both"],
        typer.Option(help="Which of the two studies to run."),
    ] = "both",
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder, or URL, for the run folders and reports.")
    ] = "demo",
    full: Annotated[
        bool, typer.Option("--full", help="With the paper's kinds of networks: half an hour on two cores.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Run the whole protocol on generated phantoms: train, attack, report."""
    from medrobust import api

    # Classification first: its report is there sooner.
    both = [Task.CLASSIFICATION, Task.SEGMENTATION]
    for chosen in both if task == "both" else [Task(task)]:
        folder = f"{out.rstrip('/')}/{chosen}" if task == "both" else out
        finished = api.run(api.demo_study(chosen, full=full), out=folder, device=device, console=output())
        typer.echo(f"Report: {finished.report}")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write the study.", show_default=False)],
    task: Annotated[Task, typer.Option(help="What your networks do.")] = Task.SEGMENTATION,
    data: Annotated[str | None, typer.Option(help="A data set from `medrobust list datasets`.")] = None,
) -> None:
    """Write a commented study to start from."""
    from medrobust import api

    api.write_template(file, task, data)
    typer.echo(f"Wrote {file}. Edit it, then run: medrobust run {file} --out runs/{file.stem}")


@app.command()
def run(
    study: StudyFile,
    out: RunOut = None,
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Work in this process, or on the workers of a Ray cluster."),
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Address of the Ray cluster. Default: start one on this machine.")
    ] = None,
) -> None:
    """Run a study, or resume it where it stopped."""
    from medrobust import api

    finished = api.run(
        study,
        out=out or Path("runs") / study.stem,
        data=data,
        changes=changes or (),
        device=device,
        console=output(),
        executor=executor,
        address=address,
    )
    typer.echo(f"Report: {finished.report}")


@app.command()
def plan(
    study: StudyFile,
    out: RunOut = None,
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Show the jobs of a study, what is done, and the time and disk that the rest takes. Runs nothing."""
    from medrobust import api

    folder = out or Path("runs") / study.stem
    api.plan(study, out=folder, data=data, changes=changes or (), device=device, console=output())


@app.command()
def audit(
    study: StudyFile,
    data: DataFolder = None,
    changes: Changes = None,
    document: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all findings as JSON.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with thumbnails that opens offline."),
    ] = None,
) -> None:
    """Read the data as a run would, change nothing, and say what is wrong with them.

    The exit code is 1 if there is an error, and 0 if there are only warnings, notes, or nothing.
    """
    from medrobust import api

    console = output()
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
def check(
    what: Annotated[
        str,
        typer.Argument(
            metavar="STUDY.yaml|MODULE:FUNCTION", help="A study, or code of yours.", show_default=False
        ),
    ],
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Try a study's networks and data before any work, or a network, attack, data set or score of yours.

    The exit code is 1 if something is wrong.
    """
    from medrobust import api

    found = api.check(what, data=data, changes=changes or (), device=device, console=output())
    for problem in found.problems:
        typer.echo(f"- {problem}")
    if found.problems:
        raise typer.Exit(FAILED)
    typer.echo(f"{what}: nothing is wrong with this {found.kind}.")


@app.command()
def selftest(
    study: StudyFile,
    out: RunOut = None,
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Test whether the attacks of a study are as strong on its networks as they should be.

    Trains what is not trained yet; `medrobust run` continues in the same folder. The exit code is 1 if a
    test failed.
    """
    from medrobust import api

    folder, console = out or Path("runs") / study.stem, output()
    rows = api.selftest(study, out=folder, data=data, changes=changes or (), device=device, console=console)
    console.print(api.selftest_table(rows))
    if not rows["passed"].all():  # null: did not apply
        raise typer.Exit(FAILED)


@app.command()
def report(
    run_folder: RunDir,
    pdf: Annotated[
        bool,
        typer.Option("--pdf", help="Print the report to report.pdf too, by the browser that is there."),
    ] = False,
) -> None:
    """Rebuild tables, figures and report.html from a run folder."""
    from medrobust import api

    run = api.Run.open(run_folder)
    typer.echo(f"Report: {run.write_report(pdf=pdf)}")
    if pdf:
        missing = [sentence for sentence in run.warnings if sentence.startswith("No report.pdf")]
        typer.echo(missing[0] if missing else f"Printed: {run.folder.address('report.pdf')}")


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN_DIR",
            help="Finished run folders or URLs, the earliest first, named after their folders or as you say.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder, or URL, for the report, its tables and figures.")
    ] = "comparison",
    perturbation: Annotated[
        list[str] | None,
        typer.Option(help="Label of an attack or noise to compare; repeatable. Default: all in common."),
    ] = None,
) -> None:
    """Compare finished runs on the same data: new network and old one, or before and after a defence."""
    from medrobust import api

    compared = api.compare(runs, out, perturbations=perturbation or ())
    typer.echo(f"Report: {compared.report}")


@app.command()
def export(
    run_folder: RunDir,
    to: Annotated[Path, typer.Option(help="Folder for the files.", metavar="DIR")] = Path("exported"),
    perturbation: Annotated[
        list[str] | None, typer.Option(help="A label of the study, e.g. fgsm, gaussian@fgsm, clean.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Network that the images were crafted on: unet, or unet-target-s0. Default: all surrogates."
        ),
    ] = None,
    case: Annotated[list[str] | None, typer.Option(help="A photograph, slice, volume or patch.")] = None,
    scan: Annotated[list[str] | None, typer.Option(help="A whole scan.")] = None,
    patient: Annotated[list[str] | None, typer.Option(help="All images of a patient.")] = None,
    bits: Annotated[
        Literal["auto", "8", "16", "float"],
        typer.Option(help="Also write a rounded file. auto: photographs with 16 bits; float: none."),
    ] = "auto",
    data: DataFolder = None,
    device: Device = "auto",
    show: Annotated[bool, typer.Option("--list", help="List what there is, and write nothing.")] = False,
) -> None:
    """Write images of a run to look at: scans as NIfTI that overlay the original, photographs as PNG.

    Each comes with a lossless copy, the truth, and what the networks predict. Options may be repeated.
    """
    from medrobust import api

    console = output()
    if show:
        console.print(api.what_there_is(run_folder, data=data, device=device))
        return
    wanted = api.Wanted(perturbation or (), source or (), case or (), scan or (), patient or ())
    rounded: dict[str, Any] = {"auto": "auto", "8": 8, "16": 16, "float": None}
    done = api.export(run_folder, to, wanted, bits=rounded[bits], data=data, device=device)
    console.print(api.exported_table(done))
    typer.echo(f"Files: {to}")


@app.command()
def view(
    run_folder: RunDir,
    data: DataFolder = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    device: Device = "auto",
) -> None:
    """Look at every case of a run, image by image, in your browser. Only this machine can see the page."""
    from medrobust import api
    from medrobust.view.server import open_viewer

    run = api.Run.open(run_folder)
    with open_viewer(run.study, run.folder, run.results, data_dir=data, device=device, port=port) as server:
        typer.echo(f"Open {server.address} in your browser; Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


@app.command()
def clean(
    run_folder: RunDir,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
) -> None:
    """List what a run folder holds but its study no longer needs; with --yes, remove it."""
    from medrobust import api
    from medrobust.storage import RunFolder

    folder = RunFolder(run_folder)
    found = api.left_overs(folder)
    if not found:
        typer.echo("Nothing is left over: the study needs everything in the folder.")
        return
    output().print(api.left_over_table(found))
    if yes:
        api.clean(folder, found)
        typer.echo("Removed.")
    else:
        typer.echo("Nothing was removed. Add --yes to remove it.")


@app.command(name="list")
def listing(
    what: Annotated[
        Literal["models", "perturbations", "datasets"] | None,
        typer.Argument(help="One catalogue. Default: all.", show_default=False),
    ] = None,
) -> None:
    """List the available networks, perturbations and data sets."""
    from medrobust import api

    console = output()
    for chosen in [what] if what else ["models", "perturbations", "datasets"]:
        console.print(api.catalogue_table(chosen))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a study, for editors."""
    from medrobust.study.schema import study_schema

    typer.echo(json.dumps(study_schema(), indent=2))

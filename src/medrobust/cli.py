"""The command line: a thin layer over `medrobust.api`. Heavy imports wait until a command runs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from medrobust import __version__
from medrobust.commands import clean, listing, plan, schema
from medrobust.core import Task
from medrobust.guarded import FAILED, Guarded
from medrobust.options import (
    BITS,
    Address,
    Bits,
    Changes,
    Compared,
    ComparisonDir,
    DataFolder,
    DemoTask,
    Device,
    Executor,
    HtmlFile,
    JsonFile,
    Labels,
    RunDir,
    RunDirs,
    RunOut,
    Sources,
    StudyFile,
    Who,
)
from medrobust.text import output

# Beside other work, threads that spin while they wait make training ten times as slow (docs/performance.md).
# Read when torch is imported, which no module above does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    cls=Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command()(plan)
app.command()(clean)
app.command(name="list")(listing)
app.command()(schema)


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


@app.command()
def demo(
    task: Annotated[DemoTask, typer.Option(help="Which of the two studies to run.")] = DemoTask.BOTH,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder, or URL, for the run folders and reports.")
    ] = "demo",
    device: Device = "auto",
) -> None:
    """Run the whole protocol on embedded phantoms: train, attack, report."""
    from medrobust import api

    # Segmentation first: its report is there within minutes.
    both = [Task.SEGMENTATION, Task.CLASSIFICATION]
    for chosen in both if task is DemoTask.BOTH else [Task(task)]:
        folder = f"{out.rstrip('/')}/{chosen}" if task is DemoTask.BOTH else out
        finished = api.run(api.demo_study(chosen), out=folder, device=device, console=output())
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
    out: RunOut = None,
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
    executor: Who = Executor.LOCAL,
    address: Address = None,
) -> None:
    """Run a study, or go on where it stopped."""
    from medrobust import api

    folder = out or Path("runs") / study.stem
    finished = api.run(
        study,
        out=folder,
        data=data,
        changes=changes or (),
        device=device,
        console=output(),
        executor=executor.value,
        address=address,
    )
    _say_where(finished.report)


@app.command()
def selftest(
    study: StudyFile,
    out: RunOut = None,
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """See whether the attacks of a study are as strong as they should be on its networks.

    Trains what is not trained yet; `medrobust run` goes on in the same folder. Ends with exit code 1 where a
    test failed.
    """
    from medrobust import api

    folder, console = out or Path("runs") / study.stem, output()
    rows = api.selftest(study, out=folder, data=data, changes=changes or (), device=device, console=console)
    console.print(api.selftest_table(rows))
    if not rows["passed"].fill_null(True).all():
        raise typer.Exit(FAILED)


@app.command()
def audit(
    study: StudyFile,
    data: DataFolder = None,
    changes: Changes = None,
    document: JsonFile = None,
    page: HtmlFile = None,
) -> None:
    """Read the data as a run would, change nothing, and say what is wrong with them.

    Ends with exit code 0 where there is no error (warnings and notes may be), and 1 where there is one.
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
def report(
    run_folder: RunDir,
) -> None:
    """Make tables, figures and report.html anew from a run folder."""
    from medrobust import api

    _say_where(api.Run.open(run_folder).write_report())


@app.command()
def compare(runs: RunDirs, out: ComparisonDir = "comparison", perturbation: Compared = None) -> None:
    """Compare finished runs on the same data: new network against old, before and after a defence."""
    from medrobust import api

    _say_where(api.compare(runs, out, perturbations=perturbation or ()).report)


@app.command()
def export(
    run_folder: RunDir,
    to: Annotated[Path, typer.Option(help="Folder for the files.", metavar="DIR")] = Path("exported"),
    perturbation: Labels = None,
    source: Sources = None,
    case: Annotated[list[str] | None, typer.Option(help="A photograph or slice.")] = None,
    scan: Annotated[list[str] | None, typer.Option(help="A whole scan.")] = None,
    patient: Annotated[list[str] | None, typer.Option(help="All images of a patient.")] = None,
    bits: Annotated[
        Bits, typer.Option(help="Also write a rounded file; auto: of photographs, with 16 bits.")
    ] = Bits.AUTO,
    data: DataFolder = None,
    device: Device = "auto",
    show: Annotated[bool, typer.Option("--list", help="List what there is, and write nothing.")] = False,
) -> None:
    """Write images of a run to look at: scans as NIfTI that overlay the original, photographs as PNG.

    Each comes with a lossless copy, the truth and what the networks predict. Options may be repeated.
    """
    from medrobust import api

    console = output()
    if show:
        console.print(api.what_there_is(run_folder, data=data, device=device))
        return
    wanted = api.Wanted(perturbation or (), source or (), case or (), scan or (), patient or ())
    done = api.export(run_folder, to, wanted, bits=BITS[bits], data=data, device=device)
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
    from contextlib import suppress

    from medrobust import api
    from medrobust.view.opening import open_viewer

    run = api.Run.open(run_folder)
    with open_viewer(run.study, run.folder, run.results, data_dir=data, device=device, port=port) as server:
        typer.echo(f"Open {server.address} in your browser; Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _say_where(report: Path | str) -> None:
    typer.echo(f"Report: {report}")

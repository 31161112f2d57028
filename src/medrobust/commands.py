"""Commands that do no work of a study: what is planned, what is left over, and what there is."""

from pathlib import Path
from typing import Annotated

import typer

from medrobust.options import Changes, DataFolder, Device, Listing, RunDir, RunOut, StudyFile
from medrobust.text import output


def plan(
    study: StudyFile,
    out: RunOut = None,
    data: DataFolder = None,
    changes: Changes = None,
    device: Device = "auto",
) -> None:
    """Show the jobs of a study, what is done, and the time and disk that the others take. Runs nothing."""
    from medrobust import api

    folder = out or Path("runs") / study.stem
    api.plan(study, out=folder, data=data, changes=changes or (), device=device, console=output())


def clean(
    run_folder: RunDir,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them.")] = False,
) -> None:
    """List what a run folder holds and its study no longer refers to; with --yes, remove it."""
    from medrobust import api
    from medrobust.storage import RunFolder

    folder = RunFolder(run_folder)
    found = api.left_overs(folder)
    if not found:
        typer.echo("Nothing is left over: the study refers to everything.")
        return
    output().print(api.left_over_table(found))
    if yes:
        api.clean(folder, found)
        typer.echo("Removed.")
    else:
        typer.echo("Nothing was removed; --yes removes all of them.")


def listing(
    what: Annotated[Listing | None, typer.Argument(help="One catalogue; all of them by default.")] = None,
) -> None:
    """List the networks, perturbations and data sets there are."""
    from medrobust import api

    console = output()
    for chosen in [what] if what else list(Listing):
        console.print(api.catalogue_table(chosen.value))


def schema() -> None:
    """Print the JSON Schema of a study, for editors."""
    import json

    from medrobust.study.schema import study_schema

    typer.echo(json.dumps(study_schema(), indent=2))

"""What can be done with a study: run it, say what a run would do, test its attacks, audit its data."""

import json
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
from rich.console import Console
from rich.table import Table

from medrobust.api.expecting import expectation_jobs
from medrobust.api.runs import AUDIT, Run
from medrobust.audit.audit import Audit, audit_data
from medrobust.audit.output import as_document, summary, thumbnails
from medrobust.catalogue import Catalogue, module_file
from medrobust.core import Dataset, OnProgress
from medrobust.data import DATASETS
from medrobust.errors import StudyError
from medrobust.models import MODELS
from medrobust.perturbations import PERTURBATIONS
from medrobust.report.audit_page import audit_page
from medrobust.running.estimate import Speeds
from medrobust.running.executors.local import Executor, run_here
from medrobust.running.executors.ray_cluster import on_ray
from medrobust.running.jobs import Job
from medrobust.running.plan import Plan
from medrobust.running.runner import run_study, show_plan
from medrobust.running.setup import choose_device
from medrobust.storage import RunFolder, read_results
from medrobust.storage.schemas import SELFTEST
from medrobust.study.checks import check_named_data, require_split
from medrobust.study.config import Study
from medrobust.study.reading import read_study
from medrobust.text import output, text_table

Source = str | os.PathLike[str] | Mapping[str, Any]
"""A study: a YAML file, or its content."""

AUDIT_SECONDS = 5.0
"""Of some thousand photographs, or of thirty scans."""


def run(
    study: Source,
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
    dataset: Dataset | None = None,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> Run:
    """Run a study, or resume it where it stopped, and write its report.

    Args:
        study: A YAML file, or its content.
        out: The run folder.
        data: Folder to which the `root` of the study's data is relative. Default: the working directory.
        changes: `key.path=value` assignments on top of the study.
        device: "cpu", "cuda", "cuda:1" or "mps"; "auto" takes the best available.
        console: Where the plan and the progress are shown. Default: nowhere.
        dataset: The data, for a study without `data`; see docs/data.md, "Own data in Python".
        executor: What does the work: this process, or the workers of a Ray cluster; see docs/scale.md.
        address: Address of the Ray cluster. Default: start one on this machine.

    Raises:
        MedrobustError: Something that a person can mend; the message says what. Finished work is kept.
    """
    asked, folder, data_dir = _asked(study, out, data, changes, dataset)
    console = console or Console(quiet=True)
    if executor != "ray" and address is not None:
        raise StudyError("--address is the address of a Ray cluster. Add --executor ray.")
    work: Executor = run_here
    if executor == "ray":
        work = on_ray(address, data_dir=data_dir, device=device, dataset=dataset)
    run_study(
        asked,
        folder,
        data_dir=data_dir,
        device=choose_device(device),
        console=console,
        extra=partial(_further_jobs, data_dir),
        dataset=dataset,
        executor=work,
    )
    finished = Run.open(out)
    finished.write_report()
    for warning in finished.warnings:
        console.print(f"Warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    return finished


def plan(
    study: Source,
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
    dataset: Dataset | None = None,
) -> None:
    """Show what `run` with the same arguments would do; nothing is run or written.

    Raises:
        MedrobustError: As `run`.
    """
    asked, folder, data_dir = _asked(study, out, data, changes, dataset)
    show_plan(
        asked,
        folder,
        data_dir=data_dir,
        device=choose_device(device),
        console=console or output(),
        extra=partial(_further_jobs, data_dir),
        dataset=dataset,
    )


def selftest(
    study: Source,
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
    dataset: Dataset | None = None,
) -> pl.DataFrame:
    """Train the networks of a study and self-test its attacks on every source.

    `run` with the same arguments continues from there.

    Returns:
        The rows of `results/selftest.parquet`: one per attack, source and check.

    Raises:
        MedrobustError: As `run`.
    """
    asked, folder, data_dir = _asked(study, out, data, [*changes, "crafting.selftest=true"], dataset)
    run_study(
        asked,
        folder,
        data_dir=data_dir,
        device=choose_device(device),
        console=console or Console(quiet=True),
        only=("train", "selftest"),
        dataset=dataset,
    )
    return read_results(folder, SELFTEST)


def _asked(
    study: Source,
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    changes: Iterable[str],
    dataset: Dataset | None,
) -> tuple[Study, RunFolder, Path | None]:
    """The study with its changes, its run folder, and the folder of its data."""
    asked = read_study(study, changes, given=None if dataset is None else dataset.name)
    return asked, RunFolder(out), None if data is None else Path(data)


def audit(
    study: Source,
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    console: Console | None = None,
) -> Audit:
    """Read the data of a study as a run would, change nothing, and say what is wrong with them; see `run`.

    Raises:
        StudyError: The study asks for something impossible.
        DataError: There are no data.
    """
    asked = read_study(study, changes, check=False)  # the code of networks and attacks is not imported
    return _audited(asked, None if data is None else Path(data), console or Console(quiet=True))


def write_audit(finished: Audit, file: Path) -> None:
    """Write what an audit found as JSON; docs/audit.md describes it."""
    file.write_text(json.dumps(as_document(finished), indent=2), encoding="utf-8")


def write_audit_page(finished: Audit, file: Path) -> None:
    """Write what an audit found as one HTML file with thumbnails, which opens offline."""
    page = audit_page(finished.name, summary(finished), finished.findings, thumbnails(finished.findings))
    file.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")


def _further_jobs(data_dir: Path | None, plan: Plan, speeds: Speeds) -> list[Job]:
    """What a run does before it trains: audit the data, and score networks that say what they reach."""
    setup = plan.setup
    return [*_audit_jobs(setup.study, setup.folder, data_dir), *expectation_jobs(plan, speeds)]


def _audit_jobs(study: Study, folder: RunFolder, data_dir: Path | None) -> list[Job]:
    """The audit as a job of a run, which leaves `audit.json`; none for data without files in a folder.

    Whatever it finds, the run continues: what must stop it does so when the data are opened.
    """
    if not study.audit or "root" not in study.data:
        return []

    def work(piece: int, progress: OnProgress) -> None:
        folder.write_json(as_document(_audited(study, data_dir, Console(quiet=True))), AUDIT)

    return [
        Job(
            kind="audit",
            name="audit",
            title="audit the data",
            seconds=AUDIT_SECONDS,
            disk=0,
            finished=lambda: {0} if folder.exists(AUDIT) else set(),
            open=lambda: work,
        )
    ]


def _audited(asked: Study, data_dir: Path | None, console: Console) -> Audit:
    require_split(asked)
    check_named_data(asked)
    loads = {
        f"models.{entry.get('name')}.load": entry["load"]
        for entry in (*asked.models, *asked.own_surrogates)
        if isinstance(entry.get("load"), str)
    }
    if "load" in asked.data:
        loads["data.load"] = str(asked.data["load"])
    return audit_data(
        asked.data,
        asked.split,
        asked.seed,
        task=asked.task,
        data_dir=data_dir,
        code={key: file for key, load in loads.items() if (file := module_file(load))},
        console=console,
    )


def catalogue_table(catalogue: str) -> Table:
    """One of the catalogues (models, perturbations, datasets), entries of installed packages last."""
    catalogues: dict[str, Catalogue[Any]] = {
        "models": MODELS,
        "perturbations": PERTURBATIONS,
        "datasets": DATASETS,
    }
    known = catalogues[catalogue]
    table = text_table("name", "task", "what it is", "source", title=catalogue)
    for name in known.names():
        try:
            entry = known.named(name, f"medrobust list {catalogue}")
        except StudyError as error:  # somebody else's package is broken
            table.add_row(name, "", str(error), "")
            continue
        tasks = ", ".join(entry.tasks) if hasattr(entry, "tasks") else str(entry.task or "")
        beyond = " Beyond the paper." if getattr(entry, "beyond_paper", False) else ""
        table.add_row(name, tasks, entry.summary + beyond, entry.source)
    if known is MODELS:
        table.add_row("...", "classification", "any other network of timm, by its name there", "timm")
    return table

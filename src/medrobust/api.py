"""The Python interface: run a study, open what a run left, and write its report."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from medrobust.analysis.export import all_tables, as_json, table_files
from medrobust.analysis.results import Attack, Results, Settings
from medrobust.analysis.tables import table1, table2
from medrobust.analysis.verdict import verdict
from medrobust.audit.audit import Audit, audit_data
from medrobust.audit.document import as_document
from medrobust.audit.table import findings_table, summary
from medrobust.audit.thumbnails import thumbnails
from medrobust.core import NetworkId, Role, Task
from medrobust.data import DATASETS
from medrobust.errors import RunError, StudyError
from medrobust.models import MODELS
from medrobust.models.files import module_file
from medrobust.perturbations import PERTURBATIONS
from medrobust.report.audit_page import audit_page
from medrobust.report.build import build
from medrobust.steps.evaluate import row_table, whole_test_table
from medrobust.storage import RunFolder, read_results
from medrobust.storage.schemas import CRAFTED, SELFTEST
from medrobust.study.config import Study
from medrobust.study.reading import read_stored_study, read_study
from medrobust.study.runner import choose_device, run_study
from medrobust.study.selftests import selftest_table
from medrobust.study.setup import require_split, require_task
from medrobust.study.templates import demo_study, template

__all__ = [
    "Audit",
    "Run",
    "audit",
    "catalogue_table",
    "demo_study",
    "findings_table",
    "run",
    "selftest",
    "selftest_table",
    "summary",
    "write_audit",
    "write_audit_page",
    "write_template",
]


@dataclass(frozen=True)
class Run:
    """A finished run: its study, and the rows that all numbers are computed from."""

    folder: RunFolder
    study: Study

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """Open a run folder.

        Raises:
            RunError: It is no run folder, or the run is not finished.
        """
        folder = RunFolder(path)
        run = cls(folder, read_stored_study(folder))
        if not folder.exists("results", f"{row_table(run.study.task).name}.parquet"):
            raise RunError(
                f"The run in '{folder.url}' is not finished. Run its study again: what is finished is kept."
            )
        return run

    @cached_property
    def results(self) -> Results:
        """All rows, with the order in which the study names things."""
        study, record = self.study, self.folder.read_json("record.json")
        rows, names = row_table(study.task), tuple(str(model["name"]) for model in study.models)
        whole_test = whole_test_table(study.task)
        targets = {name: NetworkId(name, Role.TARGET, study.seed).folder for name in names}
        return Results(
            task=study.task,
            unit=record["data"]["unit"],
            classes=tuple(record["data"]["classes"]),
            models=names,
            attacks=tuple(
                Attack(
                    attack.label,
                    attack.perturbation.beyond_paper,
                    None if attack.ssim is None else attack.perturbation.budget,
                    attack.ssim,
                    attack.curve,
                    None if attack.curve is None else attack.parameters[str(attack.perturbation.budget)],
                )
                for attack in study.attacks
            ),
            noise=tuple(
                noise.label for noise in ([study.matched_noise] if study.matched_noise else study.fixed_noise)
            ),
            crafted=read_results(self.folder, CRAFTED),
            whole_test=read_results(self.folder, whole_test),
            selftests=read_results(self.folder, SELFTEST)
            if self.folder.exists("results", f"{SELFTEST.name}.parquet")
            else None,  # of before there were self-tests
            settings=Settings(**study.analysis.model_dump(), seed=study.seed),
            architectures={
                name: record["networks"][folder]["network"]["architecture"]
                for name, folder in targets.items()
            },
            record=record,
            **{rows.name: read_results(self.folder, rows)},
        )

    def table1(self) -> pl.DataFrame:
        """A row per target: clean, noise and adversarial score, and the drops, with intervals."""
        return table1(self.results)

    def table2(self) -> pl.DataFrame:
        """A row per attack, source and target."""
        return table2(self.results)

    @property
    def report(self) -> Path:
        """Where the report is."""
        return self.folder.local("report.html")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be known before the numbers are trusted; from `results.json`."""
        return tuple(self.folder.read_json("results.json")["warnings"])

    def write_report(self) -> Path:
        """Write tables, figures, `results.json` and `report.html` from the rows.

        Raises:
            RunError: Rows are missing, or the cells were not evaluated on the same cases.
        """
        conclusion = verdict(self.results)
        tables = all_tables(self.results, conclusion)
        for name, content in table_files(tables).items():
            self.folder.write_bytes(content, "tables", name)
        self.folder.write_json(as_json(self.results, tables, conclusion), "results.json")
        build(self.folder, self.results, tables, conclusion)
        return self.report


def run(
    study: str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
) -> Run:
    """Run a study, or go on where it stopped, and write its report.

    Args:
        study: A YAML file, or its content.
        out: The run folder.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        changes: `key.path=value` assignments on top of the study.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes the best there is.
        console: Where the plan and the progress are shown; None: nowhere.

    Raises:
        MedrobustError: Something that a person can mend; the message says what. What is finished is kept.
    """
    source = study if isinstance(study, Mapping) else Path(study)
    folder, console = RunFolder(out), console or Console(quiet=True)
    run_study(
        read_study(source, changes),
        folder,
        data_dir=None if data is None else Path(data),
        device=choose_device(device),
        console=console,
    )
    finished = Run.open(out)
    finished.write_report()
    for warning in finished.warnings:
        console.print(f"Warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    return finished


def selftest(
    study: str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
) -> pl.DataFrame:
    """Train the networks of a study and self-test its attacks on every source; `run` goes on from there.

    Args:
        study: A YAML file, or its content.
        out: The run folder; what it holds is not done again.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        changes: `key.path=value` assignments on top of the study.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes the best there is.
        console: Where the plan and the progress are shown; None: nowhere.

    Returns:
        The rows of `results/selftest.parquet`: one per attack, source and check.

    Raises:
        MedrobustError: Something that a person can mend; the message says what.
    """
    source = study if isinstance(study, Mapping) else Path(study)
    folder = RunFolder(out)
    run_study(
        read_study(source, [*changes, "crafting.selftest=true"]),
        folder,
        data_dir=None if data is None else Path(data),
        device=choose_device(device),
        console=console or Console(quiet=True),
        only=("train", "selftest"),
    )
    return read_results(folder, SELFTEST)


def audit(
    study: str | os.PathLike[str] | Mapping[str, Any],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    console: Console | None = None,
) -> Audit:
    """Read the data of a study as a run would, change nothing, and say what is wrong.

    Args:
        study: A YAML file, or its content.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        changes: `key.path=value` assignments on top of the study.
        console: Where the progress is shown; None: nowhere.

    Raises:
        StudyError: The study asks for something that cannot be.
        DataError: There are no data at all.
    """
    asked = read_study(study if isinstance(study, Mapping) else Path(study), changes)
    require_split(asked)
    require_task(asked)
    loaded = {spec.name: module_file(spec.load) for spec in asked.specs if spec.load}
    return audit_data(
        asked.data,
        asked.split,
        asked.seed,
        data_dir=None if data is None else Path(data),
        code={f"models.{name}.load": file for name, file in loaded.items() if file},
        console=console or Console(quiet=True),
    )


def write_audit(finished: Audit, file: Path) -> None:
    """Write what an audit found as JSON; docs/audit.md describes it."""
    file.write_text(json.dumps(as_document(finished), indent=2, ensure_ascii=False), encoding="utf-8")


def write_audit_page(finished: Audit, file: Path) -> None:
    """Write what an audit found as one HTML file with thumbnails, which opens offline."""
    page = audit_page(finished.name, summary(finished), finished.findings, thumbnails(finished.findings))
    file.write_text(page, encoding="utf-8")


def write_template(file: Path, task: Task, data: str | None) -> None:
    """Write a commented study to start from.

    Raises:
        StudyError: The file exists, its folder does not, or the data set is unknown.
    """
    text = template(task, data)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise StudyError(f"'{file}' exists and is not overwritten. Choose another name.") from None
    except OSError as error:
        raise StudyError(f"'{file}' cannot be written: {error.strerror}.") from None


def catalogue_table(catalogue: str) -> Table:
    """One of the catalogues (models, perturbations, datasets) as a table."""
    table = Table("name", "task", "what it is", "source", title=catalogue)
    if catalogue == "models":
        for name, model in MODELS.items():
            table.add_row(name, str(model.task), model.summary, model.source)
        table.add_row("...", "classification", "any other network of timm, by its name there", "timm")
    elif catalogue == "perturbations":
        for name, entry in PERTURBATIONS.items():
            beyond = " Beyond the paper." if entry.beyond_paper else ""
            table.add_row(name, ", ".join(entry.tasks), entry.summary + beyond, entry.source)
    else:
        for name, data in DATASETS.items():
            table.add_row(name, str(data.task), data.summary, data.source)
    return table

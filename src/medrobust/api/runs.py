"""A finished run: its rows, its tables, its report."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from medrobust.analysis.export import all_tables, as_json, table_files
from medrobust.analysis.results import Results
from medrobust.analysis.tables import other_sources_table, table1, table2
from medrobust.analysis.verdict import verdict
from medrobust.errors import RunError
from medrobust.report.build import build
from medrobust.running.jobs import left_out
from medrobust.storage import RunFolder, read_results
from medrobust.storage.schemas import (
    ATTRIBUTES,
    CERTIFICATES,
    CRAFTED,
    EMPTY_CASES,
    SCORED,
    SELFTEST,
    SURFACES,
    VALIDATION,
    WHOLE_TEST,
    Table,
)
from medrobust.study.analysis import Attack, Corruption, Ladder, Settings, Transform
from medrobust.study.config import Study
from medrobust.study.reading import read_stored_study

AUDIT = "audit.json"
"""Name of the audit in a run folder."""


@dataclass(frozen=True)
class Run:
    """A finished run: its study, and the rows that all numbers are computed from."""

    folder: RunFolder
    study: Study

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """Open a run folder.

        Raises:
            RunError: It is not a run folder, or the run is not finished.
        """
        folder = RunFolder(path)
        run = cls(folder, read_stored_study(folder))
        if not folder.exists("results", f"{SCORED[run.study.task].name}.parquet"):
            raise RunError(
                f"The run in '{folder.url}' is not finished. Run its study again; finished work is kept."
            )
        return run

    @cached_property
    def results(self) -> Results:
        """All rows, with names in the order of the study."""
        study, record = self.study, self.folder.read_json("record.json")
        rows = SCORED[study.task]
        scored: dict[str, Any] = {rows.name: read_results(self.folder, rows)}
        return Results(
            task=study.task,
            unit=record["data"]["unit"],
            classes=tuple(record["data"]["classes"]),
            colours=tuple(record["data"].get("colours", ())),
            regions={name: tuple(own) for name, own in record["data"].get("regions", {}).items()},
            models=tuple(str(model["name"]) for model in study.models),
            attacks=tuple(
                Attack(
                    each["label"],
                    each["beyond_paper"] and study.task.is_of_paper,
                    None if each["ssim"] is None else each["budget"],
                    each["ssim"],
                    each["curve"],
                    each["value"],
                    each.get("finding"),
                    each["needs"],
                    each["crafted_on"],
                    each["norm"],
                    each["minimal"],
                    each.get("share") or 1.0,
                    _fewer(each.get("cases"), record["cases"]["attacked"]),
                )
                for each in record["perturbations"]
                if each["role"] == "attack"
            ),
            noise=(record["control"],)
            if record["control"]
            else tuple(
                each["label"]
                for each in record["perturbations"]
                if each["role"] == "noise" and each["ladder"] is None
            ),
            ladder=_ladder(record["perturbations"]),
            corruptions=tuple(
                Corruption(
                    each["label"],
                    each["curve"] or each["label"],
                    each["severity"] or each["value"] if each["ssim"] is None else 1 - each["ssim"],
                    each["value"],
                    each["unit"],
                    each["moves_labels"],
                    each["preset"],
                    each["ssim"],
                    tuple(each.get("trained_on", ())),
                )
                for each in record["perturbations"]
                if each["role"] == "corruption"
            ),
            transforms=tuple(
                Transform(
                    each["label"],
                    each["curve"] or each["label"],
                    each["search"],
                    each["unit"],
                    each["moves_labels"],
                )
                for each in record["perturbations"]
                if each["role"] == "transform"
            ),
            crafted=read_results(self.folder, CRAFTED),
            whole_test=read_results(self.folder, WHOLE_TEST[study.task]),
            validation=self._rows_if_any(VALIDATION[study.task]),
            surfaces=self._rows_if_any(SURFACES),
            empty_cases=self._rows_if_any(EMPTY_CASES),
            audit=self._audit(),
            attributes=self._rows_if_any(ATTRIBUTES),
            selftests=self._rows_if_any(SELFTEST),
            certificates=self._certificates(),
            smoothing=None if study.certificates is None else study.certificates.model_dump(),
            left_out=left_out(self.folder),
            settings=Settings(**study.analysis.model_dump(), seed=study.seed),
            # A surrogate has the architecture of the target of its name, if there is one.
            architectures={
                network["name"]: network["network"]["architecture"] for network in record["networks"].values()
            },
            record=record,
            cards={
                folder: self.folder.read_json("models", folder, "card.json")
                for folder, network in record["networks"].items()
                if network.get("training", {}).get("adversarial")
            },
            **scored,
        ).parted()

    def _rows_if_any(self, table: Table) -> pl.DataFrame | None:
        """Rows of a table that older run folders do not have."""
        found = self.folder.exists("results", f"{table.name}.parquet")
        return read_results(self.folder, table) if found else None

    def _certificates(self) -> pl.DataFrame | None:
        return self._rows_if_any(CERTIFICATES[self.study.task]) if self.study.certificates else None

    def _audit(self) -> Mapping[str, Any] | None:
        """What an audit of the data found, if there was one."""
        if not self.folder.exists(AUDIT):
            return None
        document = self.folder.read_json(AUDIT)
        if not isinstance(document, dict) or not {"findings", "counts", "looked_at"} <= document.keys():
            raise RunError(f"{self.folder.path(AUDIT)} is not a valid audit. Delete it and run again.")
        return document

    def table1(self) -> pl.DataFrame:
        """A row per target: clean, noise and adversarial score, and the drops, with intervals."""
        return table1(self.results)

    def table2(self) -> pl.DataFrame:
        """A row per attack, source and target; sources that only some targets face come last."""
        return pl.concat([table2(self.results), other_sources_table(self.results)])

    @property
    def report(self) -> Path | str:
        """Where the report is: a path on this disk, or a URL."""
        return self.folder.address("report.html")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be known before the numbers are trusted; from `results.json`."""
        return tuple(self.folder.read_json("results.json")["warnings"])

    def write_report(self, *, pdf: bool = False) -> Path | str:
        """Write tables, figures, `results.json` and `report.html` from the rows.

        Args:
            pdf: Print the report to `report.pdf` too. Where no browser can, `warnings` say so.

        Raises:
            RunError: Rows are missing, or the cells were not evaluated on the same cases.
        """
        conclusion = verdict(self.results)
        tables = all_tables(self.results, conclusion)
        for name, content in table_files(tables.values()).items():
            self.folder.write_bytes(content, "tables", name)
        rows = {name: table.rows for name, table in tables.items()}
        lost = build(self.folder, self.results, rows, conclusion, pdf=pdf)
        self.folder.write_json(as_json(self.results, tables, conclusion, lost), "results.json")
        return self.report


def _fewer(cases: int | None, every: int) -> int | None:
    """The cases of an attack, where these are fewer than all."""
    return cases if cases is not None and cases < every else None


def _ladder(perturbations: Iterable[Mapping[str, Any]]) -> Ladder | None:
    """The threat-model ladder that a record tells of, if any."""
    rungs = [each for each in perturbations if each["ladder"] is not None]
    if not rungs:
        return None
    attacks, noise = (
        tuple(each["label"] for each in rungs if each["role"] == role) for role in ("attack", "noise")
    )
    return Ladder(rungs[0]["ladder"], attacks, noise)

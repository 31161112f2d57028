"""All tables of a run, as files and as one JSON document."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from medrobust.analysis import crafting, tables
from medrobust.analysis.balanced import balanced_table
from medrobust.analysis.classes import classes
from medrobust.analysis.comparisons import noise_control
from medrobust.analysis.conditions import transfer_conditions
from medrobust.analysis.curves import curve_table
from medrobust.analysis.false_positives import false_positives
from medrobust.analysis.findings import audit_table
from medrobust.analysis.format import paper_layout, to_markdown
from medrobust.analysis.latex import paper_latex, to_latex
from medrobust.analysis.plane import plane
from medrobust.analysis.quality import quality_table
from medrobust.analysis.remarks import remarks
from medrobust.analysis.results import Results
from medrobust.analysis.seeds import architectures, by_seed
from medrobust.analysis.structure_overview import structure_overview
from medrobust.analysis.structures import structures, worst_structures
from medrobust.analysis.subgroups import subgroup_sentences, subgroups
from medrobust.analysis.surfaces import surfaces
from medrobust.analysis.variance import variance
from medrobust.analysis.verdict import Verdict
from medrobust.analysis.whole_test import whole_test_table
from medrobust.core import Task

Tables = dict[str, pl.DataFrame]

_CELL_TABLES = ("table2", "noise", "whitebox", "other_sources", "conditional")
"""Long in CSV; laid out as the paper prints them in Markdown and LaTeX."""


def all_tables(results: Results, conclusion: Verdict) -> Tables:
    """Every table of a study by the name of its file, without those that belong to the other task.

    Raises:
        RunError: The cells were not evaluated on the same cases.
    """
    common = {
        "table1": tables.table1(results),
        "whole_test": whole_test_table(results),
        "table2": tables.table2(results),
        **_per_class(results),
        "curve": curve_table(results),
        "noise": tables.noise_table(results),
        "whitebox": tables.whitebox_table(results),
        "other_sources": tables.other_sources_table(results),
        "rounded": tables.rounded(results),
        "conditional": tables.conditional_table(results),
        "off_diagonal": tables.off_diagonal(results),
        "seeds": by_seed(results),
        "variance": variance(results),
        "architectures": architectures(results),
        "patients": tables.by_patient(results),
        "transfer_conditions": transfer_conditions(results),
        "success": crafting.success(results),
        "budgets": crafting.budgets(results),
        "matching": crafting.matching(results),
        "selftests": crafting.selftests(results),
        "pairs": conclusion.pairs,
        "ranking": conclusion.ranking,
        "noise_control": noise_control(results),
        "plane": plane(results),
        **_of_the_data(results),
    }
    if results.task is Task.SEGMENTATION:
        return common | _per_structure(results)
    return common | {
        "balanced": balanced_table(results),
        "quality": quality_table(results),
        "transfer_rate": crafting.transfer_rate(results),
    }


def table_files(frames: Mapping[str, pl.DataFrame]) -> dict[str, bytes]:
    """The files of `tables/`: each table as CSV with all digits, and for people as Markdown and LaTeX."""
    files = {}
    for name, frame in frames.items():
        crossed = name in _CELL_TABLES
        files[f"{name}.csv"] = frame.write_csv().encode()
        files[f"{name}.md"] = to_markdown(paper_layout(frame) if crossed else frame).encode()
        files[f"{name}.tex"] = (paper_latex if crossed else to_latex)(frame).encode()
    return files


def as_json(
    results: Results, frames: Mapping[str, pl.DataFrame], conclusion: Verdict, lost: Iterable[str] = ()
) -> dict[str, Any]:
    """The content of `results.json`: what was judged and how, the verdict, warnings, and all tables.

    JSON has no NaN: undefined numbers are null, and each table says how many it has in which column. What is
    `lost`, pictures that could not be made, joins the warnings.
    """
    return {
        "task": str(results.task),
        "unit": results.unit,
        "classes": list(results.classes),
        "models": list(results.models),
        "attacks": [attack._asdict() for attack in results.attacks],
        "noise": list(results.noise),
        "sources": list(results.sources),
        "n_cases": results.n_cases,
        "n_patients": len(results.panel.patients),
        "n_patients_undefined": results.panel.undefined,
        "settings": asdict(results.settings),
        "verdict": {
            "outcome": conclusion.outcome,
            "best": conclusion.best,
            "sentences": list(conclusion.sentences),
            "kendall_tau": conclusion.kendall_tau,
        },
        "subgroups": list(subgroup_sentences(frames["subgroups"], results.unit)),
        "warnings": [*(said.sentence for said in (*remarks(frames, results.task), *results.left_out)), *lost],
        "tables": {name: table_as_json(frame) for name, frame in frames.items()},
        "record": dict(results.record),
    }


def _per_class(results: Results) -> Tables:
    return {"classes": classes(results)} if results.task is Task.CLASSIFICATION else {}


def _per_structure(results: Results) -> Tables:
    dice, boundaries = structures(results), surfaces(results, structures=True)
    return {
        "false_positives": false_positives(results),
        "structure_overview": structure_overview(results, dice, boundaries),
        "structures": dice,
        "worst_structures": worst_structures(dice),
        "surfaces": surfaces(results),
        "structure_surfaces": boundaries,
    }


def _of_the_data(results: Results) -> Tables:
    return {"subgroups": subgroups(results), "audit": audit_table(results)}


def table_as_json(table: pl.DataFrame) -> dict[str, Any]:
    """A table as rows, and the number of undefined values of each column that has any."""
    rows = [{name: _defined(value) for name, value in row.items()} for row in table.iter_rows(named=True)]
    undefined = {name: sum(row[name] is None for row in rows) for name in table.columns}
    return {
        "columns": table.columns,
        "rows": rows,
        "undefined": {name: count for name, count in undefined.items() if count},
    }


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

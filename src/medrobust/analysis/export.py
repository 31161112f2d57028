"""All tables of a run, as files and as one JSON document."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from medrobust.analysis import crafting
from medrobust.analysis import tables as score_tables
from medrobust.analysis.balanced import balanced_table
from medrobust.analysis.classes import classes
from medrobust.analysis.comparisons import noise_control
from medrobust.analysis.conditions import transfer_conditions
from medrobust.analysis.curves import curve_table
from medrobust.analysis.false_positives import false_positives
from medrobust.analysis.findings import audit_table
from medrobust.analysis.plane import plane
from medrobust.analysis.quality import quality_table
from medrobust.analysis.remarks import remarks
from medrobust.analysis.results import Results
from medrobust.analysis.seeds import architectures, by_seed
from medrobust.analysis.structure_overview import structure_overview
from medrobust.analysis.structures import structures, worst_structures
from medrobust.analysis.subgroups import subgroup_sentences, subgroups
from medrobust.analysis.surfaces import surfaces
from medrobust.analysis.table import Table
from medrobust.analysis.variance import variance
from medrobust.analysis.verdict import Verdict
from medrobust.analysis.whole_test import whole_test_table
from medrobust.core import Task

Frames = dict[str, pl.DataFrame]


def all_tables(results: Results, conclusion: Verdict) -> dict[str, Table]:
    """Every table of a study by the name of its file, without those that belong to the other task.

    Raises:
        RunError: The cells were not evaluated on the same cases.
    """
    common = {
        "table1": score_tables.table1(results),
        "whole_test": whole_test_table(results),
        "table2": score_tables.table2(results),
        **_per_class(results),
        "curve": curve_table(results),
        "noise": score_tables.noise_table(results),
        "whitebox": score_tables.whitebox_table(results),
        "other_sources": score_tables.other_sources_table(results),
        "rounded": score_tables.rounded(results),
        "conditional": score_tables.conditional_table(results),
        "off_diagonal": score_tables.off_diagonal(results),
        "seeds": by_seed(results),
        "variance": variance(results),
        "architectures": architectures(results),
        "patients": score_tables.by_patient(results),
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
    frames: Frames = common | (
        _per_structure(results)
        if results.task is Task.SEGMENTATION
        else {
            "balanced": balanced_table(results),
            "quality": quality_table(results),
            "transfer_rate": crafting.transfer_rate(results),
        }
    )
    return {name: Table.of(name, frame, results.unit) for name, frame in frames.items()}


def table_files(tables: Iterable[Table]) -> dict[str, bytes]:
    """The files of `tables/`: each table as CSV with all digits, and for people as Markdown and LaTeX."""
    return {
        f"{table.name}.{kind}": text.encode()
        for table in tables
        for kind, text in (("csv", table.to_csv()), ("md", table.to_markdown()), ("tex", table.to_latex()))
    }


def as_json(
    results: Results, tables: Mapping[str, Table], conclusion: Verdict, lost: Iterable[str] = ()
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
        "subgroups": list(subgroup_sentences(tables["subgroups"].rows, results.unit)),
        "warnings": [
            *(
                said.sentence
                for said in (
                    *remarks({name: table.rows for name, table in tables.items()}, results.task),
                    *results.left_out,
                )
            ),
            *lost,
        ],
        "tables": {name: table.to_json() for name, table in tables.items()},
        "record": dict(results.record),
    }


def _per_class(results: Results) -> Frames:
    return {"classes": classes(results)} if results.task is Task.CLASSIFICATION else {}


def _per_structure(results: Results) -> Frames:
    dice, boundaries = structures(results), surfaces(results, structures=True)
    return {
        "false_positives": false_positives(results),
        "structure_overview": structure_overview(results, dice, boundaries),
        "structures": dice,
        "worst_structures": worst_structures(dice),
        "surfaces": surfaces(results),
        "structure_surfaces": boundaries,
    }


def _of_the_data(results: Results) -> Frames:
    return {"subgroups": subgroups(results), "audit": audit_table(results)}

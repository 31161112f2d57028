"""All tables of a run, as files and as one JSON document."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from medrobust.analysis import (
    certificates,
    classes,
    comparisons,
    crafting,
    defences,
    endpoints,
    fewer,
    seeds,
    selective,
    smallest,
    stability,
    structures,
    tables,
    threats,
)
from medrobust.analysis.remarks import audit_table, remarks
from medrobust.analysis.results import Results
from medrobust.analysis.subgroups import subgroup_sentences, subgroups
from medrobust.analysis.table import Table
from medrobust.analysis.verdict import Verdict
from medrobust.core import Task


def all_tables(results: Results, conclusion: Verdict) -> dict[str, Table]:
    """Every table of a study by the name of its file, without those of other tasks.

    Raises:
        RunError: The cells were not evaluated on the same cases.
    """
    frames = {
        "table1": tables.table1(results),
        "whole_test": tables.whole_test_table(results),
        "table2": tables.table2(results),
        "curve": tables.curve_table(results),
        "noise": tables.noise_table(results),
        "whitebox": tables.whitebox_table(results),
        "other_sources": tables.other_sources_table(results),
        "rounded": tables.rounded(results),
        "conditional": tables.conditional_table(results),
        "off_diagonal": tables.off_diagonal(results),
        "seeds": seeds.by_seed(results),
        "variance": seeds.variance(results),
        "architectures": seeds.architectures(results),
        "patients": tables.by_patient(results),
        "transfer_conditions": crafting.transfer_conditions(results),
        "success": pl.concat(crafting.success(each) for each in (results, *results.fewer)),
        "budgets": pl.concat(crafting.budgets(each) for each in (results, *results.fewer)),
        "matching": pl.concat(crafting.matching(each) for each in (results, *results.fewer)),
        "selftests": crafting.selftests(results),
        "pairs": conclusion.pairs,
        "ranking": conclusion.ranking,
        "rank_stability": stability.rank_stability(results),
        "order_agreement": stability.order_agreement(results),
        "noise_control": comparisons.noise_control(results),
        "fewer_cases": fewer.fewer_cases(results),
        "plane": comparisons.plane(results),
        **conclusion.aside,
        "smallest": smallest.smallest(results),
        "smallest_curve": smallest.smallest_curve(results),
        "budget_strength": smallest.budget_strength(results),
        "threats": threats.threats(results, conclusion.aside["corruptions"]),
        "threat_pairs": threats.threat_pairs(results),
        "strongest_transfer": threats.strongest_transfer(results),
        "transfer_candidates": threats.transfer_candidates(results),
        "certificates": certificates.certificates(results),
        "overfitting": defences.overfitting(results),
        "endpoints": endpoints.endpoint_rates(results),
        "endpoint_pairs": endpoints.endpoint_pairs(results),
        "subgroups": subgroups(results),
        "audit": audit_table(results),
    }
    if not results.task.has_maps:
        of_labels = classes.classes if results.task is Task.CLASSIFICATION else classes.findings
        frames |= {
            of_labels.__name__: of_labels(results),
            "balanced": classes.balanced_table(results),
            "quality": classes.quality_table(results),
            "selective": selective.selective(results),
            "selective_pairs": selective.selective_pairs(results),
            "risk_coverage": selective.risk_coverage(results),
            "transfer_rate": classes.transfer_rate(results),
        }
    else:
        dice, boundaries = structures.structures(results), structures.surfaces(results, structures=True)
        frames |= {
            "certificate_structures": certificates.certificate_structures(results),
            "false_positives": structures.false_positives(results),
            "structure_overview": structures.structure_overview(results, dice, boundaries),
            "structures": dice,
            "worst_structures": structures.worst_structures(dice),
            "surfaces": structures.surfaces(results),
            "structure_surfaces": boundaries,
        }
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

    JSON has no NaN: undefined numbers are null, and each table says how many each column has. `lost` names
    pictures that could not be made; they join the warnings.
    """
    frames = {name: table.rows for name, table in tables.items()}
    warnings = [
        remark.sentence for remark in (*remarks(frames, results.task, results.pixels), *results.left_out)
    ]
    return {
        "task": str(results.task),
        "unit": results.unit,
        "classes": list(results.classes),
        "regions": {name: list(own) for name, own in results.regions.items()},
        "models": list(results.models),
        "attacks": [attack._asdict() for each in (results, *results.fewer) for attack in each.attacks],
        "ladder": results.ladder and results.ladder._asdict(),
        "noise": list(results.noise),
        "sources": list(results.sources),
        "n_cases": results.n_cases,
        "n_patients": len(results.panel.patients),
        "n_patients_undefined": results.panel.undefined,
        "settings": asdict(results.settings) | {"score": results.score.name},
        "verdict": {
            "outcome": conclusion.outcome,
            "best": conclusion.best,
            "sentences": list(conclusion.sentences),
            "kendall_tau": conclusion.kendall_tau,
        },
        "subgroups": list(subgroup_sentences(tables["subgroups"].rows, results.unit)),
        "warnings": [*warnings, *lost],
        "tables": {name: table.to_json() for name, table in tables.items()},
        "record": dict(results.record),
    }

"""Compare finished runs on the same data."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from medrobust.analysis.across import Conclusion, comparison_tables, conclude
from medrobust.analysis.comparable import ComparedRun, comparable, limits, warnings
from medrobust.analysis.export import table_files
from medrobust.analysis.table import Table
from medrobust.api.runs import Run
from medrobust.errors import RunError
from medrobust.report.build import save_figure
from medrobust.report.comparison import comparison_page, provenance
from medrobust.report.plots import Words, comparison_picture, ladder_picture
from medrobust.report.reading import read_parts, without_patients
from medrobust.storage import RunFolder
from medrobust.study.reading import STORED

SHA256 = 64
"""Hexadecimal digits of a hash; what else stands for weights (none, imagenet) names no file."""

Folder = str | os.PathLike[str]


@dataclass(frozen=True)
class Comparison:
    """Several runs, compared.

    Attributes:
        report: The page: a path on this disk, or a URL.
        outcome: "different", "too few patients", "not distinguishable" or "not ranked".
        sentences: What may be said, one or more sentences for every pair of networks across runs.
        limits: What differs between the runs, their warnings, and what is left open.
        tables: Every table by the name of its file: scores, pairs, differences, table2, ...
    """

    report: Path | str
    outcome: str
    sentences: tuple[str, ...]
    limits: tuple[str, ...]
    tables: Mapping[str, pl.DataFrame]


def compare(
    runs: Sequence[Folder] | Mapping[str, Folder],
    out: Folder = "comparison",
    *,
    perturbations: Iterable[str] = (),
) -> Comparison:
    """Compare finished runs on the same data: a new network with an old one, or before and after a defence.

    Reads the run folders and changes nothing in them. Writes `comparison.html`, `comparison.json`, `tables/`
    and `figures/`.

    Args:
        runs: Run folders, the earliest first: each is named after its folder, or by `NAME=RUN_DIR`. Or a
            mapping of names to folders.
        out: Folder for the files.
        perturbations: Labels of the attacks and noise to compare; all that the runs share by default.

    Raises:
        RunError: Fewer than two runs, two of one name, no finished run, or runs whose data, test patients,
            cases or parameters of what is compared differ (the message names every difference), or that have
            nothing but one and the same network.
    """
    folder = RunFolder(out)
    if folder.is_file():
        raise RunError(f"--out: '{folder.url}' is a file. Give a folder, or an unused name.")
    if folder.exists(STORED):
        raise RunError(f"--out: '{folder.url}' is a run folder. Give another folder for the comparison.")
    given = [_opened(name, Run.open(path)) for name, path in _named(runs).items()]
    compared = comparable(given, tuple(perturbations))
    conclusion = conclude(compared)
    if conclusion.pairs.is_empty():
        raise RunError(
            f"All networks of {', '.join(run.name for run in compared)} have the same weights, so there is "
            "nothing to compare. Give runs of different networks."
        )
    said = (*limits(given, compared), *warnings(compared))
    return _written(folder, compared, conclusion, said)


def _named(runs: Sequence[Folder] | Mapping[str, Folder]) -> dict[str, Folder]:
    pairs = list(runs.items()) if isinstance(runs, Mapping) else [_name_of(run) for run in runs]
    if len(pairs) < 2:
        raise RunError(f"A comparison needs at least two run folders; got {len(pairs)}.")
    named: dict[str, Folder] = {}
    places: dict[Path | str, str] = {}
    for name, path in pairs:
        place = Path(path).resolve() if RunFolder(path).is_local else os.fspath(path)
        if place in places:
            raise RunError(
                f"'{places[place]}' and '{name}' are the same run folder, {path}. Give two different ones."
            )
        if name in named:
            raise RunError(
                f"Two runs are called '{name}': {named[name]} and {path}. Name one with NAME=RUN_DIR."
            )
        named[name] = path
        places[place] = name
    return named


def _name_of(run: Folder) -> tuple[str, Folder]:
    """The name of a folder, or what stands before the "=" where the whole is no folder."""
    text = os.fspath(run)
    name, equals, path = text.partition("=")
    named = equals and "://" not in name
    if named and ("://" in path or not RunFolder(text).exists()):
        if not name.strip() or not path:
            raise RunError(f"'{text}' must be a run folder, or NAME=RUN_DIR.")
        return name.strip(), path
    if RunFolder(text).is_local:
        return Path(text).resolve().name, run
    return text.rstrip("/").rpartition("/")[2], run


def _opened(name: str, run: Run) -> ComparedRun:
    weights = _weights(run.folder, run.results.record["networks"])
    study = run.study.model_dump(mode="json")
    return ComparedRun(name, run.results, study, read_parts(run.folder), weights)


def _weights(folder: RunFolder, networks: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the weights: of networks trained here from their card, of others as recorded."""
    known = {
        name: network["network"]["weights"]
        for name, network in networks.items()
        if not network["network"]["train"] and len(str(network["network"]["weights"])) == SHA256
    }
    trained = {
        name: folder.read_json("models", name, "card.json")["weights_sha256"]
        for name in networks
        if folder.exists("models", name, "card.json")
    }
    return known | trained


def _written(
    folder: RunFolder, runs: Sequence[ComparedRun], conclusion: Conclusion, said: tuple[str, ...]
) -> Comparison:
    results = runs[0].results
    made = comparison_tables(runs, conclusion)
    tables = {name: table.rows for name, table in made.items()}
    for name, content in table_files(made.values()).items():
        folder.write_bytes(content, "tables", name)
    words = Words.of(results)
    pictures = {"scores": save_figure(folder, "scores", comparison_picture(tables["scores"], words))}
    if "threats" in tables:
        pictures["threats"] = save_figure(folder, "threats", ladder_picture(tables["threats"], words))
    folder.write_json(_document(runs, conclusion, said, made), "comparison.json")
    page = comparison_page(runs, conclusion, tables, pictures, said)
    folder.write_bytes(page.encode(), "comparison.html")
    return Comparison(
        folder.address("comparison.html"), conclusion.outcome, conclusion.sentences, said, tables
    )


def _document(
    runs: Sequence[ComparedRun],
    conclusion: Conclusion,
    said: Sequence[str],
    tables: Mapping[str, Table],
) -> dict[str, Any]:
    """The content of `comparison.json`."""
    results = runs[0].results
    return {
        "task": str(results.task),
        "unit": results.unit,
        "classes": list(results.classes),
        "runs": [
            {"name": run.name, "is": provenance(run), "record": without_patients(run.results.record)}
            for run in runs
        ],
        "attacks": [attack._asdict() for attack in results.attacks],
        "noise": list(results.noise),
        "sources": {run.name: list(run.results.sources) for run in runs},
        "n_cases": results.n_cases,
        "n_patients": len(results.panel.patients),
        "settings": asdict(results.settings),
        "verdict": {"outcome": conclusion.outcome, "sentences": list(conclusion.sentences)},
        "limits": list(said),
        "tables": {name: table.to_json() for name, table in tables.items()},
    }

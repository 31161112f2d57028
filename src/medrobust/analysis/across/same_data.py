"""In what the data of two runs differ, so that their scores cannot be compared."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from medrobust.analysis.across.runs import ComparedRun
from medrobust.core import Task

SHOWN = 3
"""Patients and cases that a message names."""

LONGEST = 40
"""Characters that a message shows of a fingerprint, or of the names of classes."""


def data_differences(first: ComparedRun, other: ComparedRun) -> list[str]:
    """One line for everything that differs; empty where both scored the same cases of the same data."""
    lines = [
        f"{what}: {_short(value)} in {first.name}, {_short(another)} in {other.name}"
        for what, value, another in _both(_stated(first), _stated(other))
    ]
    same_name = first.results.record["data"]["name"] == other.results.record["data"]["name"]
    if lines and same_name:  # what the data set says of itself tells why
        facts = (run.results.record["data"]["facts"] for run in (first, other))
        lines += [
            f"data, {what}: {value} in {first.name}, {another} in {other.name}"
            for what, value, another in _both(*facts)
        ]
    if first.results.task is not other.results.task:
        return lines  # rows of other columns
    return [*lines, *_cases(first, other)]


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Entries that differ."""
    values = ((what, one.get(what, "unknown"), other.get(what, "unknown")) for what in {**one, **other})
    return [(what, value, another) for what, value, another in values if value != another]


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"


def _stated(run: ComparedRun) -> dict[str, str]:
    data = run.results.record["data"]
    return {
        "task": str(run.results.task),
        "data set": data["name"],
        "fingerprint of images and labels": data["fingerprint"],
        "unit": run.results.unit,
        "classes": ", ".join(run.results.classes),
    }


def _cases(first: ComparedRun, other: ComparedRun) -> Iterable[str]:
    """Test patients; where these are the same their cases; where these are, the truth."""
    for what, keys in (("test patients", ["patient_id"]), ("evaluated cases", ["patient_id", "case_id"])):
        found = [_only_in(*pair, keys) for pair in ((first, other), (other, first))]
        if any(found):
            yield f"{what}: {'; '.join(each for each in found if each)}"
            return
    truth, truth_other = _truth(first), _truth(other)
    changed = truth.join(truth_other, on=truth.columns, how="anti")
    if changed.height:
        yield f"truth: that of {_some(changed[truth.columns[0]])} in {first.name} is another in {other.name}"


def _only_in(one: ComparedRun, other: ComparedRun, keys: list[str]) -> str:
    """What of the evaluated cases only one run has, or nothing."""
    frames = [_evaluated(run).select(keys).unique() for run in (one, other)]
    extra = frames[0].join(frames[1], on=keys, how="anti")
    return f"only {one.name} has {_some(extra[keys[-1]])}" if extra.height else ""


def _evaluated(run: ComparedRun) -> pl.DataFrame:
    """The cases behind every score; rows of segmentation are of scans."""
    results = run.results
    return results.rows if results.task is Task.CLASSIFICATION else results.crafted


def _truth(run: ComparedRun) -> pl.DataFrame:
    results = run.results
    photographs = results.task is Task.CLASSIFICATION
    columns = ["case_id", "label"] if photographs else ["scan_id", "structure", "n_true"]
    return results.rows.select(columns).unique()


def _some(names: pl.Series) -> str:
    every = sorted(names.unique())
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return f"{', '.join(every[:SHOWN])}{more}"

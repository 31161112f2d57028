"""The clean score on all test cases, beside a study that attacks only some of them."""

from dataclasses import replace

import polars as pl

from medrobust.analysis import estimates
from medrobust.analysis.balanced import balanced_accuracies
from medrobust.analysis.results import Results
from medrobust.analysis.tables import bounded, frame, with_bounds
from medrobust.core import Task


def whole_test_table(results: Results) -> pl.DataFrame:
    """Clean score of each network on the whole test set; no other table depends on it.

    Returns:
        `model, clean`, in classification `balanced_accuracy`, both with `_low` and `_high`, `n_cases,
        n_patients`; empty where the study is of all test cases.

    Raises:
        RunError: The networks did not see the same cases.
    """
    classifies = results.task is Task.CLASSIFICATION
    names = ("clean", "balanced_accuracy") if classifies else ("clean",)
    schema = {"model": pl.String} | bounded(*names) | {"n_cases": pl.Int64, "n_patients": pl.Int64}
    rows = results.whole_test
    if rows is None or rows.is_empty():
        return frame([], schema)
    whole = replace(
        results,
        attacks=(),
        predictions=rows if classifies else None,
        overlaps=None if classifies else rows,
    )
    balanced = balanced_accuracies(whole) if classifies else {}
    counts = {"n_cases": results.record["cases"]["test"], "n_patients": len(whole.panel.patients)}
    lines = []
    for model in results.models:
        cell = whole.clean_cell(model)
        values = {"clean": estimates.score(whole, whole.panel.cells[cell])}
        values |= {"balanced_accuracy": balanced[cell]} if classifies else {}
        lines.append({"model": model, **with_bounds(values), **counts})
    return frame(lines, schema)

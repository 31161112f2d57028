"""Balanced accuracy beside accuracy: the mean over classes of the share that is right."""

import numpy as np
import polars as pl

from medrobust.analysis import estimates
from medrobust.analysis.patients import CELL, RIGHT, Cell, with_whitebox
from medrobust.analysis.results import Results
from medrobust.analysis.tables import bounded, frame, with_bounds
from medrobust.core import Task
from medrobust.errors import RunError
from medrobust.stats.intervals import Estimate, mean_of_ratios


def balanced_table(results: Results) -> pl.DataFrame:
    """Accuracy and balanced accuracy of every cell of Table 2, of clean images and of noise.

    Returns:
        `target, perturbation, source`, and `accuracy` and `balanced_accuracy` with `_low` and `_high`
        (`statistics.Share`). Classes without a case are left out.

    Raises:
        RunError: The study is not one of classification.
    """
    if results.task is not Task.CLASSIFICATION:
        raise RunError("Balanced accuracy needs one class per image; this study is one of segmentation.")
    of_cells = balanced_accuracies(results)
    lines = []
    for cell in results.shown_cells:
        values = {
            "accuracy": estimates.score(results, results.panel.cells[cell]),
            "balanced_accuracy": of_cells[cell],
        }
        names = {"target": cell.target, "perturbation": cell.perturbation, "source": cell.source}
        lines.append({**names, **with_bounds(values)})
    columns = dict.fromkeys(("target", "perturbation", "source"), pl.String)
    return frame(lines, columns | bounded("accuracy", "balanced_accuracy"))


def balanced_accuracies(results: Results) -> dict[Cell, Estimate]:
    """Balanced accuracy of every cell, with its interval over patients."""
    counts = (
        with_whitebox(results.rows)
        .group_by(*CELL, "patient_id", "label")
        .agg(right=RIGHT.sum(), outcomes=pl.len())
        .sort("patient_id", "label")
        .partition_by(CELL, as_dict=True)
    )
    return {Cell(*cell): _balanced(rows, results.settings.confidence) for cell, rows in counts.items()}


def _balanced(counts: pl.DataFrame, confidence: float) -> Estimate:
    patients, patient = np.unique(counts["patient_id"].to_numpy(), return_inverse=True)
    classes, label = np.unique(counts["label"].to_numpy(), return_inverse=True)
    shape = (patients.size, classes.size)
    right, outcomes = np.zeros(shape), np.zeros(shape)
    right[patient, label] = counts["right"]
    outcomes[patient, label] = counts["outcomes"]
    return mean_of_ratios(right, outcomes).share_interval(confidence)

"""More than accuracy: how classes are told apart, and whether a network knows when it is wrong."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from sklearn.metrics import f1_score, roc_auc_score

from medrobust.analysis.patients import CELL, with_whitebox
from medrobust.analysis.results import Results
from medrobust.analysis.tables import frame
from medrobust.core import Task
from medrobust.errors import RunError
from medrobust.metrics.calibration import (
    Labels,
    Probabilities,
    brier,
    calibration_error,
    confidence_when_wrong,
)

_SEEDS = ("target_seed", "source_seed", "fold")


def macro_f1(probabilities: Probabilities, labels: Labels) -> float:
    """Mean over the classes that occur of the F1 of each, in [0, 1]."""
    return float(
        f1_score(labels, probabilities.argmax(1), labels=np.unique(labels), average="macro", zero_division=0)
    )


def macro_auroc(probabilities: Probabilities, labels: Labels) -> float:
    """Mean over the classes that occur of the area under each one's ROC curve against all others, in [0, 1].

    NaN where one class is all there is.
    """
    occurring = np.unique(labels)
    if len(occurring) < 2:
        return math.nan
    areas = [roc_auc_score(labels == one, probabilities[:, one]) for one in occurring]
    return float(np.mean(areas))


QUALITIES: Mapping[str, Callable[[Probabilities, Labels], float]] = {
    "macro_f1": macro_f1,
    "macro_auroc": macro_auroc,
    "brier": brier,
    "calibration_error": calibration_error,
    "confidence_when_wrong": confidence_when_wrong,
}


def quality_table(results: Results) -> pl.DataFrame:
    """Further scores of every cell of Table 2, of clean images and of noise; means over seeds, no intervals.

    Returns:
        `target, perturbation, source` and a column per score in `QUALITIES`.

    Raises:
        RunError: The study is not one of classification.
    """
    if results.task is not Task.CLASSIFICATION:
        raise RunError("These scores need one class per image; this study is one of segmentation.")
    parts = with_whitebox(results.rows).sort(*CELL, *_SEEDS, "case_id").partition_by(CELL, as_dict=True)
    lines: list[dict[str, object]] = []
    for cell in results.shown_cells:
        names = {"target": cell.target, "perturbation": cell.perturbation, "source": cell.source}
        lines.append({**names, **_qualities(parts[cell])})
    columns = dict.fromkeys(("target", "perturbation", "source"), pl.String)
    return frame(lines, columns | dict.fromkeys(QUALITIES, pl.Float64))


def _qualities(rows: pl.DataFrame) -> dict[str, float]:
    of_seeds = [
        {name: score(probabilities, labels) for name, score in QUALITIES.items()}
        for probabilities, labels in (
            (np.array(one["probabilities"].to_list(), np.float64), one["label"].to_numpy())
            for one in rows.partition_by(_SEEDS)
        )
    ]
    return {name: _mean([one[name] for one in of_seeds]) for name in QUALITIES}


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan

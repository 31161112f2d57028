"""More than accuracy: how classes are told apart, and whether a network knows when it is wrong."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from medrobust.analysis.patients import CELL, with_whitebox
from medrobust.analysis.results import Results
from medrobust.analysis.tables import frame
from medrobust.core import Task
from medrobust.errors import RunError
from medrobust.metrics.scores import Labels, Probabilities, auroc, brier, confidence_when_wrong, ece, f1

_SEEDS = ("target_seed", "source_seed", "fold")


QUALITIES: Mapping[str, Callable[[Labels, Probabilities], float]] = {
    "macro_f1": lambda labels, probabilities: f1(labels, probabilities.argmax(1)),
    "macro_auroc": auroc,
    "brier": brier,
    "calibration_error": ece,
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
        {name: score(labels, probabilities) for name, score in QUALITIES.items()}
        for probabilities, labels in (
            (np.array(one["probabilities"].to_list(), np.float64), one["label"].to_numpy())
            for one in rows.partition_by(_SEEDS)
        )
    ]
    return {name: _mean([one[name] for one in of_seeds]) for name in QUALITIES}


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan

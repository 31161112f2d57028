"""Which scans are worth a look: those that attacks hit hardest, and typical ones."""

from typing import Literal, NamedTuple

import polars as pl

from medrobust.core import Task
from medrobust.metrics.scores import dice_of_counts

Why = Literal["hardest", "typical"]


class Chosen(NamedTuple):
    """A scan, and why it is shown."""

    scan_id: str
    why: Why


def scan_scores(rows: pl.DataFrame, task: Task, background: str) -> pl.DataFrame:
    """How every scan does, on average over its rows.

    Args:
        rows: Rows of `predictions` or `overlaps`.
        task: Which of the two.
        background: The class that no Dice is taken of, in segmentation.

    Returns:
        `scan_id, score`: the mean probability of the true class; or the mean Dice over structures that the
        truth has, then over cells. Scans without any such structure are left out.
    """
    if task is Task.CLASSIFICATION:
        score = pl.col("probabilities").list.get(pl.col("label"))
        return rows.group_by("scan_id").agg(score.mean().cast(pl.Float64).alias("score")).sort("scan_id")
    counted = rows.filter(pl.col("structure") != background)
    overlap = dice_of_counts(*(counted[name].to_numpy() for name in ("n_true", "n_pred", "n_both")))
    cell = ("scan_id", "perturbation", "source", "source_seed", "target", "target_seed")
    return (
        counted.with_columns(score=pl.Series(overlap))
        .filter(pl.col("score").is_not_nan())
        .group_by(cell)
        .agg(pl.col("score").mean())
        .group_by("scan_id")
        .agg(pl.col("score").mean())
        .sort("scan_id")
    )


def chosen_scans(scores: pl.DataFrame, hardest: int, typical: int) -> list[Chosen]:
    """The scans with the lowest scores, worst first, then those nearest to the median, nearest first.

    Args:
        scores: `scan_id, score`.
        hardest: How many of the first kind.
        typical: How many of the second; none is shown twice.
    """
    worst = scores.sort("score", "scan_id")["scan_id"].head(hardest).to_list()
    distance = (pl.col("score") - pl.col("score").median()).abs()
    near = scores.sort(distance, "scan_id").filter(~pl.col("scan_id").is_in(worst))["scan_id"].head(typical)
    return [*(Chosen(scan, "hardest") for scan in worst), *(Chosen(scan, "typical") for scan in near)]

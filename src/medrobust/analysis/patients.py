"""From rows to one number per patient and cell: what every interval and test is made over."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float64

from medrobust.metrics.scores import dice_of_counts, volume_error
from medrobust.stats.intervals import Totals
from medrobust.stats.resampling import Draws

CLEAN = "clean"
CELL = ("target", "perturbation", "source", "whitebox")
SEEDS = ("target_seed", "source_seed")

RIGHT = pl.col("label") == pl.col("prediction")
"""Of rows of `predictions`: whether the answer is right."""

Resample = Callable[[Float64[np.ndarray, "k patients"]], Float64[np.ndarray, "k resamples"]]
"""Sums of k numbers over the patients of every resample of a study."""


class Cell(NamedTuple):
    """One target under one perturbation whose images were crafted on one source ("" where there is none)."""

    target: str
    perturbation: str
    source: str = ""
    whitebox: bool = False


class Scores(NamedTuple):
    """Scores of all patients under one condition.

    Attributes:
        totals: Dice of each patient, or number of its right images; a mean where several cells or seeds are
            pooled.
        repeats: How many cells and seeds are pooled.
        draws: Sum of the totals in every resample of the patients; None where nothing is resampled.
    """

    totals: Totals
    repeats: int
    draws: Draws | None = None

    def minus(self, other: "Scores") -> "Scores":
        """Paired differences."""
        draws = None if self.draws is None or other.draws is None else self.draws - other.draws
        return Scores(self.totals - other.totals, self.repeats, draws)


@dataclass(frozen=True)
class Panel:
    """Scores of every patient in every cell, seeds averaged within the patient.

    Attributes:
        patients: Patients whose score is defined, sorted.
        undefined: Patients left out because none of the structures is present in their truth.
        sizes: Images of each patient; 1 in segmentation, where a patient's Dice counts once.
        cells: Scores of each cell, in the order of `patients`.
        drawn_sizes: Sum of the sizes in every resample; None where nothing is resampled.
    """

    patients: tuple[str, ...]
    undefined: int
    sizes: Totals
    cells: Mapping[Cell, Scores]
    drawn_sizes: Draws | None = None

    @property
    def images(self) -> Scores:
        """The sizes as what other totals are divided by."""
        return Scores(self.sizes, 1, self.drawn_sizes)

    def resampled(self, resample: Resample) -> "Panel":
        """The panel with draws of all cells, from the same resamples."""
        names = list(self.cells)
        sums = resample(np.stack([self.sizes, *(self.cells[name].totals for name in names)]))
        cells = {
            name: self.cells[name]._replace(draws=draws) for name, draws in zip(names, sums[1:], strict=True)
        }
        return replace(self, cells=cells, drawn_sizes=sums[0])

    def mean(self, cells: Iterable[Cell]) -> Scores | None:
        """Scores under several conditions averaged within each patient; None without cells."""
        chosen = [self.cells[cell] for cell in cells]
        if not chosen:
            return None
        totals: Float64[np.ndarray, "cells patients"] = np.stack([scores.totals for scores in chosen])
        drawn = [scores.draws for scores in chosen if scores.draws is not None]
        draws = np.mean(drawn, axis=0) if len(drawn) == len(chosen) else None
        return Scores(totals.mean(0), sum(scores.repeats for scores in chosen), draws)


def with_whitebox(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the flag that keeps white-box cells apart from transfer cells of the same names."""
    return rows.with_columns(whitebox=pl.col("role") == "whitebox")


def classification_panel(predictions: pl.DataFrame) -> Panel:
    """Numbers of right images. A case counts once, however many seeds there are.

    Args:
        predictions: Rows of `results/predictions.parquet`.
    """
    sizes = predictions.group_by("patient_id").agg(pl.col("case_id").n_unique()).sort("patient_id")
    right = (
        with_whitebox(predictions)
        .group_by(*CELL, "patient_id")
        .agg(
            right=RIGHT.sum(),
            repeats=pl.struct(SEEDS).n_unique(),
        )
        .with_columns(total=pl.col("right") / pl.col("repeats"))
    )
    return _panel(
        right, sizes["patient_id"].to_list(), sizes["case_id"].to_numpy().astype(np.float64), undefined=0
    )


def segmentation_panel(overlaps: pl.DataFrame, background: str) -> Panel:
    """Mean Dice: over the structures present in a scan, over scans, over seeds.

    Args:
        overlaps: Rows of `results/overlaps.parquet`.
        background: Name of the class that is no structure.
    """
    scans = scan_dice(overlaps, background)
    scored = (
        by_seed(scans, "dice")
        .group_by(*CELL, "patient_id", maintain_order=True)
        .agg(total=pl.col("dice").mean(), repeats=pl.len())
    )
    patients = sorted(scored["patient_id"].unique())
    undefined = overlaps["patient_id"].n_unique() - len(patients)
    return _panel(scored, patients, np.ones(len(patients)), undefined)


def scan_dice(overlaps: pl.DataFrame, background: str) -> pl.DataFrame:
    """Dice and volume error of every structure present in the truth of a scan.

    Sorted, so that no mean depends on the order of the rows.
    """
    keys = (*CELL, *SEEDS, "patient_id", "scan_id", "structure")
    counts = (
        with_whitebox(overlaps)
        .filter(pl.col("structure") != background)
        .group_by(keys)
        .agg(pl.col("n_true", "n_pred", "n_both").sum())
        .sort(keys)
    )
    n_true, n_pred, n_both = (counts[name].to_numpy() for name in ("n_true", "n_pred", "n_both"))
    scores = {
        "dice": pl.Series(dice_of_counts(n_true, n_pred, n_both)),
        "volume_error": pl.Series(volume_error(n_true, n_pred)),
    }
    return counts.with_columns(**scores).filter(pl.col("dice").is_not_nan())


def by_seed(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Means of columns in every cell and for every seed: rows of a scan, then scans of a patient.

    What is null is left out. The order of the rows is kept: a mean may depend on it in the last bit.
    """
    keys = (*CELL, *SEEDS, "patient_id")
    for finer in ((*keys, "scan_id"), keys):
        rows = rows.group_by(finer, maintain_order=True).agg(pl.col(columns).mean())
    return rows


def _panel(scored: pl.DataFrame, patients: list[str], sizes: Totals, undefined: int) -> Panel:
    cells = {
        Cell(*key): Scores(rows["total"].to_numpy(), rows["repeats"].item(0))
        for key, rows in scored.sort("patient_id").partition_by(CELL, as_dict=True).items()
    }
    return Panel(tuple(patients), undefined, sizes, cells)

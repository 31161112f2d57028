"""Dice of every structure, and what networks show where a structure is absent."""

from collections.abc import Sequence

import polars as pl

from medrobust.analysis.false_positives import pixel_volumes
from medrobust.analysis.patients import SEEDS, scan_dice, with_whitebox
from medrobust.analysis.results import Results
from medrobust.analysis.tables import frame
from medrobust.core import Task
from medrobust.errors import RunError
from medrobust.stats.intervals import mean

CONDITION = ("target", "perturbation", "structure")


def structures(results: Results) -> pl.DataFrame:
    """Dice per target, perturbation and structure, averaged over the sources that all targets face.

    Returns:
        `target, perturbation, structure, score, low, high, n_patients` (patients in whose truth the structure
        is present; without any the score is null); `volume_error`: the mean over those patients of
        (shown - true) / true, so that -1 is a structure not shown at all; and `false_positive_pixels` and
        `false_positive_ml`: the mean number and volume shown in a scan that does not have the structure, null
        where all have it, the volume also where the data do not say how large a pixel is.

    Raises:
        RunError: The study is not one of segmentation.
    """
    if results.task is not Task.SEGMENTATION:
        raise RunError("Only segmentation has structures; this study is one of classification.")
    rows = results.shared_rows.filter(pl.col("structure") != results.classes[0])
    by_patient = _by_patient(rows, results.classes[0])
    lines = [
        dict(zip(CONDITION, key, strict=True)) | _line(part, results.settings.confidence)
        for key, part in by_patient.partition_by(CONDITION, as_dict=True, maintain_order=True).items()
    ]
    numbers = dict.fromkeys(("score", "low", "high"), pl.Float64)
    counts = {"n_patients": pl.Int64, "volume_error": pl.Float64}
    table = frame(lines, dict.fromkeys(CONDITION, pl.String) | numbers | counts)
    wrong = _false_positives(rows, pixel_volumes(results))
    every = rows.select(CONDITION).unique()
    table = every.join(table, on=CONDITION, how="left").join(wrong, on=CONDITION, how="left")
    return ordered(table.with_columns(pl.col("n_patients").fill_null(0)), results, CONDITION)


def worst_structures(table: pl.DataFrame) -> pl.DataFrame:
    """Of each target and perturbation the structure with the lowest Dice: rows of `structures`."""
    scored = table.filter(pl.col("score").is_not_null())
    lowest = pl.col("score") == pl.col("score").min().over("target", "perturbation")
    return scored.filter(lowest).unique(("target", "perturbation"), keep="first", maintain_order=True)


def _by_patient(rows: pl.DataFrame, background: str) -> pl.DataFrame:
    """Mean Dice and volume error of each patient over scans, then over sources and seeds."""
    means = [pl.col("dice").mean(), pl.col("volume_error").mean()]
    by_cell = (
        scan_dice(rows, background)
        .group_by(*CONDITION, "source", *SEEDS, "patient_id", maintain_order=True)
        .agg(means)
    )
    return by_cell.group_by(*CONDITION, "patient_id", maintain_order=True).agg(means)


def _line(part: pl.DataFrame, confidence: float) -> dict[str, float]:
    value, low, high = mean(part["dice"].to_numpy()).share_interval(confidence)
    volumes = {"n_patients": part.height, "volume_error": part["volume_error"].to_numpy().mean()}
    return {"score": value, "low": low, "high": high, **volumes}


def _false_positives(rows: pl.DataFrame, volumes: pl.DataFrame | None) -> pl.DataFrame:
    ml = pl.lit(None, pl.Float64) if volumes is None else pl.col("n_pred") * pl.col("ml")
    absent = (
        with_whitebox(rows)
        .group_by(*CONDITION, "source", *SEEDS, "scan_id")
        .agg(pl.col("n_true", "n_pred").sum())
        .filter(pl.col("n_true") == 0)
        .sort(*CONDITION, "source", *SEEDS, "scan_id")
    )
    if volumes is not None:
        absent = absent.join(volumes, on="scan_id", how="left", maintain_order="left")
    means = {"false_positive_pixels": pl.col("n_pred").mean(), "false_positive_ml": ml.mean()}
    return absent.group_by(CONDITION).agg(**means)


def ordered(table: pl.DataFrame, results: Results, keys: Sequence[str]) -> pl.DataFrame:
    """Targets, perturbations and structures in the order of the study; perturbations not named there last."""
    orders = dict(zip(CONDITION, (results.models, results.perturbations, results.classes), strict=True))
    ranks = [
        pl.col(key).replace_strict(
            {name: place for place, name in enumerate(orders[key])}, default=len(orders[key])
        )
        for key in keys
    ]
    return table.sort(*ranks, *keys)

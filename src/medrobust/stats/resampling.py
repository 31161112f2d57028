"""Bootstrap over patients: percentile, BCa and bootstrap-t intervals, and how often each network ranks first.

Options, not defaults: with few patients percentile and BCa intervals are too short (nominal 0.95, 6 patients:
0.86 and 0.87).

All numbers of a study share its resamples. The totals of a resample are linear in those of the patients, so
that all cells are resampled in one pass, and means and differences of cells are those of their draws.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64
from scipy import stats

from medrobust.stats.intervals import Estimate, Totals

Draws = Float64[np.ndarray, "resamples"]
"""A total in every resample of the patients."""

_CHUNK = 2_000_000
"""Patients drawn at once; bounds the memory, changes no result."""


def resampled_sums(
    values: Float64[np.ndarray, "k patients"], resamples: int, rng: np.random.Generator
) -> Float64[np.ndarray, "k resamples"]:
    """Totals of k numbers over patients drawn with replacement; all k see the same resamples.

    Args:
        values: Each number of each patient.
        resamples: How often as many patients as there are are drawn.
        rng: Where they are drawn from.
    """
    counts = _counts(values.shape[1], resamples, rng)
    return np.concatenate([values @ times.T for times in counts], axis=1)


def _counts(
    patients: int, resamples: int, rng: np.random.Generator
) -> Iterator[Float64[np.ndarray, "b patients"]]:
    """How often each patient was drawn, in chunks of resamples."""
    most = max(1, _CHUNK // patients)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        drawn = rng.integers(0, patients, (rows, patients), dtype=np.uint32)
        places = drawn + np.arange(rows, dtype=np.uint32)[:, None] * np.uint32(patients)
        counts = np.bincount(places.ravel(), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(np.float64)


def percentile(x: Totals, y: Totals, drawn_x: Draws, drawn_y: Draws, confidence: float) -> Estimate:
    """Percentile bootstrap interval of `sum(x) / sum(y)`; bounds NaN with fewer than two patients.

    Args:
        x: Numerator of each patient.
        y: Denominator of each patient.
        drawn_x: `sum(x)` in every resample; resamples without any `y` are left out.
        drawn_y: `sum(y)` in every resample.
        confidence: In (0, 1).
    """
    value = _value(x, y)
    if _has_no_bounds(x, value):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(_ratios(drawn_x, drawn_y), _levels(confidence))
    return Estimate(value, float(low), float(high))


def bca(x: Totals, y: Totals, drawn_x: Draws, drawn_y: Draws, confidence: float) -> Estimate:
    """Bias-corrected and accelerated bootstrap interval; arguments and result are those of `percentile`.

    Source:
        Efron, J. American Statistical Association 82, 1987; acceleration from the jackknife.
    """
    value = _value(x, y)
    if _has_no_bounds(x, value):
        return Estimate(value, math.nan, math.nan)
    draws, levels = _ratios(drawn_x, drawn_y), _levels(confidence)
    if np.ptp(draws) > 0:
        levels = _corrected_levels(x, y, value, draws, levels)
    low, high = np.quantile(draws, levels)
    return Estimate(value, float(low), float(high))


def bootstrap_t(
    x: Totals,
    y: Totals,
    drawn_x: Draws,
    drawn_y: Draws,
    drawn_products: Float64[np.ndarray, "3 resamples"],
    confidence: float,
) -> Estimate:
    """Studentised bootstrap interval of `sum(x) / sum(y)`; bounds NaN with fewer than two patients.

    Each resample's deviation is divided by its own linearised standard error; resamples in which no patient
    differs from the others have none and are left out.

    Args:
        x: Numerator of each patient.
        y: Denominator of each patient.
        drawn_x: `sum(x)` in every resample.
        drawn_y: `sum(y)` in every resample.
        drawn_products: `sum(x x)`, `sum(x y)` and `sum(y y)` in every resample.
        confidence: In (0, 1).

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5.
    """
    value = _value(x, y)
    if _has_no_bounds(x, value):
        return Estimate(value, math.nan, math.nan)
    residuals = x - value * y
    squares = float(residuals @ residuals)
    has_y = drawn_y != 0
    draws = drawn_x[has_y] / drawn_y[has_y]
    xx, xy, yy = drawn_products[:, has_y]
    drawn_squares = xx - 2 * draws * xy + draws**2 * yy
    # What is left of the sum of squares where nothing differs is rounding.
    differs = drawn_squares > 1e-12 * xx
    if squares <= 1e-12 * float(x @ x) or not differs.any():
        return Estimate(value, value, value)
    deviations = (draws - value)[differs] * np.abs(drawn_y[has_y][differs]) / np.sqrt(drawn_squares[differs])
    error = math.sqrt(squares) / abs(float(y.sum()))
    low, high = np.quantile(deviations, _levels(confidence))
    return Estimate(value, value - float(high) * error, value - float(low) * error)


def share_first(
    drawn: Float64[np.ndarray, "networks resamples"],
) -> Float64[np.ndarray, "networks"]:
    """Share of resamples of the patients in which each network has the highest total; ties are shared.

    Args:
        drawn: Total of every network in every resample.
    """
    first = np.isclose(drawn, drawn.max(0), rtol=1e-12, atol=0)
    return np.asarray((first / first.sum(0)).mean(1))


def _value(x: Totals, y: Totals) -> float:
    return float(x.sum() / y.sum()) if y.sum() else math.nan


def _has_no_bounds(x: Totals, value: float) -> bool:
    return x.size < 2 or math.isnan(value)


def _levels(confidence: float) -> Float64[np.ndarray, "2"]:
    return np.array([1 - confidence, 1 + confidence]) / 2


def _ratios(drawn_x: Draws, drawn_y: Draws) -> Draws:
    has_y = drawn_y != 0
    return np.asarray(drawn_x[has_y] / drawn_y[has_y])


def _corrected_levels(
    x: Totals, y: Totals, value: float, draws: Draws, levels: Float64[np.ndarray, "2"]
) -> Float64[np.ndarray, "2"]:
    below = (np.sum(draws < value) + 0.5 * np.sum(draws == value)) / draws.size
    bias = stats.norm.ppf(np.clip(below, 0.5 / draws.size, 1 - 0.5 / draws.size))
    rest = y.sum() - y
    left_out = (x.sum() - x)[rest != 0] / rest[rest != 0]
    spread = left_out.mean() - left_out
    squares = float(spread @ spread)
    acceleration = float(np.sum(spread**3)) / (6 * squares**1.5) if squares > 0 else 0.0
    quantiles = bias + stats.norm.ppf(levels)
    return np.asarray(stats.norm.cdf(bias + quantiles / (1 - acceleration * quantiles)))

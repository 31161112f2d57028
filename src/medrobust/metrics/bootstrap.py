"""Bootstrap over patients: percentile and BCa intervals, and how often each network ranks first.

Options, not defaults: with few patients both intervals are too short (nominal 0.95, 6 patients: 0.86 and
0.87).
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from medrobust.metrics.statistics import Estimate, Totals

_CHUNK = 2_000_000
"""Numbers drawn at once; bounds the memory, changes no result."""


def resampled(
    patients: int, resamples: int, rng: np.random.Generator
) -> Iterator[Int64[np.ndarray, "b patients"]]:
    """Indices of patients drawn with replacement, `resamples` rows in chunks."""
    rows = max(1, _CHUNK // max(patients, 1))
    for start in range(0, resamples, rows):
        yield rng.integers(0, patients, (min(rows, resamples - start), patients))


def resampled_ratios(
    x: Totals, y: Totals, resamples: int, rng: np.random.Generator
) -> Float64[np.ndarray, "resamples"]:
    """`sum(x) / sum(y)` of every resample; resamples without any `y` are left out."""
    parts = [(x[rows].sum(1), y[rows].sum(1)) for rows in resampled(x.size, resamples, rng)]
    above, below = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.asarray(above[below != 0] / below[below != 0])


def percentile(x: Totals, y: Totals, confidence: float, resamples: int, rng: np.random.Generator) -> Estimate:
    """Percentile bootstrap interval of `sum(x) / sum(y)`; bounds NaN with fewer than two patients."""
    return _bounds(x, y, np.array([1 - confidence, 1 + confidence]) / 2, resamples, rng, corrected=False)


def bca(x: Totals, y: Totals, confidence: float, resamples: int, rng: np.random.Generator) -> Estimate:
    """Bias-corrected and accelerated bootstrap interval of `sum(x) / sum(y)`; bounds NaN below two patients.

    Source:
        Efron, J. American Statistical Association 82, 1987; acceleration from the jackknife.
    """
    return _bounds(x, y, np.array([1 - confidence, 1 + confidence]) / 2, resamples, rng, corrected=True)


def _bounds(
    x: Totals,
    y: Totals,
    levels: Float64[np.ndarray, "2"],
    resamples: int,
    rng: np.random.Generator,
    *,
    corrected: bool,
) -> Estimate:
    value = float(x.sum() / y.sum()) if y.sum() else math.nan
    if x.size < 2 or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    draws = resampled_ratios(x, y, resamples, rng)
    if corrected and np.ptp(draws) > 0:
        levels = _corrected_levels(x, y, value, draws, levels)
    low, high = np.quantile(draws, levels)
    return Estimate(value, float(low), float(high))


def _corrected_levels(
    x: Totals,
    y: Totals,
    value: float,
    draws: Float64[np.ndarray, "resamples"],
    levels: Float64[np.ndarray, "2"],
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


def share_first(
    totals: Float64[np.ndarray, "networks patients"], resamples: int, rng: np.random.Generator
) -> Float64[np.ndarray, "networks"]:
    """Share of resamples of the patients in which each network has the highest total; ties are shared."""
    wins = np.zeros(len(totals))
    for rows in resampled(totals.shape[1], resamples, rng):
        sums = totals[:, rows].sum(-1)
        first = np.isclose(sums, sums.max(0), rtol=1e-12, atol=0)
        wins += (first / first.sum(0)).sum(1)
    return np.asarray(wins / resamples)

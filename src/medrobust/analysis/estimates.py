"""Numbers with intervals, as the protocol has them for each task."""

import numpy as np

from medrobust.analysis.patients import Scores
from medrobust.analysis.results import Results
from medrobust.core import Task
from medrobust.stats.intervals import (
    ROUNDING,
    UNDEFINED,
    Estimate,
    Ratio,
    Totals,
    accuracy_difference,
    paired_interval,
    ratio,
    wilson,
)
from medrobust.stats.resampling import bca, bootstrap_t, percentile


def score(results: Results, scores: Scores | None) -> Estimate:
    """A score in [0, 1] with its interval: `Ratio.share_interval` (Dice), `wilson` (accuracy).

    Args:
        results: The study.
        scores: Scores of the patients; None gives NaN.
    """
    if scores is None:
        return UNDEFINED
    sizes, confidence = results.panel.sizes, results.settings.confidence
    resampled = _bootstrap(results, scores, results.panel.images)
    if resampled is not None:
        return resampled.clipped(0.0, 1.0)
    if results.task is Task.CLASSIFICATION:
        # Outcomes are counted before they are averaged over cells and seeds: each is right or wrong.
        return wilson(scores.totals * scores.repeats, sizes * scores.repeats, confidence)
    return ratio(scores.totals, sizes).share_interval(confidence)


def difference(results: Results, first: Scores | None, second: Scores | None, limit: float = 1.0) -> Estimate:
    """What is under `first` minus that under `second`, paired over patients.

    Args:
        results: The study.
        first: Scores of the patients, or their drops; None gives NaN.
        second: The same.
        limit: Largest size that the difference can have: 1 of scores, 2 of drops.
    """
    if first is None or second is None:
        return UNDEFINED
    return _relative(results, first.minus(second), results.panel.images, largest=1.0).clipped(-limit, limit)


def relative_drop(results: Results, clean: Scores | None, attacked: Scores | None) -> Estimate:
    """Share of the clean score that is lost, `(clean - attacked) / clean`, paired; at most 1."""
    if clean is None or attacked is None:
        return UNDEFINED
    # A patient loses at most a whole score, of which the mean clean score is a part.
    largest = ratio(results.panel.sizes, clean.totals).value
    return _relative(results, clean.minus(attacked), clean, largest).clipped(-np.inf, 1.0)


def paired_ratio(results: Results, x: Totals, y: Totals) -> Ratio:
    """The ratio of totals of paired differences with the standard error that suits the task."""
    if results.task is Task.CLASSIFICATION:
        return accuracy_difference(x, y, results.panel.sizes)
    return ratio(x, y)


def _relative(results: Results, x: Scores, y: Scores, largest: float) -> Estimate:
    resampled = _bootstrap(results, x, y)
    if resampled is not None:
        return resampled
    images = results.panel.sizes if results.task is Task.CLASSIFICATION else None
    return paired_interval(x.totals, y.totals, results.settings.confidence, images=images, largest=largest)


def _bootstrap(results: Results, x: Scores, y: Scores) -> Estimate | None:
    """An interval from the resamples that all numbers of the study share.

    None where none was asked for, and where resamples tell nothing, since they are all alike.
    """
    method = results.settings.interval
    if method == "default" or not ratio(x.totals, y.totals).varies:
        return None
    assert x.draws is not None
    assert y.draws is not None
    numbers, confidence = (x.totals, y.totals, x.draws, y.draws), results.settings.confidence
    if method == "bootstrap-t":
        products = np.stack([x.totals * x.totals, x.totals * y.totals, y.totals * y.totals])
        interval = bootstrap_t(*numbers, results.resampled(products), confidence)
    else:
        interval = (bca if method == "bca" else percentile)(*numbers, confidence)
    return interval if interval.high - interval.low > ROUNDING else None

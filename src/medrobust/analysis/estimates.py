"""Numbers with intervals, as the protocol has them for each task."""

import numpy as np

from medrobust.analysis.patients import Scores
from medrobust.analysis.results import Results
from medrobust.core import Task
from medrobust.metrics.bootstrap import bca, percentile
from medrobust.metrics.statistics import (
    UNDEFINED,
    Estimate,
    Ratio,
    Totals,
    accuracy_difference,
    ratio,
    wilson,
)
from medrobust.rng import generator

_BOOTSTRAPS = {"percentile": percentile, "bca": bca}


def score(results: Results, scores: Scores | None, *key: str) -> Estimate:
    """A score in [0, 1]: t interval over patients (Dice), Wilson's with design effect (accuracy).

    Args:
        results: The study.
        scores: Scores of the patients; None gives NaN.
        key: Names the number, so that a bootstrap of it draws the same resamples every time.
    """
    if scores is None:
        return UNDEFINED
    sizes, settings = results.panel.sizes, results.settings
    if settings.interval != "default":
        return _bootstrap(results, scores.totals, sizes, "score", *key)
    if results.task is Task.CLASSIFICATION:
        # Outcomes are counted before they are averaged over cells and seeds: each is right or wrong.
        return wilson(scores.totals * scores.repeats, sizes * scores.repeats, settings.confidence)
    return ratio(scores.totals, sizes).interval(settings.confidence).clipped(0.0, 1.0)


def difference(results: Results, first: Scores | None, second: Scores | None, *key: str) -> Estimate:
    """Score under `first` minus that under `second`, paired over patients, in [-1, 1]."""
    if first is None or second is None:
        return UNDEFINED
    return paired(results, first.totals - second.totals, "difference", *key)


def paired(results: Results, differences: Totals, *key: str) -> Estimate:
    """Mean of paired differences of totals with its interval, in [-1, 1]."""
    return _relative(results, differences, results.panel.sizes, *key).clipped(-1.0, 1.0)


def relative_drop(results: Results, clean: Scores | None, attacked: Scores | None, *key: str) -> Estimate:
    """Share of the clean score that is lost, `(clean - attacked) / clean`, paired; at most 1."""
    if clean is None or attacked is None:
        return UNDEFINED
    return _relative(results, clean.totals - attacked.totals, clean.totals, "relative", *key).clipped(
        -np.inf, 1.0
    )


def paired_ratio(results: Results, x: Totals, y: Totals) -> Ratio:
    """The ratio of totals of paired differences with the standard error that suits the task."""
    if results.task is Task.CLASSIFICATION:
        return accuracy_difference(x, y, results.panel.sizes)
    return ratio(x, y)


def _relative(results: Results, x: Totals, y: Totals, *key: str) -> Estimate:
    if results.settings.interval != "default":
        return _bootstrap(results, x, y, *key)
    interval = paired_ratio(results, x, y).interval(results.settings.confidence)
    return interval._replace(value=ratio(x, y).value)


def _bootstrap(results: Results, x: Totals, y: Totals, *key: str) -> Estimate:
    settings = results.settings
    rng = generator(settings.seed, "bootstrap", *key)
    return _BOOTSTRAPS[settings.interval](x, y, settings.confidence, settings.resamples, rng)

"""The numbers of a report from plain vectors: a score for each case, and the patient it belongs to.

Booleans are outcomes, right or wrong: their mean is an accuracy, in which every case counts. Numbers are
scores such as Dice: they are averaged within the patient, and every patient counts once. Cases of one patient
are never taken as independent.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from medrobust.rng import generator
from medrobust.stats import significance
from medrobust.stats.intervals import (
    Estimate,
    Totals,
    accuracy_difference,
    mean,
    paired_interval,
    ratio,
    wilson,
)
from medrobust.stats.resampling import rank_agreement, rank_frequencies, resampled_sums
from medrobust.stats.significance import holm, patients_needed, ranks_interval, sign_flip_test

Scores = Float[np.ndarray, "cases"] | Bool[np.ndarray, "cases"] | Sequence[float] | Sequence[bool]
Patients = Shaped[np.ndarray, "cases"] | Sequence[Any]

RESAMPLES = 10_000
"""Resamples, and sign patterns drawn where there are too many to count, as in a study by default."""


class Bounds(NamedTuple):
    """The ends of an interval; NaN with a single patient."""

    low: float
    high: float


class Comparison(NamedTuple):
    """How two networks differ.

    Attributes:
        difference: Mean score of the first minus that of the second.
        interval: Its interval over patients.
        p: Two-sided p value of sign flips over patients.
    """

    difference: float
    interval: Bounds
    p: float


class Ranked(NamedTuple):
    """Where a network stands.

    Attributes:
        name: Its name.
        score: Its mean score.
        low: The best rank that the tests leave open: 1 + the number of significantly better networks.
        high: The worst: the number of networks - that of significantly worse ones.
    """

    name: str
    score: float
    low: int
    high: int


class Stability(NamedTuple):
    """How ranks depend on which patients were there.

    Attributes:
        frequencies: Of each network, the fraction of resamples of the patients in which it has each rank,
            the first rank first.
        tau: Kendall's tau of the resampled order with that of all patients: its mean, and the quantiles
            between which it lies in a fraction `confidence` of the resamples.
    """

    frequencies: dict[str, list[float]]
    tau: Estimate


def compare_paired(
    scores_a: Scores,
    scores_b: Scores,
    patients: Patients,
    *,
    per_case: bool | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    names: tuple[str, str] = ("a", "b"),
) -> Comparison:
    """Compare two networks on the same cases, paired over patients, as a report does.

    Args:
        scores_a: Score of the first network on each case.
        scores_b: Score of the second network on each case.
        patients: The patient of each case.
        per_case: Whether every case counts (accuracies, also averaged over attacks) or every patient once;
            None: every case where the scores are booleans.
        confidence: Of the interval, in (0, 1).
        resamples: Patterns of signs that are drawn with more than 16 patients; with fewer all are counted.
        seed: Seed of the study, for these draws.
        names: Names of the networks in the study. With the seed they fix the draws, so that p is that of the
            report, except where rounding breaks ties.

    Returns:
        Difference, interval and p value, not adjusted for multiple comparisons (`rank` does that).

    Raises:
        ValueError: The lengths differ, there are no cases, or a score is undefined.

    >>> compare_paired([0.9, 0.8, 0.7, 0.9], [0.7, 0.7, 0.6, 0.8], ["p1", "p1", "p2", "p3"]).p
    0.25
    """
    first, second = _paired(scores_a, scores_b, patients, per_case)
    x, sizes = first.totals - second.totals, first.sizes
    largest = 1.0 if first.is_in_unit and second.is_in_unit else math.inf
    images = sizes if first.per_case else None
    found = paired_interval(x, sizes, confidence, images=images, largest=largest).clipped(-largest, largest)
    p = sign_flip_test(x, resamples, generator(seed, "sign flips", *names))
    return Comparison(found.value, Bounds(found.low, found.high), p)


def false_claim(
    scores_a: Scores, scores_b: Scores, patients: Patients, *, per_case: bool | None = None
) -> float:
    """Probability that the network with the higher mean score is in truth no better than the other.

    Above 0.05 a claim of superiority is called unsupported by Christodoulou et al. (2025).

    Args:
        scores_a: Score of the first network on each case.
        scores_b: Score of the second network on each case.
        patients: The patient of each case.
        per_case: As for `compare_paired`.

    Returns:
        A probability up to 0.5; NaN with a single patient, and where differences of numbers do not vary.

    Raises:
        ValueError: As for `compare_paired`.

    Where one network alone is right, it is the first in four patients, the second in none:

    >>> false_claim([True] * 6, [True] * 2 + [False] * 4, range(6))
    0.03125
    """
    first, second = _paired(scores_a, scores_b, patients, per_case)
    return significance.false_claim(first.totals - second.totals, outcomes=first.per_case)


def patients_for_claim(
    scores_a: Scores,
    scores_b: Scores,
    patients: Patients,
    *,
    per_case: bool | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """Patients with whom the test of `compare_paired` would find the difference, if it is as observed.

    Args:
        scores_a: Score of the first network on each case.
        scores_b: Score of the second network on each case.
        patients: The patient of each case.
        per_case: As for `compare_paired`.
        alpha: Level of the test; divide it by the number of pairs of a family.
        power: Chance to find it, in (0, 1).

    Returns:
        Their number; None where nothing differs, or by the same in all patients.

    Raises:
        ValueError: As for `compare_paired`.

    >>> patients_for_claim([0.90, 0.81, 0.77, 0.90], [0.85, 0.80, 0.78, 0.85], range(4))
    14
    """
    first, second = _paired(scores_a, scores_b, patients, per_case)
    x, sizes = first.totals - second.totals, first.sizes
    found = accuracy_difference(x, sizes, sizes) if first.per_case else ratio(x, sizes)
    sd = found.error * math.sqrt(sizes.size)
    return patients_needed(sd, abs(float(x.sum() / sizes.sum())), alpha, power)


def mean_interval(scores: Scores, patients: Patients | None = None, *, confidence: float = 0.95) -> Estimate:
    """Mean over patients of scores in [0, 1], with the interval that a report gives a mean Dice.

    Args:
        scores: Score of each case, in [0, 1].
        patients: The patient of each case; None: every case has its own.
        confidence: In (0, 1).

    Returns:
        Value, low, high; the bounds lie in [0, 1].

    Raises:
        ValueError: The lengths differ, there are no cases, or a score is undefined or outside [0, 1].

    >>> value, low, high = mean_interval([0.9, 0.8, 0.7])
    >>> round(value, 3), low < 0.7, high < 1
    (0.8, True, True)
    """
    values = np.asarray(scores, dtype=np.float64)
    found = _totals(values, patients, "scores")
    if not found.is_in_unit:
        raise ValueError(f"scores must lie in [0, 1]; got {values.min():g} to {values.max():g}.")
    return mean(found.totals).fraction_interval(confidence)


def accuracy_interval(
    right: Scores, patients: Patients | None = None, *, confidence: float = 0.95
) -> Estimate:
    """Accuracy with the interval that a report gives it.

    Args:
        right: Whether each case is right.
        patients: As for `mean_interval`.
        confidence: In (0, 1).

    Returns:
        Value, low, high; the bounds lie in [0, 1] and differ.

    Raises:
        ValueError: The lengths differ, or there are no cases.

    >>> value, low, high = accuracy_interval([True] * 24)
    >>> value, round(low, 3), high
    (1.0, 0.849, 1.0)
    """
    found = _totals(np.asarray(right).astype(bool), patients, "right")
    return wilson(found.totals, found.sizes, confidence)


def rank(
    scores: Mapping[str, Scores],
    patients: Patients,
    *,
    per_case: bool | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Ranked]:
    """Rank networks as far as tests of all their pairs allow, adjusted after Holm at `1 - confidence`.

    Args:
        scores: Scores of each network on the same cases, by its name; higher is better.
        patients: The patient of each case.
        per_case: As for `compare_paired`.
        confidence: In (0, 1).
        seed: As for `compare_paired`.

    Returns:
        The networks, the highest mean score first, each with its score and the ranks that are left open.

    Raises:
        ValueError: As for `compare_paired`.

    >>> good, poor = [0.9, 0.8, 0.7, 0.9, 0.8, 0.9], [0.5, 0.6, 0.4, 0.5, 0.6, 0.5]
    >>> [(each.name, each.low, each.high) for each in rank({"poor": poor, "good": good}, range(6))]
    [('good', 1, 1), ('poor', 2, 2)]
    """
    found = [
        compare_paired(scores[a], scores[b], patients, per_case=per_case, seed=seed, names=(a, b))
        for a, b in combinations(scores, 2)
    ]
    better = np.zeros((len(scores), len(scores)), dtype=bool)
    adjusted = holm(np.array([each.p for each in found], dtype=np.float64))
    for (i, j), each, p in zip(combinations(range(len(scores)), 2), found, adjusted, strict=True):
        if p <= round(1 - confidence, 12):
            better[(i, j) if each.difference > 0 else (j, i)] = True
    lines = []
    for name, (low, high) in zip(scores, ranks_interval(better), strict=True):
        of_network = _totals(scores[name], patients, name, per_case)
        lines.append(Ranked(name, float(of_network.totals.sum() / of_network.sizes.sum()), low, high))
    return sorted(lines, key=lambda line: -line.score)


def rank_stability(
    scores: Mapping[str, Scores],
    patients: Patients,
    *,
    per_case: bool | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Stability:
    """How often each network has each rank when patients are drawn anew, with replacement.

    Args:
        scores: Scores of each network on the same cases, by its name; higher is better.
        patients: The patient of each case.
        per_case: As for `compare_paired`.
        confidence: Fraction of the resamples between the bounds of tau.
        resamples: How often the patients are drawn.
        seed: Seed of the study, for these draws.

    Returns:
        Frequencies of ranks, which describe this sample and are no probabilities of being best, and tau.

    Raises:
        ValueError: As for `compare_paired`.

    >>> good, poor = [0.9, 0.8, 0.7, 0.9, 0.8, 0.9], [0.5, 0.6, 0.4, 0.5, 0.6, 0.5]
    >>> rank_stability({"poor": poor, "good": good}, range(6)).frequencies
    {'poor': [0.0, 1.0], 'good': [1.0, 0.0]}
    """
    totals = np.stack([_totals(each, patients, name, per_case).totals for name, each in scores.items()])
    drawn = resampled_sums(totals, resamples, generator(seed, "resamples"))
    frequencies = dict(zip(scores, rank_frequencies(drawn).tolist(), strict=True))
    return Stability(frequencies, spread(rank_agreement(totals.sum(1), drawn), confidence))


def spread(values: Float[np.ndarray, "n"], confidence: float) -> Estimate:
    """Mean of what is defined, and the quantiles that hold a fraction `confidence` of it."""
    known = values[~np.isnan(values)]
    if not known.size:
        return Estimate(math.nan)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(known.mean()), float(low), float(high))


class _Totals(NamedTuple):
    """Scores of the patients and what they are divided by."""

    totals: Totals
    sizes: Totals
    per_case: bool
    is_in_unit: bool


def _paired(
    scores_a: Scores, scores_b: Scores, patients: Patients, per_case: bool | None
) -> tuple[_Totals, _Totals]:
    first = _totals(scores_a, patients, "scores_a", per_case)
    second = _totals(scores_b, patients, "scores_b", per_case)
    if first.per_case != second.per_case:
        raise ValueError("scores_a and scores_b must both be booleans (right or wrong), or both be numbers.")
    return first, second


def _totals(scores: Scores, patients: Patients | None, name: str, per_case: bool | None = None) -> _Totals:
    values = np.asarray(scores)
    whose = np.arange(values.size) if patients is None else np.asarray(patients)
    if values.ndim != 1 or values.shape != whose.shape or not values.size:
        raise ValueError(
            f"{name} and patients must be vectors of one length, with a case or more; got shapes"
            f" {values.shape} and {whose.shape}."
        )
    per_case = bool(values.dtype == np.bool_) if per_case is None else per_case
    values = values.astype(np.float64)
    if np.isnan(values).any():
        raise ValueError(
            f"{name} has {np.isnan(values).sum()} undefined scores (NaN). Leave these cases out of every"
            " vector, so that all networks are judged on the same cases."
        )
    is_in_unit = bool(values.min() >= 0 and values.max() <= 1)
    _, patient = np.unique(whose, return_inverse=True)
    sums, sizes = np.bincount(patient, values), np.bincount(patient).astype(np.float64)
    if per_case:
        return _Totals(sums, sizes, True, is_in_unit)
    return _Totals(sums / sizes, np.ones_like(sums), False, is_in_unit)

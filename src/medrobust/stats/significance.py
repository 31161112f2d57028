"""Paired differences over patients: sign flips, Holm, equivalence, false claims, patients needed."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64
from scipy import special, stats

from medrobust.stats.intervals import ROUNDING, Ratio, Totals, extremes_interval

EXACT_LIMIT = 100_000
"""Up to this many sign patterns (16 patients) are counted, more are sampled."""

_CHUNK = 2_000_000
"""Signs drawn at once; bounds the memory, changes no result."""

RAREST_FAILURE = 0.1
"""A test of equality must be able to see a failure that strikes this fraction of all patients."""


def sign_flip_test(differences: Totals, resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p value of "each patient's difference might as well have had the other sign".

    It asks whether the differences are symmetric about 0, not whether their mean is 0: where the mean is 0
    and they are skewed it errs more often than its level says (docs/statistics.md has numbers). A studentised
    statistic would be the same test: signs leave the sum of squares as it is, so t orders the patterns as the
    total does.

    The statistic is the total over patients. With n patients all 2^n patterns of signs are counted if there
    are at most 100,000; else `resamples` patterns are drawn and p = (b + 1) / (resamples + 1), never 0.

    Args:
        differences: Difference of each patient (in classification: of the numbers of right images).
        resamples: Number B of patterns drawn where there are too many to count.
        rng: Where they are drawn from; not used where all are counted.

    Returns:
        p value in (0, 1]; 1 where nothing differs.

    Source:
        Fisher 1935; (b + 1) / (B + 1): Phipson and Smyth, Statistical Applications in Genetics 9, 2010.
    """
    # Zeros do not change a total: they only repeat every pattern, so the p value is that of the others.
    sizes = np.abs(differences[differences != 0])
    observed = abs(float(differences.sum())) - 1e-12 * float(sizes.sum())
    if _can_count_all(differences.size):
        totals = np.zeros(1)
        for size in sizes:
            totals = np.concatenate([totals + size, totals - size])
        return float(np.mean(np.abs(totals) >= observed))
    totals = np.zeros(resamples)
    # Of k equal sizes a binomial number is positive, which saves draws.
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        totals += size * (2.0 * rng.binomial(count, 0.5, resamples) - count)
    extreme = np.sum(np.abs(totals) >= observed)
    return float((extreme + 1) / (resamples + 1))


Signs = Float64[np.ndarray, "patterns patients"]
"""For each patient 1 where two networks keep their answers, -1 where they swap them."""


def swap_test(
    difference: Callable[[Signs], Float64[np.ndarray, "patterns"]],
    patients: int,
    resamples: int,
    rng: np.random.Generator,
) -> float:
    """Two-sided p value of "the answers of each patient might as well have been the other network's".

    As `sign_flip_test`, for scores that are no sum over patients, such as an area under a curve: the networks
    swap their answers within patients, and both scores are computed anew.

    Args:
        difference: Of the two scores, for each pattern of swaps.
        patients: Number of patients.
        resamples: As for `sign_flip_test`.
        rng: As for `sign_flip_test`.

    Returns:
        p value in (0, 1].

    Source:
        Of areas under ROC curves: Bandos, Rockette, Gur, Statistics in Medicine 24, 2005.
    """
    observed = abs(float(difference(np.ones((1, patients)))[0])) - 1e-12
    exact = _can_count_all(patients)
    total, extreme = (2**patients if exact else resamples), 0
    most = max(1, _CHUNK // patients)
    for start in range(0, total, most):
        size = min(most, total - start)
        if exact:
            numbers = np.arange(start, start + size)[:, None]
            signs = 1.0 - 2.0 * ((numbers >> np.arange(patients)) & 1)
        else:
            signs = 2.0 * rng.integers(0, 2, (size, patients), dtype=np.int8) - 1.0
        extreme += int(np.sum(np.abs(difference(signs)) >= observed))
    return extreme / total if exact else (extreme + 1) / (total + 1)


def _can_count_all(patients: int) -> bool:
    """Compared as logarithms, since there may be thousands of patients."""
    return patients <= math.log2(EXACT_LIMIT)


def smallest_p(patients: int, resamples: int) -> float:
    """The smallest p value that `sign_flip_test` can give."""
    return min(1.0, 2.0 ** (1 - patients)) if _can_count_all(patients) else 1 / (resamples + 1)


def patients_for_significance(alpha: float, tests: int) -> int:
    """Fewest patients with 2 / 2^n <= alpha / tests; with fewer, no outcome could be significant."""
    return math.ceil(math.log2(2 * tests / alpha) - 1e-9)


def holm(p_values: Float64[np.ndarray, "tests"]) -> Float64[np.ndarray, "tests"]:
    """Holm's adjusted p values, in the order given; each is at least the raw one and at most 1.

    Source:
        Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(p_values.size, 0, -1)
    adjusted = np.empty(p_values.size)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def patients_for_equivalence(alpha: float, tests: int) -> int:
    """Fewest patients whom a failure of one in ten spares with a probability of at most alpha / tests."""
    return math.ceil(math.log(alpha / tests) / math.log(1 - RAREST_FAILURE) - 1e-9)


def equivalence_test(difference: Ratio, margin: float) -> float:
    """Two one-sided tests (TOST) of a mean difference outside (-margin, margin); small p: equally good.

    They invert `extremes_interval`, which assumes of the differences only that the largest on either side
    were seen. So p is at least the chance that a failure of one in ten was not: 0.9^n, .05 with 29 patients.
    t tests, which assume symmetry, call networks equal too often (docs/statistics.md has numbers).

    Args:
        difference: Difference of two paired scores.
        margin: Smallest difference that matters, in the unit of the score, above 0.

    Returns:
        The larger of the two p values; 1 where it is above 0.5, NaN where the difference is undefined.

    Raises:
        ValueError: `margin` is not above 0.

    Source:
        Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987 (two one-sided tests).
    """
    if margin <= 0:
        raise ValueError(f"margin must be above 0 (a difference that matters, e.g. 0.02); got {margin}.")
    if math.isnan(difference.value):
        return math.nan

    def is_within(p: float) -> bool:
        _, low, high = extremes_interval(difference.linear, 1 - 2 * p)
        return -margin < low and high < margin

    outside, within = (1 - RAREST_FAILURE) ** difference.linear.size, 0.5
    if outside >= within or not is_within(within):
        return 1.0
    if is_within(outside):
        return float(outside)
    while within - outside > 1e-4 * within:
        middle = (outside + within) / 2
        outside, within = (outside, middle) if is_within(middle) else (middle, within)
    return within


def false_claim(differences: Totals, *, outcomes: bool) -> float:
    """Probability that the network with the higher mean is in truth no better than the other.

    It is that of the posterior after a prior that prefers none. Scores such as Dice: differences are normal,
    so their mean has Student's t about the observed one. Outcomes, right or wrong: where just one network is
    right, it is the first with a probability that was uniform before, Beta(w + 1, l + 1) after it won w and
    lost l times. Images of one patient, and an image under several attacks, are no independent outcomes:
    `w + l` is the effective number of patients that differ, `(sum |d|)^2 / sum d^2`, which is their number
    where each has one image.

    Args:
        differences: Difference of each patient; of outcomes, between the numbers of right ones.
        outcomes: Whether scores are numbers of right outcomes.

    Returns:
        A probability, at most 0.5 but for rounding; NaN where scores do not vary, or for a single patient.

    Source:
        Christodoulou et al., False promises in medical imaging AI? Assessing validity of outperformance
        claims, arXiv 2505.04720, 2025, with the correlation (or the outcomes that networks share) as observed
        instead of supposed; effective number: Kish, Survey Sampling, 1965.
    """
    if differences.size < 2:
        return math.nan
    if outcomes:
        sizes = np.abs(differences)
        total = float(sizes.sum())
        if total == 0:
            return 0.5
        effective = total**2 / float(sizes @ sizes)
        won = effective * (1 + abs(float(differences.sum())) / total) / 2
        return float(special.betainc(won + 1, effective - won + 1, 0.5))
    error = float(differences.std(ddof=1)) / math.sqrt(differences.size)
    if error <= ROUNDING:
        return math.nan
    return float(stats.t.sf(abs(float(differences.mean())) / error, differences.size - 1))


def patients_needed(sd: float, difference: float, alpha: float, power: float = 0.8) -> int | None:
    """Patients that `sign_flip_test` needs to see `difference` with `power`, of normal differences.

    Where the test can reject only if all signs agree, the chance of that counts; else that of the t test,
    from which it differs by at most a few percent.

    Args:
        sd: Standard deviation of the paired differences over patients.
        difference: Difference to be seen, in the same unit.
        alpha: Level of the test.
        power: Chance to see it, in (0, 1).

    Returns:
        At least `patients_for_significance(alpha, 1)`; None where `sd` is NaN or 0, since a sample without
        variance tells nothing about it, and where there is no difference to be seen.
    """
    if not (sd > ROUNDING and difference > ROUNDING):
        return None
    effect = difference / sd
    normal = (stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) / effect
    patients = max(patients_for_significance(alpha, 1), math.ceil(normal**2))
    while _power(patients, effect, alpha) < power:
        patients += 1
    return patients


def _power(patients: int, effect: float, alpha: float) -> float:
    """Power, leaving out the chance to be significant in the wrong direction."""
    if patients - 1 < math.log2(2 / alpha):  # of all patterns of signs only the two extreme ones are so rare
        return float(stats.norm.cdf(effect) ** patients)
    critical = stats.t.ppf(1 - alpha / 2, patients - 1)
    return float(stats.nct.sf(critical, patients - 1, effect * math.sqrt(patients)))


def ranks_interval(better: Bool[np.ndarray, "k k"]) -> list[tuple[int, int]]:
    """Ranks that each of k networks can have: 1 + significantly better ones, to k - significantly worse.

    Args:
        better: `better[i, j]`: network i is significantly better than network j.
    """
    k = len(better)
    return [(1 + int(better[:, i].sum()), k - int(better[i].sum())) for i in range(k)]

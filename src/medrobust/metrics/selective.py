"""Does a network's own confidence warn of its mistakes?

Answers are given in the order of their confidence, the most confident first, up to some coverage: the
fraction of all cases that are answered. The selective risk is the fraction of these answers that is wrong.

Answers of equal confidence come in any order; every number is its mean over all such orders. Where all
answers are right, or all are wrong, there is nothing to tell apart, and areas are NaN.

`wrong` says of each answer whether it is wrong, `confidence` is any number that is higher the surer the
network is, such as its largest probability.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.stats import rankdata

Wrong = Bool[np.ndarray, "n"]
Confidence = Float[np.ndarray, "n"]
Answers = Float64[np.ndarray, "n"]


def failure_auroc(wrong: Wrong, confidence: Confidence) -> float:
    """Probability that a wrong answer has less confidence than a right one; equal ones count half.

    Returns:
        A value in [0, 1]: 1 where confidence tells all mistakes, 0.5 where it tells nothing, below that where
        mistakes are made with more confidence. NaN where all answers are right or all are wrong.

    Source:
        Jaeger, Lüth, Klein, Bungert, A call to reflect on evaluation practices for failure detection, ICLR
        2023; Hanley and McNeil, Radiology 143, 1982.

    >>> failure_auroc(np.array([False, False, True, True]), np.array([0.9, 0.7, 0.7, 0.6]))
    0.875
    """
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if not n_wrong or not n_right:
        return math.nan
    above = float(rankdata(confidence)[~wrong].sum()) - n_right * (n_right + 1) / 2
    return above / (n_wrong * n_right)


def failure_auroc_influence(wrong: Wrong, confidence: Confidence) -> Answers:
    """By how much `failure_auroc` moves with the weight of each answer; they add up to 0.

    Source:
        DeLong, DeLong, Clarke-Pearson, Biometrics 44, 1988: the same linearisation; of clusters: Obuchowski,
        Biometrics 53, 1997.
    """
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if not n_wrong or not n_right:
        return np.full(wrong.shape, math.nan)
    ranks, passed = rankdata(confidence), np.empty(wrong.shape)
    for side, others in ((wrong, n_right), (~wrong, n_wrong)):
        # The rank among all minus that on one's own side: how many of the other side one is above.
        passed[side] = (ranks[side] - rankdata(confidence[side])) / others
    told = np.where(wrong, 1 - passed, passed)
    return np.asarray((told - told[wrong].mean()) / np.where(wrong, n_wrong, n_right))


def errors_by_coverage(wrong: Wrong, confidence: Confidence) -> Answers:
    """Wrong answers among the k most confident ones, for k = 1 to n.

    >>> errors_by_coverage(np.array([False, True, False]), np.array([0.9, 0.7, 0.7])).tolist()
    [0.0, 0.5, 1.0]
    """
    block, sizes = _blocks(confidence)
    return np.cumsum((np.bincount(block, wrong) / sizes)[np.repeat(np.arange(sizes.size), sizes)])


def selective_risk(wrong: Wrong, confidence: Confidence, coverage: float) -> float:
    """Fraction of wrong answers among the most confident ones, in [0, 1]; NaN without answers.

    Args:
        wrong: Which answers are wrong.
        confidence: Of each answer.
        coverage: Fraction of the cases that is answered, in (0, 1]; `coverage * n` need not be whole.

    Raises:
        ValueError: `coverage` is not in (0, 1].
    """
    answered = answered_at(confidence, coverage)
    return float(answered @ wrong / answered.sum()) if wrong.size else math.nan


def answered_at(confidence: Confidence, coverage: float) -> Answers:
    """How much of each case is answered: 1, 0, or of equal confidences at the threshold the same part.

    Raises:
        ValueError: `coverage` is not in (0, 1].

    >>> answered_at(np.array([0.9, 0.7, 0.7, 0.2]), 0.5).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie in (0, 1], e.g. 0.8; got {coverage}.")
    block, sizes = _blocks(confidence)
    before = np.cumsum(sizes) - sizes
    return np.asarray((np.clip(coverage * confidence.size - before, 0, sizes) / sizes)[block])


def aurc(wrong: Wrong, confidence: Confidence) -> float:
    """Area under the risk-coverage curve: the mean of the selective risk over the n coverages k / n.

    Returns:
        A value in (0, 1), the lower, the better; NaN where all answers are right or all are wrong.

    Source:
        Geifman, Uziel, El-Yaniv, Bias-reduced uncertainty estimation for deep neural classifiers, ICLR 2019.

    >>> aurc(np.array([False, True]), np.array([0.9, 0.6]))
    0.25
    """
    if wrong.all() or not wrong.any():
        return math.nan
    return float((errors_by_coverage(wrong, confidence) / np.arange(1, wrong.size + 1)).mean())


def excess_aurc(wrong: Wrong, confidence: Confidence) -> float:
    """`aurc` beyond that of the best order of the same answers, in which all mistakes come last.

    Returns:
        A value in [0, 1); NaN where all answers are right or all are wrong.

    Source:
        Geifman, Uziel, El-Yaniv, 2019 (E-AURC), with the best area exactly instead of its limit.

    >>> excess_aurc(np.array([False, True]), np.array([0.6, 0.9]))
    0.5
    """
    return aurc(wrong, confidence) - aurc(wrong, -wrong.astype(np.float64))


def aurc_influence(wrong: Wrong, confidence: Confidence) -> Answers:
    """By how much `aurc` moves with the weight of each answer; they add up to 0.

    With answers j of weight w_j in the order of their confidence, C_j and E_j their weights and wrong weights
    summed up to j, the area is `sum(w_j E_j / C_j) / C_n`; this is its derivative where all weights are 1.
    """
    if wrong.all() or not wrong.any():
        return np.full(wrong.shape, math.nan)
    place, errors = np.arange(1, wrong.size + 1), errors_by_coverage(wrong, confidence)
    block, sizes = _blocks(confidence)
    places = np.repeat(np.arange(sizes.size), sizes)

    def of_block(values: Answers) -> Answers:
        return np.asarray((np.bincount(places, values) / sizes)[block])

    later = errors / place - np.cumsum((errors / place**2)[::-1])[::-1]
    own = np.cumsum(1 / place[::-1])[::-1]
    moved = of_block(later) + wrong * of_block(own)
    return np.asarray((moved - (errors / place).mean()) / wrong.size)


def _blocks(confidence: Confidence) -> tuple[np.ndarray, np.ndarray]:
    """The block of equal confidence of each answer, the most confident first, and the size of each block."""
    _, block, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    return block, sizes

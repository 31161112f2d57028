"""Scores from counts and from probabilities, each defined here only. Undefined is NaN, never 0 or 1.

A structure that is absent from the truth has no score, whatever is predicted, so that means are over the same
structures on clean and on attacked images. (Leaving out only what is absent from truth *and* prediction lets
a false positive change the denominator.) What is predicted of it all the same is counted separately.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int, Num
from scipy.stats import rankdata

Counts = Int[np.ndarray, "*shape"]
Sums = Num[np.ndarray, "*shape"]
Probabilities = Float[np.ndarray, "n classes"]
Labels = Int[np.ndarray, "n"]
Signs = Float64[np.ndarray, "patterns patients"]
Differences = Float64[np.ndarray, "patterns"]

BINS = 15
"""Equally wide bins of the expected calibration error."""


def dice_of_counts(n_true: Counts, n_pred: Counts, n_both: Counts) -> Float64[np.ndarray, "*shape"]:
    """Dice overlap `2 n_both / (n_true + n_pred)` of structures.

    Args:
        n_true: Pixels of the structure in the truth.
        n_pred: Pixels of the structure in the prediction.
        n_both: Pixels of the structure in both.

    Returns:
        Values in [0, 1]; NaN where the structure is absent from the truth.

    Raises:
        ValueError: Counts that no two label maps have.

    >>> dice_of_counts(np.array([4, 4, 0]), np.array([4, 0, 3]), np.array([2, 0, 0])).tolist()
    [0.5, 0.0, nan]
    """
    _check_counts(n_true, n_pred, n_both)
    return _quotient(2.0 * n_both, n_true + n_pred, n_true)


def iou_of_counts(n_true: Counts, n_pred: Counts, n_both: Counts) -> Float64[np.ndarray, "*shape"]:
    """Intersection over union `n_both / (n_true + n_pred - n_both)` of structures; otherwise like Dice.

    >>> iou_of_counts(np.array([4, 4, 0]), np.array([4, 0, 3]), np.array([2, 0, 0])).round(3).tolist()
    [0.333, 0.0, nan]
    """
    _check_counts(n_true, n_pred, n_both)
    return _quotient(n_both, n_true + n_pred - n_both, n_true)


def _check_counts(n_true: Counts, n_pred: Counts, n_both: Counts) -> None:
    if np.any(n_both < 0) or np.any(n_both > np.minimum(n_true, n_pred)):
        raise ValueError(
            "n_both must lie in [0, min(n_true, n_pred)] for every structure;"
            " count both label maps on the same pixels."
        )


def _quotient(part: Any, whole: Any, present: Any) -> Float64[np.ndarray, "*shape"]:
    """`part / whole` of arrays or scalars, where `present` (and so `whole`) is positive; else NaN."""
    return np.where(present > 0, part / np.maximum(whole, 1), np.nan)


def nsd_of_sums(n_boundary: Sums, n_within: Sums, n_true: Sums) -> Float64[np.ndarray, "*shape"]:
    """Normalised surface distance: the fraction of the boundary pixels that lie within the tolerance.

    Args:
        n_boundary: Boundary pixels of truth and prediction together.
        n_within: Those of them within the tolerance of the other boundary.
        n_true: Cases with the structure in the truth, `n_both + n_missed`.

    Returns:
        Values in [0, 1], 0 where a structure is not predicted; NaN as for Dice.
    """
    return _quotient(n_within, n_boundary, n_true)


def hd95_of_sums(hd95_sum: Sums, n_both: Sums) -> Float64[np.ndarray, "*shape"]:
    """Mean HD95 of the cases that have the structure in truth and prediction; NaN where none has it."""
    return _quotient(hd95_sum, n_both, n_both)


def volume_error(n_true: Counts, n_pred: Counts) -> Float64[np.ndarray, "*shape"]:
    """Relative error of the volume of structures, `(n_pred - n_true) / n_true`.

    Args:
        n_true: Pixels of the structure in the truth.
        n_pred: Pixels of the structure in the prediction.

    Returns:
        -1 where a structure is not predicted, else more; NaN as for Dice.
    """
    return _quotient(n_pred, n_true, n_true) - 1.0


def sensitivity(n_true: Counts, n_both: Counts) -> Float64[np.ndarray, "*shape"]:
    """Fraction of a class that is found, `n_both / n_true`, in [0, 1]; NaN where there is none of it."""
    return _quotient(n_both, n_true, n_true)


def mean_defined(values: Float64[np.ndarray, "*shape k"]) -> Float64[np.ndarray, "*shape"]:
    """Mean over the last axis of what is defined; NaN where nothing is.

    >>> mean_defined(np.array([[1.0, np.nan, 0.5], [np.nan, np.nan, np.nan]])).tolist()
    [0.75, nan]
    """
    known = ~np.isnan(values)
    count = known.sum(-1)
    return _quotient(np.where(known, values, 0.0).sum(-1), count, count)


def mean_dice(n_true: Counts, n_pred: Counts, n_both: Counts, patients: Sequence[str]) -> float:
    """Mean Dice: over the structures present in a scan, over the scans of a patient, over patients.

    Args:
        n_true: Pixels in the truth, of shape `scans structures`.
        n_pred: Pixels in the prediction.
        n_both: Pixels in both.
        patients: The patient of each scan.

    Returns:
        A value in [0, 1]; NaN where no structure is in the truth of any scan.
    """
    of_scans = mean_defined(dice_of_counts(n_true, n_pred, n_both))
    whose = np.asarray(patients)
    of_patients = [mean_defined(of_scans[whose == patient]) for patient in np.unique(whose)]
    return float(mean_defined(np.array(of_patients)))


def accuracy(labels: Labels, predictions: Labels) -> float:
    """Fraction of cases in [0, 1] whose prediction is the label; NaN without cases.

    >>> accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    0.75
    """
    return float(mean_defined((labels == predictions).astype(np.float64)))


def balanced_accuracy(labels: Labels, predictions: Labels) -> float:
    """Mean sensitivity of the classes that occur in `labels`; NaN without cases.

    >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    0.5
    """
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    hits = np.bincount(codes[labels == predictions], minlength=sizes.size)
    return float(mean_defined(sensitivity(sizes, hits)))


def f1(labels: Labels, predictions: Labels) -> float:
    """Mean over the classes that occur in `labels` of the F1 of each, in [0, 1]; NaN without cases.

    >>> f1(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])).__round__(3)
    0.733
    """
    classes, n_true = np.unique(labels, return_counts=True)
    n_pred = (predictions[:, None] == classes).sum(0)
    n_both = ((predictions == labels)[:, None] & (labels[:, None] == classes)).sum(0)
    return float(mean_defined(dice_of_counts(n_true, n_pred, n_both)))


def auroc(labels: Labels, probabilities: Probabilities) -> float:
    """Area under the ROC curve of each class that occurs against all others, averaged, in [0, 1].

    NaN where fewer than two classes occur.

    Source:
        Hanley and McNeil, Radiology 143, 1982: the area is Mann and Whitney's statistic.

    >>> auroc(np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]]))
    0.75
    """
    occurring = np.unique(labels)
    if len(occurring) < 2:
        return math.nan
    positive = labels[:, None] == occurring
    n_positive = positive.sum(0)
    ranks = np.where(positive, rankdata(probabilities[:, occurring], axis=0), 0.0).sum(0)
    above = ranks - n_positive * (n_positive + 1) / 2
    return float((above / (n_positive * (len(labels) - n_positive))).mean())


def auroc_without(
    labels: Labels, probabilities: Probabilities, patients: Labels
) -> Float64[np.ndarray, "patients"]:
    """`auroc` of the images of all patients but one, for each of them.

    Mann and Whitney's statistic counts pairs in which the positive image is ranked above the negative one.
    Without a patient it lacks the pairs of each of the patient's images with all images, of which those
    within the patient were taken twice.

    Args:
        labels: True class of each image.
        probabilities: Of each class.
        patients: Whose image it is, numbered from 0 on.
    """
    count = int(patients.max()) + 1
    areas = []
    for name in np.unique(labels):
        positive, values = labels == name, probabilities[:, name]
        ranks = rankdata(values)
        pairs = np.where(positive, ranks, positive.sum() - ranks)
        for side, sign in ((positive, -1), (~positive, 1)):
            pairs[side] += sign * rankdata(values[side])
        _, order = np.unique(values, return_inverse=True)
        within = rankdata(patients * len(values) + order)[positive]  # patient by patient
        of_patients = np.bincount(patients, minlength=count)
        n_positive = np.bincount(patients[positive], minlength=count)
        before = np.cumsum(of_patients) - of_patients
        ranked = np.bincount(patients[positive], within - before[patients[positive]], minlength=count)
        inside = ranked - n_positive * (n_positive + 1) / 2
        above = pairs[positive].sum() - np.bincount(patients, pairs, minlength=count) + inside
        left = positive.sum() - n_positive
        areas.append(_quotient(above, left * (len(values) - of_patients - left), left))
    found = np.stack(areas, axis=1)
    enough = (~np.isnan(found)).sum(1) > 1
    return np.where(enough, mean_defined(found), np.nan)


def auroc_swaps(
    labels: Labels, probabilities: Probabilities, other: Probabilities, patients: Labels
) -> Callable[[Signs], Differences]:
    """Differences in `auroc` of two networks that swap their answers within patients.

    Answers are the ranks among all of a network's probabilities of a class: networks may differ in the scale
    of their probabilities, which the area ignores.

    The area is a sum over pairs of a positive and a negative image, so a quadratic form in the signs. In the
    difference between the two networks all squares cancel: each patient has a part of its own, by how much
    its images rank higher, among both networks' images of the other kind, with the one network than with the
    other, and the sign of the patient is that of its part.

    Args:
        labels: True class of each image.
        probabilities: Of each class, from the one network.
        other: From the other network.
        patients: Whose image it is, numbered from 0 on.
    """
    occurring, whole = np.unique(labels), np.zeros(int(patients.max()) + 1)
    for name in occurring:
        positive = labels == name
        one, two = rankdata(probabilities[:, name]), rankdata(other[:, name])
        for side, sign in ((positive, 1), (~positive, -1)):
            among = np.sort(np.concatenate([one[~side], two[~side]]))
            placed = [
                np.searchsorted(among, ranks[side], "left") + np.searchsorted(among, ranks[side], "right")
                for ranks in (one, two)
            ]
            pairs = 4 * positive.sum() * (~positive).sum() * len(occurring)
            whole += np.bincount(patients[side], sign * (placed[0] - placed[1]) / pairs, minlength=whole.size)
    return lambda signs: signs @ whole


def quadratic_kappa(labels: Labels, predictions: Labels) -> float:
    """Cohen's kappa of ordered classes, weighted by the square of their distance, in [-1, 1].

    NaN where it is 0 / 0: all labels and predictions are one class.

    Source:
        Cohen, Psychological Bulletin 70, 1968.

    >>> quadratic_kappa(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])).__round__(3)
    0.385
    """
    disagreement = np.square(labels - predictions, dtype=np.float64).mean()
    by_chance = labels.var() + predictions.var() + (labels.mean() - predictions.mean()) ** 2
    return float(1 - disagreement / by_chance) if by_chance > 0 else math.nan


def kappa_swaps(
    labels: Labels, predictions: Labels, other: Labels, patients: Labels
) -> Callable[[Signs], Differences]:
    """Differences in `quadratic_kappa` of two networks that swap their answers within patients.

    Disagreement and what chance would give are both linear in the patients. Undefined differences are 0.

    Args:
        labels: True class of each image.
        predictions: Of the one network.
        other: Of the other network.
        patients: Whose image it is, numbered from 0 on.
    """
    square, cross = float((labels.astype(np.float64) ** 2).mean()), 2 * float(labels.mean())

    def of_patients(answers: Labels) -> Float64[np.ndarray, "patients 2"]:
        answers = answers.astype(np.float64)
        sums = ((labels - answers) ** 2, square + answers**2 - cross * answers)
        return np.stack([np.bincount(patients, each) for each in sums], axis=1)

    one, two = of_patients(predictions), of_patients(other)
    half, middle = (one - two) / 2, (one + two).sum(0) / 2

    def differences(signs: Signs) -> Differences:
        moved = signs @ half
        (first, chance), (second, other_chance) = (middle + moved).T, (middle - moved).T
        known = (chance > 0) & (other_chance > 0)
        chance, other_chance = np.where(known, chance, 1), np.where(known, other_chance, 1)
        return np.where(known, second / other_chance - first / chance, 0.0)

    return differences


def brier(labels: Labels, probabilities: Probabilities) -> float:
    """Mean squared distance of the probabilities of all classes from the truth, in [0, 2]; NaN if empty.

    Source:
        Brier, Monthly Weather Review 78, 1950, whose score sums over the classes.

    >>> brier(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    1.0
    """
    if len(labels) == 0:
        return math.nan
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())


def ece(labels: Labels, probabilities: Probabilities, bins: int = BINS) -> float:
    """Expected calibration error of the predicted class, in [0, 1]; NaN without cases.

    Cases are binned by their confidence; the error is the mean of |accuracy - confidence| over the bins,
    weighted by their cases.

    Source:
        Guo, Pleiss, Sun, Weinberger, On calibration of modern neural networks, ICML 2017.

    >>> ece(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.25]]))
    0.25
    """
    if len(labels) == 0:
        return math.nan
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confidence_when_wrong(labels: Labels, probabilities: Probabilities) -> float:
    """Mean confidence in the predicted class where it is wrong, in [0, 1]; NaN where nothing is wrong."""
    wrong = probabilities.argmax(1) != labels
    return float(probabilities[wrong].max(1).mean()) if wrong.any() else math.nan

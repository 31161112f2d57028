"""Scores from counts, each defined here and nowhere else. Undefined is NaN, never 0 or 1.

Of a class or structure that is absent from the truth nothing is defined, whatever is predicted: means are
then over the same structures when images are clean and when they are attacked. What is shown of it all the
same is a false positive, which is counted apart (`counts.empty_counts`, and `n_pred` where `n_true` is 0).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

Counts = Int[np.ndarray, "*shape"]


def dice(n_true: Counts, n_pred: Counts, n_both: Counts) -> Float64[np.ndarray, "*shape"]:
    """Dice overlap `2 n_both / (n_true + n_pred)` of structures, from pixel counts of any shape.

    A structure counts if and only if it is present in the truth, so that clean and attacked predictions are
    averaged over the same structures. (Excluding only what is absent from truth *and* prediction lets a
    false positive change the denominator.)

    Args:
        n_true: Pixels of the structure in the truth.
        n_pred: Pixels of the structure in the prediction.
        n_both: Pixels of the structure in both.

    Returns:
        Values in [0, 1]; NaN where the structure is absent from the truth.

    Raises:
        ValueError: Counts are negative, or more pixels agree than there are.

    >>> dice(np.array([4, 4, 0]), np.array([4, 0, 3]), np.array([2, 0, 0])).tolist()
    [0.5, 0.0, nan]
    """
    if np.any(n_both < 0) or np.any(n_both > np.minimum(n_true, n_pred)):
        raise ValueError(
            "n_both must lie in [0, min(n_true, n_pred)] for every structure;"
            " count both label maps on the same pixels."
        )
    sizes = np.where(n_true > 0, n_true + n_pred, 1)
    return np.where(n_true > 0, 2.0 * n_both / sizes, np.nan)


def sensitivity(n_true: Counts, n_both: Counts) -> Float64[np.ndarray, "*shape"]:
    """Share of what is of a class that is found, `n_both / n_true`, in [0, 1]; NaN where there is nothing.

    Args:
        n_true: Pixels or cases of the class in the truth.
        n_both: Those of them that are predicted to be of it.
    """
    return np.where(n_true > 0, n_both / np.maximum(n_true, 1), np.nan)


def volume_error(n_true: Counts, n_pred: Counts) -> Float64[np.ndarray, "*shape"]:
    """Relative error of the volume of structures, `(n_pred - n_true) / n_true`, at least -1; as for Dice.

    Args:
        n_true: Pixels of the structure in the truth.
        n_pred: Pixels of the structure in the prediction.

    Returns:
        -1 where nothing of a structure is shown; NaN where it is absent from the truth.
    """
    return np.where(n_true > 0, n_pred / np.maximum(n_true, 1) - 1.0, np.nan)


def mean_defined(values: Float64[np.ndarray, "*shape k"]) -> Float64[np.ndarray, "*shape"]:
    """Mean over the last axis of what is defined; NaN where nothing is.

    >>> mean_defined(np.array([[1.0, np.nan, 0.5], [np.nan, np.nan, np.nan]])).tolist()
    [0.75, nan]
    """
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


def mean_dice(n_true: Counts, n_pred: Counts, n_both: Counts, patients: Sequence[str]) -> float:
    """Mean Dice: over the structures present in a scan, over the scans of a patient, over patients.

    Args:
        n_true: Pixels in the truth, of shape `scans structures`.
        n_pred: Pixels in the prediction.
        n_both: Pixels in both.
        patients: Whose scan each is.

    Returns:
        A value in [0, 1]; NaN where no structure is in the truth of any scan.
    """
    of_scans = mean_defined(dice(n_true, n_pred, n_both))
    whose = np.asarray(patients)
    of_patients = [mean_defined(of_scans[whose == patient]) for patient in np.unique(whose)]
    return float(mean_defined(np.array(of_patients)))


def accuracy(labels: Int[np.ndarray, "n"], predictions: Int[np.ndarray, "n"]) -> float:
    """Share of cases in [0, 1] whose prediction is the label; NaN without cases."""
    return float(mean_defined((labels == predictions).astype(np.float64)))


def balanced_accuracy(labels: Int[np.ndarray, "n"], predictions: Int[np.ndarray, "n"]) -> float:
    """Mean sensitivity of the classes that occur in `labels`; NaN without cases.

    >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    0.5
    """
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    hits = np.bincount(codes[labels == predictions], minlength=sizes.size)
    return float(mean_defined(sensitivity(sizes, hits)))

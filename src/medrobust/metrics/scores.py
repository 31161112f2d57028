"""Scores from counts: Dice overlap, accuracy, balanced accuracy. Undefined is NaN, never 0 or 1."""

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


def accuracy(labels: Int[np.ndarray, "n"], predictions: Int[np.ndarray, "n"]) -> float:
    """Share of cases in [0, 1] whose prediction is the label; NaN without cases."""
    return float(np.mean(labels == predictions)) if labels.size else float("nan")


def balanced_accuracy(labels: Int[np.ndarray, "n"], predictions: Int[np.ndarray, "n"]) -> float:
    """Mean share of right cases over the classes that occur in `labels`; NaN without cases.

    >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    0.5
    """
    if not labels.size:
        return float("nan")
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    hits = np.bincount(codes, weights=labels == predictions)
    return float(np.mean(hits / sizes))

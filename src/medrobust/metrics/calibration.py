"""Whether probabilities mean what they say: expected calibration error, Brier score, confident errors."""

import math

import numpy as np
from jaxtyping import Float, Int64

BINS = 15
"""Of the expected calibration error, equally wide."""

Probabilities = Float[np.ndarray, "n classes"]
Labels = Int64[np.ndarray, " n"]


def brier(probabilities: Probabilities, labels: Labels) -> float:
    """Mean squared distance of the probabilities of all classes from the truth, in [0, 2]; NaN of nothing.

    Source:
        Brier, Monthly Weather Review 78, 1950, whose score sums over the classes.
    """
    if len(labels) == 0:
        return math.nan
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())


def calibration_error(probabilities: Probabilities, labels: Labels, bins: int = BINS) -> float:
    """Expected calibration error of the predicted class, in [0, 1]; NaN of nothing.

    Images are sorted into bins by their confidence; the error is the mean of |accuracy - confidence| of the
    bins, weighted by their images.

    Source:
        Guo, Pleiss, Sun, Weinberger, On calibration of modern neural networks, ICML 2017.
    """
    if len(labels) == 0:
        return math.nan
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confidence_when_wrong(probabilities: Probabilities, labels: Labels) -> float:
    """Mean confidence in the predicted class where it is wrong, in [0, 1]; NaN where nothing is wrong."""
    wrong = probabilities.argmax(1) != labels
    return float(probabilities[wrong].max(1).mean()) if wrong.any() else math.nan

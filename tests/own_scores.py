"""Scores as people write them, for `load: own_scores:<name>`."""

import numpy as np


def precision(n_pred, n_both):
    """Fraction of what is shown that is there; undefined where nothing is shown."""
    return np.where(n_pred > 0, n_both / np.maximum(n_pred, 1), np.nan)

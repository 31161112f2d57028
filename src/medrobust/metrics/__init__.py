"""Scores and distances, each defined once, as plain functions of arrays or tensors.

Segmentation    `dice`, `iou`, `nsd`, `hd95` of two label maps, `volume_error` of two counts
Classification  `accuracy`, `balanced_accuracy`, `f1` of labels and predictions; `auroc`, `brier`, `ece` of
                labels and probabilities
Images          `ssim`, `mse`, `l0`, `l2`, `linf` of two batches

A `Score` makes a function of your own the primary score of a study.

What is undefined (a structure that is not there, a class that does not occur) is NaN, never 0 or 1.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medrobust.metrics.catalogue import Score
from medrobust.metrics.scores import accuracy, auroc, balanced_accuracy, brier, ece, f1, volume_error

if TYPE_CHECKING:
    from medrobust.metrics.overlap import dice, iou
    from medrobust.metrics.similarity import l0, l2, linf, mse, ssim
    from medrobust.metrics.surfaces import hd95, nsd

__all__ = [
    "Score",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "brier",
    "dice",
    "ece",
    "f1",
    "hd95",
    "iou",
    "l0",
    "l2",
    "linf",
    "mse",
    "nsd",
    "ssim",
    "volume_error",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use: tables are made without it."""
    if name not in __all__:
        raise AttributeError(f"module 'medrobust.metrics' has no attribute '{name}'")
    homes = (import_module(f"medrobust.metrics.{home}") for home in ("overlap", "similarity", "surfaces"))
    return next(getattr(home, name) for home in homes if hasattr(home, name))

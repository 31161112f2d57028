"""How networks are trained: what a study may say, and what the two recipes say where it is silent."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from torch import nn

from medrobust.core import Task
from medrobust.study.training import (
    Augmentation,
    TrainingConfig,
)


@dataclass(frozen=True)
class Recipe:
    """One way to train, complete.

    Attributes:
        epochs: At most this many.
        batch_size: Cases per step.
        learning_rate: Highest learning rate.
        patience: Epochs without a better validation score before training stops; None never stops early.
        optimizer: Key of `OPTIMIZERS`.
        schedule: Key of `SCHEDULES`.
        refresh_batch_norm: Estimate batch-norm statistics again at the end, as few steps leave running means
            behind.
        augmentation: How far images are moved; None is not at all.
        slices_per_scan: Random slices of every scan in each epoch; None is all.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int | None
    optimizer: str
    schedule: str
    refresh_batch_norm: bool
    augmentation: Augmentation | None = None
    slices_per_scan: int | None = None

    def as_data(self) -> dict[str, Any]:
        """Everything it says, as plain data."""
        return vars(self) | {"augmentation": self.augmentation and self.augmentation.model_dump()}


_RECIPES: Final = {
    ("paper", Task.CLASSIFICATION): Recipe(200, 32, 0.01, 20, "sgd", "decaying", False),
    ("paper", Task.SEGMENTATION): Recipe(200, 16, 1e-3, 20, "adam", "constant", False),
    ("quick", Task.CLASSIFICATION): Recipe(20, 16, 1e-3, None, "adamw", "one_cycle", True),
    ("quick", Task.SEGMENTATION): Recipe(20, 8, 4e-3, None, "adamw", "one_cycle", True),
}
_AUGMENTATION: Final = {
    Task.CLASSIFICATION: Augmentation(rotation=45, scale=0.15, shift=0.05, flip=True),
    Task.SEGMENTATION: Augmentation(),
}


def recipe_of(config: TrainingConfig, task: Task) -> Recipe:
    """The recipe that a study asks for, with its own numbers in place."""
    given = {
        name: getattr(config, name)
        for name in ("epochs", "batch_size", "learning_rate", "patience")
        if getattr(config, name) is not None
    }
    augmentation = config.augment if isinstance(config.augment, Augmentation) else None
    return replace(
        _RECIPES[config.recipe, task],
        **given,
        augmentation=_AUGMENTATION[task] if config.augment is True else augmentation,
        slices_per_scan=config.slices_per_scan,
    )


OPTIMIZERS: Final[dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": partial(torch.optim.AdamW, weight_decay=1e-2),
}


def optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer, at its highest learning rate."""
    return OPTIMIZERS[recipe.optimizer](parameters, lr=recipe.learning_rate)


def _one_cycle(done: float, epochs: int) -> float:
    """Linear from 4 % to 1 in the first quarter, then half a cosine down to 0 (Smith & Topin, 2018)."""
    rise = 0.25
    if done < rise:
        return 0.04 + 0.96 * done / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


def _decaying(done: float, epochs: int) -> float:
    """6 % less every second epoch, as TF-Slim, which the paper's networks come from, does."""
    return float(0.94 ** (done * epochs / 2))


def _constant(done: float, epochs: int) -> float:
    return 1.0


SCHEDULES: Final[dict[str, Callable[[float, int], float]]] = {
    "one_cycle": _one_cycle,
    "decaying": _decaying,
    "constant": _constant,
}
"""`(share of training that is done in [0, 1), epochs) -> factor of the learning rate in [0, 1]`."""


def learning_rate(recipe: Recipe, done: float) -> float:
    """Learning rate when the share `done` of all epochs is over."""
    return recipe.learning_rate * SCHEDULES[recipe.schedule](done, recipe.epochs)

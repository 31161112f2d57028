"""How networks are trained: what the two regimes say where a study is silent, losses and schedules."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from medrobust.core import UNKNOWN, Case, Dataset, Task
from medrobust.errors import DataError
from medrobust.perturbations import Request
from medrobust.running.batches import at_once
from medrobust.study.training import Adversarial, Augmentation, TrainingConfig, corruptions_of


@dataclass(frozen=True)
class Regime:
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
        corruptions: Half of the images go through one of these.
        gaussian: Standard deviation of the noise that is added to every image; None: none is.
        adversarial: The worst images within a budget are trained on; None: they are not.
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
    corruptions: tuple[Request, ...] = ()
    gaussian: float | None = None
    adversarial: Adversarial | None = None

    def as_data(self) -> dict[str, Any]:
        """Everything it says, as plain data; what it does not ask for is left out."""
        told = vars(self) | {
            "augmentation": self.augmentation and self.augmentation.model_dump(),
            "corruptions": [each.recipe for each in self.corruptions],
            "adversarial": self.adversarial and self.adversarial.model_dump(),
        }
        defences = ("corruptions", "gaussian", "adversarial")
        return {key: value for key, value in told.items() if value or key not in defences}


_REGIMES: Final = {
    ("paper", Task.CLASSIFICATION): Regime(200, 32, 0.01, 20, "sgd", "decaying", False),
    ("paper", Task.SEGMENTATION): Regime(200, 16, 1e-3, 20, "adam", "constant", False),
    ("paper", Task.MULTILABEL): Regime(200, 32, 0.01, 20, "sgd", "decaying", False),
    ("quick", Task.CLASSIFICATION): Regime(20, 16, 1e-3, None, "adamw", "one_cycle", True),
    ("quick", Task.MULTILABEL): Regime(20, 16, 1e-3, None, "adamw", "one_cycle", True),
    ("quick", Task.SEGMENTATION): Regime(20, 8, 4e-3, None, "adamw", "one_cycle", True),
}
_AUGMENTATION: Final = {
    Task.CLASSIFICATION: Augmentation(rotation=45, scale=0.15, shift=0.05, flip=True),
    Task.MULTILABEL: Augmentation(rotation=10, scale=0.1, shift=0.05, flip=False),
    Task.SEGMENTATION: Augmentation(),
}


def regime_of(config: TrainingConfig, task: Task, shape: Sequence[int] = ()) -> Regime:
    """The regime that a study asks for images of this spatial shape, with its own numbers in place."""
    usual = _REGIMES[config.recipe, task]
    given = {
        name: getattr(config, name)
        for name in ("epochs", "batch_size", "learning_rate", "patience")
        if getattr(config, name) is not None
    }
    corrupting = config.corrupting
    augmentation = corrupting.affine if isinstance(corrupting.affine, Augmentation) else None
    return replace(
        usual,
        **{"batch_size": at_once(usual.batch_size, shape), **given},
        augmentation=_AUGMENTATION[task] if corrupting.affine is True else augmentation,
        slices_per_scan=config.slices_per_scan,
        corruptions=corruptions_of(config, task),
        gaussian=corrupting.gaussian,
        adversarial=config.adversarial,
    )


OPTIMIZERS: Final[dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": partial(torch.optim.AdamW, weight_decay=1e-2),
}


def _one_cycle(done: float, epochs: int) -> float:
    """Linear from 4 % to 1 in the first quarter, then half a cosine down to 0 (Smith & Topin, 2018)."""
    rise = 0.25
    if done < rise:
        return 0.04 + 0.96 * done / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


def _decaying(done: float, epochs: int) -> float:
    """6 % less every second epoch, as TF-Slim, which the paper's networks come from, does."""
    return float(0.94 ** (done * epochs / 2))


SCHEDULES: Final[dict[str, Callable[[float, int], float]]] = {
    "one_cycle": _one_cycle,
    "decaying": _decaying,
    "constant": lambda done, epochs: 1.0,
}
"""`(fraction of training that is done in [0, 1), epochs) -> factor of the learning rate in [0, 1]`."""


def learning_rate(regime: Regime, done: float) -> float:
    """Learning rate once the fraction `done` of all epochs has passed."""
    return regime.learning_rate * SCHEDULES[regime.schedule](done, regime.epochs)


Loss = Callable[[Tensor, Tensor], Tensor]
"""`(logits n answers *labelspace, labels n *labelspace) -> scalar`."""


def make_loss(task: Task, weights: Float[Tensor, "answers *findings"]) -> Loss:
    """The loss of a task: weighted cross-entropy; in segmentation plus the soft Dice loss."""
    return _LOSSES[task](weights)


def _segmentation_loss(weights: Float[Tensor, "k"]) -> Loss:
    return lambda logits, labels: (
        F.cross_entropy(logits, labels, weight=weights, ignore_index=UNKNOWN) + soft_dice_loss(logits, labels)
    )


def _findings_loss(weights: Float[Tensor, "answers *findings"]) -> Loss:
    def loss(logits: Float[Tensor, "n 2 k"], labels: Int64[Tensor, "n k"]) -> Float[Tensor, ""]:
        """The binary cross-entropy of the known findings, each answer of each finding with its weight."""
        each = F.cross_entropy(logits, labels, reduction="none", ignore_index=UNKNOWN)
        shares = torch.where(labels == 1, weights[1], weights[0]) * (labels != UNKNOWN)
        return (shares * each).sum() / shares.sum()

    return loss


_LOSSES: Final[dict[Task, Callable[[Tensor], Loss]]] = {
    Task.CLASSIFICATION: lambda weights: partial(F.cross_entropy, weight=weights),
    Task.MULTILABEL: _findings_loss,
    Task.SEGMENTATION: _segmentation_loss,
}


def soft_dice_loss(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> Float[Tensor, ""]:
    """1 minus the mean over classes of the soft Dice of a whole batch, background included.

    Pixels that are `UNKNOWN` count nowhere.

    The same as MONAI's `DiceLoss(to_onehot_y=True, softmax=True, batch=True)`.

    Source: Milletari, Navab, Ahmadi 2016, V-Net, without the squares.
    """
    smooth, axes = 1e-5, [0, *range(2, logits.ndim)]
    probabilities = logits.softmax(1)
    truth = torch.zeros(logits.shape, dtype=logits.dtype, device=logits.device)
    known = labels != UNKNOWN
    if known.all():
        truth = truth.scatter_(1, labels[:, None], 1)
    else:
        truth = truth.scatter_(1, labels.clamp_min(0)[:, None], 1) * known[:, None]
        probabilities = probabilities * known[:, None]
    hit = (probabilities * truth).sum(axes)
    missed, spurious = truth.sum(axes) - hit, probabilities.sum(axes) - hit
    dice = (2 * hit + smooth) / (2 * (hit + 0.5 * spurious + 0.5 * missed) + smooth)
    return (1 - dice).mean()


def class_weights(dataset: Dataset, cases: Sequence[Case]) -> Float64[np.ndarray, "answers *findings"]:
    """Median-frequency weights over the training cases: the median class weighs 1, rarer ones more.

    The frequency of a class is its fraction of the pixels of the images that it occurs in. A structure that
    no case shows gets 0. Of each finding, absent and present weigh equally much together.

    Raises:
        DataError: A class has no case, or a finding is absent, or present, in none.

    Source: Eigen & Fergus, ICCV 2015.
    """
    return _pixel_weights(dataset, cases) if dataset.task.has_maps else _image_weights(dataset, cases)


def _pixel_weights(dataset: Dataset, cases: Sequence[Case]) -> Float64[np.ndarray, "k"]:
    classes = len(dataset.classes)
    pixels, pixels_around = np.zeros(classes), np.zeros(classes)
    for case in cases:
        label = dataset.read(case).label
        counts = np.bincount(label[label != UNKNOWN], minlength=classes)
        pixels += counts
        pixels_around += counts.sum() * (counts > 0)
    present = pixels > 0
    frequencies = pixels[present] / pixels_around[present]
    weights = np.zeros(classes)
    weights[present] = np.median(frequencies) / frequencies
    return weights


def _image_weights(dataset: Dataset, cases: Sequence[Case]) -> Float64[np.ndarray, "answers *findings"]:
    labels = np.array([case.label for case in cases])
    counts = np.stack([(labels == answer).sum(0) for answer in range(dataset.answers)])
    lacking = (counts == 0) if dataset.labelspace == () else (counts == 0).any(0)
    empty = [name for name, lacks in zip(dataset.classes, lacking, strict=True) if lacks]
    if empty:
        says = (
            f"is of class {', '.join(empty)}"
            if dataset.labelspace == ()
            else (
                f"shows {', '.join(empty)}, or all do: a finding must be absent in some and present in some"
            )
        )
        raise DataError(
            f"No training case of {dataset.name} {says}. "
            "Use more cases, another split or seed, or leave it out of the data."
        )
    frequencies = counts / counts.sum(0)
    return np.asarray(np.median(frequencies, axis=0) / frequencies)

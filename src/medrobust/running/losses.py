"""Training losses of the paper: weighted cross-entropy, and for segmentation the Dice loss beside it."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from medrobust.core import Case, Dataset, Task
from medrobust.errors import DataError

Loss = Callable[[Tensor, Tensor], Tensor]
"""`(logits n k *space, labels n *space) -> scalar`."""


def class_weights(dataset: Dataset, cases: Sequence[Case]) -> Float64[np.ndarray, "k"]:
    """Median-frequency weights: the median class weighs 1, rarer ones more.

    The frequency of a class is its share of the pixels of the images that it occurs in.

    Args:
        dataset: Where the labels come from.
        cases: Those that are trained on.

    Returns:
        One weight per class; 0 for a structure that no case holds.

    Raises:
        DataError: In classification, a class has no case.

    Source: Eigen & Fergus, ICCV 2015.
    """
    classes = len(dataset.classes)
    pixels, pixels_around = np.zeros(classes), np.zeros(classes)
    for case in cases:
        label = dataset.read(case).label if case.label is None else np.array(case.label)
        counts = np.bincount(label.ravel(), minlength=classes)
        pixels += counts
        pixels_around += label.size * (counts > 0)
    present = pixels > 0
    if dataset.task is Task.CLASSIFICATION:
        _refuse_empty_classes(dataset, present)
        pixels_around[:] = len(cases)
    frequencies = pixels[present] / pixels_around[present]
    weights = np.zeros(classes)
    weights[present] = np.median(frequencies) / frequencies
    return weights


def _refuse_empty_classes(dataset: Dataset, present: np.ndarray) -> None:
    empty = [name for name, there in zip(dataset.classes, present, strict=True) if not there]
    if empty:
        raise DataError(
            f"No training case of {dataset.name} is of class {', '.join(empty)}. "
            "Use more cases, another split or seed, or leave the class out of the data."
        )


def make_loss(task: Task, weights: Float[Tensor, "k"]) -> Loss:
    """The loss of a task: weighted cross-entropy; in segmentation plus MONAI's Dice loss over the batch."""

    def cross_entropy(logits: Tensor, labels: Int64[Tensor, "n *space"]) -> Tensor:
        return F.cross_entropy(logits, labels, weight=weights)

    if task is Task.CLASSIFICATION:
        return cross_entropy

    from monai.losses.dice import DiceLoss

    dice = DiceLoss(to_onehot_y=True, softmax=True, batch=True)

    def cross_entropy_and_dice(logits: Tensor, labels: Int64[Tensor, "n *space"]) -> Tensor:
        loss: Tensor = cross_entropy(logits, labels) + dice(logits, labels[:, None])
        return loss

    return cross_entropy_and_dice

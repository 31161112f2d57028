"""Checks of what a perturbation is given, once per call, and of the logits that a network returns."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from medrobust.core import UNKNOWN, Task
from medrobust.errors import ModelError

ONE_PER_FINDING = (
    "The network returns one logit per finding; attacks need two, (0, logit), in the shape (n, 2, findings): "
    "wrap it in medrobust.Network(network, findings=True)."
)
NATURAL_NUMBERS = "class numbers from 0 on"

LABELS: Mapping[Task, str] = {
    Task.CLASSIFICATION: "class per image",
    Task.MULTILABEL: "answer per finding",
    Task.SEGMENTATION: "class per pixel",
}
"""What a label is, in words."""


def check_inputs(
    images: Tensor, labels: Tensor, support: Tensor | None, tasks: Collection[Task] = tuple(Task)
) -> None:
    """Check a batch: types, shapes, ranges and devices, and that the labels are for one of the tasks.

    Raises:
        ValueError: Something does not fit.
    """
    check_images(images)
    check_labels("labels", labels, images)
    if task_of(labels) not in tasks:
        wanted = " or ".join(f"one {LABELS[task]}" for task in tasks)
        raise ValueError(
            f"labels: this attack needs {wanted}, got labels of shape {tuple(labels.shape)}; fgsm and pgd "
            "attack networks of every task."
        )
    if support is None:
        return
    expected = (len(images), 1, *images.shape[2:])
    if support.dtype != torch.bool or tuple(support.shape) != expected:
        raise ValueError(
            f"support: must be a bool tensor of shape {expected}; got {support.dtype} of shape "
            f"{tuple(support.shape)}."
        )
    check_device("support", support, images)


def task_of(labels: Tensor) -> Task:
    """The task that labels of this rank are for."""
    return {1: Task.CLASSIFICATION, 2: Task.MULTILABEL}.get(labels.ndim, Task.SEGMENTATION)


def check_images(images: Tensor) -> None:
    """Check that images are float32 in [0, 1] of shape `n c *space`, 2D or 3D, and that there are any."""
    if images.dtype != torch.float32:
        raise ValueError(
            f"images: must be float32, got {images.dtype}; convert with images.float() (and divide 8-bit "
            "images by 255)."
        )
    if images.ndim not in (4, 5) or images.numel() == 0:
        raise ValueError(
            "images: must have the shape (n, channels, height, width) or (n, channels, depth, height, "
            f"width) with nothing empty, got {tuple(images.shape)}."
        )
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images: must be finite and lie in [0, 1], got values from {low:g} to {high:g}; scale the "
            "images and let the network normalise them itself."
        )


def check_labels(name: str, labels: Tensor, images: Tensor) -> None:
    """Check labels, or targets, called `name`, against their images."""
    whole, maps = (len(images),), (len(images), *images.shape[2:])
    if labels.dtype != torch.int64:
        raise ValueError(
            f"{name}: must be int64 {NATURAL_NUMBERS}, got {labels.dtype}; convert with {name}.long()."
        )
    if tuple(labels.shape) != (maps if task_of(labels).has_maps else (*whole, *labels.shape[1:])):
        raise ValueError(
            f"{name}: must have the shape {whole} (classification), ({len(images)}, findings) (multilabel) "
            f"or {maps} (segmentation), got {tuple(labels.shape)}."
        )
    least = 0 if labels.ndim == 1 else UNKNOWN
    if int(labels.min()) < least:
        also = f", or {UNKNOWN} where it is not known" if least < 0 else ""
        raise ValueError(f"{name}: must be {NATURAL_NUMBERS}{also}, got {int(labels.min())}.")
    check_device(name, labels, images)


def check_targets(targets: Tensor, labels: Tensor, images: Tensor) -> None:
    """Check the target of every pixel."""
    check_labels("targets", targets, images)
    if targets.shape != labels.shape:
        raise ValueError(
            "targets: need one class per pixel, as labels do; got targets of shape "
            f"{tuple(targets.shape)} and labels of shape {tuple(labels.shape)}."
        )


def check_device(name: str, tensor: Tensor, images: Tensor) -> None:
    """Check that `tensor`, called `name`, is where the images are."""
    if tensor.device != images.device:
        raise ValueError(f"{name}: must be on {images.device} with the images, got {tensor.device}.")


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Check what a network returns for the images of `labels`.

    Raises:
        ModelError: It is not one logit per class and label, has a single class, or is not finite.
        ValueError: The network has no class for a label.
    """
    if logits.shape == labels.shape and task_of(labels) is Task.MULTILABEL:
        raise ModelError(ONE_PER_FINDING)
    if logits.ndim < 2 or (len(logits), *logits.shape[2:]) != tuple(labels.shape):
        raise ModelError(
            "The network must return logits of shape (n, classes) or (n, classes, *space) for labels of "
            f"shape {tuple(labels.shape)}; got {tuple(logits.shape)}."
        )
    if logits.shape[1] < 2:
        raise ModelError(
            "The network returns one logit; attacks need one per class: turn it into two, (0, logit)."
        )
    if not all_finite(logits):
        raise ModelError(
            "The network returns non-finite logits; check its weights, and its forward pass for divisions, "
            "roots and logarithms that fail for some images in [0, 1]."
        )
    if int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"labels: the network has {logits.shape[1]} classes, 0 to {logits.shape[1] - 1}, got "
            f"{int(labels.max())}."
        )


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite.

    Only finite terms have a finite sum, which takes a fortieth of the time of looking at each of them.
    """
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())

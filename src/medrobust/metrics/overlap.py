"""How two label maps overlap: scores of a case, and the counts behind them, which add up over slices."""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from medrobust.core import UNKNOWN
from medrobust.metrics.scores import dice_of_counts, iou_of_counts

LabelMaps = Int[Tensor, "n *space"] | Int[np.ndarray, "n *space"]


def dice(labels: LabelMaps, predictions: LabelMaps, classes: int | None = None) -> Float64[np.ndarray, "n k"]:
    """Dice overlap of every class in every image.

    Args:
        labels: True classes from 0 on, of shape `n *space`.
        predictions: Predicted classes, of the same shape.
        classes: Number of classes `k`; None: as many as occur in either.

    Returns:
        Values in [0, 1]; NaN where a class is absent from the truth of an image. Column 0 is the background.

    Raises:
        ValueError: Shapes differ, or a class lies outside [0, classes).

    >>> truth = np.array([[[0, 1], [1, 1]]])
    >>> dice(truth, np.array([[[0, 0], [1, 1]]])).round(3).tolist()
    [[0.667, 0.8]]
    """
    return dice_of_counts(*_counts_of(labels, predictions, classes))


def iou(labels: LabelMaps, predictions: LabelMaps, classes: int | None = None) -> Float64[np.ndarray, "n k"]:
    """Intersection over union of every class in every image; arguments and result as of `dice`.

    >>> iou(np.array([[[0, 1], [1, 1]]]), np.array([[[0, 0], [1, 1]]])).round(3).tolist()
    [[0.5, 0.667]]
    """
    return iou_of_counts(*_counts_of(labels, predictions, classes))


def _counts_of(labels: LabelMaps, predictions: LabelMaps, classes: int | None) -> Int64[np.ndarray, "3 n k"]:
    return overlap_counts(*as_maps(labels, predictions, classes)).permute(2, 0, 1).cpu().numpy()


def as_maps(
    labels: LabelMaps, predictions: LabelMaps, classes: int | None
) -> tuple[Int64[Tensor, "n *space"], Int64[Tensor, "n *other"], int]:
    """Two label maps as tensors, and the number of classes: by default as many as occur in either."""
    true, shown = (torch.as_tensor(maps).long() for maps in (labels, predictions))
    largest = max((int(each.max()) for each in (true, shown) if each.numel()), default=0)
    return true, shown, classes or 1 + largest


def overlap_counts(
    labels: Int64[Tensor, "n *space"],
    predictions: Int64[Tensor, "n *space"],
    classes: int,
    members: Bool[np.ndarray, "r k"] | None = None,
) -> Int64[Tensor, "n s 3"]:
    """Pixels of each class, or of each union of classes, in the truth, in the prediction, and in both.

    Args:
        labels: True classes, in [0, classes), or `UNKNOWN`: such pixels are not counted.
        predictions: Predicted classes, in [0, classes).
        classes: Number of classes `k`.
        members: Which classes each of `r` structures consists of; None: each class is one.

    Returns:
        `n_true, n_pred, n_both` of each image and structure, on the device of the labels: what
        `dice_of_counts` takes.

    Raises:
        ValueError: Shapes differ, or a class lies outside [0, classes).
    """
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels {tuple(labels.shape)} and predictions {tuple(predictions.shape)} must have one shape."
        )
    for name, values, least in (("labels", labels, UNKNOWN), ("predictions", predictions, 0)):
        if values.numel() and not least <= int(values.min()) <= int(values.max()) < classes:
            seen = f"{int(values.min())} to {int(values.max())}"
            raise ValueError(f"{name} must be classes in [0, {classes}); got {seen}.")
    # One bincount of (image, true class, predicted class) gives all confusion matrices.
    n = len(labels)
    image = torch.arange(n, device=labels.device)[:, None]
    codes = ((image * classes + labels.flatten(1)) * classes + predictions.flatten(1)).flatten()
    known = (labels != UNKNOWN).flatten()
    if not known.all():
        codes = codes[known]
    confusion = torch.bincount(codes, minlength=n * classes * classes).reshape(n, classes, classes)
    if members is not None:  # a pixel is in both where its true and its predicted class are members
        inside = torch.from_numpy(members).long()
        table = confusion.cpu()  # GPUs cannot multiply matrices of whole numbers
        n_true, n_pred = table.sum(2) @ inside.T, table.sum(1) @ inside.T
        n_both = ((inside @ table) * inside).sum(2)
        return torch.stack((n_true, n_pred, n_both), dim=-1).to(labels.device)
    return torch.stack((confusion.sum(2), confusion.sum(1), confusion.diagonal(dim1=1, dim2=2)), dim=-1)


def empty_counts(
    labels: Int64[Tensor, "n *space"], predictions: Int64[Tensor, "n *space"]
) -> Int64[Tensor, "n 4"]:
    """What is predicted in images without any label: false positives that no score of a structure shows.

    Args:
        labels: True classes; 0 is the background. Pixels that are `UNKNOWN` are left out.
        predictions: Predicted classes.

    Returns:
        Of each image 1 (it is a case), and 1 if nothing is labelled in it; of such an image also 1 if any
        structure is predicted, and the number of pixels predicted to be one. They add up.
    """
    empty = ~(labels > 0).flatten(1).any(1)
    pixels = ((predictions != 0) & (labels != UNKNOWN)).flatten(1).sum(1) * empty
    return torch.stack((torch.ones_like(pixels), empty.long(), (pixels > 0).long(), pixels), dim=-1)

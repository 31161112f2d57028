"""Counts that scores are computed from. Counts add up over slices, scores do not."""

import torch
from jaxtyping import Int64
from torch import Tensor


def overlap_counts(
    labels: Int64[Tensor, "n *space"], predictions: Int64[Tensor, "n *space"], classes: int
) -> Int64[Tensor, "n k 3"]:
    """Pixels of each class in the truth, in the prediction, and in both.

    Args:
        labels: True classes, in [0, classes).
        predictions: Predicted classes, in [0, classes).
        classes: Number of classes `k`.

    Returns:
        `n_true, n_pred, n_both` of each image and class, on the device of the labels. The Dice score of a
        class is `2 n_both / (n_true + n_pred)`.

    Raises:
        ValueError: Shapes differ, or a class lies outside [0, classes).

    """
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels {tuple(labels.shape)} and predictions {tuple(predictions.shape)} must have one shape."
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < classes:
            seen = f"{int(values.min())} to {int(values.max())}"
            raise ValueError(f"{name} must be classes in [0, {classes}); got {seen}.")
    # One bincount of (image, true class, predicted class) gives all confusion matrices.
    n = len(labels)
    image = torch.arange(n, device=labels.device)[:, None]
    codes = ((image * classes + labels.flatten(1)) * classes + predictions.flatten(1)).flatten()
    confusion = torch.bincount(codes, minlength=n * classes * classes).reshape(n, classes, classes)
    return torch.stack((confusion.sum(2), confusion.sum(1), confusion.diagonal(dim1=1, dim2=2)), dim=-1)

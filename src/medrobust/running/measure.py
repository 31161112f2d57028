"""What is measured of crafted images, for every perturbation alike: attacks do not grade themselves."""

import math

from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from medrobust.metrics.similarity import l0, l2, linf, mean_over, mse, ssim_map


def distances(
    clean: Float[Tensor, "n c *space"],
    images: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
) -> dict[str, Float[Tensor, " n"]]:
    """Distances of images to the clean ones, by column name.

    Args:
        clean: Images in [0, 1].
        images: The same images perturbed, in [0, 1].
        support: Pixels that `ssim` is averaged over; None: all. `ssim_image` is that of the whole image.
    """
    similarity = ssim_map(clean, images)
    return {
        "mse": mse(clean, images),
        "l0": l0(clean, images),
        "l2": l2(clean, images),
        "linf": linf(clean, images),
        "ssim": mean_over(similarity, support),
        "ssim_image": mean_over(similarity),
    }


def share_wrong(
    predictions: Int64[Tensor, "n *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float64[Tensor, " n"]:
    """Share of wrong pixels of each image; 0 or 1 in classification."""
    return (predictions != labels).reshape(len(labels), -1).double().mean(1)


def share_fooled(
    predictions: Int64[Tensor, "n *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    targets: Int64[Tensor, "n *labelspace"] | None,
) -> Float64[Tensor, " n"]:
    """How far the source does what the attack wanted, in [0, 1].

    Args:
        predictions: Of the source on the perturbed images.
        labels: The truth.
        targets: What an attack with targets wanted; None for an attack that wants anything but the truth.

    Returns:
        With targets, the share of the pixels with target != truth that are shown as the target, NaN where
        there is no such pixel. Without, the share of wrong pixels.
    """
    if targets is None:
        return share_wrong(predictions, labels)
    wanted = (targets != labels).reshape(len(labels), -1)
    shown = (predictions == targets).reshape(len(labels), -1) & wanted
    return shown.sum(1).double() / wanted.sum(1)


def quantised(images: Float[Tensor, "n c *space"], bits: int) -> Float[Tensor, "n c *space"]:
    """Images in [0, 1] as they come back from a file with `bits` bits per channel, rounded half to even."""
    levels = float(2**bits - 1)
    return (images * levels).round() / levels


def values_of(column: Float[Tensor, " n"]) -> list[float | None]:
    """A column as Python numbers; None where it is not defined."""
    return [None if math.isnan(value) else value for value in column.tolist()]

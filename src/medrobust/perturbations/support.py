"""Where attack and noise may act, taken from the image and never from labels."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_fill_holes
from torch import Tensor

SupportMode = Literal["auto", "image", "foreground"]

STRIPPED_SHARE = 0.05
"""From this share of pixels that are exactly zero on, an image counts as skull-stripped."""


def support_of(images: Float[Tensor, "n c *space"], mode: SupportMode = "auto") -> Bool[Tensor, "n 1 *space"]:
    """The support of every image.

    Args:
        images: Clean images in [0, 1].
        mode: "image": everything. "foreground": the pixels that are not zero in all channels, holes filled.
            "auto": the foreground of an image of which at least 5 % is exactly zero (skull-stripped MRI),
            else everything.

    Returns:
        True where attack and noise may act.

    Raises:
        ValueError: An unknown mode.
    """
    if mode not in ("auto", "image", "foreground"):
        raise ValueError(f"mode: must be 'auto', 'image' or 'foreground', got {mode!r}.")
    if mode == "image":
        return torch.ones_like(images[:, :1], dtype=torch.bool)
    nonzero = (images != 0).any(1).cpu().numpy()
    supports = [
        binary_fill_holes(image)
        if mode == "foreground" or np.mean(~image) >= STRIPPED_SHARE
        else np.ones_like(image)
        for image in nonzero
    ]
    return torch.from_numpy(np.stack(supports)[:, None]).to(images.device)


def within(
    images: Float[Tensor, "n c *space"],
    clean: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
) -> Float[Tensor, "n c *space"]:
    """`images` clipped to [0, 1], and the clean ones outside of the support."""
    clipped = images.clamp(0, 1)
    return clipped if support is None else torch.where(support, clipped, clean)


def rows(support: Bool[Tensor, "n 1 *space"] | None, index: Tensor) -> Tensor | None:
    """The support of some of the images."""
    return None if support is None else support[index]

"""Targets of dense adversary generation: the three types of the paper, made from the true labels.

All take true classes `n *space`, one generator per image (None: those of seed 0), the size of a pixel in mm
along each axis (None: unknown) and the class of the background, and return the class that each pixel is to be
shown as. A target depends on nothing but its case and generator, and so not on any network.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Int64
from scipy.ndimage import binary_dilation, distance_transform_edt, generate_binary_structure
from torch import Tensor

from medrobust.core import UNKNOWN
from medrobust.parameters import Ratio
from medrobust.rng import generators_of

ROUNDING = 1e-6
"""Pixels count so far beyond a radius, as a fraction of their side: 0.7 mm has no exact multiples."""

Labels = Int64[np.ndarray, "*space"]
Mask = Bool[np.ndarray, "*space"]
Generators = Sequence[np.random.Generator] | None


def all_background(
    labels: Int64[Tensor, "n *space"],
    *,
    rngs: Generators = None,
    spacing: Sequence[float] | None = None,
    background: int = 0,
) -> Int64[Tensor, "n *space"]:
    """Type A: every pixel becomes background; `rngs` and `spacing` are unused."""
    return torch.full_like(labels, background)


def scattered(
    labels: Int64[Tensor, "n *space"],
    *,
    rngs: Generators = None,
    spacing: Sequence[float] | None = None,
    background: int = 0,
    share: Annotated[Ratio, Gt(0), Le(1)] = 0.05,
    structure: Annotated[int, Ge(0)] | None = None,
) -> Int64[Tensor, "n *space"]:
    """Type B: a fraction of the foreground pixels, scattered at random, is to be shown as one class.

    Args:
        labels: True classes.
        rngs: One generator per image: it draws the class, then the pixels.
        spacing: Unused.
        background: Class of the background.
        share: Pixels to change as a fraction of all foreground pixels, (0, 1]; at least one. Pixels of the
            class itself cannot be chosen.
        structure: The class; None: drawn for each image from the foreground classes in it.

    Returns:
        Targets; the labels themselves for an image without a pixel that could change.
    """

    def scatter(label: Labels, rng: np.random.Generator) -> Labels:
        chosen = drawn(label, rng, background, min_pixels=1) if structure is None else structure
        if chosen is None:
            return label
        foreground = (label != background) & (label != UNKNOWN)
        eligible = np.flatnonzero(foreground & (label != chosen))
        wanted = max(1, round(share * np.count_nonzero(foreground)))
        target = label.copy()
        target.flat[rng.choice(eligible, size=min(wanted, len(eligible)), replace=False)] = chosen
        return target

    return each(labels, rngs, scatter)


def dilated(
    labels: Int64[Tensor, "n *space"],
    *,
    rngs: Generators = None,
    spacing: Sequence[float] | None = None,
    background: int = 0,
    radius_mm: Annotated[float, Gt(0)] = 6.0,
    min_pixels: Annotated[int, Ge(1)] = 20,
    structure: Annotated[int, Ge(0)] | None = None,
    connectivity: Annotated[int, Ge(1), Le(3)] | None = None,
) -> Int64[Tensor, "n *space"]:
    """Type C: one structure grows by a radius, over its neighbours and the background; the rest is kept.

    Args:
        labels: True classes.
        rngs: One generator per image, which draws the structure.
        spacing: Size of a pixel in mm along each axis; None: the radius is in pixels.
        background: Class of the background.
        radius_mm: How far the structure grows, above 0.
        min_pixels: A structure with fewer pixels in an image cannot be drawn.
        structure: The structure; None: drawn for each image from those that are large enough.
        connectivity: None: it grows to everything within the radius. Otherwise it is dilated as many times as
            the smallest side of a pixel fits into the radius (at least once), each time over neighbours that
            share a face (1), an edge (2) or a corner (3; in 2D the same as 2).

    Returns:
        Targets; the labels themselves for an image without a structure that is large enough.
    """

    def dilate(label: Labels, rng: np.random.Generator) -> Labels:
        chosen = drawn(label, rng, background, min_pixels) if structure is None else structure
        if chosen is None or not (label == chosen).any():
            return label
        return np.where(grown(label == chosen, radius_mm, spacing, connectivity), chosen, label)

    return each(labels, rngs, dilate)


def each(
    labels: Int64[Tensor, "n *space"], rngs: Generators, make: Callable[[Labels, np.random.Generator], Labels]
) -> Int64[Tensor, "n *space"]:
    """Make the target of every image from its labels and its generator."""
    generators = generators_of(rngs, len(labels))
    made = [make(label, rng) for label, rng in zip(labels.cpu().numpy(), generators, strict=True)]
    return torch.from_numpy(np.stack(made)).to(labels.device)


def drawn(labels: Labels, rng: np.random.Generator, background: int, min_pixels: int) -> int | None:
    """A foreground class with at least so many pixels, all equally likely; None if there is none."""
    classes, counts = np.unique(labels, return_counts=True)
    large = classes[(classes != background) & (classes != UNKNOWN) & (counts >= min_pixels)]
    return int(rng.choice(large)) if len(large) else None


def grown(inside: Mask, radius: float, spacing: Sequence[float] | None, connectivity: int | None) -> Mask:
    """A mask dilated by a radius; see `dilated`."""
    side = min(spacing or (1.0,))
    slack = ROUNDING * side
    if connectivity is None:
        near: Mask = distance_transform_edt(~inside, sampling=spacing) <= radius + slack
        return near
    neighbours = generate_binary_structure(inside.ndim, connectivity)
    times = max(1, int((radius + slack) / side))
    after: Mask = binary_dilation(inside, neighbours, iterations=times)
    return after

"""Targets of dense adversary generation: the three types of the paper, made from the true labels.

All take labels `n *space` and one generator per image; a target depends on its case and generator only, not
on any network.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Int64
from scipy.ndimage import binary_dilation, distance_transform_edt, generate_binary_structure
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.rng import generators_of

ROUNDING = 1e-6
"""Pixels count so far beyond a radius, as a share of their side: 0.7 mm has no exact multiples."""

Labels = Int64[np.ndarray, "*space"]
Mask = Bool[np.ndarray, "*space"]
Classes = Int64[np.ndarray, " k"]
Generators = Sequence[np.random.Generator] | None


def all_background(
    labels: Int64[Tensor, "n *space"],
    *,
    rngs: Generators = None,
    spacing: Sequence[float] | None = None,
    background: int = 0,
) -> Int64[Tensor, "n *space"]:
    """Type A: every pixel is to be background.

    Args:
        labels: True classes.
        rngs: Not needed, nothing is drawn.
        spacing: Not needed.
        background: Class of the background.

    Returns:
        Targets.
    """
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
    """Type B: a share of the foreground pixels, scattered at random, is to be shown as one class.

    Args:
        labels: True classes.
        rngs: One generator per image (None: those of seed 0): it draws the class, then the pixels.
        spacing: Not needed.
        background: Class of the background.
        share: Pixels to change as a share of all foreground pixels, (0, 1]; at least one. Pixels of the class
            itself cannot be chosen.
        structure: The class; None: drawn for each image among the foreground classes that are in it.

    Returns:
        Targets; the labels themselves for an image without a pixel that could change.
    """
    return each(labels, rngs, lambda label, rng: scatter(label, rng, background, share, structure))


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
        rngs: One generator per image (None: those of seed 0), which draws the structure.
        spacing: Size of a pixel in mm along each axis; None: the radius is in pixels.
        background: Class of the background.
        radius_mm: How far the structure grows, above 0.
        min_pixels: A structure with fewer pixels in an image cannot be drawn.
        structure: The structure; None: drawn for each image among those that are large enough.
        connectivity: None: it grows to everything within the radius. Otherwise it is dilated as many times as
            the smallest side of a pixel fits into the radius (at least once), each time over neighbours that
            share a face (1), an edge (2) or a corner (3; in images 3 is 2).

    Returns:
        Targets; the labels themselves for an image without a structure that is large enough.
    """
    return each(
        labels,
        rngs,
        lambda label, rng: dilate(
            label, rng, background, radius_mm, spacing, min_pixels, structure, connectivity
        ),
    )


def each(
    labels: Int64[Tensor, "n *space"], rngs: Generators, make: Callable[[Labels, np.random.Generator], Labels]
) -> Int64[Tensor, "n *space"]:
    """Make the target of every image from its labels and its generator."""
    drawing = generators_of(rngs, len(labels))
    made = [make(label, rng) for label, rng in zip(labels.cpu().numpy(), drawing, strict=True)]
    return torch.from_numpy(np.stack(made)).to(labels.device)


def scatter(
    labels: Labels, rng: np.random.Generator, background: int, share: float, structure: int | None
) -> Labels:
    """Type B for one image."""
    if structure is None:
        present = foreground_classes(labels, background, min_pixels=1)
        if len(present) == 0:
            return labels
        structure = int(rng.choice(present))
    foreground = labels != background
    eligible = np.flatnonzero(foreground & (labels != structure))
    wanted = max(1, round(share * np.count_nonzero(foreground)))
    chosen = rng.choice(eligible, size=min(wanted, len(eligible)), replace=False)
    targets = labels.copy()
    targets.flat[chosen] = structure
    return targets


def dilate(
    labels: Labels,
    rng: np.random.Generator,
    background: int,
    radius: float,
    spacing: Sequence[float] | None,
    min_pixels: int,
    structure: int | None,
    connectivity: int | None,
) -> Labels:
    """Type C for one image."""
    if structure is None:
        present = foreground_classes(labels, background, min_pixels)
        if len(present) == 0:
            return labels
        structure = int(rng.choice(present))
    inside = labels == structure
    if not inside.any():
        return labels
    return np.where(grown(inside, radius, spacing, connectivity), structure, labels)


def grown(inside: Mask, radius: float, spacing: Sequence[float] | None, connectivity: int | None) -> Mask:
    """A mask after it grew by a radius; see `dilated`."""
    side = min(spacing or (1.0,))
    slack = ROUNDING * side
    if connectivity is None:
        near: Mask = distance_transform_edt(~inside, sampling=spacing) <= radius + slack
        return near
    neighbours = generate_binary_structure(inside.ndim, connectivity)
    times = max(1, int((radius + slack) / side))
    after: Mask = binary_dilation(inside, neighbours, iterations=times)
    return after


def foreground_classes(labels: Labels, background: int, min_pixels: int) -> Classes:
    """Classes other than the background with at least so many pixels, in ascending order."""
    classes, counts = np.unique(labels, return_counts=True)
    large: Classes = classes[(classes != background) & (counts >= min_pixels)]
    return large

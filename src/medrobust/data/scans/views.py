"""How volumes in RAS become slices or boxes of one size: views, the box of what is not air, the canvas."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Shaped
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

from medrobust.errors import DataError

Axis = Literal["coronal", "axial", "sagittal"]

VIEWS: dict[Axis, tuple[str, str]] = {
    "coronal": ("AIL", "superior up, the patient's left on the right (radiological convention)"),
    "axial": ("SPL", "anterior up, the patient's left on the right (radiological convention)"),
    "sagittal": ("RIP", "superior up, anterior on the left"),
}
"""Where slice number, row and column grow to, and how that looks."""

CANVAS_STEP = 16
"""Sides of an automatic canvas are multiples of it, so that four poolings leave no remainder."""


FLAT = 1e-5
"""Intensities in [0, 1] that differ by less are one: resampling leaves so much of a constant in float32."""


def slices_along(volume: Shaped[np.ndarray, "x y z"], axis: Axis) -> Shaped[np.ndarray, "s h w"]:
    """The slices of a volume in RAS, oriented as `VIEWS` says. A view, no copy."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(VIEWS[axis][0]))
    slices: np.ndarray = apply_orientation(volume, turn)
    return slices


def imaged_slices(stacks: Sequence[Shaped[np.ndarray, "s h w"]]) -> slice:
    """From the first to the last slice in which some channel is not constant; all, where every one is."""
    used = np.flatnonzero(np.logical_or.reduce([np.ptp(stack, axis=(1, 2)) > FLAT for stack in stacks]))
    return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, len(stacks[0]))


def bounding_box(mask: Shaped[np.ndarray, "s h w"]) -> tuple[slice, slice, slice]:
    """Slices, rows and columns that hold everything in a stack; the mask must not be empty."""
    used = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    first, second, third = (slice(int(one[0]), int(one[-1]) + 1) for one in used)
    return first, second, third


def fit_canvas(
    wanted: Literal["auto"] | Sequence[int],
    extents: Mapping[str, Sequence[int]],
    steps: Sequence[int] = (CANVAS_STEP, CANVAS_STEP),
) -> tuple[int, ...]:
    """Sides of a canvas that all scans fit in.

    Args:
        wanted: The sides, or "auto": the smallest multiples of `steps`.
        extents: Sides of the slices, or of the volume, of each scan.
        steps: For each side.

    Raises:
        DataError: The canvas that is wanted is too small or has another number of sides; names the scan.
    """
    largest = [max(sides) for sides in zip(*extents.values(), strict=True)]
    if wanted == "auto":
        return tuple(-(-side // step) * step for side, step in zip(largest, steps, strict=True))
    if len(wanted) != len(largest):
        raise DataError(
            f"data.canvas: {list(wanted)} has {len(wanted)} sides, and {len(largest)} are needed."
        )
    for scan_id, extent in extents.items():
        if any(side > limit for side, limit in zip(extent, wanted, strict=True)):
            raise DataError(
                f"data.canvas: {list(wanted)} is too small, scan {scan_id} needs {list(extent)}. "
                f"Take at least {largest}, or auto."
            )
    return tuple(wanted)


def margins(canvas: Sequence[int], extent: Sequence[int]) -> list[int]:
    """Voxels of the canvas before an image in its middle, along each axis."""
    return [(size - old) // 2 for size, old in zip(canvas, extent, strict=True)]


def on_canvas(image: Shaped[np.ndarray, "*old"], canvas: Sequence[int]) -> Shaped[np.ndarray, "*new"]:
    """The image in the middle of a black canvas that must not be smaller."""
    return region(image, [-margin for margin in margins(canvas, image.shape)], canvas)


def region(
    image: Shaped[np.ndarray, "*old"], first: Sequence[int], shape: Sequence[int]
) -> Shaped[np.ndarray, "*new"]:
    """Part of an image from the index `first` on, which may be below 0; black where it reaches beyond."""
    cut = np.zeros(shape, image.dtype)
    old = tuple(
        slice(max(start, 0), max(min(start + size, whole), 0))
        for start, size, whole in zip(first, shape, image.shape, strict=True)
    )
    new = tuple(slice(part.start - start, part.stop - start) for part, start in zip(old, first, strict=True))
    if all(part.stop > part.start for part in old):
        cut[new] = image[old]
    return cut

"""Volumes turned, resampled, cut and put on a canvas, and what each step does to the affine.

An affine maps the index of a voxel's centre to world millimetres.
"""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import nibabel as nib
import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from scipy.ndimage import find_objects

from medrobust.errors import DataError

Affine = Float64[np.ndarray, "4 4"]
"""From indices along three axes to world millimetres: right, anterior, superior."""


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels along each axis."""
    x, y, z = (float(size) for size in nib.affines.voxel_sizes(affine))
    return x, y, z


def shifted(affine: Affine, first: Sequence[int]) -> Affine:
    """Affine of an array that begins at the index `first` of the old one; below 0 it has a margin."""
    return np.asarray(affine @ nib.affines.from_matvec(np.eye(3), np.array(first)))


def centred(shape: Sequence[int], spacing: float, codes: str) -> Affine:
    """Affine of an array of cubes (`spacing` in mm) with the origin of the world in its middle.

    `codes` says where its indices grow to.
    """
    axes = turned(np.eye(4), (1, 1, 1), codes)[:3, :3] * spacing
    affine: Affine = nib.affines.from_matvec(axes, -axes @ (np.array(shape) - 1) / 2)
    return affine


Axis = Literal["coronal", "axial", "sagittal"]

Cut = Axis | Literal["volume"]
"""The axis along which a scan is cut into slices; "volume" leaves it whole."""

VIEWS: dict[Axis, tuple[str, str]] = {
    "coronal": ("AIL", "superior up, the patient's left on the right (radiological convention)"),
    "axial": ("SPL", "anterior up, the patient's left on the right (radiological convention)"),
    "sagittal": ("RIP", "superior up, anterior on the left"),
}
"""Where slice number, row and column grow to, and how that looks."""


def view_of(cut: Cut) -> Axis:
    """How the slices of a stack are turned; a whole volume is a stack of axial ones."""
    return "axial" if cut == "volume" else cut


def slices_along(volume: Shaped[np.ndarray, "x y z"], axis: Axis) -> Shaped[np.ndarray, "s h w"]:
    """The slices of a volume in RAS, oriented as `VIEWS` says: a view, not a copy."""
    slices: np.ndarray = apply_orientation(volume, turn_from_ras(VIEWS[axis][0]))
    return slices


def codes_of(affine: Affine) -> str:
    """Where the indices of an array grow to, e.g. "SPL" for volumes that are stacks of axial slices."""
    return "".join(nib.aff2axcodes(affine))


def seen_along(volume: Shaped[np.ndarray, "*more x y z"], codes: str, axis: Axis) -> np.ndarray:
    """Slices along an axis of volumes whose last indices grow to `codes`: a view, `*more s h w`."""
    turn = ornt_transform(axcodes2ornt(codes), axcodes2ornt(VIEWS[axis][0]))
    more = range(volume.ndim - 3)
    slices = apply_orientation(np.moveaxis(volume, more, range(3, volume.ndim)), turn)
    return np.moveaxis(slices, range(3, volume.ndim), more)


def turned(affine: Affine, shape: Sequence[int], codes: str) -> Affine:
    """Affine of an array in RAS, of this affine and shape, once it is turned to other axes, e.g. "AIL"."""
    return np.asarray(affine @ inv_ornt_aff(turn_from_ras(codes), shape))


def turn_from_ras(codes: str) -> Float64[np.ndarray, "3 2"]:
    """The turn, in nibabel's form, of an array in RAS to axes that grow to `codes`."""
    turn: np.ndarray = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    return turn


def turn_onto(
    affine: Affine, shape: Sequence[int], other: Affine
) -> tuple[Float64[np.ndarray, "3 2"], tuple[int, ...], Affine]:
    """The turn, in nibabel's form, of an array to the axes of another grid, and its new shape and affine.

    Two headers of one grid may differ by so little that their axes are named differently, near 45 degrees.
    """
    turn = io_orientation(np.linalg.solve(other, affine))
    turned_shape = tuple(shape[int(axis)] for axis in np.argsort(turn[:, 0]))
    return turn, turned_shape, affine @ inv_ornt_aff(turn, shape)


ROUNDING = np.float32(1e-5)
"""Fractions of a voxel that differ by less are equal."""


def resample_image(
    image: Float32[np.ndarray, "x y z"], spacing: Sequence[float], new: float
) -> Float32[np.ndarray, "x2 y2 z2"]:
    """An image on an isotropic grid of voxels of `new` mm over the same extent.

    `spacing` is the old one in mm. A new voxel is the mean of the old ones over its own extent, like the
    signal of a scanner with larger voxels.
    """
    return _mean(image, [overlaps(n, size, new) for n, size in zip(image.shape, spacing, strict=True)])


def resample_labels(
    labels: UInt8[np.ndarray, "x y z"], spacing: Sequence[float], new: float
) -> UInt8[np.ndarray, "x2 y2 z2"]:
    """Labels, all below 255, on the grid of `resample_image`: each voxel is what fills most of it.

    A voxel that two structures fill equally goes to the one that is smaller in this scan. On three scans
    taken from 1 to 2 mm and back, labels agree better with the original (mean Dice .878) than by nearest
    neighbour (.860) or by linear interpolation with antialiasing (.876).
    """
    weights = [overlaps(n, size, new) for n, size in zip(labels.shape, spacing, strict=True)]
    if all(map(_changes_nothing, weights)):
        return labels
    resampled = np.zeros([len(matrix) for matrix in weights], np.uint8)
    largest = np.zeros(resampled.shape, np.float32)
    boxes = find_objects(labels + 1)
    sizes = np.zeros(256, np.int64)
    for plane in np.moveaxis(labels, -1, 0):  # whole volumes would be copied as 64-bit numbers
        sizes += np.bincount(plane.ravel(), minlength=256)
    for label in sorted(np.flatnonzero(sizes), key=lambda label: -sizes[label]):
        box = boxes[label]
        place = tuple(_reached(matrix, old) for matrix, old in zip(weights, box, strict=True))
        inside = [matrix[new, old] for matrix, new, old in zip(weights, place, box, strict=True)]
        fraction = _mean((labels[box] == label).astype(np.float32), inside)
        wins = fraction >= np.maximum(largest[place] - ROUNDING, ROUNDING)
        resampled[place][wins] = label
        largest[place][wins] = fraction[wins]
    return resampled


def resampled(affine: Affine, shape: Sequence[int], new_shape: Sequence[int], spacing: float) -> Affine:
    """Affine of the isotropic grid, of voxels of `spacing` mm, that `overlaps` centres on the old one."""
    step = spacing / np.array(spacing_of(affine))
    middle, new_middle = ((np.array(size) - 1) / 2 for size in (shape, new_shape))
    return np.asarray(affine @ nib.affines.from_matvec(np.diag(step), middle - step * new_middle))


def overlaps(n: int, spacing: float, new: float) -> Float32[np.ndarray, "m n"]:
    """Weights of `n` old voxels in each new one: the fractions of it that they cover, rows summing to 1.

    The new grid is centred on the old one and is the smallest that covers it.
    """
    extent = n * spacing
    count = max(math.ceil(extent / new - 1e-3), 1)
    old = np.linspace(0, extent, n + 1)
    edges = (extent - count * new) / 2 + new * np.arange(count + 1)
    begins = np.maximum(edges[:-1, None], old[None, :-1])
    ends = np.minimum(edges[1:, None], old[None, 1:])
    covered = np.clip(ends - begins, 0, None)
    weights: np.ndarray = (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def _reached(weights: Float32[np.ndarray, "m n"], old: slice) -> slice:
    """The new voxels that some of the old ones lie in."""
    reached = np.flatnonzero(weights[:, old].any(axis=1))
    return slice(int(reached[0]), int(reached[-1]) + 1)


def _mean(volume: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    for matrix in weights:  # each new axis comes last, so that three turns restore the order
        if _changes_nothing(matrix):  # a product would need two more copies of a large volume
            volume = np.moveaxis(volume, 0, -1)
        else:
            volume = np.tensordot(volume, matrix, axes=(0, 1))
    return volume


def _changes_nothing(weights: Float32[np.ndarray, "m n"]) -> bool:
    """Whether every new voxel is an old one."""
    return np.array_equal(weights, np.eye(len(weights), dtype=np.float32))


FLAT = 1e-5
"""Intensities in [0, 1] that differ by less are equal: resampling a constant in float32 leaves that much."""


def imaged_slices(stacks: Sequence[Shaped[np.ndarray, "s h w"]]) -> slice:
    """From the first to the last slice in which some channel is not constant; all if there is none."""
    used = np.flatnonzero(np.logical_or.reduce([np.ptp(stack, axis=(1, 2)) > FLAT for stack in stacks]))
    return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, len(stacks[0]))


def bounding_box(mask: Shaped[np.ndarray, "s h w"]) -> tuple[slice, slice, slice]:
    """Slices, rows and columns that hold all of a mask, which must not be empty."""
    used = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    first, second, third = (slice(int(one[0]), int(one[-1]) + 1) for one in used)
    return first, second, third


CANVAS_STEP = 16
"""Sides of an automatic canvas are multiples of it, so that four poolings leave no remainder."""


def fit_canvas(
    wanted: Literal["auto"] | Sequence[int],
    extents: Mapping[str, Sequence[int]],
    steps: Sequence[int] = (CANVAS_STEP, CANVAS_STEP),
) -> tuple[int, ...]:
    """Sides of a canvas that all scans fit in.

    Args:
        wanted: The sides, or "auto": the smallest multiples of `steps`.
        extents: Sides of the slices, or of the volume, of each scan.
        steps: One for each side.

    Raises:
        DataError: The wanted canvas is too small, or has another number of sides.
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
                f"Use at least {largest}, or auto."
            )
    return tuple(wanted)


def margins(canvas: Sequence[int], extent: Sequence[int]) -> list[int]:
    """Voxels of the canvas in front of an image in its middle, along each axis."""
    return [(size - old) // 2 for size, old in zip(canvas, extent, strict=True)]


def on_canvas(image: Shaped[np.ndarray, "*old"], canvas: Sequence[int]) -> Shaped[np.ndarray, "*new"]:
    """The image in the middle of a black canvas, which must not be smaller."""
    return region(image, [-margin for margin in margins(canvas, image.shape)], canvas)


def region(
    image: Shaped[np.ndarray, "*old"], first: Sequence[int], shape: Sequence[int]
) -> Shaped[np.ndarray, "*new"]:
    """The part of an image from the index `first` on, which may be negative; black outside the image."""
    cut = np.zeros(shape, image.dtype)
    old = tuple(
        slice(max(start, 0), max(min(start + size, whole), 0))
        for start, size, whole in zip(first, shape, image.shape, strict=True)
    )
    new = tuple(slice(part.start - start, part.stop - start) for part, start in zip(old, first, strict=True))
    if all(part.stop > part.start for part in old):
        cut[new] = image[old]
    return cut

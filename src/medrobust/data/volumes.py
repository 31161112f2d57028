"""Volumes: reading an image with its labels, and turning volumes into slices.

Arrays of volumes have the axes x, y, z of the canonical orientation RAS: x grows to the patient's right, y
to the front (anterior), z to the top (superior). Which way a file's own axes run is read from its affine,
never assumed.
"""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Float32, Shaped, UInt16
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform
from nibabel.spatialimages import HeaderDataError

from medrobust.data.geometry import Affine
from medrobust.errors import DataError

Axis = Literal["coronal", "axial", "sagittal"]
Intensity = Literal["percentile-99.5", "min-max"]

VIEWS: dict[Axis, tuple[str, str]] = {
    "coronal": ("AIL", "superior up, the patient's left on the right (radiological convention)"),
    "axial": ("SPL", "anterior up, the patient's left on the right (radiological convention)"),
    "sagittal": ("RIP", "superior up, anterior on the left"),
}
"""Where slice number, row and column grow to, and how that looks."""

CANVAS_STEP = 16
"""Both sides of an automatic canvas are multiples of it, so that four poolings leave no remainder."""

AFFINE_TOLERANCE = 1e-3
"""Largest difference, in mm, between the entries of an image's and its labels' affine."""


class Volume(NamedTuple):
    """A scan with its labels, in RAS.

    Attributes:
        image: Intensities as stored.
        labels: Label numbers as stored.
        affine: From x, y, z to world millimetres.
    """

    image: Float32[np.ndarray, "x y z"]
    labels: UInt16[np.ndarray, "x y z"]
    affine: Affine


def read_volume(image: Path, labels: Path) -> Volume:
    """Read a scan and its labels, and bring both into RAS.

    Args:
        image: NIfTI file (or any other that nibabel reads).
        labels: File of the same shape and affine.

    Raises:
        DataError: A file that cannot be read, shapes or affines that differ, an affine without volume, more
            than three dimensions, intensities that are NaN or infinite, labels that are no whole numbers
            from 0 to 65535.
    """
    scan, truth = _load(image), _load(labels)
    if scan.shape != truth.shape:
        raise DataError(f"{image} has the shape {scan.shape}, but its labels {labels} have {truth.shape}.")
    difference = float(np.abs(scan.affine - truth.affine).max())
    if difference > AFFINE_TOLERANCE:
        raise DataError(
            f"{image} and its labels {labels} have affines that differ by up to {difference:.3g} mm."
        )
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused as that
        intensities = _voxels(scan, image).astype(np.float32)
    wrong = np.count_nonzero(~np.isfinite(intensities))
    if wrong:
        raise DataError(f"{image} holds NaN or infinite intensities in {wrong} voxels. Repair the file.")
    return Volume(intensities, _whole_numbers(_voxels(truth, labels), labels), scan.affine)


def normalise(
    image: Float32[np.ndarray, "x y z"], intensity: Intensity, where: str
) -> Float32[np.ndarray, "x y z"]:
    """Intensities of one volume in [0, 1]; its minimum becomes exactly 0.

    Args:
        image: Intensities of any range.
        intensity: What becomes 1: the maximum, or the 99.5th percentile of the voxels above the minimum (so
            that the amount of air around a head plays no part); what is brighter is clipped.
        where: Name of the volume, for the message.

    Raises:
        DataError: The image is constant.
    """
    lowest = image.min()
    above = image[image > lowest]
    if above.size == 0:
        raise DataError(f"{where}: every voxel has the intensity {lowest:g}. The file holds no image.")
    highest = above.max() if intensity == "min-max" else np.percentile(above, 99.5)
    scaled: np.ndarray = np.clip((image - lowest) / np.float32(highest - lowest), 0, 1)
    return scaled


def slices_along(volume: Shaped[np.ndarray, "x y z"], axis: Axis) -> Shaped[np.ndarray, "s h w"]:
    """The slices of a volume in RAS, oriented as `VIEWS` says. A view, no copy."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(VIEWS[axis][0]))
    slices: np.ndarray = apply_orientation(volume, turn)
    return slices


def bounding_box(mask: Shaped[np.ndarray, "s h w"]) -> tuple[slice, slice]:
    """Rows and columns that hold everything in a stack of slices; the mask must not be empty."""
    rows = np.flatnonzero(mask.any(axis=(0, 2)))
    columns = np.flatnonzero(mask.any(axis=(0, 1)))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def fit_canvas(
    wanted: Literal["auto"] | tuple[int, int], extents: Mapping[str, tuple[int, int]]
) -> tuple[int, int]:
    """Height and width that the slices of all scans fit in.

    Args:
        wanted: Height and width, or "auto": the smallest multiples of `CANVAS_STEP`.
        extents: Height and width of the slices of each scan.

    Raises:
        DataError: The canvas that is wanted is too small; names the scan.
    """
    height, width = (max(extent[side] for extent in extents.values()) for side in (0, 1))
    if wanted == "auto":
        return -(-height // CANVAS_STEP) * CANVAS_STEP, -(-width // CANVAS_STEP) * CANVAS_STEP
    for scan_id, (rows, columns) in extents.items():
        if rows > wanted[0] or columns > wanted[1]:
            raise DataError(
                f"data.canvas: {list(wanted)} is too small, scan {scan_id} needs {[rows, columns]}. "
                f"Take at least {[height, width]}, or auto."
            )
    return wanted


def on_canvas(
    image: Shaped[np.ndarray, "h w"], canvas: tuple[int, int]
) -> Shaped[np.ndarray, "height width"]:
    """The image in the middle of a black canvas that must not be smaller."""
    top, left = margins(canvas, image.shape)
    placed = np.zeros(canvas, image.dtype)
    placed[top : top + image.shape[0], left : left + image.shape[1]] = image
    return placed


def margins(canvas: Sequence[int], extent: Sequence[int]) -> list[int]:
    """Pixels of the canvas before an image in its middle, along each axis."""
    return [(size - old) // 2 for size, old in zip(canvas, extent, strict=True)]


def _load(path: Path) -> Any:
    """The image in RAS; its voxels are read only where they have to be turned."""
    with _readable(path):
        image = nib.funcs.squeeze_image(nib.load(path))
    if len(image.shape) != 3:
        raise DataError(f"{path} has the shape {image.shape}; a volume has 3 dimensions.")
    if not np.isfinite(image.affine).all() or np.linalg.det(image.affine[:3, :3]) == 0:
        raise DataError(
            f"{path} has an affine that spans no volume: its orientation is unknown. Repair its header."
        )
    with _readable(path):
        return nib.as_closest_canonical(image)


def _voxels(image: Any, path: Path) -> np.ndarray:
    with _readable(path):
        return np.asanyarray(image.dataobj)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say which file cannot be read."""
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError) as error:
        raise DataError(f"{path} cannot be read: {error}. Is the file complete?") from None


def _whole_numbers(labels: np.ndarray, path: Path) -> UInt16[np.ndarray, "x y z"]:
    with np.errstate(invalid="ignore"):  # NaN and negative numbers are told apart below
        numbers = labels.astype(np.uint16)
    if not np.array_equal(numbers, labels):
        wrong = labels[numbers != labels].flat[0]
        raise DataError(f"{path} holds the label {wrong}; labels are whole numbers from 0 to 65535.")
    return numbers

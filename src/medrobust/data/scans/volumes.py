"""A scan with its labels, as arrays in RAS: x grows to the patient's right, y to the front, z to the top."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Num, UInt16
from nibabel.orientations import apply_orientation

from medrobust.data.scans.geometry import Affine, turn_onto
from medrobust.data.scans.labels import NUMBERS
from medrobust.data.scans.stored import Stored, VolumeFormat
from medrobust.data.scans.volume_files import VOLUME_FILES
from medrobust.errors import DataError

AFFINE_TOLERANCE = 1e-3
"""Largest difference, in mm, between the entries of an image's and its labels' affine."""


OTHER_GRID = "Resample the labels to the image by nearest neighbour, or repair the header that is wrong."
"""What to do about labels that do not lie on their image."""

ROUNDED = (1e-3, 1e-6)
"""How far a stored label may be from a whole number, and how much further for each unit of it: what storage
and arithmetic in float32 leave. Interpolation leaves more."""


class Volume(NamedTuple):
    """A scan with its labels, in RAS.

    Attributes:
        image: Intensities as stored.
        labels: Label numbers as stored.
        affine: From x, y, z to world millimetres.
    """

    image: Float32[np.ndarray, "c x y z"]
    labels: UInt16[np.ndarray, "x y z"]
    affine: Affine


def read_volume(images: Sequence[Path], labels: Path, files: VolumeFormat = VOLUME_FILES) -> Volume:
    """Read a scan and its labels, and bring both into RAS.

    Args:
        images: One file per channel, or one that holds all channels as a fourth dimension.
        labels: File of the same shape and affine.
        files: How they are read.

    Raises:
        DataError: A file that cannot be read, shapes or affines that differ, intensities that are NaN or
            infinite, labels that are no whole numbers from 0 to 65535.
    """
    truth = read_labels(labels, files)
    channels = []
    for path in images:
        stored = files.read(path)
        turn, shape, affine = turn_onto(stored.affine, stored.voxels.shape[:3], truth.affine)
        _require_same_grid(path, shape, affine, labels, truth)
        channels.append(_intensities(apply_orientation(stored.voxels, turn), path))
    image = channels[0] if len(channels) == 1 else np.concatenate(channels)
    return Volume(image, whole_numbers(truth, labels), truth.affine)


def read_labels(path: Path, files: VolumeFormat) -> Stored:
    """Labels as their file stores them; `whole_numbers` makes classes' numbers of them.

    Raises:
        DataError: The file cannot be read, or holds several values for a voxel.
    """
    stored = files.read(path)
    if stored.voxels.ndim != 3:
        raise DataError(
            f"{path} has the shape {stored.voxels.shape}; labels have 3 dimensions. Save them as one volume, "
            "with one number for each voxel."
        )
    return stored


def _require_same_grid(
    image: Path, shape: tuple[int, ...], affine: Affine, labels: Path, truth: Stored
) -> None:
    if shape != truth.voxels.shape:
        raise DataError(
            f"{image} has the shape {shape}, but its labels {labels} have {truth.voxels.shape}. {OTHER_GRID}"
        )
    difference = float(np.abs(affine - truth.affine).max())
    if difference > AFFINE_TOLERANCE:
        raise DataError(
            f"{image} and its labels {labels} have affines that differ by up to {difference:.3g} mm. "
            f"{OTHER_GRID}"
        )


def _intensities(voxels: Num[np.ndarray, "x y z *c"], path: Path) -> Float32[np.ndarray, "c x y z"]:
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused as that
        image = voxels.astype(np.float32)
    # The sum is cheap, and not finite where a single voxel is not; whole numbers always are.
    if voxels.dtype.kind == "f" and not np.isfinite(image.sum(dtype=np.float64)):
        wrong = np.count_nonzero(~np.isfinite(image))
        raise DataError(f"{path} holds NaN or infinite intensities in {wrong} voxels. Repair the file.")
    return image[None] if image.ndim == 3 else np.moveaxis(image, 3, 0)


def whole_numbers(stored: Stored, path: Path) -> UInt16[np.ndarray, "x y z"]:
    """Labels as whole numbers, rounded as far as their file has them rounded.

    Whole numbers that are stored as others times a slope come back within half of it, where it is below 1.

    Args:
        stored: From `read_labels`.
        path: The file, for messages.

    Raises:
        DataError: Values that stand for no whole numbers from 0 to 65535.
    """
    labels = stored.voxels
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < NUMBERS:
        return labels.view(np.uint16) if labels.dtype == np.int16 else labels.astype(np.uint16)
    if not np.isfinite(labels).all():
        wrong = np.count_nonzero(~np.isfinite(labels))
        raise DataError(f"{path} holds NaN or infinity in {wrong} voxels, and labels are numbers. Repair it.")
    nearest, (least, relative) = np.rint(labels), ROUNDED
    slack = stored.step / 2 if stored.step < 1 else 0.0
    between = np.abs(labels - nearest) > slack + least + relative * np.abs(labels)
    if between.any():
        count = np.count_nonzero(between)
        raise DataError(
            f"{path} holds the label {labels[between].flat[0]:g}; labels of {count} voxels are no whole "
            "numbers. Were they resampled by interpolation? Take the original, or resample it by "
            "nearest neighbour."
        )
    outside = (nearest < 0) | (nearest >= NUMBERS)
    if outside.any():
        raise DataError(
            f"{path} holds the label {nearest[outside].flat[0]:g}; labels are whole numbers from 0 to "
            f"{NUMBERS - 1}. Number them so."
        )
    whole: np.ndarray = nearest.astype(np.uint16)
    return whole

"""A scan with its labels, as arrays in RAS: x grows to the patient's right, y to the front, z to the top."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Num, UInt16

from medrobust.data.scans.geometry import Affine
from medrobust.data.scans.labels import NUMBERS
from medrobust.data.scans.stored import Stored, VolumeFormat
from medrobust.data.scans.volume_files import VOLUME_FILES
from medrobust.errors import DataError

AFFINE_TOLERANCE = 1e-3
"""Largest difference, in mm, between the entries of an image's and its labels' affine."""


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
    truth = files.read(labels)
    if truth.voxels.ndim != 3:
        raise DataError(f"{labels} has the shape {truth.voxels.shape}; labels have 3 dimensions.")
    channels = []
    for path in images:
        stored = files.read(path)
        _require_same_grid(path, stored, labels, truth)
        channels.append(_intensities(stored.voxels, path))
    image = channels[0] if len(channels) == 1 else np.concatenate(channels)
    return Volume(image, _whole_numbers(truth.voxels, labels), truth.affine)


def _require_same_grid(image: Path, scan: Stored, labels: Path, truth: Stored) -> None:
    shape = scan.voxels.shape[:3]
    if shape != truth.voxels.shape:
        raise DataError(f"{image} has the shape {shape}, but its labels {labels} have {truth.voxels.shape}.")
    difference = float(np.abs(scan.affine - truth.affine).max())
    if difference > AFFINE_TOLERANCE:
        raise DataError(
            f"{image} and its labels {labels} have affines that differ by up to {difference:.3g} mm."
        )


def _intensities(voxels: Num[np.ndarray, "x y z *c"], path: Path) -> Float32[np.ndarray, "c x y z"]:
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused as that
        image = voxels.astype(np.float32)
    # The sum is cheap, and not finite where a single voxel is not; whole numbers always are.
    if voxels.dtype.kind == "f" and not np.isfinite(image.sum(dtype=np.float64)):
        wrong = np.count_nonzero(~np.isfinite(image))
        raise DataError(f"{path} holds NaN or infinite intensities in {wrong} voxels. Repair the file.")
    return image[None] if image.ndim == 3 else np.moveaxis(image, 3, 0)


def _whole_numbers(labels: Num[np.ndarray, "x y z"], path: Path) -> UInt16[np.ndarray, "x y z"]:
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < NUMBERS:
        return labels.view(np.uint16) if labels.dtype == np.int16 else labels.astype(np.uint16)
    with np.errstate(invalid="ignore"):  # NaN and negative numbers are told apart below
        numbers = labels.astype(np.uint16)
    if not np.array_equal(numbers, labels):
        wrong = labels[numbers != labels].flat[0]
        raise DataError(f"{path} holds the label {wrong}; labels are whole numbers from 0 to {NUMBERS - 1}.")
    return numbers

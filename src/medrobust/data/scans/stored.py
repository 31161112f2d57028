"""A volume as its file stores it, turned to RAS, and how much of it is believed; for all kinds of files."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import nibabel as nib
import numpy as np
from jaxtyping import Num
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from medrobust.core import Grid
from medrobust.data.scans.geometry import Affine, joined, spacing_of, turned
from medrobust.errors import DataError

MOST_VOXELS = 2**28
"""Voxels times channels of the largest volume: a CT of 1,024 slices of 512 x 512."""

MOST_BYTES = 2**30
"""Bytes of the largest file, packed or unpacked."""

VOXEL_SIZES = (0.01, 50.0)
"""Smallest and largest size of a voxel in mm that is believed."""

FARTHEST = 1e6
"""Millimetres from the origin of the world that are believed."""


class Stored(NamedTuple):
    """A volume in RAS as its file stores it.

    Attributes:
        voxels: Scaled as the header says; a last axis holds channels where there are any.
        affine: From x, y, z to world millimetres.
        axes: Where the file's own axes grow to, e.g. "LAS".
        dtype: Type of the numbers in the file.
        step: Between neighbouring values that the file can hold, where a header scales whole numbers; else 0.
    """

    voxels: Num[np.ndarray, "x y z *c"]
    affine: Affine
    axes: str
    dtype: np.dtype[Any]
    step: float = 0.0

    @property
    def grid(self) -> Grid:
        """Where the voxels lie in the file itself, before they were turned."""
        turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(self.axes))
        shape = np.empty(3, int)
        shape[turn[:, 0].astype(int)] = self.voxels.shape[:3]
        return Grid(tuple(shape.tolist()), turned(self.affine, self.voxels.shape[:3], self.axes))


@runtime_checkable
class VolumeFormat(Protocol):
    """How the files of a scan are read. Its `repr` says what the voxels depend on besides the files."""

    def read(self, path: Path) -> Stored:
        """The volume that a path of the scan stands for; raises a DataError where that cannot be done."""

    def digest(self, path: Path) -> str:
        """SHA-256 of all that the volume is read from; raises a DataError where that cannot be read."""

    def claimed_voxels(self, path: Path) -> int:
        """Voxels times channels as far as headers say; 0 where they do not."""


def in_ras(
    voxels: Num[np.ndarray, "i j k *c"],
    affine: Affine,
    dtype: np.dtype[Any],
    path: Path,
    *,
    step: float = 0.0,
) -> Stored:
    """Turn a volume to RAS, as far as that goes without resampling.

    Args:
        voxels: Along the axes of the file.
        affine: From the file's indices to world millimetres.
        dtype: Type of the numbers in the file.
        path: The file, for messages.
        step: As of `Stored`.

    Raises:
        DataError: The affine spans no believable voxels.
    """
    _require_affine(affine, path)
    turn = io_orientation(affine)
    in_order: np.ndarray = apply_orientation(voxels, turn)
    axes = "".join(code or "?" for code in nib.aff2axcodes(affine))
    return Stored(in_order, joined(affine, inv_ornt_aff(turn, voxels.shape)), axes, dtype, step)


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _require_affine(affine: Affine, path: Path) -> None:
    if not np.isfinite(affine).all() or abs(affine).max() > FARTHEST:
        raise DataError(
            f"{path} has an affine with NaN, infinity or places beyond 1,000 m. Repair its header."
        )
    if np.isnan(io_orientation(affine)).any():  # axes are parallel, or so nearly that none is the third
        raise DataError(
            f"{path} has an affine that spans no volume: its orientation is unknown. Repair its header."
        )
    smallest, largest = VOXEL_SIZES
    sizes = spacing_of(affine)
    if not all(smallest <= size <= largest for size in sizes):
        seen = " x ".join(f"{size:.3g}" for size in sizes)
        raise DataError(
            f"{path} has voxels of {seen} mm; sizes from {smallest:g} to {largest:g} mm are believed. "
            "Repair its header: the sizes, or their unit."
        )

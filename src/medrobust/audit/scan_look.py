"""Look at the files of a scan: once, and whatever they hold."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float64, Shaped, UInt8

from medrobust.audit.person import person
from medrobust.audit.records import COUNTED_LEVELS, Grid, LabelsLook, ScanRecord, VolumeLook
from medrobust.data.listing import Scan
from medrobust.data.scans.labels import LabelMap
from medrobust.data.scans.volumes import Stored, VolumeFormat, forms, read_labels, whole_numbers
from medrobust.errors import DataError, reason

LOOKED_AT = 200_000
"""Voxels that different intensities are first counted in."""


def look_at_scan(scan: Scan, classes_of: LabelMap, classes: int) -> ScanRecord:
    """The record of a scan; a file that cannot be read becomes an error that says why.

    Args:
        scan: As listed.
        classes_of: What the label numbers mean.
        classes: Number of classes.
    """
    errors: dict[Path, str] = {}
    images, labels = {}, None
    for path in scan.images:
        try:
            images[path] = _look_at_image(path, scan.format)
        except Exception as error:  # whatever a reader raises at a damaged file must not end the audit
            errors[path] = _unreadable(path, error)
    try:
        labels = _look_at_labels(scan, classes_of, classes)
    except Exception as error:
        errors[scan.labels] = _unreadable(scan.labels, error)
    return ScanRecord(scan, images, labels, errors)


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    return f"{path} cannot be read ({reason(error)}). Replace it, or leave the scan out."


def _grid(stored: Stored, path: Path) -> Grid:
    codes, differ = forms(path)
    return Grid(tuple(stored.voxels.shape[:3]), stored.affine, stored.axes, codes, differ)


def _look_at_image(path: Path, files: VolumeFormat) -> VolumeLook:
    stored = files.read(path)
    voxels, grid = stored.voxels, _grid(stored, path)
    digest = hashlib.blake2b(repr(voxels.shape).encode(), digest_size=16)
    with np.errstate(over="ignore"):  # what is beyond float32 counts as infinite, as in a run
        digest.update(np.ascontiguousarray(voxels, np.float32).data)
    finite, nan, infinite = _finite(voxels)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    above = np.count_nonzero(finite > low)
    volume = voxels if voxels.ndim == 3 else voxels.reshape(*voxels.shape[:3], -1)[..., 0]
    shown = person(volume, _spacing(grid)) if high > low and not nan + infinite else None
    return VolumeLook(
        grid=grid,
        dtype=stored.dtype.name,
        not_numbers=nan,
        infinite=infinite,
        low=low,
        high=high,
        levels=_levels(finite),
        clipped=np.count_nonzero(finite == high) / above if above else 0.0,
        digest=digest.digest(),
        person=None if shown is None else shown.detail,
        size=0.0 if shown is None else shown.size,
    )


def _look_at_labels(scan: Scan, classes_of: LabelMap, classes: int) -> LabelsLook:
    path = scan.labels
    stored = read_labels(path, scan.format)
    grid, empty = _grid(stored, path), np.full((classes, 3), np.nan)
    try:
        numbers = whole_numbers(stored, path)
    except DataError as error:
        return LabelsLook(grid, str(error), False, (), empty)
    try:
        indices = classes_of(numbers, path)
    except DataError as error:
        return LabelsLook(grid, str(error), True, (), empty)
    counts = np.bincount(indices.ravel(), minlength=classes)
    return LabelsLook(grid, "", True, tuple(int(count) for count in counts), _centres(indices, grid, classes))


def _finite(voxels: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The finite voxels, and how many are NaN and how many infinite."""
    if voxels.dtype.kind != "f":
        return voxels.ravel(), 0, 0
    good = np.isfinite(voxels)
    if good.all():
        return voxels.ravel(), 0, 0
    return voxels[good], int(np.isnan(voxels).sum()), int(np.isinf(voxels).sum())


def _levels(values: Shaped[np.ndarray, "n"]) -> int:
    """Different values, counted up to `COUNTED_LEVELS`: a part of them is enough where there are many."""
    for part in (values[:: max(1, values.size // LOOKED_AT)], values):
        levels = np.unique(part).size
        if levels >= COUNTED_LEVELS:
            return COUNTED_LEVELS
    return int(levels)


def _spacing(grid: Grid) -> tuple[float, float, float]:
    x, y, z = (float(size) for size in nib.affines.voxel_sizes(grid.affine))
    return x, y, z


def _centres(classes: UInt8[np.ndarray, "x y z"], grid: Grid, count: int) -> Float64[np.ndarray, "classes 3"]:
    """Centre of each class in world millimetres."""
    flat, sizes = classes.ravel(), np.bincount(classes.ravel(), minlength=count)
    means = np.empty((count, 3))
    for axis, length in enumerate(classes.shape):
        shape = [1, 1, 1]
        shape[axis] = length
        places = np.broadcast_to(np.arange(length, dtype=np.float64).reshape(shape), classes.shape)
        with np.errstate(invalid="ignore"):  # an empty class has no centre: NaN
            means[:, axis] = np.bincount(flat, places.ravel(), minlength=count) / sizes
    centres: Float64[np.ndarray, "classes 3"] = means @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return centres

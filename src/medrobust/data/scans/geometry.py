"""Where the voxels of an array lie: affines from indices to world millimetres, whatever is done to it.

An affine maps the index of a voxel's centre to the world. What turns, resamples, cuts or places an array has
its counterpart here.
"""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from jaxtyping import Float64
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

Affine = Float64[np.ndarray, "4 4"]
"""From indices along three axes to world millimetres: right, anterior, superior."""


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels along each axis."""
    x, y, z = (float(size) for size in nib.affines.voxel_sizes(affine))
    return x, y, z


def joined(affine: Affine, onto_old: Affine) -> Affine:
    """Affine of an array whose indices `onto_old` maps to those of the old one."""
    whole: Affine = np.matmul(affine, onto_old)
    return whole


def resampled(affine: Affine, shape: Sequence[int], new_shape: Sequence[int], spacing: float) -> Affine:
    """Affine of an isotropic grid that is centred on the old one, as `resampling.overlaps` lays it.

    Args:
        affine: Of the old grid.
        shape: Of the old grid.
        new_shape: Of the new grid.
        spacing: Size of the new voxels in mm.
    """
    step = spacing / np.array(spacing_of(affine))
    middle, new_middle = ((np.array(size) - 1) / 2 for size in (shape, new_shape))
    return joined(affine, nib.affines.from_matvec(np.diag(step), middle - step * new_middle))


def turned(affine: Affine, shape: Sequence[int], codes: str) -> Affine:
    """Affine of an array that was turned from RAS to other axes, e.g. "AIL".

    Args:
        affine: Of the array in RAS.
        shape: Of the array in RAS.
        codes: Where the indices of the turned array grow to.
    """
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    return joined(affine, inv_ornt_aff(turn, shape))


def turn_onto(
    affine: Affine, shape: Sequence[int], other: Affine
) -> tuple[Float64[np.ndarray, "3 2"], tuple[int, ...], Affine]:
    """How nibabel turns an array, by quarters, so that its axes run as those of another grid.

    Two headers of one grid may differ by so little that their axes are named differently, near 45 degrees.

    Args:
        affine: Of the array.
        shape: Of the array, along its three axes.
        other: Affine of the other grid.

    Returns:
        The turn, and shape and affine of the turned array.
    """
    turn = io_orientation(np.linalg.solve(other, affine))
    turned_shape = tuple(shape[int(axis)] for axis in np.argsort(turn[:, 0]))
    return turn, turned_shape, joined(affine, inv_ornt_aff(turn, shape))


def shifted(affine: Affine, first: Sequence[int]) -> Affine:
    """Affine of an array that begins at the index `first` of the old one; below 0 is a margin before it."""
    return joined(affine, nib.affines.from_matvec(np.eye(3), np.array(first)))


def centred(shape: Sequence[int], spacing: float, codes: str) -> Affine:
    """Affine of an array of cubes with the origin of the world in its middle.

    Args:
        shape: Of the array.
        spacing: Size of a voxel in mm.
        codes: Where its indices grow to.
    """
    axes = turned(np.eye(4), (1, 1, 1), codes)[:3, :3] * spacing
    affine: Affine = nib.affines.from_matvec(axes, -axes @ (np.array(shape) - 1) / 2)
    return affine

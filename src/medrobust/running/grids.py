"""Volumes on the grids of files: put there whole, and taken back."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Shaped
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

from medrobust.core import Grid
from medrobust.data.scans.geometry import region

OFF_GRID = 0.01
"""Part of a voxel by which a voxel may lie beside that of a file."""

AS_IT_IS = np.array([[0, 1], [1, 1], [2, 1]])
"""The orientation of an array that is not turned."""

Steps = Float64[np.ndarray, "4 4"]
"""From the indices of one array to those of another: turned by quarters and shifted by whole voxels."""


def canonical(grid: Grid) -> Grid:
    """The same voxels, their axes growing to the right, to the front and to the top."""
    turn = io_orientation(grid.affine)
    shape = _turned(grid.shape, turn)
    return Grid(shape, grid.affine @ inv_ornt_aff(turn, grid.shape))


def steps_between(volume: Grid, file: Grid) -> Steps | None:
    """Where the voxels of a volume are in a file; None where they lie between those of the file."""
    exact = np.linalg.solve(file.affine, volume.affine)
    steps: Steps = np.rint(exact)
    beside = abs(exact - steps)[:3] @ [*volume.shape, 1]
    quarters = (abs(steps[:3, :3]).sum(axis=side) for side in (0, 1))
    on_grid = beside.max() <= OFF_GRID and all((sums == 1).all() for sums in quarters)
    return steps if on_grid else None


def put(
    voxels: Shaped[np.ndarray, "i j k *c"], steps: Steps, shape: Sequence[int]
) -> Shaped[np.ndarray, "x y z *c"]:
    """A volume in a file of a shape, which is black elsewhere; what lies outside is cut off."""
    turned = apply_orientation(voxels, io_orientation(steps))
    channels = voxels.shape[3:]
    begin = [-place for place in _first(steps, voxels.shape)]
    return region(turned, [*begin, *(0 for _ in channels)], (*shape, *channels))


def take(
    file: Shaped[np.ndarray, "x y z *c"], steps: Steps, shape: Sequence[int]
) -> Shaped[np.ndarray, "i j k *c"]:
    """A volume of a shape back from the file that it was put in; black where it reached outside."""
    turn, channels = io_orientation(steps), file.shape[3:]
    sides = (*_turned(shape, turn), *channels)
    turned = region(file, [*_first(steps, shape), *(0 for _ in channels)], sides)
    volume: np.ndarray = apply_orientation(turned, ornt_transform(AS_IT_IS, turn))
    return volume


def _first(steps: Steps, shape: Sequence[int]) -> list[int]:
    """Where in a file a volume of a shape begins."""
    reach = steps[:3, :3] * (np.array(shape[:3]) - 1)
    return [int(place) for place in steps[:3, 3] + np.minimum(reach, 0).sum(axis=1)]


def _turned(shape: Sequence[int], turn: np.ndarray) -> tuple[int, ...]:
    """Shape of an array that is turned."""
    return tuple(shape[int(axis)] for axis in np.argsort(turn[:, 0]))

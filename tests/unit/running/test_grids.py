"""Volumes on the grids of files: every voxel where it lies in the world, and back."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from medrobust.core import Grid
from medrobust.running.export_files import canonical, put, steps_between, take

SHAPE = (3, 4, 5)
TURNS = [
    np.array(signs)[:, None] * np.eye(3)[list(order)]
    for order in permutations(range(3))
    for signs in product((-1, 1), repeat=3)
]
OBLIQUE = np.array([[0, 0.4, -1.9, 30], [2.0, 0, 0, -50], [0, -1.9, -0.4, 60], [0, 0, 0, 1.0]])


def same_in_world(voxels: np.ndarray, affine: np.ndarray, file: np.ndarray, grid: Grid) -> None:
    """Every voxel is in the file where it lies, or lies outside; nothing else is there."""
    seen = np.zeros(file.shape)
    for index in np.ndindex(*voxels.shape[:3]):
        there = np.rint(np.linalg.solve(grid.affine, affine @ (*index, 1))[:3]).astype(int)
        if all(0 <= place < side for place, side in zip(there, grid.shape, strict=True)):
            seen[tuple(there)] = voxels[index]
    np.testing.assert_array_equal(file, seen)


@pytest.mark.parametrize("turn", TURNS)
def test_all_turns_and_shifts(turn: np.ndarray) -> None:
    draws = np.random.default_rng(0)
    voxels = draws.random((*SHAPE, 2), np.float32)
    file = Grid((9, 8, 7), OBLIQUE)
    affine = OBLIQUE @ nib.affines.from_matvec(turn, draws.integers(-3, 9, 3))
    steps = steps_between(Grid(SHAPE, affine), file)
    assert steps is not None
    stored = put(voxels, steps, file.shape)
    same_in_world(voxels, affine, stored, file)
    np.testing.assert_array_equal(put(take(stored, steps, SHAPE), steps, file.shape), stored)


@pytest.mark.parametrize("turn", TURNS[::5])
def test_the_canonical_grid_holds_all_of_it(turn: np.ndarray) -> None:
    voxels = np.random.default_rng(0).random(SHAPE, np.float32)
    grid = Grid(SHAPE, nib.affines.from_matvec(2 * turn, (5, -7, 9)))
    file = canonical(grid)
    assert nib.aff2axcodes(file.affine) == ("R", "A", "S")
    steps = steps_between(grid, file)
    assert steps is not None
    stored = put(voxels, steps, file.shape)
    same_in_world(voxels, grid.affine, stored, file)
    np.testing.assert_array_equal(take(stored, steps, SHAPE), voxels)


@pytest.mark.parametrize(
    "change",
    [
        np.diag([2.0, 2, 2, 1]),
        np.eye(4) + 0.3 * np.eye(4, k=3),
        nib.affines.from_matvec(np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])),
    ],
    ids=["coarser", "between", "turned"],
)
def test_voxels_between_those_of_the_file(change: np.ndarray) -> None:
    assert steps_between(Grid(SHAPE, OBLIQUE @ change), Grid((9, 8, 7), OBLIQUE)) is None

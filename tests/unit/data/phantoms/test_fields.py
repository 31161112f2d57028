"""Smooth fields and diffeomorphisms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from medrobust.data.phantoms.brains import exponential, random_affine, resize, smooth_field
from medrobust.rng import generator


def test_exponential_of_a_constant_velocity_is_a_shift() -> None:
    velocity = np.ones((3, 8, 9, 10), np.float32) * np.array([1.5, -2, 0.25], np.float32)[:, None, None, None]
    assert exponential(velocity) == pytest.approx(velocity, abs=1e-5)


def test_exponential_is_inverted_by_the_opposite_velocity() -> None:
    velocity = 1.5 * smooth_field(generator(0, "v"), (24, 24, 24), 8, components=3)
    there, back = exponential(velocity), exponential(-velocity)
    points = np.indices((24, 24, 24)) + there
    home = there + np.stack([ndimage.map_coordinates(part, points, order=1, mode="nearest") for part in back])
    assert np.abs(there).max() > 1.5
    assert np.abs(home[:, 5:-5, 5:-5, 5:-5]).max() < 0.1


def test_exponential_does_not_fold() -> None:
    velocity = 1.5 * smooth_field(generator(0, "v"), (24, 24, 24), 8, components=3)
    moved = np.indices((24, 24, 24)) + exponential(velocity)
    jacobian = np.stack([np.stack(np.gradient(part)) for part in moved])
    assert np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1))).min() > 0


@pytest.mark.parametrize("order", [1, 3])
def test_resize_is_scipys_zoom(order) -> None:
    field = generator(0, "field").standard_normal((5, 7, 4)).astype(np.float32)
    expected = ndimage.zoom(field, (12 / 5, 9 / 7, 4), order=order, mode="nearest")
    resized = resize(field, (12, 9, 16), order=order)
    assert resized.dtype == np.float32
    assert resized == pytest.approx(expected, abs=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_affine_stays_in_its_ranges(seed) -> None:
    affine = random_affine(generator(seed), scale=0.05, anisotropy=0.02, degrees=5, shear=0.01)
    assert 0.92**3 < np.linalg.det(affine) < 1.08**3
    tilt = np.degrees(np.arccos(np.clip(np.diag(affine) / np.linalg.norm(affine, axis=0), -1, 1)))
    assert tilt.max() < 9


def test_affine_without_ranges_is_the_identity() -> None:
    assert random_affine(generator(0), scale=0, anisotropy=0, degrees=0, shear=0) == pytest.approx(np.eye(3))


def test_field_is_as_smooth_as_asked() -> None:
    rough, smooth = (smooth_field(generator(0), (64, 64), apart)[0] for apart in (4, 32))
    assert np.abs(np.diff(rough)).mean() > 3 * np.abs(np.diff(smooth)).mean()

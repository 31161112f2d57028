"""Scans are compared in a frame of their own: it turns, moves and scales with the head."""

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from medrobust.audit.scans import ALIKE, SAME_SIZE
from medrobust.audit.similarity import FRAME, Person, person


def head(seed: int, shape: tuple[int, int, int] = (48, 60, 44)) -> np.ndarray:
    """An ellipsoid with a texture of its own."""
    places = np.stack(np.meshgrid(*(np.linspace(-1.3, 1.3, size) for size in shape), indexing="ij"))
    inside = (places**2).sum(0) < 1
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.5)
    return np.where(inside, 100 * (1 + 0.5 * texture / texture.std()).clip(0.1), 0)


def seen(image: np.ndarray, spacing: tuple[float, float, float] = (3.0, 3.0, 3.0)) -> Person:
    found = person(image, spacing)
    assert found is not None
    return found


def likeness(one: Person, other: Person) -> float:
    return float(one.detail.astype(np.float32) @ other.detail.astype(np.float32))


def test_a_turned_and_moved_head_is_the_same_person() -> None:
    image, angle = head(0), np.deg2rad(8)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    centre = (np.array(image.shape) - 1) / 2
    lying = affine_transform(image, turn, centre - turn @ (centre + np.array([1.5, -1, 0.5])), order=1)
    noisy = np.where(lying > 5, 0.7 * lying + np.random.default_rng(1).normal(0, 2, image.shape), 0)
    one, other = seen(image), seen(noisy)
    assert likeness(one, other) > ALIKE
    assert max(one.size, other.size) < SAME_SIZE * min(one.size, other.size)


def test_others_are_not() -> None:
    people = [seen(head(seed)) for seed in range(6)]
    assert all(likeness(people[0], other) < ALIKE - 0.2 for other in people[1:])
    assert likeness(people[0], people[0]) == pytest.approx(1, abs=1e-2)


def test_size_is_in_millimetres() -> None:
    """The standard deviation along an axis of a ball of radius r is r / sqrt(5)."""
    places = np.stack(np.meshgrid(*[np.arange(-32, 33)] * 3, indexing="ij"))
    ball = np.where((places**2).sum(0) <= 30**2, 1.0, 0.0)
    assert seen(ball, (2.0, 2.0, 2.0)).size == pytest.approx(60 / np.sqrt(5), rel=0.02)
    assert seen(ball[::2], (4.0, 2.0, 2.0)).size == pytest.approx(60 / np.sqrt(5), rel=0.02)


@pytest.mark.parametrize("shape", [(1, 40, 40), (40, 40, 1), (2, 2, 2)])
def test_what_is_no_volume_cannot_be_compared(shape: tuple[int, int, int]) -> None:
    assert person(np.random.default_rng(0).random(shape), (4.0, 4.0, 4.0)) is None


def test_a_record_has_one_size() -> None:
    assert {seen(head(0, shape)).detail.shape for shape in ((48, 60, 44), (96, 60, 44))} == {(FRAME**3,)}

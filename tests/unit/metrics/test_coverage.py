"""How often intervals hold the true value, by simulation; the figures stand in docstrings and PROTOCOL."""

from collections.abc import Callable

import numpy as np
import pytest

from medrobust.metrics.statistics import Estimate, accuracy_difference, ratio, t_interval, wilson
from medrobust.rng import generator

REPEATS = 5000


def coverage(draw: Callable[[np.random.Generator], Estimate], truth: float) -> float:
    """Share of simulated studies whose interval holds the truth."""
    rng = generator(0, "coverage")
    intervals = [draw(rng) for _ in range(REPEATS)]
    return float(np.mean([estimate.low <= truth <= estimate.high for estimate in intervals]))


def photos(
    rng: np.random.Generator, patients: int, clean: float, lost: float, gained: float
) -> tuple[np.ndarray, ...]:
    """Images, right ones, and right ones lost, of patients with about three alike images each."""
    images = np.maximum(1, rng.geometric(1 / 3, patients))
    ease = rng.beta(4 * clean, 4 * (1 - clean), patients)
    right = rng.binomial(images, ease)
    drop = rng.binomial(right, lost) - rng.binomial(images - right, gained)
    return images.astype(float), right.astype(float), drop.astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [6, 12, 50])
def test_dice_and_its_relative_drop(patients):
    def dice(rng):
        return t_interval(rng.beta(16, 4, patients), 0.95)

    def drop(rng):
        clean = rng.beta(16, 4, patients)
        return ratio(clean * rng.beta(2, 2, patients), clean).interval(0.95)

    assert 0.93 < coverage(dice, 0.8) < 0.965
    assert 0.925 < coverage(drop, 0.5) < 0.965


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "accuracy"), [(12, 0.8), (30, 0.8), (50, 0.97), (100, 0.9)])
def test_accuracy(patients, accuracy):
    def draw(rng):
        images, right, _ = photos(rng, patients, accuracy, 0.3, 0.0)
        return wilson(right, images, 0.95)

    assert 0.93 < coverage(draw, accuracy) < 0.985


@pytest.mark.slow
@pytest.mark.parametrize("relative", [False, True], ids=["points", "percent"])
@pytest.mark.parametrize(
    ("patients", "clean", "lost", "gained"),
    [
        (12, 0.8, 0.3, 0.1),
        (30, 0.8, 0.3, 0.1),
        (30, 0.97, 0.02, 0.02),
        (100, 0.9, 0.0, 0.02),
        (100, 0.7, 0.7, 0.0),
    ],
)
def test_drop_of_accuracy(patients, clean, lost, gained, relative):
    def draw(rng):
        images, right, drop = photos(rng, patients, clean, lost, gained)
        return accuracy_difference(drop, right if relative else images, images).interval(0.95)

    truth = clean * lost - (1 - clean) * gained
    assert coverage(draw, truth / clean if relative else truth) > 0.93


@pytest.mark.slow
def test_plain_errors_fail_where_few_images_change():
    def draw(rng):
        images, _, drop = photos(rng, 30, 0.97, 0.02, 0.02)
        return ratio(drop, images).interval(0.95)

    assert coverage(draw, 0.97 * 0.02 - 0.03 * 0.02) < 0.85

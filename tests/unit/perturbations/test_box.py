"""The nearest point of a hyperplane in the range, against bisection in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from medrobust.perturbations.geometry import step_inside


def bisected(image, gradient, rise, norm, allowed):
    """Entries move along the gradient (its sign) at one pace until they stop at the end of the range."""
    image, gradient = image.astype(np.float64), gradient.astype(np.float64) * allowed
    room = np.where(gradient > 0, 1 - image, image) * (gradient != 0)
    pace = np.abs(gradient) if norm == "2" else np.ones_like(gradient)

    def step(time):
        return np.minimum(time * pace, room)

    low, high = 0.0, 1.0
    while np.sum(np.abs(gradient) * step(high)) < rise and high < 1e40:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if np.sum(np.abs(gradient) * step(middle)) < rise:
            low = middle
        else:
            high = middle
    return np.sign(gradient) * step(high)


@pytest.mark.parametrize("norm", ["2", "inf"])
@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1.3), at_the_end=st.floats(0, 1))
def test_the_step_is_the_smallest_inside_of_the_range(norm, seed, share, at_the_end):
    rng = np.random.default_rng(seed)
    images = rng.random((3, 2, 4, 3)).astype(np.float32)
    images = np.where(rng.random(images.shape) < at_the_end, images.round(), images)
    gradient = (rng.standard_normal(images.shape) ** 3).astype(np.float32)
    support = rng.random((3, 1, 4, 3)) < 0.8
    room = np.where(gradient > 0, 1 - images, images) * support
    rise = (share * (np.abs(gradient) * room).sum((1, 2, 3))).astype(np.float32)
    made = step_inside(*map(torch.from_numpy, (images, support, gradient, rise)), norm).numpy()
    expected = [
        bisected(*rows, norm, allowed) for *rows, allowed in zip(images, gradient, rise, support, strict=True)
    ]
    if share < 0.99:  # at 1, rounding decides how far the flattest entries go
        assert np.allclose(made, expected, atol=1e-4)
        assert np.allclose((gradient * made).sum((1, 2, 3)), rise, rtol=1e-4, atol=1e-5)
    elif share > 1.01:
        assert np.allclose(made, np.sign(gradient) * room, atol=1e-6)
    assert (images + made).min() >= -1e-6
    assert (images + made).max() <= 1 + 1e-6


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), share=st.floats(0.01, 0.95), at_the_end=st.floats(0, 1))
def test_the_step_of_the_smallest_sum_of_magnitudes_is_that_of_a_linear_programme(seed, share, at_the_end):
    rng = np.random.default_rng(seed)
    images = rng.random((1, 2, 4, 3)).astype(np.float32)
    images = np.where(rng.random(images.shape) < at_the_end, images.round(), images)
    gradient = rng.standard_normal(images.shape).astype(np.float32)
    support = rng.random((1, 1, 4, 3)) < 0.8
    room = np.where(gradient > 0, 1 - images, images) * support
    rise = (share * (np.abs(gradient) * room).sum((1, 2, 3))).astype(np.float32)
    made = step_inside(*map(torch.from_numpy, (images, support, gradient, rise)), "1").numpy()
    steep, bounds = np.abs(gradient).ravel(), [(0, high) for high in room.ravel()]
    best = linprog(np.ones_like(steep), A_eq=steep[None], b_eq=rise, bounds=bounds)
    assert np.abs(made).sum() == pytest.approx(best.fun, rel=1e-4, abs=1e-5)
    assert (gradient * made).sum() == pytest.approx(rise[0], rel=1e-4, abs=1e-5)
    assert not made[np.broadcast_to(~support, made.shape)].any()
    assert (images + made).min() >= -1e-6
    assert (images + made).max() <= 1 + 1e-6


@pytest.mark.parametrize("scale", [1e-30, 1e-24, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("norm", ["2", "inf", "1"])
def test_the_step_does_not_depend_on_the_scale_of_the_function(norm, scale):
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 5, 5, generator=draw).round(decimals=1)
    gradient = torch.randn(2, 1, 5, 5, generator=draw)
    rise = torch.tensor([0.5, 2.0])
    expected = step_inside(images, None, gradient, rise, norm)
    assert torch.allclose(
        step_inside(images, None, scale * gradient, scale * rise, norm), expected, atol=1e-5
    )


def test_no_gradient_is_no_step():
    images = torch.rand(2, 1, 3, 3)
    nothing = torch.zeros_like(images)
    assert torch.equal(step_inside(images, None, nothing, torch.ones(2), "2"), nothing)

"""Projection, steepest steps and random starts: closed forms and properties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from medrobust.perturbations.geometry import Ball, lengths
from medrobust.rng import generator

NORMS = ["inf", "2", "1"]
DUAL = {"inf": 1.0, "2": 2.0, "1": torch.inf}


def images(n=3, seed=0, channels=2, size=5):
    draw = generator(seed, "ball")
    return torch.from_numpy(draw.random((n, channels, size, size), dtype="float32"))


def rngs(n):
    return [generator(0, "ball", number) for number in range(n)]


def distance(ball, made):
    return lengths(made - ball.clean, float(ball.norm)).flatten()


def test_projection_is_what_it_is_by_hand():
    clean = torch.full((1, 1, 2, 2), 0.5)
    far = torch.tensor([[[[0.8, 0.45], [0.5, 0.1]]]])
    clipped = Ball(clean, None, 0.1, "inf").project(far)
    assert torch.allclose(clipped, torch.tensor([[[[0.6, 0.45], [0.5, 0.4]]]]))
    # The change (0.3, -0.05, 0, -0.4) has length 0.5025.
    scaled = Ball(clean, None, 0.25, "2").project(far)
    assert torch.allclose(scaled - clean, (far - clean) * 0.25 / (far - clean).norm())
    # Of each magnitude 0.1 goes, or all of it.
    shrunk = Ball(clean, None, 0.5, "1").project(far)
    assert torch.allclose(shrunk, torch.tensor([[[[0.7, 0.5], [0.5, 0.2]]]]))


@pytest.mark.parametrize("eps", [0.0, 0.2, 1.5, 3.0])
def test_projection_by_sum_is_the_nearest_image_that_a_solver_finds(eps):
    """In the ball and the range at once: clipped first, or afterwards, it would be another one."""
    draw = generator(0, "nearest")
    clean = np.clip(1.5 * draw.random(8) - 0.25, 0, 1)
    far = clean + draw.standard_normal(8)
    parts = np.concatenate([np.maximum(far - clean, 0), np.maximum(clean - far, 0)])
    room = np.concatenate([1 - clean, clean])

    def squares(split):  # what is added, and what is taken away
        return ((clean + split[:8] - split[8:] - far) ** 2).sum()

    solved = minimize(
        squares,
        np.minimum(parts, room) * min(1, eps / np.minimum(parts, room).sum()),
        bounds=[(0, most) for most in room],
        constraints={"type": "ineq", "fun": lambda split: eps - split.sum()},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    ).x
    as_images = [torch.from_numpy(each).view(1, 1, 2, 4).float() for each in (clean, far)]
    made = Ball(as_images[0], None, eps, "1").project(as_images[1])
    assert made.flatten().tolist() == pytest.approx(list(clean + solved[:8] - solved[8:]), abs=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_each_image_may_have_a_budget_of_its_own(norm):
    clean, far = images(), 3 * images(seed=1) - 1
    eps = torch.tensor([0.0, 0.3, 5.0])
    ball = Ball(clean, None, eps, norm)
    made, drawn = ball.project(far), ball.random_images(rngs(3))
    for place in range(3):
        here = torch.tensor([place])
        one = Ball(clean[here], None, float(eps[place]), norm)
        assert torch.equal(made[here], one.project(far[here]))
        assert torch.equal(made[here], ball.rows(here).project(far[here]))
        assert torch.equal(drawn[here], one.random_images([generator(0, "ball", place)]))
    assert torch.equal(made[0], clean[0])


@pytest.mark.parametrize("norm", NORMS)
@given(eps=st.floats(0, 2), seed=st.integers(0, 10))
def test_projection_stays_in_the_ball_the_range_and_the_support(norm, eps, seed):
    clean, support = images(seed=seed), torch.zeros(3, 1, 5, 5, dtype=torch.bool)
    support[..., :3] = True
    ball = Ball(clean, support, eps, norm)
    made = ball.project(clean + 4 * (images(seed=seed + 100) - 0.5))
    assert (distance(ball, made) <= eps + 1e-5).all()
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(made[..., 3:], clean[..., 3:])
    assert torch.allclose(ball.project(made), made, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_steepest_step_gains_the_dual_norm_and_no_other_step_gains_more(norm):
    ball, gradient = Ball(images(), None, 1.0, norm), images(seed=1) - 0.5
    gain = (ball.steepest(gradient) * gradient).flatten(1).sum(1)
    assert torch.allclose(gain, lengths(gradient, DUAL[norm]).flatten())
    others = images(n=500, seed=2) - 0.5
    gains = (others / lengths(others, float(norm)) * gradient[:1]).flatten(1).sum(1)
    assert (gains <= gain[0] + 1e-5).all()
    assert torch.equal(ball.steepest(torch.zeros_like(gradient)), torch.zeros_like(gradient))


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_fill_the_ball_and_belong_to_their_image(norm):
    clean = torch.full((400, 1, 2, 2), 0.5)
    ball = Ball(clean, None, 0.3, norm)
    made = ball.random_images(rngs(400))
    distances = distance(ball, made) / 0.3
    assert distances.max() <= 1 + 1e-6
    # Uniform in four dimensions: half of the volume lies beyond 0.5 ** (1 / 4) of the radius.
    assert (distances > 0.5**0.25).float().mean() == pytest.approx(0.5, abs=0.08)
    assert torch.allclose((made - clean).mean(0), torch.zeros(1, 2, 2), atol=0.03)
    alone = ball.rows(torch.tensor([7])).random_images([generator(0, "ball", 7)])
    assert torch.allclose(alone[0], made[7])


@pytest.mark.parametrize("norm", NORMS)
def test_random_start_uses_the_whole_budget_of_a_small_support(norm):
    clean = torch.full((200, 1, 4, 4), 0.5)
    support = torch.zeros_like(clean, dtype=torch.bool)
    support[..., 0, 0] = True
    ball = Ball(clean, support, 0.2, norm)
    made = ball.random_images(rngs(200))
    assert torch.equal(made[..., 1:, :], clean[..., 1:, :])
    # One entry: uniform on a line.
    assert distance(ball, made).mean() == pytest.approx(0.1, abs=0.015)

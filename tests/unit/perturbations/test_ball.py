"""Projection, steepest steps and random starts: closed forms and properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medrobust.perturbations.geometry import Ball, lengths
from medrobust.rng import generator

NORMS = ["inf", "2"]


def images(n=3, seed=0, channels=2, size=5):
    draw = generator(seed, "ball")
    return torch.from_numpy(draw.random((n, channels, size, size), dtype="float32"))


def rngs(n):
    return [generator(0, "ball", number) for number in range(n)]


def distance(ball, made):
    change = made - ball.clean
    return change.abs().flatten(1).amax(1) if ball.norm == "inf" else change.flatten(1).norm(dim=1)


def test_projection_is_what_it_is_by_hand():
    clean = torch.full((1, 1, 2, 2), 0.5)
    far = torch.tensor([[[[0.8, 0.45], [0.5, 0.1]]]])
    clipped = Ball(clean, None, 0.1, "inf").project(far)
    assert torch.allclose(clipped, torch.tensor([[[[0.6, 0.45], [0.5, 0.4]]]]))
    # The change (0.3, -0.05, 0, -0.4) has length 0.5025.
    scaled = Ball(clean, None, 0.25, "2").project(far)
    assert torch.allclose(scaled - clean, (far - clean) * 0.25 / (far - clean).norm())


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
    dual = gradient.flatten(1).norm(p=1 if norm == "inf" else 2, dim=1)
    assert torch.allclose(gain, dual)
    others = images(n=500, seed=2) - 0.5
    size = others.abs().flatten(1).amax(1) if norm == "inf" else lengths(others).flatten()
    gains = (others / size.view(-1, 1, 1, 1) * gradient[:1]).flatten(1).sum(1)
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

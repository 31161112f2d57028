import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrobust.perturbations.strength import solve_strength


def solve(curve, goal, tolerance=1e-5, first=0.03, largest=10.0):
    """The solution for one image, and the strengths that were tried."""
    tried = []

    def evaluate(_, strength):
        tried.append(float(strength))
        return curve(strength.double())

    goals = torch.tensor([goal], dtype=torch.float64)
    solution = solve_strength(evaluate, goals, torch.tensor([tolerance]), first=first, largest=largest)
    return solution, tried


def test_a_square_takes_two_evaluations():
    solution, tried = solve(lambda s: 1 - s**2, 0.75)
    assert len(tried) == 2
    assert solution.strength.item() == pytest.approx(0.5, rel=1e-4)
    assert solution.reached.item()


@given(power=st.floats(0.5, 4), scale=st.floats(0.1, 100), goal=st.floats(-0.5, 0.9999))
@settings(max_examples=100, deadline=None)
def test_any_falling_curve_is_solved(power, scale, goal):
    solution, tried = solve(lambda s: 2 * torch.exp(-scale * s**power) - 1, goal, largest=1e6)
    assert solution.reached.item()
    assert abs(solution.ssim.item() - goal) <= 1.1e-5
    assert len(tried) <= 40


def test_a_jump_gives_the_nearest_that_was_seen():
    solution, tried = solve(lambda s: torch.where(s < 0.2, 0.99 - s / 1000, 0.5 - s / 1000), 0.8)
    assert not solution.reached.item()
    assert solution.ssim.item() == pytest.approx(0.99, abs=1e-3)
    assert len(tried) == 60


def test_a_goal_out_of_reach_is_given_up_at_the_largest_strength():
    solution, tried = solve(lambda s: 1 - 1e-3 * s.clamp_max(1), 0.5)
    assert not solution.reached.item()
    assert max(tried) == pytest.approx(10)
    assert len(tried) <= 6

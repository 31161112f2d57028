"""Confidence and mistakes, against scikit-learn and against all orders of equal answers."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medrobust.metrics.selective import (
    answered_at,
    aurc,
    aurc_influence,
    errors_by_coverage,
    excess_aurc,
    failure_auroc,
    failure_auroc_influence,
    selective_risk,
)
from medrobust.rng import generator

AREAS = [(failure_auroc, failure_auroc_influence), (aurc, aurc_influence)]


def drawn(seed: int, n: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Some right and some wrong answers, with so few levels of confidence that many are equal."""
    rng = generator(seed, "selective")
    wrong = rng.random(n) < 0.4
    wrong[:2] = True, False
    return wrong, rng.integers(0, levels, n) / levels


def every_order(wrong, confidence):
    """Answers in each order that goes by confidence, equal ones in any order."""
    for order in permutations(range(wrong.size)):
        if (np.diff(confidence[list(order)]) <= 0).all():
            yield wrong[list(order)]


@given(seed=st.integers(0, 50), n=st.integers(2, 60), levels=st.integers(1, 8))
def test_auroc_for_mistakes_is_that_of_sklearn(seed, n, levels):
    wrong, confidence = drawn(seed, n, levels)
    assert failure_auroc(wrong, confidence) == pytest.approx(roc_auc_score(wrong, -confidence))


@pytest.mark.parametrize("levels", [2, 3, 50])
def test_areas_and_risks_are_means_over_all_orders_of_equal_answers(levels):
    wrong, confidence = drawn(levels, 6, levels)
    risks = [np.cumsum(order) / np.arange(1, 7) for order in every_order(wrong, confidence)]
    assert aurc(wrong, confidence) == pytest.approx(np.mean(risks))
    best = np.cumsum(np.sort(wrong)) / np.arange(1, 7)
    assert excess_aurc(wrong, confidence) == pytest.approx(np.mean(risks) - best.mean())
    np.testing.assert_allclose(
        errors_by_coverage(wrong, confidence) / np.arange(1, 7), np.mean(risks, axis=0), atol=1e-12
    )
    for answered in range(1, 7):
        assert selective_risk(wrong, confidence, answered / 6) == pytest.approx(
            np.mean(risks, axis=0)[answered - 1]
        )


@given(seed=st.integers(0, 50), n=st.integers(2, 40), levels=st.integers(1, 8))
def test_areas_lie_between_those_of_the_best_and_the_worst_order(seed, n, levels):
    wrong, confidence = drawn(seed, n, levels)
    ideal = -wrong.astype(float)
    assert excess_aurc(wrong, ideal) == 0
    assert aurc(wrong, ideal) <= aurc(wrong, confidence) + 1e-12 <= aurc(wrong, -ideal) + 2e-12
    assert (failure_auroc(wrong, ideal), failure_auroc(wrong, -ideal)) == (1, 0)
    assert aurc(wrong, np.ones(n)) == pytest.approx(wrong.mean()), "confidence that says nothing"


@pytest.mark.parametrize(("area", "influence"), AREAS)
@pytest.mark.parametrize("levels", [4, 1000])
def test_influences_add_up_to_0_and_say_what_an_answer_given_twice_would_change(area, influence, levels):
    wrong, confidence = drawn(1, 400, levels)
    moved = influence(wrong, confidence)
    assert moved.sum() == pytest.approx(0, abs=1e-12)
    for place in range(0, 400, 37):
        more = [np.append(each, each[place]) for each in (wrong, confidence)]
        change = area(*more) - area(wrong, confidence)
        assert change == pytest.approx(moved[place], abs=0.05 * np.abs(moved).max())


@pytest.mark.parametrize("wrong", [True, False])
def test_areas_of_answers_that_are_all_alike_are_undefined(wrong):
    every, confidence = np.full(5, wrong), np.linspace(0.5, 0.9, 5)
    assert all(math.isnan(area(every, confidence)) for area in (failure_auroc, aurc, excess_aurc))
    assert all(np.isnan(influence(every, confidence)).all() for _, influence in AREAS)
    assert selective_risk(every, confidence, 0.8) == wrong


@pytest.mark.parametrize("coverage", [0, 1.1, math.nan])
def test_coverages_are_fractions(coverage):
    with pytest.raises(ValueError, match=r"coverage must lie in \(0, 1\], e.g. 0.8; got"):
        answered_at(np.array([0.5]), coverage)

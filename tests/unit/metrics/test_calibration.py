import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from medrobust.metrics.scores import auroc, brier, confidence_when_wrong, ece, f1
from medrobust.rng import generator


def drawn(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from them: perfectly calibrated."""
    rng = generator(seed, "calibration")
    probabilities = rng.dirichlet(np.ones(classes), n)
    labels = np.array([rng.choice(classes, p=row) for row in probabilities])
    return probabilities, labels


@given(seed=st.integers(0, 100))
def test_brier_of_two_classes_is_twice_that_of_sklearn(seed):
    probabilities, labels = drawn(seed, 20, 2)
    assert brier(labels, probabilities) == pytest.approx(2 * brier_score_loss(labels, probabilities[:, 1]))


def test_brier_of_certain_answers():
    certain = np.eye(3)
    assert brier(np.array([0, 1, 2]), certain) == 0
    assert brier(np.array([1, 2, 0]), certain) == 2


def test_calibration_error_by_hand():
    # Bins of a half: (0.6 right, 0.8 wrong) and nothing below; |1 - 1.4| / 2.
    probabilities = np.array([[0.6, 0.4], [0.2, 0.8]])
    assert ece(np.array([0, 0]), probabilities, bins=2) == pytest.approx(0.2)


def test_calibration_error_vanishes_for_calibrated_networks_and_is_the_gap_of_overconfident_ones():
    probabilities, labels = drawn(0, 20_000, 3)
    assert ece(labels, probabilities) < 0.015
    right = (probabilities.argmax(1) == labels).mean()
    certain = np.eye(3)[probabilities.argmax(1)]
    assert ece(labels, certain) == pytest.approx(1 - right)


def test_a_confidence_on_the_edge_belongs_to_the_bin_below():
    """As in Guo et al., whose bins are open below."""
    probabilities = np.array([[0.5, 0.5], [0.4, 0.6]])
    assert ece(np.array([0, 0]), probabilities, bins=2) == pytest.approx((0.5 + 0.6) / 2)


def test_confidence_when_wrong_looks_at_wrong_answers_only():
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    assert confidence_when_wrong(np.array([0, 0, 0]), probabilities) == pytest.approx(0.75)
    assert math.isnan(confidence_when_wrong(np.array([0, 1, 1]), probabilities))


@pytest.mark.parametrize("score", [brier, ece])
def test_nothing_has_no_score(score):
    assert math.isnan(score(np.zeros(0, np.int64), np.zeros((0, 3))))


@given(seed=st.integers(0, 100))
def test_area_and_f1_are_those_of_sklearn(seed):
    probabilities, labels = drawn(seed, 30, 3)
    probabilities = probabilities.round(1)  # with ties
    occurring = np.unique(labels)
    areas = [roc_auc_score(labels == one, probabilities[:, one]) for one in occurring]
    assert auroc(labels, probabilities) == pytest.approx(np.mean(areas))
    shown = probabilities.argmax(1)
    expected = f1_score(labels, shown, labels=occurring, average="macro", zero_division=0)
    assert f1(labels, shown) == pytest.approx(expected)


def test_one_class_has_no_area():
    assert math.isnan(auroc(np.array([1, 1]), np.array([[0.5, 0.5], [0.1, 0.9]])))


def test_classes_that_do_not_occur_are_left_out():
    labels, probabilities = np.array([0, 2]), np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
    assert f1(labels, probabilities.argmax(1)) == auroc(labels, probabilities) == 1

"""AUROC without each patient, and the kappa of grades."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from medrobust.metrics.scores import auroc, auroc_without, quadratic_kappa


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(4, 40), st.integers(1, 12))
def test_auroc_without_each_patient_is_that_of_the_others(seed, classes, images, patients) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    probabilities = rng.random((images, classes)).round(1)  # with ties
    whose = np.unique(rng.integers(0, patients, images), return_inverse=True)[1]
    wanted = [
        auroc(labels[whose != patient], probabilities[whose != patient]) for patient in range(whose.max() + 1)
    ]
    np.testing.assert_allclose(auroc_without(labels, probabilities, whose), wanted, atol=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 50))
def test_kappa_is_that_of_scikit_learn(seed, grades, images) -> None:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, grades, (2, images))
    found = quadratic_kappa(labels, predictions)
    if len({*labels, *predictions}) == 1:
        assert math.isnan(found)
    else:
        wanted = cohen_kappa_score(labels, predictions, labels=range(grades), weights="quadratic")
        assert found == pytest.approx(wanted, abs=1e-12)


def test_kappa_of_chance_and_of_agreement() -> None:
    assert quadratic_kappa(np.array([0, 1, 2]), np.array([0, 1, 2])) == 1
    assert quadratic_kappa(np.array([0, 1, 2]), np.array([1, 1, 1])) == 0
    assert quadratic_kappa(np.array([0, 4]), np.array([4, 0])) == -1

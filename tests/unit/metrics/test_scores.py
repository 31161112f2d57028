import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrobust.metrics.scores import (
    accuracy,
    balanced_accuracy,
    dice_of_counts,
    mean_defined,
    mean_dice,
    sensitivity,
    volume_error,
)

label_maps = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


def sets_dice(truth: list[int], shown: list[int], structure: int) -> float:
    """Dice written with sets of pixels."""
    a = {place for place, value in enumerate(truth) if value == structure}
    b = {place for place, value in enumerate(shown) if value == structure}
    return 2 * len(a & b) / (len(a) + len(b)) if a else math.nan


def counts(truth: list[int], shown: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = np.array(truth)[:, None] == np.arange(4), np.array(shown)[:, None] == np.arange(4)
    return first.sum(0), second.sum(0), (first & second).sum(0)


@given(label_maps)
def test_dice_equals_that_of_sets_of_pixels(pixels):
    truth, shown = map(list, zip(*pixels, strict=True))
    expected = [sets_dice(truth, shown, structure) for structure in range(4)]
    np.testing.assert_allclose(dice_of_counts(*counts(truth, shown)), expected)


@given(label_maps)
def test_dice_is_bounded_symmetric_where_both_have_the_structure_and_one_for_the_truth(pixels):
    truth, shown = map(list, zip(*pixels, strict=True))
    n_true, n_pred, n_both = counts(truth, shown)
    values, reverse = dice_of_counts(n_true, n_pred, n_both), dice_of_counts(n_pred, n_true, n_both)
    defined = (n_true > 0) & (n_pred > 0)
    assert np.all((values[n_true > 0] >= 0) & (values[n_true > 0] <= 1))
    np.testing.assert_array_equal(values[defined], reverse[defined])
    assert np.all(dice_of_counts(n_true, n_true, n_true)[n_true > 0] == 1)


def test_a_structure_absent_from_the_truth_is_undefined_even_where_it_is_shown():
    values = dice_of_counts(np.array([0, 0, 5]), np.array([0, 7, 0]), np.array([0, 0, 0]))
    np.testing.assert_array_equal(values, [np.nan, np.nan, 0.0])


@pytest.mark.parametrize("n_both", [-1, 4])
def test_counts_that_are_not_those_of_two_label_maps_are_refused(n_both):
    with pytest.raises(ValueError, match=r"n_both must lie in \[0, min\(n_true, n_pred\)\]"):
        dice_of_counts(np.array([5]), np.array([3]), np.array([n_both]))


@given(label_maps)
def test_accuracies_equal_their_definitions(pixels):
    labels, predictions = (np.array(values) for values in zip(*pixels, strict=True))
    assert accuracy(labels, predictions) == pytest.approx(sum(a == b for a, b in pixels) / len(pixels))
    recalls = []
    for label in set(labels.tolist()):
        of_class = [a == b for a, b in pixels if a == label]
        recalls.append(sum(of_class) / len(of_class))
    assert balanced_accuracy(labels, predictions) == pytest.approx(sum(recalls) / len(recalls))


def test_accuracy_of_no_case_is_undefined():
    nothing = np.array([], dtype=np.int64)
    assert math.isnan(accuracy(nothing, nothing))
    assert math.isnan(balanced_accuracy(nothing, nothing))


def test_every_score_of_a_structure_is_undefined_where_the_truth_lacks_it():
    n_true, n_pred, n_both = np.array([0, 0, 8, 8]), np.array([0, 5, 0, 12]), np.array([0, 0, 0, 6])
    np.testing.assert_array_equal(dice_of_counts(n_true, n_pred, n_both), [np.nan, np.nan, 0.0, 0.6])
    np.testing.assert_array_equal(sensitivity(n_true, n_both), [np.nan, np.nan, 0.0, 0.75])
    np.testing.assert_array_equal(volume_error(n_true, n_pred), [np.nan, np.nan, -1.0, 0.5])


def test_means_are_of_structures_then_scans_then_patients():
    """Two scans of p, one of q, one of r that has no structure; patients do not count by their scans."""
    n_true = np.array([[4, 4], [4, 0], [4, 4], [0, 0]])
    n_pred = np.array([[4, 4], [4, 9], [4, 4], [3, 3]])
    n_both = np.array([[4, 2], [1, 0], [0, 0], [0, 0]])
    assert mean_dice(n_true, n_pred, n_both, ["p", "p", "q", "r"]) == ((0.75 + 0.25) / 2 + 0.0) / 2
    assert math.isnan(mean_dice(n_true[3:], n_pred[3:], n_both[3:], ["r"]))


def test_the_mean_of_what_is_defined_leaves_out_the_rest():
    values = np.array([[[1.0, np.nan], [np.nan, np.nan]], [[0.0, 1.0], [0.25, np.nan]]])
    np.testing.assert_array_equal(mean_defined(values), [[1.0, np.nan], [0.5, 0.25]])

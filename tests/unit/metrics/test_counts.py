"""Counts: what they are, that they add up, and what is refused."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix

from medrobust.metrics.overlap import empty_counts, overlap_counts

maps = st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(*[arrays(np.int64, shape, elements=st.integers(0, 4))] * 2)
)


@settings(max_examples=50, deadline=None)
@given(maps)
def test_counts_are_those_of_a_confusion_matrix(pair: tuple[np.ndarray, np.ndarray]) -> None:
    labels, predictions = pair
    counts = overlap_counts(torch.from_numpy(labels), torch.from_numpy(predictions), 5)
    assert counts.shape == (len(labels), 5, 3)
    assert counts.dtype == torch.int64
    for label, prediction, count in zip(labels, predictions, counts.numpy(), strict=True):
        matrix = confusion_matrix(label.ravel(), prediction.ravel(), labels=range(5))
        np.testing.assert_array_equal(count, np.stack([matrix.sum(1), matrix.sum(0), matrix.diagonal()], 1))


@settings(max_examples=50, deadline=None)
@given(maps)
def test_counts_add_up_to_all_pixels_and_are_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    labels, predictions = (torch.from_numpy(side) for side in pair)
    counts = overlap_counts(labels, predictions, 5)
    pixels = labels[0].numel() if len(labels) else 0
    assert (counts[..., :2].sum(1) == pixels).all()
    assert (counts[..., 2] <= counts[..., :2].amin(-1)).all()
    assert torch.equal(overlap_counts(predictions, labels, 5), counts[..., [1, 0, 2]])


def test_volumes_by_hand() -> None:
    labels = torch.tensor([[[[0, 1], [1, 2]]]])
    predictions = torch.tensor([[[[0, 1], [2, 2]]]])
    assert overlap_counts(labels, predictions, 4).tolist() == [[[1, 1, 1], [2, 1, 1], [1, 2, 1], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([[0, 3]], [[0, 0]], r"labels must be classes in \[0, 3\); got 0 to 3"),
        ([[0, 0]], [[-1, 0]], r"predictions must be classes in \[0, 3\); got -1 to 0"),
        ([[0, 0]], [[0]], r"labels \(1, 2\) and predictions \(1, 1\) must have one shape"),
    ],
)
def test_what_is_refused(labels: list[list[int]], predictions: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlap_counts(torch.tensor(labels), torch.tensor(predictions), 3)


@settings(max_examples=50, deadline=None)
@given(maps)
def test_what_is_painted_counts_where_nothing_is_labelled(pair: tuple[np.ndarray, np.ndarray]) -> None:
    labels, predictions = pair
    labels = labels * (np.arange(len(labels)) % 2).reshape(-1, 1, 1)  # every other image is empty
    counts = empty_counts(torch.from_numpy(labels), torch.from_numpy(predictions))
    expected = [
        [1, 0, 0, 0] if label.any() else [1, 1, int(shown.any()), int(np.count_nonzero(shown))]
        for label, shown in zip(labels, predictions, strict=True)
    ]
    assert counts.tolist() == expected


def test_volumes_without_any_label_are_counted_too() -> None:
    shown = torch.zeros(2, 3, 4, 5, dtype=torch.int64)
    shown[0, 1, 2, :2] = 7
    assert empty_counts(torch.zeros_like(shown), shown).tolist() == [[1, 1, 1, 2], [1, 1, 0, 0]]

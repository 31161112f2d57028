"""Structures that are unions of classes, and pixels that nobody labelled."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from medrobust.core import UNKNOWN, members_of
from medrobust.metrics.overlap import dice, empty_counts, overlap_counts
from medrobust.metrics.surfaces import SUMS, hd95, nsd, surface_sums
from medrobust.rng import generator

CLASSES = 4
REGIONS = {"whole": (1, 2, 3), "core": (2, 3), "outside of the core": (1,), "again": (1, 3)}
MEMBERS = members_of(REGIONS, CLASSES)

shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
maps = shapes.flatmap(
    lambda shape: st.tuples(
        arrays(np.int64, shape, elements=st.integers(UNKNOWN, CLASSES - 1)),
        arrays(np.int64, shape, elements=st.integers(0, CLASSES - 1)),
    )
)


@settings(max_examples=100, deadline=None)
@given(maps)
def test_counts_of_regions_are_those_of_their_masks(pair: tuple[np.ndarray, np.ndarray]) -> None:
    labels, predictions = pair
    counts = overlap_counts(torch.from_numpy(labels), torch.from_numpy(predictions), CLASSES, MEMBERS)
    for place, own in enumerate(((0,), *REGIONS.values())):
        true = np.isin(labels, own)
        shown = np.isin(predictions, own) & (labels != UNKNOWN)
        of_masks = [mask.reshape(len(labels), -1).sum(1) for mask in (true, shown, true & shown)]
        np.testing.assert_array_equal(counts[:, place], np.stack(of_masks, 1))


@settings(max_examples=100, deadline=None)
@given(maps, st.integers(0, CLASSES - 1))
def test_what_is_predicted_where_nothing_is_labelled_counts_nowhere(pair, other: int) -> None:
    labels, shown = (torch.from_numpy(each) for each in pair)
    changed = torch.where(labels == UNKNOWN, other, shown)
    for members in (None, MEMBERS):
        assert torch.equal(*(overlap_counts(labels, each, CLASSES, members) for each in (shown, changed)))
        keys = {"spacing": (1.0, 2.0), "tolerance": 1.5, "members": members}
        sums = [surface_sums(labels, each, CLASSES, **keys) for each in (shown, changed)]
        np.testing.assert_array_equal(*sums)
    assert torch.equal(*(empty_counts(labels, each) for each in (shown, changed)))


@pytest.mark.parametrize("shape", [(24, 20), (10, 12, 14)])
def test_boundaries_of_regions_are_those_of_their_masks(shape: tuple[int, ...]) -> None:
    rng, spacing = generator(0, "regions", len(shape)), (1.0, 0.7, 2.0)[: len(shape)]
    coarse = [rng.integers(0, CLASSES, [2, *(side // 2 for side in shape)]) for _ in range(2)]
    labels, shown = (
        np.kron(each, np.ones([1, *[2] * len(shape)], np.int64))[:, *(slice(side) for side in shape)]
        for each in coarse
    )
    labels[0, :3] = UNKNOWN
    keys = {"spacing": spacing, "tolerance": 2.0}
    tensors = torch.from_numpy(labels), torch.from_numpy(shown)
    found = surface_sums(*tensors, CLASSES, **keys, members=MEMBERS)
    assert found.shape == (2, 1 + len(REGIONS), len(SUMS))
    for place, own in enumerate(REGIONS.values(), 1):
        mask = np.where(labels == UNKNOWN, UNKNOWN, np.isin(labels, own)), np.isin(shown, own)
        alone = surface_sums(*(torch.from_numpy(each.astype(np.int64)) for each in mask), 2, **keys)
        np.testing.assert_allclose(found[:, place], alone[:, 1])
    # A class that is a region of its own has the boundary of the class.
    single = surface_sums(*tensors, CLASSES, **keys, members=members_of({"one": (1,)}, CLASSES))
    np.testing.assert_allclose(single[:, 1], surface_sums(*tensors, CLASSES, **keys)[:, 1])


def test_no_boundary_runs_between_what_is_labelled_and_what_is_not() -> None:
    labels = np.zeros((1, 20, 30), np.int64)
    labels[:, 5:15, 5:25] = 1
    labels[:, :, 15:] = UNKNOWN
    shown = np.where(labels == UNKNOWN, 0, labels)
    sums = surface_sums(*map(torch.from_numpy, (labels, shown)), 2, spacing=(1.0, 1.0), tolerance=0.0)
    n_boundary, n_within, _, n_both, n_missed, n_added = sums[0, 1]
    # Two sides of 10 pixels and one of 10, whose corners are shared; the fourth is not known.
    assert n_boundary == n_within == 2 * (10 + 10 + 10 - 2)
    assert (n_both, n_missed, n_added) == (1, 0, 0)
    # A prediction that ends where the labels end is right: nobody knows how far the structure reaches.
    shown[:, 5:15, 15:30] = 1
    assert nsd(labels, shown, tolerance=0.0)[0, 1] == 1
    assert hd95(labels, shown)[0, 1] == 0
    assert dice(labels, shown)[0, 1] == 1


def test_only_what_is_known_to_be_empty_is_empty() -> None:
    labels = torch.zeros(3, 2, 2, dtype=torch.int64)
    labels[0, 0] = UNKNOWN
    labels[1, 0, 0], labels[1, 1, 1] = UNKNOWN, 1
    shown = torch.ones_like(labels)
    assert empty_counts(labels, shown).tolist() == [[1, 1, 1, 2], [1, 0, 0, 0], [1, 1, 1, 4]]

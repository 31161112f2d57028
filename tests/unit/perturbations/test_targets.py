import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from medrobust.perturbations.targets import all_background, dilated, grown, scattered
from medrobust.rng import generator


def make_rngs(n, key="targets"):
    return [generator(0, key, number) for number in range(n)]


def make_labels(n=4, space=(24, 30), seed=0):
    """A foreground of vertical stripes 1, 2, 3 with background around it."""
    labels = torch.zeros(n, *space, dtype=torch.int64)
    labels[..., 4:-4, 5:12], labels[..., 4:-4, 12:20], labels[..., 4:-4, 20:25] = 1, 2, 3
    return labels


def test_all_background():
    assert (all_background(make_labels()) == 0).all()
    assert (all_background(make_labels(), background=2) == 2).all()


@given(share=st.floats(0.001, 1), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_scattered_changes_a_share_of_the_foreground_to_one_class(share, seed):
    labels = make_labels(3)
    targets = scattered(labels, rngs=make_rngs(3, f"{seed}"), share=share)
    for label, target in zip(labels, targets, strict=True):
        changed = target != label
        (structure,) = target[changed].unique().tolist()
        assert structure in (1, 2, 3)
        assert (label[changed] != 0).all()
        foreground = int((label != 0).sum())
        eligible = foreground - int((label == structure).sum())
        assert int(changed.sum()) == min(max(1, round(share * foreground)), eligible)


def test_scattered_pixels_are_scattered():
    labels = make_labels(1, (60, 60))
    changed = scattered(labels, rngs=make_rngs(1), share=0.1) != labels
    rows = changed[0].any(1).nonzero()[:, 0]
    assert rows.min() <= 8
    assert rows.max() >= 50


def test_scattered_classes_differ_between_cases():
    labels = make_labels(30)
    targets = scattered(labels, rngs=make_rngs(30))
    chosen = {target[target != label].unique().item() for label, target in zip(labels, targets, strict=True)}
    assert chosen == {1, 2, 3}


@pytest.mark.parametrize("make", [scattered, dilated])
def test_a_given_structure_is_taken(make):
    labels = make_labels(5)
    targets = make(labels, rngs=make_rngs(5), structure=3)
    assert (targets[targets != labels] == 3).all()
    assert (targets != labels).any()
    absent = dilated(labels, rngs=make_rngs(5), structure=9)
    assert torch.equal(absent, labels)


@pytest.mark.parametrize("make", [scattered, dilated])
def test_targets_depend_on_the_generator_of_their_case_only(make):
    labels = make_labels(6)
    together = make(labels, rngs=make_rngs(6))
    assert torch.equal(make(labels, rngs=make_rngs(6)), together)
    alone = make(labels[3:4], rngs=make_rngs(6)[3:4])
    assert torch.equal(alone[0], together[3])
    assert torch.equal(labels, make_labels(6))


@pytest.mark.parametrize("make", [scattered, dilated])
def test_nothing_to_change_gives_the_labels(make):
    empty = torch.zeros(2, 10, 10, dtype=torch.int64)
    assert torch.equal(make(empty, rngs=make_rngs(2)), empty)


def test_scattered_needs_another_class():
    labels = make_labels(1)
    labels[labels > 1] = 1
    assert torch.equal(scattered(labels, rngs=make_rngs(1)), labels)


@pytest.mark.parametrize("make", [scattered, dilated])
def test_generators_are_one_per_image_or_those_of_seed_0(make):
    with pytest.raises(ValueError, match="rngs: must hold one generator per image, 4 in all, got 3"):
        make(make_labels(4), rngs=make_rngs(3))
    assert torch.equal(make(make_labels(4)), make(make_labels(4)))


@pytest.mark.parametrize("space", [(24, 30), (20, 22, 26)])
def test_dilated_is_a_dilation_by_a_ball_that_wins_overlaps(space):
    labels = make_labels(1, space)
    target = dilated(labels, rngs=make_rngs(1), structure=2, radius_mm=3.0)[0].numpy()
    grid = np.stack(np.meshgrid(*[np.arange(-3, 4)] * len(space), indexing="ij"))
    ball = (grid**2).sum(0) <= 9
    expected = np.where(binary_dilation(labels[0].numpy() == 2, ball), 2, labels[0].numpy())
    assert np.array_equal(target, expected)
    grown = target != labels[0].numpy()
    assert set(labels[0].numpy()[grown]) == {0, 1, 3}


def test_dilation_is_measured_in_mm():
    labels = torch.zeros(1, 41, 41, dtype=torch.int64)
    labels[0, 18:23, 18:23] = 1
    target = dilated(labels, rngs=make_rngs(1), radius_mm=6.0, spacing=(2.0, 1.0))[0] == 1
    assert target.any(1).sum() == 5 + 2 * 3
    assert target.any(0).sum() == 5 + 2 * 6


SIDES = [0.1, 0.3, 0.35, 0.4688, 0.6, 0.7, 0.9, 1.1, float(np.float32(0.7)), 2.0]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("connectivity", [None, 1])
def test_dilation_reaches_what_is_exactly_the_radius_away(side, connectivity):
    """Multiples of 0.7 and the like, as people write them, are a little more or less than they should be."""
    line = np.zeros((43, 1), dtype=bool)
    line[21] = True
    for pixels in (1, 3, 5, 6, 10, 16, 20):
        for radius, reached in ((round(pixels * side, 6), pixels), ((pixels + 0.99) * side, pixels)):
            assert grown(line, radius, (side, side), connectivity).sum() == 2 * reached + 1


def test_small_structures_are_not_drawn():
    labels = torch.zeros(40, 30, 30, dtype=torch.int64)
    labels[:, 2:6, 2:7], labels[:, 20, 2:21] = 1, 2  # 20 and 19 pixels
    targets = dilated(labels, rngs=make_rngs(40), radius_mm=2)
    assert (targets[targets != labels] == 1).all()
    assert (targets != labels).flatten(1).any(1).all()
    smaller = dilated(labels, rngs=make_rngs(40), radius_mm=2, min_pixels=19)
    assert set(smaller[smaller != labels].tolist()) == {1, 2}


def test_connectivity_is_that_of_neighbours():
    labels = torch.zeros(1, 21, 21, dtype=torch.int64)
    labels[0, 10, 10] = 1
    down, across = torch.meshgrid(torch.arange(21) - 10, torch.arange(21) - 10, indexing="ij")
    choices = {"rngs": make_rngs(1), "structure": 1, "spacing": (2.0, 2.0), "radius_mm": 8.0}
    diamond = dilated(labels, connectivity=1, **choices)[0] == 1
    assert torch.equal(diamond, down.abs() + across.abs() <= 4)
    square = dilated(labels, connectivity=2, **choices)[0] == 1
    assert torch.equal(square, torch.maximum(down.abs(), across.abs()) <= 4)
    disc = dilated(labels, **choices)[0] == 1
    assert torch.equal(disc, down.square() + across.square() <= 16)

"""Boundaries: closed forms, brute force with a distance transform, and MONAI's own scores."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from medrobust.metrics.surfaces import SUMS, hd95_of_sums, nsd_of_sums, surface_sums
from medrobust.rng import generator

CLASSES = 4


def sums_of(labels: np.ndarray, predictions: np.ndarray, spacing: tuple[float, ...], tolerance: float):
    """The numbers by name, each of shape n k."""
    pair = (torch.from_numpy(each.astype(np.int64)) for each in (labels, predictions))
    numbers = surface_sums(*pair, CLASSES, spacing=spacing, tolerance=tolerance)
    return dict(zip(SUMS, np.moveaxis(numbers, -1, 0), strict=True))


def square(side: int, row: int, column: int, size: int = 24) -> np.ndarray:
    image = np.zeros((1, size, size), np.int64)
    image[0, row : row + side, column : column + side] = 2
    return image


def brute(truth: np.ndarray, shown: np.ndarray, spacing: tuple[float, ...], tolerance: float):
    """Boundary pixels, those within the tolerance, and HD95 of two masks that are not empty."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, shown)]
    apart = [
        ndimage.distance_transform_edt(~other, sampling=spacing)[edge]
        for edge, other in zip(edges, edges[::-1], strict=True)
    ]
    within = sum(int((each <= tolerance + 1e-5).sum()) for each in apart)
    return sum(len(each) for each in apart), within, max(np.quantile(each, 0.95) for each in apart)


@pytest.mark.parametrize(("shift", "spacing"), [(1, (2.0, 2.0)), (3, (0.7, 0.7)), (4, (1.0, 3.0))])
def test_of_a_shifted_square_two_sides_are_as_far_as_the_shift(shift: int, spacing: tuple[float, float]):
    side, step = 9, shift * spacing[0]
    found = sums_of(square(side, 5, 5), square(side, 5 + shift, 5), spacing, tolerance=step)
    ring = 4 * (side - 1)
    assert found["n_boundary"][0, 2] == found["n_within"][0, 2] == 2 * ring
    assert found["hd95_sum"][0, 2] == pytest.approx(step)
    # With no tolerance only pixels of both rings count: the two sides along the shift, where they overlap,
    # and where a side along it meets the other ring's side across it.
    exact = sums_of(square(side, 5, 5), square(side, 5 + shift, 5), spacing, tolerance=1e-9)
    assert exact["n_within"][0, 2] == 2 * 2 * (side - shift)


@pytest.mark.parametrize("tolerance", [0.7, 1.4, 2.1])
def test_the_tolerance_is_inclusive_wherever_the_structure_lies(tolerance: float):
    pixels = round(tolerance / 0.7)
    for place in range(8):
        found = sums_of(square(7, place, 3), square(7, place + pixels, 3), (0.7, 0.7), tolerance)
        assert found["n_within"][0, 2] == found["n_boundary"][0, 2] == 2 * 24


@pytest.mark.parametrize("side", [0.1, 0.3, 0.7, 0.9, 1.1, 1.3, 2.4, 1 / 3])
@pytest.mark.parametrize("stored", [float, np.float32])
def test_a_boundary_exactly_as_far_as_the_tolerance_is_within(side: float, stored: type):
    """Sides without an exact binary value, as files hold them; a tolerance as a person writes it."""
    for pixels in (1, 3, 7):
        pair, spacing = (square(7, 6, 3), square(7, 6 + pixels, 3)), (float(stored(side)),) * 2
        found = sums_of(*pair, spacing, round(pixels * side, 9))
        assert found["n_within"][0, 2] == found["n_boundary"][0, 2] == 2 * 24
        short = sums_of(*pair, spacing, pixels * side * (1 - 1e-4))
        assert short["n_within"][0, 2] < short["n_boundary"][0, 2]


def test_boundaries_of_a_structure_that_the_truth_lacks_are_undefined():
    n_boundary, n_within, n_true = np.array([16, 16, 16, 0]), np.array([0, 0, 12, 0]), np.array([0, 1, 1, 0])
    np.testing.assert_array_equal(nsd_of_sums(n_boundary, n_within, n_true), [np.nan, 0.0, 0.75, np.nan])
    np.testing.assert_array_equal(
        hd95_of_sums(np.array([0.0, 0.0, 9.0]), np.array([0, 0, 2])), [np.nan, np.nan, 4.5]
    )


def test_what_is_in_one_map_only_is_never_within_and_has_no_distance():
    empty = np.zeros((1, 24, 24), np.int64)
    for pair, name in (((square(5, 2, 2), empty), "n_missed"), ((empty, square(5, 2, 2)), "n_added")):
        found = sums_of(*pair, (1.0, 1.0), 100.0)
        assert found[name][0].tolist() == [0, 0, 1, 0]
        assert found["n_boundary"][0, 2] == 16
        assert found["n_within"].sum() == found["hd95_sum"].sum() == found["n_both"].sum() == 0
    assert not any(values.any() for values in sums_of(empty, empty, (1.0, 1.0), 1.0).values())


@pytest.mark.filterwarnings("ignore:.*(is all 0|always_return_as_numpy)")
@pytest.mark.parametrize("shape", [(30, 26), (14, 12, 13)])
@pytest.mark.parametrize("tolerance", [1.0, 2.5])
def test_blobs_agree_with_brute_force_and_with_monai(shape: tuple[int, ...], tolerance: float):
    spacing = (1.5, 0.8, 2.0)[: len(shape)]
    noise = generator(4, "blobs").standard_normal((2, 3, CLASSES, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 0, *(2.0,) * len(shape)))
    labels, predictions = smooth[0].argmax(1), (smooth[0] + 0.5 * smooth[1]).argmax(1)
    predictions[0][predictions[0] == 3] = 1  # missed
    labels[1][labels[1] == 2] = 0  # added
    found = sums_of(labels, predictions, spacing, tolerance)
    for image in range(3):
        for k in range(1, CLASSES):
            masks = labels[image] == k, predictions[image] == k
            if all(mask.any() for mask in masks):
                got = [found[name][image, k] for name in ("n_boundary", "n_within", "hd95_sum")]
                assert got == pytest.approx(brute(*masks, spacing, tolerance))
    assert (found["n_both"] + found["n_missed"] + found["n_added"])[:, 1:].tolist() == [[1] * 3] * 3
    hot = [np.moveaxis(np.eye(CLASSES)[each], -1, 1) for each in (predictions, labels)]
    pair = [torch.from_numpy(each) for each in hot]
    nsd = compute_surface_dice(*pair, [tolerance] * (CLASSES - 1), spacing=spacing)
    hd95 = compute_hausdorff_distance(*pair, percentile=95, spacing=spacing)
    np.testing.assert_allclose((found["n_within"] / found["n_boundary"].clip(1))[:, 1:], nsd, atol=1e-6)
    both = found["n_both"][:, 1:] > 0
    np.testing.assert_allclose(found["hd95_sum"][:, 1:][both], hd95.numpy()[both], rtol=1e-5)


MAPS = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(*[arrays(np.int64, shape, elements=st.integers(0, CLASSES - 1))] * 2)
)


@settings(max_examples=50, deadline=None)
@given(MAPS)
def test_sums_are_symmetric_and_do_not_depend_on_what_else_is_in_the_batch(pair):
    labels, predictions = pair
    found = sums_of(labels, predictions, (1.0, 1.7), 1.0)
    turned = sums_of(predictions, labels, (1.0, 1.7), 1.0)
    assert (found["n_within"] <= found["n_boundary"]).all()
    for name in ("n_boundary", "n_within", "hd95_sum", "n_both"):
        assert (found[name] == turned[name]).all()
    assert (found["n_missed"] == turned["n_added"]).all()
    for image in range(len(labels)):
        place = slice(image, image + 1)
        alone = sums_of(labels[place], predictions[place], (1.0, 1.7), 1.0)
        assert all((alone[name][0] == found[name][image]).all() for name in SUMS)
    same = sums_of(labels, labels, (1.0, 1.7), 1e-9)
    assert (same["n_within"] == same["n_boundary"]).all()
    assert same["hd95_sum"].sum() == 0


def test_the_longest_distance_of_a_volume_is_that_of_its_corners():
    volume = np.zeros((1, 5, 6, 7), np.int64)
    other = volume.copy()
    volume[0, 0, 0, 0] = other[0, 4, 5, 6] = 1
    found = sums_of(volume, other, (1.0, 2.0, 3.0), 1.0)
    assert found["hd95_sum"][0, 1] == pytest.approx(math.hypot(4, 10, 18))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 24, 24\).*spacing a size for each side; got \(1.0,\)"):
        sums_of(square(2, 2, 2), square(2, 2, 2), (1.0,), 1.0)

"""What endoscopes, dermatoscopes, ultrasound and scanners of the retina add, by closed forms."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from medrobust.core import UNKNOWN
from medrobust.perturbations import PERTURBATIONS
from perturbation_cases import make_rngs

SIDE = 112
LABELS = torch.zeros(2, dtype=torch.int64)


def made(name, images, **parameters):
    return PERTURBATIONS[name].function(None, images, LABELS, rngs=make_rngs(2), **parameters)


def test_highlights_are_gaussians():
    images = torch.full((2, 3, SIDE, SIDE), 0.2)
    seen = made("specular_highlights", images, strength=0.5, spots=1, width=0.05)
    y, x = np.mgrid[:SIDE, :SIDE]
    for image, rng in zip(seen, make_rngs(2), strict=True):
        down, right, height = rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.uniform(0.8, 1.2)
        distance = ((y - down) ** 2 + (x - right) ** 2) / (0.05 * SIDE) ** 2
        # 0.2 is the brightest pixel of the image.
        assert np.allclose(image, 0.2 + 0.1 * height * np.exp(-distance / 2), atol=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.28])
def test_blood_covers_its_share_and_is_red(share):
    lost = 1 - made("blood", torch.ones(2, 3, SIDE, SIDE), share=share)
    assert torch.allclose(lost[:, 1], lost[:, 2])
    assert torch.allclose(lost[:, 0], lost[:, 1] / 5, atol=1e-6)
    covered = (lost[:, 1] > 0).double().mean((1, 2))
    assert ((covered >= share) & (covered < share + np.pi / 64)).all()  # the largest ellipse
    assert lost[:, 1].max() == pytest.approx(0.5 * min(5 * share, 1), rel=0.05)


@pytest.mark.parametrize("share", [0.01, 0.06, 0.15])
def test_too_much_light_covers_its_share_and_bleaches(share):
    images = torch.full((2, 3, SIDE, SIDE), 0.2)
    images[..., 0, 0] = torch.tensor([0.9, 0.7, 0.5])  # the brightest of each channel
    seen = made("over_exposure", images, share=share)
    opacity = (seen - images)[..., 1:, :] / (torch.tensor([0.9, 0.7, 0.5]) - 0.2).view(3, 1, 1)
    assert torch.allclose(opacity[:, :1].expand_as(opacity), opacity, atol=1e-6)
    assert opacity.amax() == pytest.approx(min(8 * share, 1), rel=0.05)
    covered = (opacity[:, 0] >= min(8 * share, 1) * np.exp(-2)).double().mean((1, 2))
    assert ((covered >= share - 0.01) & (covered < share + np.pi / 36 + 0.01)).all()  # the largest spot
    middle = (torch.arange(SIDE) - SIDE / 2).abs() < SIDE * (0.25 + 1 / 6)
    assert opacity[..., ~middle].amax() <= np.exp(-2) * min(8 * share, 1) + 1e-6


def test_an_interface_is_repeated_at_equal_distances():
    """Each echo has a share of the one above it; a black image has none."""
    strength, size = 0.25, SIDE / 224
    images = torch.zeros(2, 1, SIDE, SIDE)
    assert not made("reverberation", images, strength=strength).any()
    rows = [int(rng.uniform(SIDE / 6, SIDE / 3)) for rng in make_rngs(2)]
    for image, row in zip(images, rows, strict=True):
        image[:, row] = 0.8
    seen = made("reverberation", images, strength=strength) - images
    for image, row in zip(seen, rows, strict=True):
        columns = (image[0] > 1e-3).any(0).double().mean()
        assert 0.45 <= columns <= 0.8
        profile, apart = image[0].amax(1), 0.8 * row + 20 * strength * size
        heights = [profile[round(row + each * apart)] for each in (1, 2, 3)]
        assert heights[0] == pytest.approx(0.8 * strength, rel=0.05)
        for above, below in pairwise(heights):
            assert below / above == pytest.approx(0.6 - 0.15 * strength, rel=0.1)


def test_hairs_are_dark_and_as_thick_as_asked_for():
    images = torch.full((2, 3, 224, 224), 0.7)
    assert torch.equal(made("hair", images, strokes=0), images)
    areas = []
    for thickness in (2.0, 4.0):
        seen = made("hair", images, strokes=1, thickness=thickness)
        assert seen.min() == pytest.approx(0.07, abs=0.01)
        areas.append(((0.7 - seen) / 0.63).mean(1).sum((1, 2)))
    assert torch.allclose(areas[1] / areas[0], torch.tensor(2.0), rtol=0.1)
    assert ((areas[0] > 2 * 40) & (areas[0] < 2 * 150)).all()


def test_a_vessel_casts_a_shadow_over_all_rows():
    images = torch.full((2, 1, SIDE, SIDE), 0.5)
    seen = made("vessel_shadows", images, share=0.12)
    assert torch.equal(seen, seen[:, :, :1].expand_as(seen))
    assert (seen.amin((1, 2, 3)) < 0.05).all()
    assert (((images - seen) / 0.5).mean((1, 2, 3)) < 3 * 0.12 * 1.3).all()


def test_a_blink_is_whole_rows():
    images = torch.full((2, 3, 224, 224), 0.5)
    seen = made("blink", images, bands=1)
    black = (seen == 0).all((1, 3))
    assert torch.equal(seen[..., :1].expand_as(seen), seen)
    assert ((black.sum(1) >= 224 // 50) & (black.sum(1) <= 224 / 20 + 1)).all()
    assert torch.equal(seen.permute(0, 2, 1, 3)[~black], images.permute(0, 2, 1, 3)[~black])


def test_blocks_of_rows_move_by_whole_pixels():
    """One block: its rows by one distance, labels with them; what came from outside is unknown."""
    images = torch.rand(2, 1, SIDE, 96, generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] * 9).long()
    entry = PERTURBATIONS["row_shift"].function
    shifted, moved, inside = entry(None, images, labels, rngs=make_rngs(2), shift=0.2, blocks=1)
    for number, rng in enumerate(make_rngs(2)):
        assert rng.integers(1, 2) == 1
        rows = round(SIDE * rng.uniform(1 / 8, 1 / 3))
        start = rng.integers(0, SIDE - rows + 1)
        by = round(96 * rng.uniform(-0.2, 0.2))
        block, known = slice(start, start + rows), slice(max(by, 0), 96 + min(by, 0))
        assert by != 0
        expected = images[number].clone()
        expected[:, block] = expected[:, block].roll(by, -1)
        valid = torch.ones(SIDE, 96, dtype=torch.bool)
        valid[block] = False
        valid[block, known] = True
        assert torch.equal(inside[number], valid)
        assert torch.allclose(shifted[number][:, valid], expected[:, valid], atol=1e-5)
        assert torch.equal(moved[number] == UNKNOWN, ~valid)
        assert torch.equal(moved[number][valid], (expected[0] * 9).long()[valid])

"""Norms against float64, whatever the magnitude; and gradients that are not finite."""

import math

import pytest
import torch

from medrobust.perturbations.geometry import lengths, per_image, unit
from medrobust.perturbations.gradients import finite

IMAGES = torch.randn(4, 3, 9, 11, generator=torch.Generator().manual_seed(0))
ORDERS = [1, 2, math.inf]


def reference(images, order):
    return torch.linalg.vector_norm(images.double().flatten(1), ord=order, dim=1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-24, 1.0, 1e24, 1e35])
def test_norms_neither_vanish_nor_overflow(order, scale):
    images = IMAGES * scale
    found = lengths(images, order)
    assert found.shape == (4, 1, 1, 1)
    digits = {"rtol": 1e-5} if scale > 1e-38 else {"rtol": 1e-2, "atol": 1e-3}
    assert torch.allclose(found.flatten().double(), reference(images, order), rtol=digits["rtol"], atol=0)
    assert torch.allclose(reference(unit(images, order), order), torch.ones(4).double(), rtol=1e-5)
    assert torch.allclose(unit(images, order), unit(IMAGES, order), **digits)


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_is_rounded_that_would_not_be_without_scaling(order):
    plain = torch.linalg.vector_norm(IMAGES.flatten(1), ord=order, dim=1)
    assert torch.equal(lengths(IMAGES, order).flatten(), plain)
    assert torch.equal(unit(IMAGES, order), IMAGES / per_image(plain, IMAGES))


@pytest.mark.parametrize("order", ORDERS)
def test_images_of_zeros_stay_so_beside_others(order):
    images = IMAGES * torch.tensor([0.0, 1.0, 1e-30, 1e30]).view(4, 1, 1, 1)
    assert lengths(images, order).flatten()[0] == 0
    assert not unit(images, order)[0].any()
    assert torch.equal(unit(images, order)[1], unit(IMAGES, order)[1])


def test_what_is_not_finite_becomes_nothing_or_the_steepest_of_its_image():
    inf, nan = torch.inf, torch.nan
    gradient = torch.tensor(
        [[1.0, nan, -3.0, inf, -inf], [nan, inf, 0.0, -inf, nan], [1e38, 1e38, 1e38, 1e38, 5.0]]
    )
    expected = torch.tensor([[1.0, 0.0, -3.0, 3.0, -3.0], [0.0] * 5, [1e38, 1e38, 1e38, 1e38, 5.0]])
    assert torch.equal(finite(gradient.view(3, 1, 1, 5)), expected.view(3, 1, 1, 5))
    assert finite(IMAGES) is IMAGES

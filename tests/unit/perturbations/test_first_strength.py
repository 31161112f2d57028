import sys

import pytest
import torch

from medrobust.core import Task
from medrobust.metrics.similarity import ssim
from medrobust.perturbations import match_noise, request
from medrobust.perturbations import strength as module
from medrobust.perturbations.strength import first_strength
from medrobust.rng import generator

LARGEST = 10.0


def blobs(n=6, space=(40, 44), channels=2, seed=0):
    drawn = torch.rand(n, channels, *space, generator=torch.Generator().manual_seed(seed))
    pool = torch.nn.functional.avg_pool2d if len(space) == 2 else torch.nn.functional.avg_pool3d
    smooth = pool(drawn, 7, 1, 3)
    return 0.25 + 0.5 * (smooth - smooth.min()) / (smooth.max() - smooth.min())


def fields(images):
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(1))


def disc(images):
    support = torch.zeros_like(images[:, :1], dtype=torch.bool)
    support[:, :, 6:26, 8:30] = True
    return support


@pytest.mark.parametrize("space", [(40, 44), (16, 17, 18)])
@pytest.mark.parametrize("on_support", [False, True])
def test_without_clipping_and_on_all_pixels_the_guess_is_the_answer(monkeypatch, space, on_support):
    """Moments give SSIM exactly, so the true SSIM at the guess is the goal."""
    monkeypatch.setattr(module, "SOME", slice(5, -5))
    monkeypatch.setattr(module, "TOLERANCE", 1e-4)
    monkeypatch.setattr(module, "DIGITS", 7)
    images = 0.1 * blobs(space=space)  # dark, where luminance matters
    support = disc(images) if on_support else None
    field = fields(images) * (1 if support is None else support)
    goal = torch.tensor([0.5, 0.8, 0.9, 0.97, 0.99, 0.999])

    def noisy(strength):
        return images + strength.view(-1, *[1] * (images.ndim - 1)) * field

    found = first_strength(noisy, images, goal, support, LARGEST)
    wrong = (ssim(images, noisy(found), support) - goal).abs()
    assert (wrong <= 2e-3 * (1 - goal)).all()


def test_the_guess_has_three_digits():
    images, goal = blobs(), torch.linspace(0.9, 0.999, 6)
    field = fields(images)
    found = first_strength(lambda s: images + s.view(-1, 1, 1, 1) * field, images, goal, None, LARGEST)
    assert [float(f"{value:.3g}") for value in found] == pytest.approx(found.tolist(), rel=1e-6)


def test_where_no_pixel_is_looked_at_there_is_a_guess_all_the_same():
    images = blobs(2)
    support = torch.zeros_like(images[:, :1], dtype=torch.bool)
    support[:, :, 7, 7] = True
    field = fields(images)
    goal = torch.tensor([0.9, 0.99])
    found = first_strength(lambda s: images + s.view(-1, 1, 1, 1) * field, images, goal, support, LARGEST)
    assert found.tolist() == pytest.approx([module.FALLBACK] * 2)
    noise, labels = request("gaussian", Task.CLASSIFICATION, control=True), torch.zeros(2, dtype=torch.int64)
    solution = match_noise(noise, images, labels, goal, support=support, rngs=[generator(0, k) for k in "ab"])
    assert solution.reached.all()


@pytest.mark.parametrize("name", ["gaussian", "rician"])
@pytest.mark.parametrize("contrast", [1, 5])
@pytest.mark.parametrize("goal", [0.5, 0.9, 0.98, 0.999])
def test_matching_takes_at_most_two_evaluations_also_where_images_are_clipped(
    monkeypatch, name, contrast, goal
):
    images = ((blobs(space=(96, 96), channels=1) - 0.5) * contrast + 0.5).clamp(0, 1)
    assert (((images == 0) | (images == 1)).float().mean() > 0.2) == (contrast > 1)
    seen = []

    def counted(images, others, support=None):
        seen.append(len(images))
        return ssim(images, others, support)

    monkeypatch.setattr(sys.modules[match_noise.__module__], "ssim", counted)
    noise, labels = request(name, Task.CLASSIFICATION, control=True), torch.zeros(6, dtype=torch.int64)
    rngs = [generator(0, "n", place) for place in range(6)]
    solution = match_noise(noise, images, labels, torch.full((6,), goal), rngs=rngs)
    assert solution.reached.all()
    assert len(seen) <= 2
    assert sum(seen) <= 1.5 * 6

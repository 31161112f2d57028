"""One change for all images: closed forms, and what it is worth on images that it was not fitted on."""

import pytest
import torch
from torch import nn

from medrobust.core import Task
from medrobust.metrics.similarity import ssim
from medrobust.perturbations import Tally, request, solve_budget, universal
from medrobust.perturbations.contract import smooth_batch, smooth_network
from medrobust.rng import generator


def affine():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    draw = generator(0, "affine")
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(draw.standard_normal((2, 16))))
    normal = (network[1].weight[1] - network[1].weight[0]).detach().view(1, 1, 4, 4)
    return network, normal


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_on_an_affine_network_it_is_the_corner_of_the_ball(norm):
    network, normal = affine()
    images = 0.3 + 0.4 * torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    best = 0.1 * (normal.sign() if norm == "inf" else normal / normal.norm())
    labels = torch.zeros(6, dtype=torch.int64)
    made = universal(network, images, labels, eps=0.1, norm=norm, steps=200, batch=4, confidence=1e3)
    assert torch.allclose(made - images, best.expand_as(images), atol=2e-3)


def separated(n=40):
    """A network, and images of every class that it gets right."""
    network = smooth_network(Task.CLASSIFICATION)
    return network, *smooth_batch(Task.CLASSIFICATION, network, n)


def test_it_fools_on_images_that_it_was_not_fitted_on_and_a_random_one_does_not():
    network, images, labels = separated(60)
    tally, eps = Tally(), 0.12
    universal(network, images[:30], labels[:30], eps=eps, tally=tally, batch=10)
    fooled = {}
    for method in ("gradient", "random"):
        given = {"found": tally.theta} if method == "gradient" else {}
        made = universal(network, images[30:], labels[30:], eps=eps, method=method, **given)
        change = made - images[30:]
        assert change.abs().amax() == pytest.approx(eps, abs=1e-6)
        fooled[method] = (network(made).argmax(1) != labels[30:]).float().mean()
    assert fooled["gradient"] > fooled["random"] + 0.1


def test_what_was_found_is_scaled_to_another_budget_and_not_fitted_again():
    network, images, labels = separated()
    tally = Tally()
    universal(network, images, labels, eps=0.02, tally=tally, steps=10)
    assert tally.theta.shape == (40, 14 * 14)
    assert (tally.theta == tally.theta[0]).all()

    def broken(images):
        raise AssertionError("It asks the network.")

    made = universal(broken, images[:3], labels[:3], eps=0.04, found=tally.theta[:1])
    change = tally.theta[:1].view(1, 1, 14, 14) * 2
    assert torch.allclose(made, (images[:3] + change).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_a_random_one_has_the_norm_and_asks_nothing(norm):
    images = torch.full((3, 2, 5, 6), 0.5)
    labels = torch.zeros(3, dtype=torch.int64)
    made = universal(None, images, labels, eps=0.1, norm=norm, preset="random", rngs=[generator(0, "a")] * 3)
    change = (made - images).flatten(1)
    assert (change == change[0]).all()
    assert change[0].norm(p=float(norm)) == pytest.approx(0.1)
    if norm == "inf":
        assert change.abs().min() == pytest.approx(0.1)


def test_its_budget_is_solved_with_two_fits():
    network, images, labels = separated()
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    asked = request({"name": "universal", "steps": 7, "eps": {"ssim": 0.9}}, Task.CLASSIFICATION)
    halves = [(images[at], labels[at], None, None) for at in (slice(20), slice(20, 40))]
    eps = solve_budget(asked, network, halves)
    assert len(calls) == 2 * 7
    made = universal(network, images, labels, eps=eps, steps=7)
    assert ssim(images, made).mean() == pytest.approx(0.9, abs=0.01)

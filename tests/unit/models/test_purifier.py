"""Purifiers: what images go through before a network, and what becomes of the gradient."""

import pytest
import torch
from torch import nn

from medrobust.core import Task
from medrobust.errors import ModelError, StudyError
from medrobust.models import Network
from medrobust.models.form import read_input
from medrobust.models.spec import model_spec, recipe
from medrobust.perturbations import fgsm
from medrobust.perturbations.corruptions.blur import gaussian_blur
from medrobust.perturbations.corruptions.compression import jpeg

QUALITY = 20


def linear(purifier):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    return Network(body, purifier=purifier).eval()


@pytest.fixture
def images():
    return 0.1 + 0.8 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def gradient(network, images):
    images = images.clone().requires_grad_()
    return torch.autograd.grad(network(images).square().sum(), images)[0]


def test_the_network_sees_the_purified_image(images):
    purified = linear({"name": "jpeg", "quality": QUALITY})(images)
    assert torch.equal(purified, linear(None)(jpeg(None, images, torch.zeros(2).long(), quality=QUALITY)))
    assert not torch.equal(purified, linear(None)(images))


@pytest.mark.parametrize(
    "purifier",
    [
        {"name": "jpeg", "quality": QUALITY},
        lambda images: (images * 8).round() / 8,
        lambda images: torch.from_numpy((images * 8).round().div(8).numpy()),
    ],
    ids=["jpeg", "vanishing gradient", "outside of torch"],
)
def test_where_it_has_no_gradient_attacks_pass_straight_through(images, purifier):
    """The gradient is that of the network at the purified image."""
    network = linear(purifier)
    with torch.no_grad():
        purified = network.purifier(images)
    assert torch.equal(gradient(network, images), gradient(linear(None), purified))
    assert network.purifier.has_gradient is False


def test_where_it_has_a_gradient_it_is_followed(images):
    network = linear({"name": "gaussian_blur", "sigma": 20})
    given = images.clone().requires_grad_()
    # The adjoint of blurring, one basis image after the other.
    basis = torch.zeros(1, 1, 16, 16)
    basis[0, 0, 5, 7] = 1
    spread = gaussian_blur(None, basis, torch.zeros(1).long(), sigma=20)
    of_blurred = gradient(linear(None), network.purifier(given).detach())
    assert torch.allclose(gradient(network, images)[:, :, 5, 7], (of_blurred * spread).sum((2, 3)), atol=1e-5)
    assert network.purifier.has_gradient


def test_it_stops_no_attack_by_hiding_its_gradient(images):
    network = linear({"name": "jpeg", "quality": 95})
    labels = network(images).argmax(1)
    attacked = fgsm(network, images, labels, eps=0.1)
    assert (network(attacked).argmax(1) != labels).all()


def test_a_denoiser_is_neither_trained_nor_part_of_the_weights(images):
    denoiser = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
    network = linear(denoiser).train()
    before = [each.clone() for each in network.purifier.state_dict().values()]
    network(images).sum().backward()
    assert all(map(torch.equal, before, network.purifier.state_dict().values()))
    assert not any(weight.requires_grad for weight in network.purifier.parameters())
    assert denoiser.training  # the user's own stays as it was
    assert denoiser[0].weight.requires_grad
    assert set(network.body.state_dict()) == {"1.weight", "1.bias"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "jpg", "quality": 75}, "Did you mean 'jpeg'"),
        ({"name": "jpeg"}, "quality: this key is required"),
        ({"name": "jpeg", "quality": 0}, "greater than or equal to 1; got 0"),
        ({"name": "jpeg", "quallity": 75}, "Did you mean 'quality'"),
        ({"name": "jpeg", "severity": 9}, "severity: must be a whole number from 1 to 5, got 9"),
        ({"name": "motion_blur", "radius": 5}, "draws at random"),
        ({"name": "gaussian", "sigma": 0.1}, "cannot purify"),
        ({"name": "fgsm"}, "cannot purify"),
        ({}, "got neither"),
        ({"name": "jpeg", "load": "a.b:c"}, "got both"),
        ({"load": "not_there.at_all:denoise"}, "there is no Python module 'not_there.at_all'"),
        ({"load": torch.sigmoid, "strength": 1}, "takes no further keys"),
        ({"load": "math:pi"}, "must be a function images -> images, got 'math:pi'"),
        ({"load": "math:squared"}, "`math:squared` cannot be imported"),
    ],
)
def test_what_cannot_purify_is_refused(given, message):
    with pytest.raises(StudyError) as refused:
        read_input({"purifier": given}, "models.a.input")
    assert message in str(refused.value)
    assert str(refused.value).startswith("models.a.input.purifier")


@pytest.mark.parametrize(
    ("purifier", "message"),
    [
        (lambda images: images[:, :1], r"must return images of the shape that it is given, \(2, 3, 16, 16\)"),
        (lambda images: images.numpy(), "got ndarray"),
    ],
)
def test_what_does_not_return_images_is_said(images, purifier, message):
    with pytest.raises(ModelError, match=message):
        linear(purifier)(images)


def test_a_recipe_names_it_only_where_it_is():
    def said(purifier):
        entry = {"name": "a", "architecture": "mobilenet_v1", "weights": "none"}
        block = {} if purifier is None else {"input": {"purifier": purifier}}
        return recipe(model_spec(entry | block, Task.CLASSIFICATION))["input"]

    assert "purifier" not in said(None)
    assert said({"name": "jpeg", "severity": 2})["purifier"] == {"name": "jpeg", "severity": 2, "revision": 1}
    one, other = (said({"load": nn.Conv2d(1, 1, 1, bias=False)})["purifier"]["code"] for _ in range(2))
    assert one != other

"""PGD, MI-FGSM and SegPGD: affine networks in closed form, and how they relate to FGSM and to each other."""

import pytest
import torch
from torch import nn

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.perturbations import fgsm, mi_fgsm, pgd, request, segpgd
from medrobust.perturbations.gradients import cross_entropy_gradient
from medrobust.rng import generator


def affine(classes=3, entries=16, seed=0):
    draw = generator(seed, "affine")
    network = nn.Sequential(nn.Flatten(), nn.Linear(entries, classes))
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(draw.standard_normal((classes, entries))))
        network[1].bias.zero_()
    return network


def curved(classes=4, seed=0, pixels=False):
    """A network whose gradient turns on the way."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = [nn.Conv2d(8, classes, 3, padding=1)]
        pool = [] if pixels else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), *head, *pool)
    for weight in network.parameters():
        weight.data.mul_(8)
    return network


def batch(network, n=6, size=8, seed=0):
    images = torch.from_numpy(generator(seed, "batch").random((n, 1, size, size), dtype="float32"))
    with torch.no_grad():
        return images, network(images).argmax(1)


def rngs(n=6, key="start"):
    return [generator(0, key, number) for number in range(n)]


def loss(network, images, labels):
    with torch.no_grad():
        each = nn.functional.cross_entropy(network(images), labels, reduction="none")
    return each.view(len(images), -1).mean(1)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_two_classes_on_an_affine_network_give_the_corner_of_the_ball(norm):
    network = affine(classes=2)
    images = torch.full((3, 1, 4, 4), 0.5)
    labels = torch.tensor([0, 1, 0])
    normal = network[1].weight[1] - network[1].weight[0]
    normal = normal.detach().view(1, 1, 4, 4) * torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1, 1)
    best = 0.1 * (normal.sign() if norm == "inf" else normal / normal.flatten(1).norm(dim=1).view(3, 1, 1, 1))
    for made in (
        pgd(network, images, labels, eps=0.1, norm=norm, rngs=rngs(3), steps=60, step=0.05),
        pgd(network, images, labels, eps=0.1, norm=norm, loss="margin", random_start=False),
        mi_fgsm(network, images, labels, eps=0.1, norm=norm),
    ):
        assert torch.allclose(made - images, best, atol=1e-4)


def test_one_step_from_the_clean_image_is_fgsm():
    network = curved()
    images, labels = batch(network)
    expected = fgsm(network, images, labels, eps=0.03)
    one = {"eps": 0.03, "steps": 1}
    assert torch.equal(pgd(network, images, labels, random_start=False, step=0.03, **one), expected)
    assert torch.equal(pgd(network, images, labels, random_start=False, **one), expected)
    assert torch.equal(mi_fgsm(network, images, labels, **one), expected)


def test_without_decay_momentum_is_iterated_fgsm():
    network = curved()
    images, labels = batch(network)
    expected = images
    for _ in range(4):
        stepped = fgsm(network, expected, labels, eps=0.01)
        expected = (images + (stepped - images).clamp(-0.04, 0.04)).clamp(0, 1)
    assert torch.allclose(mi_fgsm(network, images, labels, eps=0.04, steps=4, decay=0.0), expected, atol=1e-6)


def test_momentum_adds_gradients_of_mean_magnitude_one():
    network = curved()
    images, labels = batch(network)
    result, velocity = images, torch.zeros_like(images)
    for _ in range(3):
        gradient = cross_entropy_gradient(network, result, labels)[1]
        velocity = 0.5 * velocity + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        result = (result + 0.02 * velocity.sign()).clamp(0, 1)
    made = mi_fgsm(network, images, labels, eps=0.06, steps=3, decay=0.5)
    assert torch.allclose(made, result, atol=1e-6)


def test_momentum_does_not_see_what_is_outside_of_the_support():
    def network(images):
        """The slope of the first entry turns from 1 to -0.5; that of the other, which is left, is 9."""
        first, second = images[:, 0, 0, 0], images[:, 0, 0, 1]
        rise = torch.where(first < 0.55, first, -0.5 * first)
        return torch.stack([torch.zeros_like(rise), rise + 9 * second], 1)

    images, support = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[True, False]]]])
    made = mi_fgsm(network, images, torch.tensor([0]), support=support, eps=0.2, steps=2, decay=0.8)
    # Up by half of the budget, and back again: -1 outweighs 0.8 times 1.
    assert torch.allclose(made, images)


@pytest.mark.parametrize("name", ["cross_entropy", "margin", "dlr"])
def test_many_steps_reach_a_higher_loss_than_one(name):
    network = curved()
    images, labels = batch(network)
    many = pgd(network, images, labels, eps=0.1, rngs=rngs(), loss=name)
    assert (loss(network, many, labels) > loss(network, images, labels)).all()
    if name == "cross_entropy":
        one = fgsm(network, images, labels, eps=0.1)
        assert (loss(network, many, labels) > loss(network, one, labels)).all()


def test_restarts_keep_the_first_attempt_and_never_lose_an_image():
    network = curved(pixels=True)
    images, labels = batch(network)
    share = {
        restarts: (
            network(pgd(network, images, labels, eps=0.1, steps=1, rngs=rngs(), restarts=restarts)).argmax(1)
            != labels
        )
        .float()
        .mean((1, 2))
        for restarts in (1, 2, 6)
    }
    assert (share[2] >= share[1]).all()
    assert (share[6] >= share[2]).all()
    assert (share[6] > share[1]).any()


def test_a_restart_that_is_no_restart_is_refused():
    network = curved()
    images, labels = batch(network)
    with pytest.raises(ValueError, match="restarts: must be 1 with random_start=False"):
        pgd(network, images, labels, eps=0.1, restarts=2, random_start=False)
    with pytest.raises(StudyError, match=r"perturbations.pgd.restarts: must be 1 .* got 3"):
        request({"name": "pgd", "restarts": 3, "random_start": False}, Task.CLASSIFICATION)


def test_segpgd_climbs_right_pixels_first():
    network = curved(pixels=True)
    images, labels = batch(network)
    labels = labels.clone()
    labels[:, :, :4] = (labels[:, :, :4] + 1) % 4  # wrong from the start
    right = network(images).argmax(1) == labels
    weights = network(images).softmax(1) - nn.functional.one_hot(labels, 4).movedim(-1, 1)
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf), leaf, weights.detach() * right[:, None])
    made = segpgd(network, images, labels, eps=0.01, steps=1, random_start=False)
    assert torch.equal(made, (images + 0.01 * gradient.sign()).clamp(0, 1))
    ends = segpgd(network, images, labels, eps=0.1, steps=10, rngs=rngs())
    assert ((network(ends).argmax(1) != labels).float().mean((1, 2)) > 0.5).all()


def test_segpgd_is_for_pixels():
    network = curved()
    images, labels = batch(network)
    with pytest.raises(ValueError, match=r"one class per pixel, got labels of shape \(6,\); .* pgd"):
        segpgd(network, images, labels, eps=0.1, rngs=rngs())

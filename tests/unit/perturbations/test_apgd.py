"""APGD: affine networks in closed form, images that leave early, few classes, and budgets of each image."""

import pytest
import torch
from torch import nn

from medrobust.core import UNKNOWN
from medrobust.perturbations import Tally, apgd, pgd
from medrobust.perturbations.attacks.apgd import ascend, border_images, stages, towards
from medrobust.perturbations.geometry import Ball, lengths
from medrobust.rng import generator

EPS = {"inf": 0.05, "2": 0.4, "1": 3.0}
LOSSES = ["cross_entropy", "margin", "dlr", "targeted"]
norms = pytest.mark.parametrize("norm", EPS)


def curved(classes=4, pixels=False, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = [] if pixels else [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * classes, classes)]
        body = [nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, classes, 3, padding=1)]
        network = nn.Sequential(*body, *head)
    for weight in network.parameters():
        weight.data.mul_(4)
    if not pixels:  # all classes occur, and their boundaries are near
        with torch.no_grad():
            network[-1].bias -= network(batch(network)[0]).mean(0)
    return network


def batch(network, n=12, size=8):
    images = torch.from_numpy(generator(0, "apgd").random((n, 1, size, size), dtype="float32"))
    with torch.no_grad():
        return images, network(images).argmax(1)


def rngs(n=12):
    return [generator(0, "start", number) for number in range(n)]


def wrong(network, made, labels):
    with torch.no_grad():
        return network(made).argmax(1) != labels


@norms
@pytest.mark.parametrize("loss", LOSSES)
def test_two_classes_on_an_affine_network_give_the_best_image_of_the_ball(norm, loss):
    """Slopes fall with the place: in the sum of magnitudes, the first entries go to the end of the range."""
    slopes = torch.linspace(1, 0.5, 16) * torch.tensor([1.0, -1.0] * 8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.stack([torch.zeros(16), slopes]))
        network[1].bias.copy_(torch.tensor([1e3, 0.0]))  # nothing turns it, and its probability is 1
    images, labels = torch.full((2, 1, 4, 4), 0.4), torch.tensor([0, 0])
    made = apgd(network, images, labels, eps=EPS[norm], norm=norm, loss=loss, rngs=rngs(2))
    if norm == "inf":
        best = EPS[norm] * slopes.sign()
    elif norm == "2":
        best = EPS[norm] * slopes / slopes.norm()
    else:
        room, left, best = torch.where(slopes > 0, 0.6, 0.4), EPS[norm], torch.zeros(16)
        for place in range(16):
            best[place] = min(float(room[place]), left)
            left -= float(best[place])
        best = best * slopes.sign()
    gain, most = ((made - images).flatten(1) * slopes).sum(1), float((best * slopes).sum())
    assert gain.tolist() == pytest.approx([most] * 2, rel=0.01 if norm == "1" else 1e-3)


@norms
def test_images_that_leave_early_are_those_that_all_steps_turn(norm):
    network = curved()
    images, labels = batch(network)
    options = {"eps": EPS[norm] / 2, "norm": norm, "steps": 30}
    early, late = Tally(), Tally()
    one = apgd(network, images, labels, rngs=rngs(), tally=early, **options)
    other = apgd(network, images, labels, rngs=rngs(), tally=late, all_steps=True, **options)
    turned = wrong(network, one, labels)
    assert torch.equal(turned, wrong(network, other, labels))
    assert 0 < turned.sum() < len(turned)
    assert torch.equal(early.steps < 30, turned)
    assert (late.steps == 30).all()
    value = towards("cross_entropy").value
    with torch.no_grad():
        gain = value(network(other), labels, None) - value(network(one), labels, None)
    assert (gain >= -1e-5).all()


def test_it_turns_no_fewer_images_than_pgd_of_as_many_steps():
    network = curved()
    images, labels = batch(network, n=60)
    for eps in (0.01, 0.02, 0.03):
        ours = apgd(network, images, labels, eps=eps, steps=40, rngs=rngs(60), loss="targeted")
        theirs = pgd(network, images, labels, eps=eps, steps=40, rngs=rngs(60))
        assert wrong(network, ours, labels).sum() >= wrong(network, theirs, labels).sum()


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("loss", LOSSES)
def test_few_classes_have_as_many_targets_as_there_are(classes, loss):
    network = curved(classes)
    images, labels = batch(network)
    tally = Tally()
    made = apgd(network, images, labels, eps=1e-4, steps=4, rngs=rngs(), loss=loss, tally=tally)
    assert not wrong(network, made, labels).any()
    assert tally.steps.tolist() == [4 * (classes - 1 if loss == "targeted" else 1)] * len(images)


@norms
def test_an_image_alone_is_what_it_is_in_a_batch_with_a_budget_of_its_own(norm):
    network = curved(pixels=True).double()
    images, labels = (
        each.double() if each.is_floating_point() else each for each in batch(curved(pixels=True), 4)
    )
    eps = EPS[norm] * torch.tensor([0.1, 0.5, 1.0, 2.0]).double()
    ball = Ball(images, None, eps, norm)
    together = stages(network, border_images(ball, rngs(4)), labels, ball, towards("cross_entropy"), steps=12)
    distance = lengths(together.images - images, float(norm)).flatten()
    assert (distance <= eps * (1 + 1e-6)).all()
    assert (distance > eps / 2).all()
    for place in range(4):
        here = torch.tensor([place])
        one = ball.rows(here)
        start = border_images(one, rngs(4)[place : place + 1])
        alone = stages(network, start, labels[here], one, towards("cross_entropy"), steps=12)
        assert torch.allclose(alone.images, together.images[here], atol=1e-9)


def test_the_most_wrong_iterate_is_returned_whatever_comes_later():
    network = curved(3, pixels=True)
    images, labels = batch(network, 3)
    shares = []

    def watched(predictions, labels):
        shares.append((predictions != labels).double().flatten(1).mean(1))
        return shares[-1]

    ball = Ball(images, None, 0.1, "inf")
    reached = ascend(
        network, images, labels, ball, towards("cross_entropy"), steps=15, harm=watched, all_steps=True
    )
    assert torch.equal(reached.harm, torch.stack(shares).amax(0))
    assert torch.equal(wrong(network, reached.images, labels).double().flatten(1).mean(1), reached.harm)


def test_labels_that_are_not_known_count_nowhere():
    network = curved(3, pixels=True)
    images, labels = batch(network, 3)
    labels[:, :, 4:] = UNKNOWN
    labels[2] = UNKNOWN
    for loss in LOSSES:
        made = apgd(network, images, labels, eps=0.1, steps=8, rngs=rngs(3), loss=loss)
        assert (wrong(network, made, labels) & (labels != UNKNOWN))[:2].float().mean((1, 2)).min() > 0.05


def test_stages_need_a_step_each():
    network = curved()
    images, labels = batch(network)
    with pytest.raises(ValueError, match="steps: must be at least 3, one for each stage, got 2"):
        apgd(network, images, labels, eps=1.0, norm="1", steps=2)
    with pytest.raises(ValueError, match="restarts: must be 1 with random_start=False"):
        apgd(network, images, labels, eps=0.1, restarts=2, random_start=False)

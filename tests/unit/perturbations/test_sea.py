"""SEA and CosPGD: closed forms on pixels seen alone, the worst of several losses, and scores of an image."""

import numpy as np
import pytest
import torch
from torch import nn

from medrobust.core import UNKNOWN
from medrobust.metrics import dice
from medrobust.perturbations import Tally, apgd, cospgd, pgd, sea, segpgd
from medrobust.perturbations.attacks.sea import HARM, mean_dice_lost
from medrobust.rng import generator

LOSSES = ("masked_balanced_cross_entropy", "masked_cross_entropy", "jensen_shannon", "dice")


def curved(classes=4, dimensions=2):
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = [convolution(1, 8, 3, padding=1), nn.Tanh(), convolution(8, classes, 3, padding=1)]
    network = nn.Sequential(*body)
    for weight in network.parameters():
        weight.data.mul_(6)
    return network


def batch(network, n=4, space=(10, 10)):
    images = torch.from_numpy(generator(0, "sea").random((n, 1, *space), dtype="float32"))
    with torch.no_grad():
        return images, network(images).argmax(1)


def rngs(n=4):
    return [generator(0, "start", number) for number in range(n)]


def shown(network, made):
    with torch.no_grad():
        return network(made).argmax(1)


@pytest.mark.parametrize("name", ["dice", "accuracy"])
@pytest.mark.parametrize("space", [(10, 10), (6, 6, 6)])
def test_each_image_is_the_worst_that_any_loss_leads_to(name, space):
    network = curved(dimensions=len(space))
    images, labels = batch(network, space=space)
    options = {"eps": 0.02, "steps": 10, "score": name, "random_start": False}
    tally = Tally()
    harm = HARM[name](shown(network, sea(network, images, labels, tally=tally, **options)), labels)
    each = [
        HARM[name](shown(network, sea(network, images, labels, losses=(loss,), **options)), labels)
        for loss in LOSSES
    ]
    assert harm.tolist() == pytest.approx(torch.stack(each).amax(0).tolist(), abs=0.02)
    assert (harm > 0).all()
    assert tally.steps.tolist() == [40] * 4


def test_the_score_of_an_image_is_its_mean_dice_over_the_structures_that_are_there():
    network = curved()
    images, labels = batch(network)
    labels[0] = 0  # no structure at all
    labels[1, :5] = UNKNOWN
    predictions = shown(network, (images + 0.1).clamp(0, 1))
    lost = mean_dice_lost(predictions, labels)
    expected = 1 - np.nanmean(dice(labels, predictions, 4)[1:, 1:], axis=1)
    assert lost[1:].tolist() == pytest.approx(expected.tolist())
    assert lost[0] == (predictions[0] != 0).double().mean()


def test_what_breaks_accuracy_is_not_what_breaks_dice():
    """A structure of one pixel is worth as much Dice as one of forty-nine, and no accuracy."""
    network = nn.Conv2d(1, 3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).view(3, 1, 1, 1))
        network.bias.copy_(torch.tensor([-0.5, 0.5, -0.05]))
    images = torch.full((1, 1, 10, 10), 0.9)
    images[..., 5:] = 0.48
    images[0, 0, 0, 0] = 0.499
    labels = shown(network, images)
    made = sea(network, images, labels, eps=0.03, steps=20, rngs=rngs(1))
    assert (shown(network, made) != labels)[0, :, 5:].all()


@pytest.mark.parametrize("attack", [apgd, sea, cospgd, segpgd, pgd])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_pixel_turns_where_its_margin_is_within_reach(attack, classes):
    """Networks that see each pixel alone, and are affine: of two classes, the margin over the L1 norm."""
    draw = torch.Generator().manual_seed(0)
    network = nn.Conv2d(2, classes, 1)
    with torch.no_grad():
        network.weight.copy_(torch.randn(classes, 2, 1, 1, generator=draw))
        network.bias.copy_(-network.weight[:, :, 0, 0] @ torch.full((2,), 0.5))
    images = 0.2 + 0.6 * torch.rand(3, 2, 12, 12, generator=draw)
    labels = shown(network, images)
    logits, weights = network(images).detach(), network.weight.detach()[:, :, 0, 0]
    apart = logits.gather(1, labels[:, None]) - logits
    norms = (weights[labels].movedim(-1, 1)[:, None] - weights[None, :, :, None, None]).abs().sum(2)
    needed = (apart / norms.clamp_min(1e-9)).scatter(1, labels[:, None], torch.inf).amin(1)
    eps = float(needed.median())
    made = attack(network, images, labels, eps=eps, steps=40, rngs=rngs(3))
    turned, reachable = shown(network, made) != labels, needed <= eps
    assert not (turned & ~reachable & ((needed - eps).abs() > 1e-5)).any()
    if classes == 2:
        assert torch.equal(turned[(needed - eps).abs() > 1e-3], reachable[(needed - eps).abs() > 1e-3])


def test_pixels_weigh_by_the_cosine_of_what_they_show_and_the_truth():
    network = curved()
    images, labels = batch(network)
    labels[:, :3] = (labels[:, :3] + 1) % 4
    leaf = images.clone().requires_grad_()
    logits = network(leaf)
    cosines = nn.functional.cosine_similarity(
        logits.softmax(1), nn.functional.one_hot(labels, 4).movedim(-1, 1).float(), dim=1
    ).detach()
    losses = nn.functional.cross_entropy(logits, labels, reduction="none") * cosines
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    made = cospgd(network, images, labels, eps=0.01, steps=1, random_start=False)
    agree = made == (images + 0.01 * gradient.sign()).clamp(0, 1)
    assert agree.float().mean() > 0.99


def test_stages_need_a_step_each():
    network = curved()
    images, labels = batch(network)
    with pytest.raises(ValueError, match="steps: must be at least 3, one for each stage, got 2"):
        sea(network, images, labels, eps=0.1, steps=2)
    flat = nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="loss: 'dice' is for label maps; use 'cross_entropy'"):
        apgd(flat, images, labels[:, 0, 0], eps=0.1, loss="dice")

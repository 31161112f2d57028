"""The cascade: what it fools, how it gets there and what that costs."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from affine_networks import Affine
from medrobust.core import Task
from medrobust.perturbations import Tally, apgd, fab, square, worst_case
from medrobust.perturbations.contract import smooth_batch, smooth_network
from medrobust.perturbations.geometry import lengths
from medrobust.rng import generator

LITTLE = {"steps": 12, "candidates": 4, "boundary_steps": 4, "queries": 20}


class Counted(nn.Module):
    """Counts images that pass, there and back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.there = self.back = 0

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        self.there += len(images)
        if logits.requires_grad:
            logits.register_hook(self.count)
        return logits

    def count(self, gradient: Tensor) -> None:
        self.back += len(gradient)

    @property
    def units(self) -> float:
        return self.there / 3 + 2 * self.back / 3


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("norm", ["inf", "2", "1"])
@pytest.mark.parametrize("options", [LITTLE, {"preset": "fast"}])
def test_on_an_affine_network_it_fools_what_can_be_fooled(classes: int, norm: str, options: dict) -> None:
    model = Affine(classes)
    images, labels = model.batch()
    distance, _ = model.distances({"inf": 1, "2": 2, "1": np.inf}[norm])
    eps = float(distance.median())
    made = worst_case(model, images, labels, eps=eps, norm=norm, **options)
    fooled = model(made).argmax(1) != labels
    assert (lengths(made - images, float(norm)).flatten() <= eps * (1 + 1e-5)).all()
    near = distance < (0.95 if norm == "1" else 0.99) * eps  # a few sparse steps stop a little early
    assert fooled[near].all()
    assert not fooled[distance > eps].any()
    assert near.any()


def test_it_withstands_no_more_than_any_of_its_attacks() -> None:
    """They are also the same: those before the first success of an image drew the same numbers."""
    network = smooth_network(Task.CLASSIFICATION)
    images, labels = smooth_batch(Task.CLASSIFICATION, network, n=16)

    def wrong(made: Tensor, eps: float) -> Tensor:
        return (network(made).argmax(1) != labels) & ((made - images).flatten(1).abs().amax(1) <= eps + 1e-6)

    for eps in (0.004, 0.012):
        options = {"eps": eps, "steps": 12}
        alone = [
            apgd(network, images, labels, **options),
            apgd(network, images, labels, loss="targeted", **options),
            fab(network, images, labels, steps=4, targeted=True),
            square(network, images, labels, eps=eps, steps=20),
        ]
        worst = wrong(worst_case(network, images, labels, eps=eps, **LITTLE), eps)
        assert worst.sum() >= max(int(wrong(made, eps).sum()) for made in alone)
        assert worst.sum() > 0
        assert (worst | ~wrong(alone[0], eps)).all()


def test_each_attempt_is_made_on_the_survivors_and_its_steps_tell_of_it() -> None:
    network = smooth_network(Task.CLASSIFICATION)
    images, labels = smooth_batch(Task.CLASSIFICATION, network, n=12)
    labels[0] = (labels[0] + 1) % 4
    counted, tally = Counted(network), Tally()
    made = worst_case(counted, images, labels, eps=0.006, tally=tally, **LITTLE)
    fooled = network(made).argmax(1) != labels
    assert tally.steps is not None
    assert torch.equal(made[0], images[0])
    assert tally.steps[0] == 0
    everything = 12 * 4 + 4 * 3 + 20
    assert (tally.steps[~fooled] == everything).all()
    assert (tally.steps[fooled][1:] <= 12).any()
    assert fooled[1:].any()
    assert not fooled.all()
    # What nothing fools comes back with the largest margin, at the end of the budget.
    assert ((made - images)[~fooled].flatten(1).abs().amax(1) > 0.0059).all()
    gradients = 12 * 4 + 4 * 3
    assert counted.back <= int((~fooled).sum()) * gradients + int(fooled.sum()) * 12 * 3


def test_the_fast_one_takes_sixty_passes_at_most() -> None:
    network = smooth_network(Task.CLASSIFICATION)
    images, labels = smooth_batch(Task.CLASSIFICATION, network, n=6)
    counted = Counted(network)
    made = worst_case(counted, images, labels, preset="fast", eps=1e-5)
    assert torch.equal(network(made).argmax(1), labels)
    assert 55 < counted.units / 6 <= 60


def test_an_image_alone_fares_as_in_its_batch() -> None:
    network = smooth_network(Task.CLASSIFICATION)
    images, labels = smooth_batch(Task.CLASSIFICATION, network, n=6)
    together = worst_case(
        network, images, labels, eps=0.006, rngs=[generator(0, place) for place in range(6)], **LITTLE
    )
    for place in (1, 4):
        one = slice(place, place + 1)
        alone = worst_case(network, images[one], labels[one], eps=0.006, rngs=[generator(0, place)], **LITTLE)
        assert torch.allclose(alone, together[one], atol=1e-5)

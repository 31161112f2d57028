"""Pixels that nobody labelled: no attack cares what becomes of them."""

import numpy as np
import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.core import UNKNOWN, Task
from medrobust.perturbations import PERTURBATIONS, parameters_of, targets_of
from medrobust.perturbations.gradients import LOSSES, fraction_wrong
from medrobust.perturbations.selftest import selftest
from medrobust.running.craft import fraction_fooled
from perturbation_cases import ask, make_batch, make_network, make_rngs

ATTACKS = [
    name
    for name, entry in PERTURBATIONS.items()
    if Task.SEGMENTATION in entry.tasks and entry.role == "attack" and entry.needs == "gradient"
    if entry.fits is None
]
"""Those that see in the gradient of an image that one of its pixels does not count."""
SPACES = [(12, 12), (11, 11, 12)]


class ByPixel(nn.Module):
    """Looks at each pixel alone."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.body = convolution(1, 3, 1)
        with torch.no_grad():
            weights = torch.tensor([-6.0, 1.0, 6.0]).view(self.body.weight.shape)
            self.body.weight.copy_(weights)
            self.body.bias.copy_(torch.tensor([3.0, 0.0, -3.2]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


def batch(space: tuple[int, ...]) -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw, network = np.random.default_rng(1), ByPixel(len(space)).eval()
    images = torch.from_numpy(draw.random((2, 1, *space), dtype=np.float32))
    labels = network(images).argmax(1)
    unknown = torch.zeros_like(labels, dtype=torch.bool)
    unknown[0, :4] = True
    unknown[1, ..., 2:5] = True
    return network, images, torch.where(unknown, UNKNOWN, labels), unknown


@pytest.mark.parametrize("space", SPACES, ids=["2D", "3D"])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_leave_them_alone(name: str, space: tuple[int, ...]) -> None:
    network, images, labels, unknown = batch(space)
    drawn = "random_start" in parameters_of(PERTURBATIONS[name]).model_fields
    keys = {"random_start": False} if drawn else {}
    attacked = mr.attack(network, images, labels, name, **keys)
    changed = (attacked.images != images)[:, 0]
    assert changed[~unknown].any()
    assert not changed[unknown].any()
    assert attacked.fooled.isfinite().all()


@pytest.mark.parametrize("preset", PERTURBATIONS["dag_b"].presets)
def test_so_do_all_presets_of_dag(preset: str) -> None:
    network, images, labels, unknown = batch(SPACES[0])
    for name in ("dag_a", "dag_b"):
        attacked = mr.attack(network, images, labels, name, preset=preset, steps=5)
        changed = (attacked.images != images)[:, 0]
        assert changed[~unknown].any()
        assert not changed[unknown].any()


@pytest.mark.parametrize("name", [name for name in ATTACKS if name.startswith("dag")])
def test_targets_keep_them(name: str) -> None:
    _, _, labels, unknown = batch(SPACES[0])
    targets = targets_of(ask(name, Task.SEGMENTATION), labels, make_rngs(2), (1.0, 1.0))
    assert targets is not None
    assert (targets[unknown] == UNKNOWN).all()
    assert (targets[~unknown] >= 0).all()
    assert (targets != labels).any()


@pytest.mark.parametrize("loss", list(LOSSES))
def test_they_are_in_no_loss(loss: str) -> None:
    network, images, labels, unknown = batch(SPACES[0])
    weights = LOSSES[loss](network(images), labels)
    assert not weights.movedim(1, -1)[unknown].any()
    assert weights.movedim(1, -1)[~unknown].any()


def test_success_is_that_of_the_others() -> None:
    _, _, labels, unknown = batch(SPACES[0])
    shown = torch.where(unknown, 2, labels)
    assert fraction_wrong(shown, labels).tolist() == [0, 0]
    targets = torch.where(unknown, labels, 0)
    right = torch.where(unknown, 1, 0)
    assert fraction_fooled(right, labels, targets).tolist() == [1, 1]


@pytest.mark.parametrize("name", ["dag_a", "dag_b", "pgd"])
def test_self_tests_do_not_judge_them(name: str) -> None:
    network = make_network(Task.SEGMENTATION)
    images, labels = make_batch(Task.SEGMENTATION, network)
    labels[:, :4] = UNKNOWN
    checks = selftest(ask(name, Task.SEGMENTATION), network, images, labels, rngs=make_rngs(len(images)))
    assert {check.name for check in checks} >= {"chance", "noise"}
    assert all(check.value is None or np.isfinite(check.value) for check in checks)

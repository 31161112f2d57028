"""Every entry of the catalogue with every preset, and a small network and batch to try it on."""

import numpy as np
import pytest
import torch
from torch import nn

from medrobust.core import Task
from medrobust.perturbations import PERTURBATIONS, request
from medrobust.rng import generator

SIZE = 14
CLASSES = 4


class Smooth(nn.Module):
    """A small smooth network with what can be left changed: dropout and batch norm."""

    def __init__(self, task, channels=1, dimensions=2, classes=CLASSES):
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
        first, last = convolution(channels, 6, 3, padding=1), convolution(6, classes, 3, padding=1)
        self.body = nn.Sequential(first, norm(6), nn.Tanh(), nn.Dropout(0.5), last)
        self.pool = task == Task.CLASSIFICATION
        self.register_buffer("centre", torch.zeros(classes))
        self.register_buffer("scale", torch.ones(classes))

    def forward(self, images):
        logits = self.body(images)
        if self.pool:
            logits = logits.flatten(2).mean(2)
        shape = (-1, *[1] * (logits.ndim - 2))
        return (logits - self.centre.view(shape)) / self.scale.view(shape)


def make_network(task, channels=1, dimensions=2, classes=CLASSES):
    """Its logits have mean 0 and deviation 1 on random images, so that every class is predicted."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        network = Smooth(task, channels, dimensions, classes)
        images = torch.rand(32, channels, *[SIZE if dimensions == 2 else 6] * dimensions)
        network.train()(images)
        logits = network.eval()(images).movedim(1, 0).flatten(1)
        network.centre += logits.mean(1)
        network.scale *= logits.std(1)
    return network


def make_batch(task, network, n=3, channels=1, space=(SIZE, SIZE)):
    draw = np.random.default_rng(3)
    images = torch.from_numpy(draw.random((n, channels, *space), dtype=np.float32))
    with torch.no_grad():
        labels = network(images).argmax(1)
    return images, labels


def make_rngs(n):
    return [generator(0, "contract", number) for number in range(n)]


def left_half(images):
    support = torch.zeros_like(images[:, :1], dtype=torch.bool)
    support[..., : images.shape[-1] // 2] = True
    return support


def entries():
    for name, entry in PERTURBATIONS.items():
        for task in entry.tasks:
            for preset in [None, *entry.presets]:
                if (name, task, preset) != ("fgsm", Task.SEGMENTATION, "foolbox-0.8"):
                    yield pytest.param(name, task, preset, id=f"{name}-{task}-{preset or 'default'}")


def ask(name, task, preset=None):
    wanted = {"name": name, **({"preset": preset} if preset else {})}
    budget = PERTURBATIONS[name].budget
    if budget and not preset:
        wanted[budget] = 0.05
    if name == "dag_c":
        wanted["radius_mm"] = 2
    if name.startswith("dag"):
        wanted["steps"] = 8
    if name == "saliency_map":
        wanted["steps"] = 40
    return request(wanted, task)


every = pytest.mark.parametrize(("name", "task", "preset"), list(entries()))
each = pytest.mark.parametrize(
    ("name", "task"),
    [pytest.param(n, t, id=f"{n}-{t}") for n, entry in PERTURBATIONS.items() for t in entry.tasks],
)

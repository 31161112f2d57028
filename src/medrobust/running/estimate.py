"""How long one image takes, measured on this machine before a run starts."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from medrobust.models import Network, parameter_count
from medrobust.running.batches import at_once
from medrobust.running.setup import Setup
from medrobust.study.config import Study

TRIED = 4
"""Images in the timed batch."""

TIMED = 3
"""How often it is timed at most; the fastest counts, since other programs only ever slow it down."""

ENOUGH = 2.0
"""Seconds after which it is timed no further: slow networks need no repetition, and take long for one."""


class Speed(NamedTuple):
    """What a network costs.

    Attributes:
        forward: Seconds for the prediction of one image.
        gradient: Seconds for one forward pass and the gradient with respect to the image: the unit that
            attacks are counted in.
        parameters: Number of the network's parameters.
    """

    forward: float
    gradient: float
    parameters: int


Speeds = Mapping[str, Speed]
"""Speed of each network, by the name of its model."""


def measured_speeds(setup: Setup) -> Speeds:
    """Time each network of a study on random images; those of further seeds and folds are as fast."""
    generator, tried = torch.Generator().manual_seed(0), at_once(TRIED, setup.dataset.shape)
    images = torch.rand((tried, setup.dataset.channels, *setup.dataset.shape), generator=generator)
    images = images.to(setup.device)
    speeds = {}
    for each in setup.networks:
        if each.id.name in speeds:
            continue
        network = setup.fresh(each).to(setup.device)
        _forward(network, images)  # to warm up
        gradient = _fastest(_gradient, network, images) if setup.has_gradient(each) else 0.0
        forward = _fastest(_forward, network, images)
        speeds[each.id.name] = Speed(forward / tried, gradient / tried, parameter_count(network))
    for each in setup.ensembles:
        one = [speeds[member.id.name] for member in each.members]
        speeds[each.id.name] = Speed(*(sum(values) for values in zip(*one, strict=True)))
    return speeds


@torch.inference_mode()
def _forward(network: Network, images: Tensor) -> None:
    network(images)


def _gradient(network: Network, images: Tensor) -> None:
    inputs = images.clone().requires_grad_()
    torch.autograd.grad(network(inputs).sum(), inputs)


def _fastest(work: Callable[[Network, Tensor], None], network: Network, images: Tensor) -> float:
    """Seconds that work takes, at best."""
    seconds = []
    for _ in range(TIMED):
        start = time.perf_counter()
        work(network, images)
        if images.device.type == "cuda":
            torch.cuda.synchronize(images.device)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > ENOUGH:
            break
    return min(seconds)


def unknown_speeds(study: Study) -> Speeds:
    """No known speeds, for a process that is given its work."""
    return {spec.name: Speed(0.0, 0.0, 0) for spec in (*study.specs, *study.surrogate_specs)}

"""How long one image takes, measured on this machine before a run starts."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from medrobust.core import Dataset
from medrobust.models import Network, parameter_count
from medrobust.running.setup import Setup
from medrobust.study.config import Study

TRIED = 4
"""Images in the timed batch."""

TIMED = 3
"""How often it is timed; the fastest counts, since other programs only ever slow it down."""


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


def measure_speed(network: Network, dataset: Dataset, device: torch.device) -> Speed:
    """Time a prepared network on a few random images of the data's shape, after one warm-up."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((TRIED, dataset.channels, *dataset.shape), generator=generator).to(device)
    _gradient(network, images)
    gradient = _seconds(lambda: _gradient(network, images), device)
    forward = _seconds(lambda: _forward(network, images), device)
    return Speed(forward / TRIED, gradient / TRIED, parameter_count(network))


@torch.inference_mode()
def _forward(network: Network, images: Tensor) -> None:
    network(images)


def _gradient(network: Network, images: Tensor) -> None:
    inputs = images.clone().requires_grad_()
    torch.autograd.grad(network(inputs).sum(), inputs)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    return min(_timed(work, device) for _ in range(TIMED))


def _timed(work: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measured_speeds(setup: Setup) -> Speeds:
    """What each network of a study costs here, by name; those of further seeds and folds are as fast."""
    first = setup.targets[: len(setup.study.specs)]
    return {
        target.id.name: measure_speed(setup.fresh(target).to(setup.device), setup.dataset, setup.device)
        for target in first
    }


def unknown_speeds(study: Study) -> Speeds:
    """Nothing known of any network, for a process that is told what to do."""
    return {spec.name: Speed(0.0, 0.0, 0) for spec in study.specs}

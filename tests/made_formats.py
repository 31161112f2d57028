"""Small networks to be written into files, and what their files are compared with."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medrobust.core import Task
from medrobust.models import Network, build, model_spec

SIDE, CLASSES = 16, 4


def classifier(channels: int = 3) -> nn.Module:
    """With statistics that are not those of a new network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, CLASSES),
        )
        body[1].running_mean = torch.rand(6)
    return body.eval()


def segmenter(channels: int = 1, space: int = 2) -> nn.Module:
    convolution = nn.Conv2d if space == 2 else nn.Conv3d
    with torch.random.fork_rng():
        torch.manual_seed(1)
        body = nn.Sequential(
            convolution(channels, 5, 3, padding=1), nn.ReLU(), convolution(5, CLASSES, 3, padding=1)
        )
    return body.eval()


def images(count: int = 3, channels: int = 3, shape: tuple[int, ...] = (SIDE, SIDE)) -> Tensor:
    return torch.rand(count, channels, *shape, generator=torch.Generator().manual_seed(2))


NAMES = ("a", "b", "c", "d")


def network_of(
    path: Path | str,
    task: Task = Task.CLASSIFICATION,
    *,
    channels: int = 3,
    shape: tuple[int, ...] = (SIDE, SIDE),
    **entry: Any,
) -> Network:
    """What a study makes of `load: path`."""
    spec = model_spec({"name": "mine", "load": str(path), **entry}, task)
    return build(spec, classes=CLASSES, channels=channels, shape=shape, names=NAMES)


def assert_same(network: nn.Module, plain: nn.Module, shown: Tensor, tolerance: float = 1e-5) -> None:
    """The same logits, and the same gradient of a weighted sum of them, alone and in a batch."""
    first, second = shown.clone().requires_grad_(), shown.clone().requires_grad_()
    ours, theirs = network(first), plain(second)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(network(shown[:1]), theirs[:1], rtol=tolerance, atol=tolerance)
    weights = torch.linspace(-1, 1, ours.numel()).view_as(ours)
    gradients = [
        torch.autograd.grad((logits * weights).sum(), given)[0]
        for logits, given in ((ours, first), (theirs, second))
    ]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)

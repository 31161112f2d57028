"""An attack, a noise, a corruption, a network, a score and a data set, each as short as it can be."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from medrobust.core import Dataset
from medrobust.data import in_memory
from medrobust.parameters import Ratio
from medrobust.perturbations import perturbation


@perturbation(
    norms=("2",),
    summary="A step of L2 norm eps that makes all classes equally likely.",
    source="the examples of medrobust",
)
def towards_the_mean(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    support: Tensor | None = None,
    eps: Annotated[Ratio, Ge(0), Le(100)] = 2.0,
) -> Tensor:
    """Step down the gradient of the spread of the logits."""
    leaf = images.clone().requires_grad_()
    spread = model(leaf).var(1).sum()
    (gradient,) = torch.autograd.grad(spread, leaf)
    if support is not None:
        gradient = gradient * support
    # The norm of each image by itself; an image without any gradient stays as it is.
    norms = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *[1] * (images.ndim - 1))
    return (images - eps * gradient / norms).clamp(0, 1)


@perturbation(role="noise", needs="nothing", summary="Noise that is stronger where the image is brighter.")
def speckle(
    model: nn.Module | None,
    images: Tensor,
    labels: Tensor,
    *,
    rngs: Sequence[np.random.Generator],
    strength: Annotated[float, Ge(0), Le(2)],
) -> Tensor:
    """Multiply each pixel by a normal number of mean 1 and standard deviation `strength`."""
    drawn = np.stack([rng.standard_normal(images.shape[1:], dtype=np.float32) for rng in rngs])
    return (images * (1 + strength * torch.from_numpy(drawn).to(images.device))).clamp(0, 1)


def darker(images: Tensor, severity: int) -> Tensor:
    """A corruption: the exposure is too short, by up to 40 %."""
    return images * (1 - 0.08 * severity)


def two_layers(*, classes: int, channels: int, width: Annotated[int, Ge(1)] = 8) -> nn.Module:
    """A small network for photographs."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 5, stride=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


def probability_of_truth(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The probability given to the true class, so that being unsure costs less than being wrong."""
    return probabilities[np.arange(len(labels)), labels]


def rings(images_per_patient: int = 2, patients: int = 30) -> Dataset:
    """Photographs of a ring or a disc on a noisy ground."""
    rng = np.random.default_rng(0)
    number = np.arange(images_per_patient * patients)
    labels = number // images_per_patient % 2
    across = np.hypot(*np.mgrid[-1:1:32j, -1:1:32j])
    shapes = np.stack([across < 0.6, (across > 0.3) & (across < 0.6)])
    images = 0.3 + 0.4 * shapes[labels][:, None] + 0.1 * rng.standard_normal((len(number), 3, 32, 32))
    return in_memory(
        np.clip(images, 0, 1).astype(np.float32),
        labels,
        patients=number // images_per_patient,
        classes=["disc", "ring"],
        name="rings",
    )

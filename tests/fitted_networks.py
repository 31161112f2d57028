"""Networks whose weights have a closed form: they do well on phantoms without any training.

Weights are rounded to three decimals, so that they are the same numbers on every machine.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from medrobust.core import Case, Dataset

RIDGE = 0.1
STEEPNESS = 8.0


class Pooled(nn.Module):
    """Classifies a picture by the mean colours of its tiles."""

    def __init__(self, classes: int, channels: int, tiles: int) -> None:
        super().__init__()
        self.tiles = tiles
        self.head = nn.Linear(channels * tiles**2, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(adaptive_avg_pool2d(images, self.tiles).flatten(1))


def fine(classes: int, channels: int) -> nn.Module:
    return Pooled(classes, channels, 6)


def coarse(classes: int, channels: int) -> nn.Module:
    return Pooled(classes, channels, 3)


class Bayes(nn.Module):
    """Labels a pixel by its place, its brightness and that of its neighbourhood, taken as independent."""

    def __init__(self, classes: int, blur: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(classes, 4))
        self.precision = nn.Parameter(torch.ones(classes, 4))
        self.log_prior = nn.Parameter(torch.zeros(classes))
        self.blur = nn.Conv2d(1, 1, blur, padding=blur // 2, bias=False)
        nn.init.constant_(self.blur.weight, 1 / blur**2)

    def forward(self, images: Tensor) -> Tensor:
        offsets = self.seen(images)[:, None] - self.mean[..., None, None]
        distances = (offsets.square() * self.precision[..., None, None]).sum(2)
        return self.log_prior[:, None, None] - distances / 2

    def seen(self, images: Tensor) -> Tensor:
        """What a pixel is judged by."""
        n, _, height, width = images.shape
        rows = torch.linspace(-1, 1, height).view(1, 1, -1, 1).expand(n, 1, height, width)
        columns = torch.linspace(-1, 1, width).view(1, 1, 1, -1).expand(n, 1, height, width)
        return torch.cat([rows, columns, images, self.blur(images)], 1)


def sharp(classes: int) -> nn.Module:
    return Bayes(classes, 3)


def blurred(classes: int) -> nn.Module:
    return Bayes(classes, 5)


def fit_classifier(
    network: Pooled, dataset: Dataset, cases: Sequence[Case], ridge: float = RIDGE
) -> nn.Module:
    """Ridge regression of the classes, each case weighted by how rare its class is."""
    samples = [dataset.read(case) for case in cases]
    pooled = adaptive_avg_pool2d(torch.from_numpy(np.stack([s.image for s in samples])), network.tiles)
    x = np.column_stack([pooled.flatten(1).double().numpy(), np.ones(len(samples))])
    labels = np.array([int(sample.label) for sample in samples])
    weights = 1 / np.bincount(labels, minlength=len(dataset.classes))[labels]
    y = np.eye(len(dataset.classes))[labels]
    solution = np.linalg.solve((x.T * weights) @ x + ridge * np.eye(x.shape[1]), (x.T * weights) @ y)
    solution = (STEEPNESS * solution).round(3)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(solution[:-1].T))
        network.head.bias.copy_(torch.from_numpy(solution[-1]))
    return network


def fit_findings(network: Pooled, dataset: Dataset, cases: Sequence[Case]) -> nn.Module:
    """Ridge regression of each finding, 1 where it is present and -1 where it is absent."""
    samples = [dataset.read(case) for case in cases]
    pooled = adaptive_avg_pool2d(torch.from_numpy(np.stack([s.image for s in samples])), network.tiles)
    x = np.column_stack([pooled.flatten(1).double().numpy(), np.ones(len(samples))])
    y = 2.0 * np.stack([sample.label for sample in samples]) - 1
    solution = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    solution = (STEEPNESS * solution).round(3)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(solution[:-1].T))
        network.head.bias.copy_(torch.from_numpy(solution[-1]))
    return network


@torch.no_grad()
def fit_segmenter(network: Bayes, dataset: Dataset, cases: Sequence[Case]) -> nn.Module:
    """Mean and variance of what the pixels of each class show."""
    seen, labels = [], []
    for case in cases:
        image, label = dataset.read(case)
        seen.append(network.seen(torch.from_numpy(image)[None])[0].flatten(1).T.double())
        labels.append(torch.from_numpy(label).flatten())
    pixels, classes = torch.cat(seen), torch.cat(labels)
    counts = Counter(classes.tolist())
    for k in range(len(dataset.classes)):
        own = pixels[classes == k]
        variance = own.var(0) + 0.002
        network.mean[k] = own.mean(0).mul(1000).round() / 1000
        network.precision[k] = (1 / variance).mul(1000).round() / 1000
        network.log_prior[k] = round(float(np.log(counts[k] / len(classes)) - variance.log().sum() / 2), 3)
    return network


def save(network: nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)

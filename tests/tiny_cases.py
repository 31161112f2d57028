"""Data sets that live in memory, and networks that do well on them, for tests of the steps."""

from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from medrobust.core import UNKNOWN, Case, Dataset, Sample, Task
from medrobust.models import Network
from medrobust.rng import generator


class ByChannel(nn.Module):
    """Classifies an image by its brightest channel, and looks at its texture a little."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        with torch.no_grad():
            noise = generator(seed, "weights").standard_normal((3, 3, 3, 3))
            noise -= noise.mean((2, 3), keepdims=True)  # looks at edges, not at brightness
            self.conv.weight.copy_(torch.from_numpy(0.3 * noise))
            self.conv.weight[range(3), range(3), 1, 1] += 2.0
            self.conv.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return 4 * torch.tanh(self.conv(images)).mean((2, 3))


class ByBrightness(nn.Module):
    """Labels a pixel by its brightness: dark, grey or white."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor([0.0, 0.45, 0.9]) + 0.01 * seed)
        self.blur = nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate", bias=False)
        with torch.no_grad():
            self.blur.weight.fill_(1 / 9)

    def forward(self, images: Tensor) -> Tensor:
        return -30 * (0.5 * images + 0.5 * self.blur(images) - self.levels.view(1, 3, 1, 1)).square()


def wrapped(body: nn.Module, channels: int) -> Network:
    network = Network(
        body,
        channels=channels,
        findings=isinstance(body, ByThreshold),
        features=lambda body, images: (
            body(images).flatten(2).mean(2) if images.shape[1] == 1 else body(images)
        ),
    )
    return network.eval().requires_grad_(False)


def photos(n: int = 10, size: int = 16) -> Dataset:
    """Photos of three classes, two per patient; a few are ambiguous."""

    def read(case: Case) -> Sample:
        rng = generator(0, "photo", case.case_id)
        image = rng.uniform(0.3, 0.5, (3, size, size))
        image[case.label] += 0.04 if case.position == 0 else -0.05
        return Sample(image.astype(np.float32), np.array(case.label, np.int64))

    cases = [Case(f"p{i:02d}", f"p{i:02d}", f"patient{i // 2}", label=i % 3) for i in range(n)]
    cases[4] = replace(cases[4], position=1)  # darkest where the others are brightest: always wrong
    return Dataset(
        name="photos",
        task=Task.CLASSIFICATION,
        classes=("a", "b", "c"),
        unit="patient",
        channels=3,
        shape=(size, size),
        spacing=None,
        cases=tuple(cases),
        read=read,
        fingerprint="photos-1",
    )


def findings(n: int = 10, size: int = 16) -> Dataset:
    """Photos with any of three findings, each a bright channel; one of them is not known in one photo."""
    whole = photos(n, size)
    labels = [(i % 2, i // 2 % 2, (i + 1) // 3 % 2) for i in range(n)]
    labels[3] = (UNKNOWN, *labels[3][1:])

    def read(case: Case) -> Sample:
        label = np.array(case.label, np.int64)
        rng = generator(0, "photo", case.case_id)
        image = rng.uniform(0.3, 0.5, (3, size, size)) + 0.1 * (label == 1)[:, None, None]
        return Sample(image.astype(np.float32), label)

    cases = (replace(case, label=label) for case, label in zip(whole.cases, labels, strict=True))
    return replace(
        whole,
        name="findings",
        task=Task.MULTILABEL,
        cases=tuple(cases),
        read=read,
        fingerprint="findings-1",
    )


class ByThreshold(ByChannel):
    """Names each finding by the brightness of its channel."""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * (self.conv(images).mean((2, 3)) / 2 - 0.45)


def scans(slices: tuple[int, ...] = (3, 5, 4), size: int = 28) -> Dataset:
    """Slices of scans of different length: a grey disk with a white square on a black ground."""
    rows, columns = np.mgrid[:size, :size] - size / 2 + 0.5

    def read(case: Case) -> Sample:
        rng = generator(0, "slice", case.case_id)
        label = (rows**2 + columns**2 < (size * 0.4) ** 2).astype(np.int64)
        shift = case.position - 2
        label[(np.abs(rows - shift) < 3) & (np.abs(columns) < 3) & (label > 0)] = 2
        image = 0.45 * label + rng.uniform(0.01, 0.05, label.shape)
        return Sample((image * (label > 0)).astype(np.float32)[None], label)

    cases = [
        Case(f"s{scan}-{n}", f"s{scan}", f"patient{scan}", position=n, foreground=200 + n)
        for scan, number in enumerate(slices)
        for n in range(number)
    ]
    return Dataset(
        name="scans",
        task=Task.SEGMENTATION,
        classes=("ground", "disk", "square"),
        unit="patient",
        channels=1,
        shape=(size, size),
        spacing=(2.0, 2.0),
        cases=tuple(cases),
        read=read,
        fingerprint="scans-1",
        bits=12,
    )


def counting(dataset: Dataset) -> tuple[Dataset, Counter[str]]:
    """The data set, and how often each of its cases was read."""
    reads: Counter[str] = Counter()

    def read(case: Case) -> Sample:
        reads[case.case_id] += 1
        return dataset.read(case)

    return replace(dataset, read=read), reads

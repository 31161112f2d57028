"""Tiny data sets in memory, easy enough to be learnt in seconds."""

import numpy as np

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.rng import generator


def squares(scans: int = 4, slices: int = 6, shape: tuple[int, int] = (20, 18), channels: int = 1) -> Dataset:
    """Segmentation: a bright square and a darker one on black; the classes are told apart by brightness."""

    def read(case: Case) -> Sample:
        rng = generator(0, case.case_id)
        label = np.zeros(shape, np.int64)
        for structure, (top, left) in enumerate(((1, 1), (10, 9)), start=1):
            top, left = top + rng.integers(0, 3), left + rng.integers(0, 3)
            label[top : top + 6, left : left + 6] = structure
        image = 0.4 * label + 0.02 * rng.standard_normal((channels, *shape))
        return Sample(np.clip(image, 0, 1).astype(np.float32), label)

    cases = [
        Case(f"s{scan}-{index}", f"s{scan}", f"p{scan}", position=index, foreground=72)
        for scan in range(scans)
        for index in range(slices)
    ]
    return _dataset(
        "squares", Task.SEGMENTATION, ("background", "dark", "bright"), channels, shape, cases, read
    )


def stripes(cases: int = 24, shape: tuple[int, int] = (32, 32), channels: int = 3) -> Dataset:
    """Classification: horizontal or vertical stripes, told apart at a glance."""

    def read(case: Case) -> Sample:
        rng = generator(0, case.case_id)
        wave = 0.5 + 0.4 * np.sin(np.arange(shape[0]) + rng.uniform(0, 6))
        image = np.broadcast_to(wave[:, None] if case.label else wave[None, :], (channels, *shape))
        return Sample(image.astype(np.float32), np.array(case.label, np.int64))

    photos = [Case(f"c{index:02d}", f"c{index:02d}", f"p{index // 2}", index % 2) for index in range(cases)]
    return _dataset("stripes", Task.CLASSIFICATION, ("vertical", "horizontal"), channels, shape, photos, read)


def _dataset(name, task, classes, channels, shape, cases, read) -> Dataset:
    return Dataset(
        name=name,
        task=task,
        classes=classes,
        unit="patient",
        channels=channels,
        shape=shape,
        spacing=None,
        cases=tuple(cases),
        read=read,
        fingerprint=f"{name}-{len(cases)}-{shape}-{channels}",
    )

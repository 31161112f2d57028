"""Cases of a data set, stacked into tensors."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from medrobust.core import Case, Dataset


class Batch(NamedTuple):
    """Some cases: images in [0, 1] of shape `n c *space`, labels of shape `n` or `n *space`."""

    cases: tuple[Case, ...]
    images: Float[Tensor, "n c *space"]
    labels: Int64[Tensor, "n *labelspace"]

    def part(self, place: slice) -> "Batch":
        """Some of the cases."""
        return Batch(self.cases[place], self.images[place], self.labels[place])


def stack(dataset: Dataset, cases: Sequence[Case], device: torch.device) -> Batch:
    """Read some cases and put them on a device."""
    samples = [dataset.read(case) for case in cases]
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    labels = torch.from_numpy(np.stack([sample.label for sample in samples]))
    return Batch(tuple(cases), images.to(device), labels.to(device))


def batches(
    dataset: Dataset, cases: Sequence[Case], batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """Read cases in order, `batch_size` at a time; the next batch is read while one is used.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    parts = (cases[start : start + batch_size] for start in range(0, len(cases), batch_size))
    return _one_ahead(dataset, parts, device)


def evenly_spaced(cases: Sequence[Case], count: int) -> tuple[Case, ...]:
    """At most so many of the cases, from the first to the last."""
    places = np.unique(np.linspace(0, len(cases) - 1, min(len(cases), count)).round().astype(int))
    return tuple(cases[place] for place in places)


def _one_ahead(dataset: Dataset, parts: Iterable[Sequence[Case]], device: torch.device) -> Iterator[Batch]:
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = None
        for part in parts:
            following = reader.submit(stack, dataset, part, device)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()

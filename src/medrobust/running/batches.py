"""Cases of a data set, stacked into tensors."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from medrobust.core import Case, Dataset


class Batch(NamedTuple):
    """Some cases, their images in [0, 1] and their labels: classes, or label maps of the images' size."""

    cases: tuple[Case, ...]
    images: Float[Tensor, "n c *space"]
    labels: Int64[Tensor, "n *labelspace"]

    def part(self, place: slice | list[int]) -> "Batch":
        """Some of the cases."""
        cases = self.cases[place] if isinstance(place, slice) else tuple(self.cases[each] for each in place)
        return Batch(cases, self.images[place], self.labels[place])


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
    """At most `count` of the cases, from the first to the last."""
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


VOXELS_AT_ONCE = 2**18


def at_once(count: int, shape: Sequence[int]) -> int:
    """How many of `count` images of this spatial shape are worked on together.

    All of them, but of volumes no more than have `VOXELS_AT_ONCE` voxels, or one: a network for volumes
    works longer on a voxel, and keeps more of it in memory, than one for slices on a pixel.
    """
    return count if len(shape) < 3 else max(1, min(count, VOXELS_AT_ONCE // math.prod(shape)))


CHUNK_CASES = 32
CHUNK_BYTES = 64 * 2**20
"""A chunk of work is closed at this many cases or bytes of images, whichever comes first."""


@dataclass(frozen=True, eq=False)
class Chunks(Sequence[tuple[Case, ...]]):
    """Cases in chunks of work, shared by all sets that have them. Equal if their digests are."""

    items: tuple[tuple[Case, ...], ...]

    @cached_property
    def digest(self) -> str:
        """Short hash of the cases and of how they are divided."""
        whole = hashlib.sha256()
        for chunk in self.items:
            whole.update(json.dumps([case.case_id for case in chunk]).encode())
        return whole.hexdigest()[:16]

    @cached_property
    def n_cases(self) -> int:
        """Number of all cases."""
        return sum(map(len, self.items))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: Any) -> Any:
        return self.items[number]

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Chunks) and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)


def work_chunks(dataset: Dataset, cases: Iterable[Case]) -> Chunks:
    """Divide cases into chunks of work: whole scans, in the order of patients, scans and positions."""
    image_bytes = 4 * dataset.channels * math.prod(dataset.shape)
    size = min(at_once(CHUNK_CASES, dataset.shape), CHUNK_BYTES // image_bytes)
    scans: dict[tuple[str, str], list[Case]] = {}
    for case in sorted(cases, key=lambda case: (case.patient_id, case.scan_id, case.position, case.case_id)):
        scans.setdefault((case.patient_id, case.scan_id), []).append(case)
    chunks: list[list[Case]] = []
    for scan in scans.values():
        if chunks and len(chunks[-1]) + len(scan) <= size:
            chunks[-1] += scan
        else:
            chunks.append(scan)
    return Chunks(tuple(tuple(chunk) for chunk in chunks))


Result = TypeVar("Result")


class Limit:
    """How many images are worked on together. Shared by all steps of a process; it only ever shrinks.

    Attributes:
        size: How many at most.
        shrunk: True once memory has not sufficed.
    """

    def __init__(self, size: int = 16) -> None:
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}.")
        self.size = size
        self.shrunk = False

    def parts(self, count: int, work: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
        """Work on `count` images part by part, halving a part that does not fit into memory.

        Yields:
            The place of a part and the result of the work on it.

        Raises:
            MemoryError: A single image does not fit; on a GPU `torch.OutOfMemoryError`.
        """
        start = 0
        while start < count:
            place = slice(start, min(start + self.size, count))
            try:
                result = work(place)
            except (MemoryError, torch.OutOfMemoryError):
                if place.stop - place.start == 1:
                    raise
                self.size, self.shrunk = (place.stop - place.start + 1) // 2, True
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()  # so that smaller blocks can be had
                continue
            yield place, result
            start = place.stop

"""Cases in chunks of work: whole scans, 10 to 60 seconds of crafting each."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medrobust.core import Case, Dataset

CHUNK_CASES = 32
CHUNK_BYTES = 64 * 2**20
"""A chunk of work is closed at this many cases or bytes of images, whichever comes first."""


@dataclass(frozen=True, eq=False)
class Chunks(Sequence[tuple[Case, ...]]):
    """Cases in chunks of work; cut once and shared by all sets that have them. Equal if their digests are."""

    items: tuple[tuple[Case, ...], ...]

    @cached_property
    def digest(self) -> str:
        """Short hash of which cases there are, and of how they are cut."""
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
    """Cut cases into chunks of work: whole scans, in the order of patients, scans and positions."""
    image_bytes = 4 * dataset.channels * int(np.prod(dataset.shape))
    size = max(1, min(CHUNK_CASES, CHUNK_BYTES // image_bytes))
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

"""Slices of labelled scans as cases: decoded once into the cache folder, then read from memory maps."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from medrobust.core import Case, Sample
from medrobust.data.cache import cached_array
from medrobust.data.resampling import resample_image, resample_labels
from medrobust.data.volumes import (
    Axis,
    Intensity,
    bounding_box,
    fit_canvas,
    normalise,
    on_canvas,
    read_volume,
    slices_along,
)
from medrobust.errors import DataError

SCANS_IN_MEMORY = 4


@dataclass(frozen=True, slots=True)
class ScanFiles:
    """One scan on disk.

    Attributes:
        scan_id: Unique in its data set.
        patient_id: Whose it is.
        image: File of the intensities.
        labels: File of the labels, on the same grid.
    """

    scan_id: str
    patient_id: str
    image: Path
    labels: Path


ClassesOf = Callable[[UInt16[np.ndarray, "x y z"], Path], UInt8[np.ndarray, "x y z"]]
"""Turns the label numbers of a file into class indices, or raises a DataError that names the file."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a scan becomes slices.

    Attributes:
        axis: Along which it is cut.
        spacing: Size of a voxel in mm after resampling.
        intensity: What becomes 1.
        classes_of: A function at module level, so that a reader may be sent to other processes.
    """

    axis: Axis
    spacing: float
    intensity: Intensity
    classes_of: ClassesOf


class Stack(NamedTuple):
    """The slices of a scan, all cut to the rows and columns that are not air."""

    images: Float32[np.ndarray, "s h w"]
    labels: UInt8[np.ndarray, "s h w"]


@dataclass(frozen=True, slots=True)
class SliceReader:
    """Reads the sample of a case; the `read` of a `Dataset`.

    Attributes:
        scans: Scans by id.
        digests: SHA-256 by scan id, of the scan's files and how they are decoded.
        decoding: How a scan becomes slices.
        cache: Folder for decoded scans; None keeps the last few in memory.
        canvas: Height and width of every image.
    """

    scans: Mapping[str, ScanFiles]
    digests: Mapping[str, str]
    decoding: Decoding
    cache: Path | None
    canvas: tuple[int, int]

    def __call__(self, case: Case) -> Sample:
        """Image and labels of a case, on the canvas."""
        stack = open_stack(self.scans[case.scan_id], self.digests[case.scan_id], self.decoding, self.cache)
        image = on_canvas(stack.images[case.position], self.canvas)
        labels = on_canvas(stack.labels[case.position], self.canvas)
        return Sample(image[None], labels.astype(np.int64))


class Slices(NamedTuple):
    """What a `Dataset` needs of its scans."""

    cases: tuple[Case, ...]
    read: SliceReader
    fingerprint: str


def open_slices(
    scans: Sequence[ScanFiles],
    decoding: Decoding,
    canvas: Literal["auto"] | tuple[int, int],
    cache: Path | None,
    revision: int,
) -> Slices:
    """Decode scans where they are not in the cache, and list their slices.

    Args:
        scans: All scans.
        decoding: How a scan becomes slices.
        canvas: Height and width of every image; "auto" takes the smallest multiples of 16 that all fit in.
        cache: Folder for decoded scans.
        revision: Raised with every change of what decoding gives.

    Returns:
        The cases, one for each slice that holds a label, their reader, and the fingerprint of all of it.

    Raises:
        DataError: A scan that cannot be used, or a canvas that is too small for one.
    """
    digests = {scan.scan_id: _digest(scan, decoding, revision) for scan in scans}
    cases: list[Case] = []
    extents: dict[str, tuple[int, int]] = {}
    for scan in scans:
        stack = open_stack(scan, digests[scan.scan_id], decoding, cache)
        cases += _cases(scan, stack, decoding.axis)
        extents[scan.scan_id] = stack.images.shape[1:]
    size = fit_canvas(canvas, extents)
    reader = SliceReader({scan.scan_id: scan for scan in scans}, digests, decoding, cache, size)
    fingerprint = _sha256(*chain.from_iterable(sorted(digests.items())), *map(str, size))
    return Slices(tuple(sorted(cases, key=lambda case: case.case_id)), reader, fingerprint)


@lru_cache(maxsize=SCANS_IN_MEMORY)
def open_stack(scan: ScanFiles, digest: str, decoding: Decoding, cache: Path | None) -> Stack:
    """The slices of a scan; `digest` names the decoded arrays in the cache."""
    decoded = lru_cache(maxsize=1)(lambda: decode(scan, decoding))
    key = f"{scan.scan_id}-{digest[:16]}"
    return Stack(
        cached_array(cache, f"{key}-images", lambda: decoded().images),
        cached_array(cache, f"{key}-labels", lambda: decoded().labels),
    )


def decode(scan: ScanFiles, decoding: Decoding) -> Stack:
    """Read, normalise, resample and cut a scan.

    Raises:
        DataError: Its files cannot be used.
    """
    volume = read_volume(scan.image, scan.labels)
    classes = decoding.classes_of(volume.labels, scan.labels)
    image = normalise(volume.image, decoding.intensity, str(scan.image))
    image = np.clip(resample_image(image, volume.spacing, decoding.spacing), 0, 1)
    classes = resample_labels(classes, volume.spacing, decoding.spacing)
    images, labels = slices_along(image, decoding.axis), slices_along(classes, decoding.axis)
    if not labels.any():
        raise DataError(f"{scan.labels} labels nothing but background.")
    rows, columns = bounding_box((images > 0) | (labels > 0))
    return Stack(*(np.ascontiguousarray(stack[:, rows, columns]) for stack in (images, labels)))


def _cases(scan: ScanFiles, stack: Stack, axis: Axis) -> list[Case]:
    foreground = np.count_nonzero(stack.labels, axis=(1, 2))
    return [
        Case(
            case_id=f"{scan.scan_id}-{axis}-{position:03d}",
            scan_id=scan.scan_id,
            patient_id=scan.patient_id,
            position=int(position),
            foreground=int(foreground[position]),
        )
        for position in np.flatnonzero(foreground)
    ]


def _digest(scan: ScanFiles, decoding: Decoding, revision: int) -> str:
    parts = [decoding.axis, str(decoding.spacing), decoding.intensity, str(revision)]
    for path in (scan.image, scan.labels):
        try:
            with path.open("rb") as file:
                parts.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}.") from None
    return _sha256(*parts)


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

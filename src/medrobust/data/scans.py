"""Slices of labelled scans as cases: decoded once into the cache folder, then read from memory maps."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Float32, UInt8

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data.cache import cached_array
from medrobust.data.geometry import Affine, resampled, shifted, spacing_of, turned
from medrobust.data.listing import ClassesOf, Scan, Scans
from medrobust.data.resampling import resample_image, resample_labels
from medrobust.data.volumes import (
    CANVAS_STEP,
    VIEWS,
    Axis,
    Intensity,
    bounding_box,
    fit_canvas,
    margins,
    normalise,
    on_canvas,
    read_volume,
    slices_along,
)
from medrobust.errors import DataError

REVISION = 1
"""Raised with every change of what images or labels hold: it is part of the fingerprint."""

SCANS_IN_MEMORY = 4

Side = Annotated[int, Ge(1)]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a scan becomes slices.

    Attributes:
        axis: Along which it is cut.
        spacing: Size of a voxel in mm after resampling.
        intensity: What becomes 1.
        classes_of: What the label numbers in the files mean.
    """

    axis: Axis
    spacing: float
    intensity: Intensity
    classes_of: ClassesOf


class Stack(NamedTuple):
    """The slices of a scan, all cut to the rows and columns that are not air, and where they lie."""

    images: Float32[np.ndarray, "s h w"]
    labels: UInt8[np.ndarray, "s h w"]
    affine: Affine


@dataclass(frozen=True, slots=True)
class SliceReader:
    """Reads the sample of a case, and where a scan lies; the `read` and `affine` of a `Dataset`.

    Attributes:
        scans: Scans by id.
        digests: SHA-256 by scan id, of the scan's files and how they are decoded.
        decoding: How a scan becomes slices.
        cache: Folder for decoded scans; None keeps the last few in memory.
        canvas: Height and width of every image.
    """

    scans: Mapping[str, Scan]
    digests: Mapping[str, str]
    decoding: Decoding
    cache: Path | None
    canvas: tuple[int, int]

    def __call__(self, case: Case) -> Sample:
        """Image and labels of a case, on the canvas."""
        stack = self._stack(case.scan_id)
        image = on_canvas(stack.images[case.position], self.canvas)
        labels = on_canvas(stack.labels[case.position], self.canvas)
        return Sample(image[None], labels.astype(np.int64))

    def affine(self, scan_id: str) -> Affine:
        """From slice, row and column of a scan's slices on the canvas to world millimetres."""
        stack = self._stack(scan_id)
        top, left = margins(self.canvas, stack.images.shape[1:])
        return shifted(stack.affine, (0, -top, -left))

    def _stack(self, scan_id: str) -> Stack:
        return open_stack(self.scans[scan_id], self.digests[scan_id], self.decoding, self.cache)


def open_scans(
    name: str,
    listing: Scans,
    cache: Path | None,
    *,
    axis: Axis = "coronal",
    spacing: Annotated[float, Gt(0)] = 2.0,
    canvas: Literal["auto"] | tuple[Side, Side] = "auto",
    intensity: Intensity = "percentile-99.5",
) -> Dataset:
    """Scans that an adapter has listed, cut to slices, as a data set; a slice without any label is no case.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder for decoded scans; None decodes a scan again whenever others were read in between.
        axis: Along which the scans are cut.
        spacing: Size of a voxel in mm, along all axes, to which scans are resampled before they are cut.
        canvas: Height and width in pixels of every slice, the scan in its middle; "auto" takes the smallest
            multiples of 16 that every scan fits in.
        intensity: Per scan, what becomes 1, the minimum becoming 0.

    Raises:
        DataError: A file cannot be used (see `volumes.read_volume`), holds an unknown label or nothing but
            background, or the canvas is too small.
    """
    decoding = Decoding(axis, spacing, intensity, listing.classes_of)
    digests = {scan.scan_id: _digest(scan, decoding) for scan in listing.items}
    cases: list[Case] = []
    extents: dict[str, tuple[int, int]] = {}
    for scan in listing.items:
        stack = open_stack(scan, digests[scan.scan_id], decoding, cache)
        cases += _cases(scan, stack, decoding.axis)
        extents[scan.scan_id] = stack.images.shape[1:]
    size = fit_canvas(canvas, extents)
    reader = SliceReader({scan.scan_id: scan for scan in listing.items}, digests, decoding, cache, size)
    return Dataset(
        name=name,
        task=Task.SEGMENTATION,
        classes=listing.classes,
        unit=listing.unit,
        channels=1,
        shape=size,
        spacing=(spacing, spacing),
        cases=tuple(sorted(cases, key=lambda case: case.case_id)),
        read=reader,
        fingerprint=_sha256(*chain.from_iterable(sorted(digests.items())), *map(str, size)),
        official=listing.official,
        facts={**listing.facts, **_facts(decoding, size)},
        bits=12,
        affine=reader.affine,
    )


@lru_cache(maxsize=SCANS_IN_MEMORY)
def open_stack(scan: Scan, digest: str, decoding: Decoding, cache: Path | None) -> Stack:
    """The slices of a scan; `digest` names the decoded arrays in the cache."""
    decoded = lru_cache(maxsize=1)(lambda: decode(scan, decoding))
    key = f"{scan.scan_id}-{digest[:16]}"
    return Stack(
        cached_array(cache, f"{key}-images", lambda: decoded().images),
        cached_array(cache, f"{key}-labels", lambda: decoded().labels),
        cached_array(cache, f"{key}-affine", lambda: decoded().affine),
    )


def decode(scan: Scan, decoding: Decoding) -> Stack:
    """Read, normalise, resample and cut a scan.

    Raises:
        DataError: Its files cannot be used.
    """
    volume = read_volume(scan.image, scan.labels)
    old = spacing_of(volume.affine)
    classes = decoding.classes_of(volume.labels, scan.labels)
    image = normalise(volume.image, decoding.intensity, str(scan.image))
    image = np.clip(resample_image(image, old, decoding.spacing), 0, 1)
    classes = resample_labels(classes, old, decoding.spacing)
    affine = resampled(volume.affine, volume.image.shape, image.shape, decoding.spacing)
    images, labels = slices_along(image, decoding.axis), slices_along(classes, decoding.axis)
    if not labels.any():
        raise DataError(f"{scan.labels} labels nothing but background.")
    rows, columns = bounding_box((images > 0) | (labels > 0))
    return Stack(
        np.ascontiguousarray(images[:, rows, columns]),
        np.ascontiguousarray(labels[:, rows, columns]),
        shifted(turned(affine, image.shape, VIEWS[decoding.axis][0]), (0, rows.start, columns.start)),
    )


def _cases(scan: Scan, stack: Stack, axis: Axis) -> list[Case]:
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


def _digest(scan: Scan, decoding: Decoding) -> str:
    parts = [decoding.axis, str(decoding.spacing), decoding.intensity, str(REVISION), scan.patient_id]
    for path in (scan.image, scan.labels):
        try:
            with path.open("rb") as file:
                parts.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}.") from None
    return _sha256(*parts)


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _facts(decoding: Decoding, canvas: tuple[int, int]) -> dict[str, str]:
    brightest = (
        "maximum" if decoding.intensity == "min-max" else "99.5th percentile of the voxels above the minimum"
    )
    return {
        "orientation": f"read from the affine; {decoding.axis} slices, {VIEWS[decoding.axis][1]}",
        "spacing": (
            f"resampled to {decoding.spacing:g} mm: images by the mean over the new voxel, "
            "labels by the structure that fills most of it"
        ),
        "canvas": f"{canvas[0]} x {canvas[1]} pixels, scan centred; auto: multiples of {CANVAS_STEP}",
        "intensity": f"per scan, minimum to 0 and {brightest} to 1, clipped",
        "cases": "slices that hold at least one structure",
    }

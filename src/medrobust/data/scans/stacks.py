"""Decoded scans: read, normalised, resampled and cut, once into the cache folder, then from memory maps."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from medrobust.core import OnProgress, silent
from medrobust.data.cache import cached_array
from medrobust.data.listing import Scan
from medrobust.data.reading import in_threads, threads
from medrobust.data.scans.geometry import Affine, resampled, shifted, spacing_of, turned
from medrobust.data.scans.intensity import Intensity, normalise
from medrobust.data.scans.labels import LabelMap
from medrobust.data.scans.resampling import resample_image, resample_labels
from medrobust.data.scans.stored import MOST_VOXELS
from medrobust.data.scans.views import VIEWS, Axis, bounding_box, imaged_slices, slices_along
from medrobust.data.scans.volumes import read_volume
from medrobust.errors import DataError

REVISION = 2
"""Raised with every change of what images or labels hold, or of what is a case; part of the fingerprint."""

SCANS_IN_MEMORY = 4

VOXELS_AT_ONCE = 2**26
"""Large scans are decoded one by one, to keep memory in bounds: one takes 10 bytes a voxel, or up to 22 where
it is resampled."""

Cut = Axis | Literal["volume"]
"""Along which axis a scan is cut to slices, or that it is left whole."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a scan becomes a stack of slices.

    Attributes:
        axis: Along which it is cut. Whole volumes are turned as stacks of axial slices are.
        spacing: Size of a voxel in mm after resampling.
        intensity: How intensities are normalised.
        classes_of: What the label numbers in the files mean.
    """

    axis: Cut
    spacing: float
    intensity: Intensity
    classes_of: LabelMap

    @property
    def view(self) -> Axis:
        """How the stack is turned."""
        return "axial" if self.axis == "volume" else self.axis


class Stack(NamedTuple):
    """The slices of a scan, all cut to the rows and columns that are not air, and where they lie.

    Attributes:
        images: In [0, 1].
        labels: Class indices.
        affine: From slice, row and column to world millimetres.
        imaged: The first slice that shows anything in any channel, and the one after the last.
    """

    images: Float32[np.ndarray, "c s h w"]
    labels: UInt8[np.ndarray, "s h w"]
    affine: Affine
    imaged: Int64[np.ndarray, "2"]


class Outline(NamedTuple):
    """What is kept of every stack.

    Attributes:
        channels: Of its images.
        extent: Its sides.
        foreground: How many voxels of each slice are labelled.
        imaged: From the first to the last slice that shows anything: the extent of the scan, by its image.
    """

    channels: int
    extent: tuple[int, ...]
    foreground: tuple[int, ...]
    imaged: range


def outlines(
    scans: Sequence[Scan],
    digests: Sequence[str],
    decoding: Decoding,
    cache: Path | None,
    progress: OnProgress = silent,
) -> list[Outline]:
    """The outlines of all scans, in their order; several are decoded at once, into the cache.

    Raises:
        DataError: Of the first scan that cannot be used. Those before it are in the cache.
    """

    def outline(scan_and_digest: tuple[Scan, str]) -> Outline:
        stack = open_stack(*scan_and_digest, decoding, cache)
        foreground = np.count_nonzero(stack.labels, axis=(1, 2))
        imaged = range(*map(int, stack.imaged))
        return Outline(len(stack.images), stack.labels.shape, tuple(map(int, foreground)), imaged)

    largest = max(scan.format.claimed_voxels(path) for scan in scans for path in scan.images)
    most = max(1, min(threads(), VOXELS_AT_ONCE // max(largest, 1)))
    return in_threads(outline, list(zip(scans, digests, strict=True)), progress, "scan", most)


@lru_cache(maxsize=SCANS_IN_MEMORY)
def open_stack(scan: Scan, digest: str, decoding: Decoding, cache: Path | None) -> Stack:
    """The stack of a scan; `digest` names the decoded arrays in the cache."""
    decoded = lru_cache(maxsize=1)(lambda: decode(scan, decoding))
    key = f"{scan.scan_id}-{digest[:16]}"
    return Stack(
        cached_array(cache, f"{key}-images", lambda: decoded().images),
        cached_array(cache, f"{key}-labels", lambda: decoded().labels),
        cached_array(cache, f"{key}-affine", lambda: decoded().affine),
        cached_array(cache, f"{key}-imaged", lambda: decoded().imaged),
    )


def decode(scan: Scan, decoding: Decoding) -> Stack:
    """Read, normalise, resample and cut a scan.

    Raises:
        DataError: Its files cannot be used.
    """
    image, labels, place = read_volume(scan.images, scan.labels, scan.format)
    old, shape = spacing_of(place), labels.shape
    _require_size(shape, old, decoding.spacing, scan.image)
    classes = decoding.classes_of(labels, scan.labels)
    del labels  # here and below: volumes are large
    is_labelled = bool(classes.any())
    classes = resample_labels(classes, old, decoding.spacing)
    if is_labelled and not classes.any():
        raise DataError(
            f"{scan.labels}: no structure fills most of any voxel of {decoding.spacing:g} mm. "
            "Take a smaller spacing."
        )
    affine = resampled(place, shape, classes.shape, decoding.spacing)
    images = [normalise(one, decoding.intensity, where) for one, where in _channels(image, scan)]
    del image
    for number in range(len(images)):
        images[number] = _clipped(resample_image(images[number], old, decoding.spacing))
    return _cut(images, classes, affine, decoding)


def digest_of(scan: Scan, decoding: Decoding) -> str:
    """SHA-256 of a scan's files and of how they are decoded.

    Raises:
        DataError: A file cannot be read.
    """
    parts = [decoding.axis, str(decoding.spacing), str(decoding.intensity), str(REVISION), scan.patient_id]
    parts.append(repr(decoding.classes_of.numbers))
    parts += [scan.format.digest(path) for path in (*scan.images, scan.labels)]
    return sha256(*parts)


def sha256(*parts: str) -> str:
    """SHA-256 of some texts."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _channels(image: np.ndarray, scan: Scan) -> list[tuple[np.ndarray, str]]:
    """Each channel, and what to call it."""
    if len(image) == len(scan.images):
        return [(channel, str(path)) for channel, path in zip(image, scan.images, strict=True)]
    return [(channel, f"{scan.image}, channel {number}") for number, channel in enumerate(image)]


def _clipped(image: Float32[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
    return np.clip(image, 0, 1, out=image)


def _cut(images: list[np.ndarray], classes: np.ndarray, affine: Affine, decoding: Decoding) -> Stack:
    """The stack, as its own arrays, cut to the box of what is not air; slices are all kept."""
    stacks, labels = (
        [slices_along(image, decoding.view) for image in images],
        slices_along(classes, decoding.view),
    )
    slices, rows, columns = bounding_box(np.logical_or.reduce([labels > 0, *(stack > 0 for stack in stacks)]))
    imaged = imaged_slices(stacks)
    if decoding.axis != "volume":
        slices = slice(0, len(labels))
    first = (slices.start, rows.start, columns.start)
    return Stack(
        np.stack([stack[slices, rows, columns] for stack in stacks]),
        np.ascontiguousarray(labels[slices, rows, columns]),
        shifted(turned(affine, classes.shape, VIEWS[decoding.view][0]), first),
        np.array([imaged.start, imaged.stop]) - slices.start,
    )


def _require_size(shape: Sequence[int], old: Sequence[float], new: float, path: Path) -> None:
    """Said before memory is taken."""
    wanted = [ceil(side * size / new) for side, size in zip(shape, old, strict=True)]
    if prod(wanted) > MOST_VOXELS:
        raise DataError(
            f"data.spacing: {new:g} mm makes {' x '.join(map(str, wanted))} voxels of {path}; at most "
            f"{MOST_VOXELS:,} are possible. Take a larger one."
        )

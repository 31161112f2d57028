"""Labelled scans as cases: slices, whole volumes, or patches that tile them.

A scan is read, normalised, resampled and cut into a stack of slices once, in the cache folder; cases are
regions of its stack, read from memory maps.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from math import ceil, prod
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Float32, Int64, UInt8

from medrobust.core import UNKNOWN, Case, Dataset, Grid, OnProgress, Sample, Task, silent
from medrobust.data.cache import cached_array
from medrobust.data.findings import quoted
from medrobust.data.listing import Scan, Scans
from medrobust.data.reading import in_threads, part_of, threads
from medrobust.data.scans.geometry import (
    CANVAS_STEP,
    FLAT,
    VIEWS,
    Affine,
    Axis,
    Cut,
    bounding_box,
    fit_canvas,
    imaged_slices,
    margins,
    region,
    resample_image,
    resample_labels,
    resampled,
    shifted,
    slices_along,
    spacing_of,
    turned,
    view_of,
)
from medrobust.data.scans.intensity import Intensity, intensity_fact, normalise
from medrobust.data.scans.labels import IGNORED, LabelMap, is_foreground
from medrobust.data.scans.volumes import MOST_VOXELS, read_volume
from medrobust.errors import DataError, StudyError

REVISION = 2
"""Raised with every change of what images or labels hold, or of what is a case; part of the fingerprint."""

SCANS_IN_MEMORY = 4

VOXELS_AT_ONCE = 2**26
"""Large scans are decoded one by one, to bound memory: a voxel takes 10 bytes, or up to 22 when it is
resampled."""

Side = Annotated[int, Ge(1)]

Box = tuple[Side, Side, Side]


def open_scans(
    name: str,
    listing: Scans,
    cache: Path | None,
    progress: OnProgress = silent,
    *,
    axis: Cut = "coronal",
    spacing: Annotated[float, Gt(0)] = 2.0,
    canvas: Literal["auto"] | tuple[Side, Side] | Box = "auto",
    intensity: Intensity = "percentile-99.5",
    patch: Box | None = None,
) -> Dataset:
    """Scans that an adapter has listed, as a data set; the images alone decide what is a case.

    Slices are cases from the first to the last in which the image is not constant, patches if it is not
    constant in them. Labels play no part: a network may be wrong where there is only background. But what is
    ignored as a whole is no case.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder for decoded scans; None keeps only the last few, in memory.
        progress: Told how far it is.
        axis: Along which the scans are cut into slices; "volume" leaves them whole, oriented as a stack of
            axial slices.
        spacing: Edge of a voxel in mm, to which scans are resampled before they are cut.
        canvas: Height and width in pixels of every slice, or depth, height and width of every volume, the
            scan in its middle; "auto" takes the smallest multiples of 16, or of the patch, that every scan
            fits in.
        intensity: How each scan and channel is normalised: "min-max", "percentile-P", "z-score", or the
            `{centre: C, width: W}` of a window.
        patch: Depth, height and width of patches that tile the volume; needs `axis: volume`.

    Raises:
        StudyError: Patches of slices.
        DataError: A file cannot be used (see `volumes.read_volume`) or holds an unknown label, no scan
            is labelled, scans differ in their number of channels, or the canvas is too small.
    """
    if patch is not None and axis != "volume":
        raise StudyError(f"data.patch: patches are cut from volumes; got axis '{axis}'. Use axis: volume.")
    if not listing.items:
        raise DataError(f"'{name}' lists no usable scan.")
    decoding = Decoding(axis, spacing, intensity, listing.classes_of)
    digest = partial(digest_of, decoding=decoding)
    digests = in_threads(digest, listing.items, part_of(progress, 0, 0.1), "checksum")
    found = _outlines(listing.items, digests, decoding, cache, part_of(progress, 0.1, 1))
    first = listing.items[0]
    for scan, outline in zip(listing.items, found, strict=True):
        if outline.channels != found[0].channels:
            raise DataError(
                f"{scan.image} has {outline.channels} channels, but {first.image} has {found[0].channels}. "
                "All scans need the same."
            )
    names = [scan.scan_id for scan in listing.items]
    by_name, outlines = dict(zip(names, digests, strict=True)), dict(zip(names, found, strict=True))
    extents = {name: outline.extent[-decoding.sides :] for name, outline in outlines.items()}
    size = fit_canvas(canvas, extents, patch or [CANVAS_STEP] * decoding.sides)
    if patch is not None:
        size = tuple(side * count for side, count in zip(patch, tiles(size, patch), strict=True))
    reader = ScanReader(dict(zip(names, listing.items, strict=True)), by_name, decoding, cache, size, patch)
    cases = [case for each in zip(listing.items, found, strict=True) for case in _cases(*each, reader)]
    if not any(case.is_labelled for case in cases):
        raise DataError(
            f"{first.labels} labels nothing but background where the image shows anything, and so do the "
            "labels of all other scans. Give the labels of these scans."
        )
    shape = patch or size
    return Dataset(
        name=name,
        task=Task.SEGMENTATION,
        classes=listing.classes,
        unit=listing.unit,
        channels=found[0].channels,
        shape=shape,
        spacing=(spacing,) * len(shape),
        cases=tuple(sorted(cases, key=lambda case: case.case_id)),
        read=reader,
        fingerprint=_sha256(
            *chain.from_iterable(sorted(by_name.items())),
            *map(str, (*size, *(patch or ()))),
            *map(str, (listing.regions or {}).items()),
        ),
        official=listing.official,
        attributes=listing.attributes,
        colours=listing.classes_of.colours,
        facts={**listing.facts, **_facts(reader, outlines)},
        bits=12,
        affine=reader.affine,
        patches=None if patch is None else tiles(size, patch),
        original=reader.original,
        regions=listing.regions,
    )


def tiles(canvas: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Patches along each axis that cover a canvas."""
    return tuple(ceil(whole / side) for whole, side in zip(canvas, patch, strict=True))


def _cases(scan: Scan, outline: "Outline", reader: "ScanReader") -> list[Case]:
    axis = "patch" if reader.patch is not None else reader.decoding.axis
    if reader.patch is not None:
        foreground = reader.foreground_of_patches(scan.scan_id)
    elif axis == "volume":
        foreground = {} if all(outline.ignored) else {0: sum(outline.foreground)}
    else:
        foreground = {position: outline.foreground[position] for position in outline.labelled}
    return [
        Case(
            case_id=f"{scan.scan_id}-{axis}-{position:03d}",
            scan_id=scan.scan_id,
            patient_id=scan.patient_id,
            position=position,
            foreground=labelled,
        )
        for position, labelled in foreground.items()
    ]


@dataclass(frozen=True, slots=True)
class ScanReader:
    """Reads the sample of a case, and where a scan lies: the `read` and `affine` of a `Dataset`."""

    scans: Mapping[str, Scan]  # by id
    digests: Mapping[str, str]  # by scan id, see `digest_of`
    decoding: "Decoding"
    cache: Path | None  # folder for decoded scans; None keeps the last few in memory
    canvas: tuple[int, ...]  # sides of every slice or volume, the scan in its middle
    patch: Box | None  # sides of the patches that tile the canvas of a volume, in C order

    def __call__(self, case: Case) -> Sample:
        """Image and labels of a case, on the canvas."""
        stack = self._stack(case.scan_id)
        first, shape = self._place(stack, case.position)
        images = np.stack([region(image, first, shape) for image in stack.images])
        labels = region(stack.labels, first, shape)
        if self.decoding.axis != "volume":
            images, labels = images[:, 0], labels[0]
        numbers = labels.astype(np.int64)
        if self.decoding.classes_of.ignored:
            numbers[labels == IGNORED] = UNKNOWN
        return Sample(images, numbers)

    def affine(self, scan_id: str) -> Affine:
        """From slice, row and column of a scan on the canvas to world millimetres."""
        stack = self._stack(scan_id)
        return shifted(stack.affine, self._origin(stack))

    def original(self, scan_id: str) -> Grid:
        """The grid of the first image of a scan, as in its file."""
        scan = self.scans[scan_id]
        return scan.format.read(scan.image).grid

    def foreground_of_patches(self, scan_id: str) -> dict[int, int]:
        """How many voxels are labelled in each patch of a scan that shows anything, by its position."""
        assert self.patch is not None
        stack, foreground = self._stack(scan_id), {}
        for position in range(prod(tiles(self.canvas, self.patch))):
            box = tuple(
                slice(max(begin, 0), max(begin + side, 0))
                for begin, side in zip(*self._place(stack, position), strict=True)
            )
            images = stack.images[:, *box]  # without the margins of the canvas
            if images.size and np.ptp(images, axis=(1, 2, 3)).max() > FLAT:
                labels = stack.labels[box]
                if not (labels == IGNORED).all():
                    foreground[position] = int(np.count_nonzero(is_foreground(labels)))
        return foreground

    def _stack(self, scan_id: str) -> "Stack":
        return open_stack(self.scans[scan_id], self.digests[scan_id], self.decoding, self.cache)

    def _origin(self, stack: "Stack") -> list[int]:
        """Where in the stack the canvas begins."""
        sides = self.decoding.sides
        return [0] * (3 - sides) + [-margin for margin in margins(self.canvas, stack.labels.shape[-sides:])]

    def _place(self, stack: "Stack", position: int) -> tuple[list[int], tuple[int, ...]]:
        """Where in the stack a case begins, and its sides."""
        origin = self._origin(stack)
        if self.decoding.axis != "volume":
            return [position, *origin[1:]], (1, *self.canvas)
        if self.patch is None:
            return origin, self.canvas
        tile = np.unravel_index(position, tiles(self.canvas, self.patch))
        steps = zip(origin, tile, self.patch, strict=True)
        return [begin + int(index) * side for begin, index, side in steps], self.patch


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a scan becomes a stack of slices; a whole volume is a stack of axial ones."""

    axis: Cut
    spacing: float  # edge of a voxel in mm after resampling
    intensity: Intensity
    classes_of: LabelMap

    @property
    def view(self) -> Axis:
        """How the stack is turned."""
        return view_of(self.axis)

    @property
    def sides(self) -> int:
        """Sides of what is placed on the canvas."""
        return 3 if self.axis == "volume" else 2


def digest_of(scan: Scan, decoding: Decoding) -> str:
    """SHA-256 of a scan's files and of how they are decoded."""
    parts = [decoding.axis, str(decoding.spacing), str(decoding.intensity), str(REVISION), scan.patient_id]
    parts.append(repr(decoding.classes_of.numbers))
    parts += [f"ignored {number}" for number in decoding.classes_of.ignored]
    parts += [scan.format.digest(path) for path in (*scan.images, scan.labels)]
    return _sha256(*parts)


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


class Outline(NamedTuple):
    """What is kept of every stack."""

    channels: int
    extent: tuple[int, ...]  # its sides
    foreground: tuple[int, ...]  # how many voxels of each slice are known to be no background
    ignored: tuple[bool, ...]  # whether no voxel of a slice is labelled
    imaged: range  # from the first to the last slice that shows anything

    @property
    def labelled(self) -> list[int]:
        """Those of these slices in which some voxel is labelled, be it as background."""
        return [position for position in self.imaged if not self.ignored[position]]


def _outlines(
    scans: Sequence[Scan],
    digests: Sequence[str],
    decoding: Decoding,
    cache: Path | None,
    progress: OnProgress,
) -> list[Outline]:
    """The outlines of all scans, in their order; several are decoded at once, into the cache."""

    def outline(scan_and_digest: tuple[Scan, str]) -> Outline:
        stack = open_stack(*scan_and_digest, decoding, cache)
        foreground = np.count_nonzero(is_foreground(stack.labels), axis=(1, 2))
        ignored = (stack.labels == IGNORED).all(axis=(1, 2))
        imaged = range(*map(int, stack.imaged))
        shape = stack.labels.shape
        return Outline(len(stack.images), shape, tuple(foreground.tolist()), tuple(ignored.tolist()), imaged)

    largest = max(scan.format.claimed_voxels(path) for scan in scans for path in scan.images)
    most = max(1, min(threads(), VOXELS_AT_ONCE // max(largest, 1)))
    return in_threads(outline, list(zip(scans, digests, strict=True)), progress, "scan", most)


class Stack(NamedTuple):
    """The slices of a scan, all cut to the rows and columns that are not air, and where they lie."""

    images: Float32[np.ndarray, "c s h w"]  # in [0, 1]
    labels: UInt8[np.ndarray, "s h w"]  # class indices, or `IGNORED`
    affine: Affine  # from slice, row and column to world millimetres
    imaged: Int64[np.ndarray, "2"]  # the first slice that shows anything, and the one after the last


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
    """Read, normalise, resample and cut a scan; a DataError if its files cannot be used."""
    image, labels, place = read_volume(scan.images, scan.labels, scan.format)
    old, new, shape = spacing_of(place), decoding.spacing, labels.shape
    wanted = [ceil(side * size / new) for side, size in zip(shape, old, strict=True)]
    if prod(wanted) > MOST_VOXELS:  # before memory is taken
        raise DataError(
            f"data.spacing: {new:g} mm makes {' x '.join(map(str, wanted))} voxels of {scan.image}; at most "
            f"{MOST_VOXELS:,} are possible. Choose a larger one."
        )
    classes = decoding.classes_of(labels, scan.labels)
    del labels  # here and below: volumes are large
    is_labelled = bool(is_foreground(classes).any())
    classes = resample_labels(classes, old, new)
    if is_labelled and not is_foreground(classes).any():
        raise DataError(
            f"{scan.labels}: no structure fills most of any voxel of {new:g} mm. Choose a smaller spacing."
        )
    affine = resampled(place, shape, classes.shape, new)
    has_file_each = len(image) == len(scan.images)
    images = []
    for number, channel in enumerate(image):
        where = str(scan.images[number]) if has_file_each else f"{scan.image}, channel {number}"
        images.append(normalise(channel, decoding.intensity, where))
    del image, channel
    for number in range(len(images)):
        images[number] = resample_image(images[number], old, new)
        np.clip(images[number], 0, 1, out=images[number])
    return _cut(images, classes, affine, decoding)


def _cut(images: list[np.ndarray], classes: np.ndarray, affine: Affine, decoding: Decoding) -> Stack:
    """The stack, as its own arrays, cut to the box of what is not air; only volumes lose slices."""
    stacks = [slices_along(image, decoding.view) for image in images]
    labels = slices_along(classes, decoding.view)
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


def _facts(reader: ScanReader, found: Mapping[str, Outline]) -> dict[str, str]:
    decoding, patch = reader.decoding, reader.patch
    cut = "whole volumes as stacks of axial" if decoding.axis == "volume" else decoding.axis
    unit = "pixels" if len(reader.canvas) == 2 else "voxels"
    step = CANVAS_STEP if patch is None else "the patch"
    cases = "whole volumes"
    if patch is not None:
        cases = f"patches of {' x '.join(map(str, patch))} voxels in which the image is not constant"
    elif decoding.axis != "volume":
        cases = (
            "all slices of a scan from the first to the last in which the image is not constant, whatever is "
            "labelled in them; networks that are trained here see those with a structure"
        )
        beyond = sum(
            labelled > 0 and position not in outline.imaged
            for outline in found.values()
            for position, labelled in enumerate(outline.foreground)
        )
        cases += f"; {beyond} labelled slices lie beyond and take no part" if beyond else ""
    if ignored := _ignored_fact(reader, found):
        cases += f"; {ignored}"
    bare = [scan for scan, outline in found.items() if not any(outline.foreground)]
    return {
        "orientation": f"read from the affine; {cut} slices, {VIEWS[decoding.view][1]}",
        "spacing": (
            f"resampled to {decoding.spacing:g} mm: images by the mean over the new voxel, "
            "labels by the structure that fills most of it"
        ),
        "canvas": f"{' x '.join(map(str, reader.canvas))} {unit}, scan centred; auto: multiples of {step}",
        "intensity": intensity_fact(decoding.intensity),
        "cases": f"{cases}; nothing is labelled in {quoted(bare)}" if bare else cases,
    }


def _ignored_fact(reader: ScanReader, found: Mapping[str, Outline]) -> str:
    """How much is ignored as a whole; empty if nothing is to be ignored."""
    if not reader.decoding.classes_of.ignored:
        return ""
    if reader.patch is not None:
        return "ignored voxels count nowhere, and patches of nothing else are left out"
    if reader.decoding.axis == "volume":
        left_out = sum(all(outline.ignored) for outline in found.values())
        return f"ignored voxels count nowhere, and {left_out} volumes of nothing else are left out"
    left_out = sum(len(outline.imaged) - len(outline.labelled) for outline in found.values())
    return f"ignored pixels count nowhere, and {left_out} slices of nothing else are left out"

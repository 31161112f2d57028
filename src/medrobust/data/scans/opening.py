"""Labelled scans as cases: slices, whole volumes, or patches that tile them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import ceil, prod
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt

from medrobust.core import Case, Dataset, Grid, OnProgress, Sample, Task, silent
from medrobust.data.findings import quoted
from medrobust.data.listing import Scan, Scans
from medrobust.data.reading import in_threads, share_of
from medrobust.data.scans.geometry import Affine, shifted
from medrobust.data.scans.intensity import Intensity, intensity_fact
from medrobust.data.scans.stacks import Cut, Decoding, Outline, Stack, digest_of, open_stack, outlines, sha256
from medrobust.data.scans.views import CANVAS_STEP, FLAT, VIEWS, fit_canvas, margins, region
from medrobust.errors import DataError, StudyError

Side = Annotated[int, Ge(1)]

Box = tuple[Side, Side, Side]


@dataclass(frozen=True, slots=True)
class ScanReader:
    """Reads the sample of a case, and where a scan lies; the `read` and `affine` of a `Dataset`.

    Attributes:
        scans: Scans by id.
        digests: SHA-256 by scan id, of the scan's files and how they are decoded.
        decoding: How a scan becomes slices.
        cache: Folder for decoded scans; None keeps the last few in memory.
        canvas: Sides of every slice or volume, the scan in its middle.
        patch: Sides of the patches that tile the canvas of a volume, in C order; None: no patches.
    """

    scans: Mapping[str, Scan]
    digests: Mapping[str, str]
    decoding: Decoding
    cache: Path | None
    canvas: tuple[int, ...]
    patch: Box | None = None

    def __call__(self, case: Case) -> Sample:
        """Image and labels of a case, on the canvas."""
        stack = self._stack(case.scan_id)
        first, shape = self._place(stack, case.position)
        images = np.stack([region(image, first, shape) for image in stack.images])
        labels = region(stack.labels, first, shape)
        if self.decoding.axis != "volume":
            images, labels = images[:, 0], labels[0]
        return Sample(images, labels.astype(np.int64))

    def affine(self, scan_id: str) -> Affine:
        """From slice, row and column of a scan on the canvas to world millimetres."""
        stack = self._stack(scan_id)
        return shifted(stack.affine, self._origin(stack))

    def original(self, scan_id: str) -> Grid:
        """The grid of the first image of a scan as its file has it."""
        scan = self.scans[scan_id]
        return scan.format.read(scan.image).grid

    def foreground_of_patches(self, scan_id: str) -> dict[int, int]:
        """Labelled voxels of each patch of a scan that shows anything, by its position."""
        assert self.patch is not None
        stack, foreground = self._stack(scan_id), {}
        for position in range(prod(tiles(self.canvas, self.patch))):
            box = tuple(
                slice(max(begin, 0), max(begin + side, 0))
                for begin, side in zip(*self._place(stack, position), strict=True)
            )
            images = stack.images[:, *box]  # without what the canvas adds, so that no margin shows anything
            if images.size and np.ptp(images, axis=(1, 2, 3)).max() > FLAT:
                foreground[position] = int(np.count_nonzero(stack.labels[box]))
        return foreground

    def _stack(self, scan_id: str) -> Stack:
        return open_stack(self.scans[scan_id], self.digests[scan_id], self.decoding, self.cache)

    def _origin(self, stack: Stack) -> list[int]:
        """Where in the stack the canvas begins."""
        sides = _sides(self.decoding.axis)
        before = [-margin for margin in margins(self.canvas, stack.labels.shape[-sides:])]
        return [0] * (3 - sides) + before

    def _place(self, stack: Stack, position: int) -> tuple[list[int], tuple[int, ...]]:
        """Where in the stack a case begins, and its sides."""
        origin = self._origin(stack)
        if self.decoding.axis != "volume":
            return [position, *origin[1:]], (1, *self.canvas)
        if self.patch is None:
            return origin, self.canvas
        tile = np.unravel_index(position, tiles(self.canvas, self.patch))
        return [
            begin + int(index) * side for begin, index, side in zip(origin, tile, self.patch, strict=True)
        ], self.patch


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
    """Scans that an adapter has listed, as a data set, whose cases are chosen by the images alone.

    Slices are cases from the first to the last in which the image is not constant, patches where it is not.
    What is labelled plays no part: a network may be wrong where nothing is.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder for decoded scans; None decodes a scan again whenever others were read in between.
        progress: Told how far it is.
        axis: Along which the scans are cut to slices; "volume" leaves them whole, turned as a stack of axial
            slices is.
        spacing: Size of a voxel in mm, along all axes, to which scans are resampled before they are cut.
        canvas: Height and width in pixels of every slice, or depth, height and width of every volume, the
            scan in its middle; "auto" takes the smallest multiples of 16, or of the patch, that every scan
            fits in.
        intensity: How each scan and channel is normalised: "min-max", "percentile-P", "z-score", or the
            `{centre: C, width: W}` of a window.
        patch: Depth, height and width of patches that tile the volume; needs `axis: volume`.

    Raises:
        StudyError: Patches of slices.
        DataError: A file cannot be used (see `volumes.read_volume`), holds an unknown label, no scan
            is labelled, channels differ in number, or the canvas is too small.
    """
    if patch is not None and axis != "volume":
        raise StudyError(f"data.patch: patches are cut from volumes; got axis '{axis}'. Take axis: volume.")
    if not listing.items:
        raise DataError(f"'{name}' lists no scan that can be used.")
    decoding = Decoding(axis, spacing, intensity, listing.classes_of)
    digest = partial(digest_of, decoding=decoding)
    each = in_threads(digest, listing.items, share_of(progress, 0, 0.1), "checksum")
    found = outlines(listing.items, each, decoding, cache, share_of(progress, 0.1, 1))
    size = _canvas(canvas, axis, listing, found, patch)
    scans = {scan.scan_id: scan for scan in listing.items}
    digests = {scan.scan_id: one for scan, one in zip(listing.items, each, strict=True)}
    reader = ScanReader(scans, digests, decoding, cache, size, patch)
    pairs = zip(listing.items, found, strict=True)
    cases = list(chain.from_iterable(_cases(scan, outline, reader) for scan, outline in pairs))
    if not any(case.is_labelled for case in cases):
        raise DataError(
            f"{listing.items[0].labels} labels nothing but background where the image shows anything, and so "
            "do the labels of all other scans. Give the labels of these scans."
        )
    shape = patch or size
    return Dataset(
        name=name,
        task=Task.SEGMENTATION,
        classes=listing.classes,
        unit=listing.unit,
        channels=_channels(listing, found),
        shape=shape,
        spacing=(spacing,) * len(shape),
        cases=tuple(sorted(cases, key=lambda case: case.case_id)),
        read=reader,
        fingerprint=sha256(*chain.from_iterable(sorted(digests.items())), *map(str, (*size, *(patch or ())))),
        official=listing.official,
        attributes=listing.attributes,
        colours=listing.classes_of.colours,
        facts={**listing.facts, **_facts(decoding, size, patch, dict(zip(scans, found, strict=True)))},
        bits=12,
        affine=reader.affine,
        original=reader.original,
    )


def tiles(canvas: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Patches along each axis that cover a canvas."""
    return tuple(ceil(whole / side) for whole, side in zip(canvas, patch, strict=True))


def _sides(axis: Cut) -> int:
    """Sides of what is placed on the canvas."""
    return 3 if axis == "volume" else 2


def _canvas(
    wanted: Literal["auto"] | tuple[int, ...],
    axis: Cut,
    listing: Scans,
    found: Sequence[Outline],
    patch: Box | None,
) -> tuple[int, ...]:
    """The canvas that is wanted, or the smallest; whole patches cover it."""
    sides = _sides(axis)
    extents = {
        scan.scan_id: outline.extent[-sides:] for scan, outline in zip(listing.items, found, strict=True)
    }
    size = fit_canvas(wanted, extents, patch or [CANVAS_STEP] * sides)
    if patch is None:
        return size
    return tuple(side * count for side, count in zip(patch, tiles(size, patch), strict=True))


def _channels(listing: Scans, found: Sequence[Outline]) -> int:
    for scan, outline in zip(listing.items, found, strict=True):
        if outline.channels != found[0].channels:
            raise DataError(
                f"{scan.image} has {outline.channels} channels, but {listing.items[0].image} has "
                f"{found[0].channels}. All scans need the same."
            )
    return found[0].channels


def _cases(scan: Scan, outline: Outline, reader: ScanReader) -> list[Case]:
    axis = "patch" if reader.patch is not None else reader.decoding.axis
    if reader.patch is not None:
        foreground = reader.foreground_of_patches(scan.scan_id)
    elif axis == "volume":
        foreground = {0: sum(outline.foreground)}
    else:
        foreground = {position: outline.foreground[position] for position in outline.imaged}
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


def _facts(
    decoding: Decoding, canvas: tuple[int, ...], patch: Box | None, found: Mapping[str, Outline]
) -> dict[str, str]:
    cut = "whole volumes as stacks of axial" if decoding.axis == "volume" else decoding.axis
    unit = "pixels" if len(canvas) == 2 else "voxels"
    return {
        "orientation": f"read from the affine; {cut} slices, {VIEWS[decoding.view][1]}",
        "spacing": (
            f"resampled to {decoding.spacing:g} mm: images by the mean over the new voxel, "
            "labels by the structure that fills most of it"
        ),
        "canvas": (
            f"{' x '.join(map(str, canvas))} {unit}, scan centred; auto: multiples of "
            + (str(CANVAS_STEP) if patch is None else "the patch")
        ),
        "intensity": intensity_fact(decoding.intensity),
        "cases": _which(decoding.axis, patch, found),
    }


def _which(axis: Cut, patch: Box | None, found: Mapping[str, Outline]) -> str:
    """What is a case, and what of the labels is in none."""
    says = "whole volumes"
    if patch is not None:
        says = f"patches of {' x '.join(map(str, patch))} voxels in which the image is not constant"
    elif axis != "volume":
        says = (
            "all slices of a scan from the first to the last in which the image is not constant, whatever is "
            "labelled in them; networks that are trained here see those with a structure"
        )
        beyond = sum(
            labelled > 0 and position not in outline.imaged
            for outline in found.values()
            for position, labelled in enumerate(outline.foreground)
        )
        says += f"; {beyond} labelled slices lie beyond and take no part" if beyond else ""
    bare = [scan for scan, outline in found.items() if not any(outline.foreground)]
    return f"{says}; nothing is labelled in {quoted(bare)}" if bare else says

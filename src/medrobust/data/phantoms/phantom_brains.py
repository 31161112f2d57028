"""Phantom brains: T1-weighted, skull-stripped, with the paper's 27 structures; any number, no download.

Made for trying the tool out and for testing it. They say nothing about networks for real scans.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float32, Int64

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data.cache import cached_array
from medrobust.data.phantoms.brain_subject import scan_subject
from medrobust.data.scans.geometry import (
    CANVAS_STEP,
    VIEWS,
    Affine,
    Axis,
    centred,
    fit_canvas,
    imaged_slices,
    margins,
    on_canvas,
    shifted,
    slices_along,
)
from medrobust.data.scans.structures import STRUCTURES

REVISION = 1
"""Raised with every change of what the images or labels hold."""

Side = Annotated[int, Ge(1)]


def open_phantom_brains(
    cache: Path | None,
    *,
    subjects: Annotated[int, Ge(2), Le(999)] = 24,
    seed: Annotated[int, Ge(0)] = 0,
    spacing: Annotated[float, Ge(1), Le(4)] = 2.0,
    axis: Axis = "coronal",
    canvas: Literal["auto"] | tuple[Side, Side] = "auto",
) -> Dataset:
    """Phantom brains; a case is a slice that shows some of the brain, whatever is labelled in it.

    Args:
        cache: Folder for finished scans; None makes a scan again whenever others were read in between.
        subjects: Number of subjects, each a patient with one scan. More leave the first ones as they are.
        seed: Another seed, other subjects.
        spacing: Edge of a voxel in mm.
        axis: Along which the scans are cut.
        canvas: Height and width in pixels of every slice, the brain in its middle; "auto" takes the smallest
            multiples of 16 that every scan fits in.

    Raises:
        DataError: nilearn is not installed, or the canvas is too small.
    """
    phantoms = Phantoms(seed, float(spacing), axis, cache)
    size = fit_canvas(canvas, {f"brain{one:03d}": phantoms.extent(one) for one in range(subjects)})
    reader = SliceReader(phantoms, size)
    return Dataset(
        name="phantom_brains",
        task=Task.SEGMENTATION,
        classes=STRUCTURES,
        unit="patient",
        channels=1,
        shape=size,
        spacing=(float(spacing), float(spacing)),
        cases=tuple(case for subject in range(subjects) for case in phantoms.cases(subject)),
        read=reader,
        fingerprint=fingerprint(subjects=subjects, seed=seed, spacing=float(spacing), axis=axis, canvas=size),
        facts=facts(axis, size),
        phantom=True,
        bits=12,
        affine=reader.affine,
    )


@dataclass(frozen=True, slots=True)
class Phantoms:
    """Scans of one seed, each made when it is first read.

    Attributes:
        seed: Seed of the data set.
        spacing: Edge of a voxel in mm.
        axis: Along which the scans are cut.
        cache: Folder for finished scans; None keeps the last few in memory.
    """

    seed: int
    spacing: float
    axis: Axis
    cache: Path | None

    def slices(self, subject: int) -> tuple[Float32[np.ndarray, "s h w"], Float32[np.ndarray, "s h w"]]:
        """Images and labels of a subject, cut and turned as `VIEWS` says."""
        scan = cached_array(
            self.cache, self._key(subject), lambda: _remembered(self.seed, subject, self.spacing)
        )
        image, labels = (slices_along(volume, self.axis) for volume in scan)
        return image, labels

    def extent(self, subject: int) -> tuple[int, int]:
        """Height and width of a subject's slices."""
        _, height, width = self.slices(subject)[0].shape
        return height, width

    def cases(self, subject: int) -> list[Case]:
        """The slices of a subject, from the first to the last that shows any of it."""
        imaged, foreground = cached_array(
            self.cache, f"{self._key(subject)}-{self.axis}-slices", lambda: self._outline(subject)
        )
        name = f"brain{subject:03d}"
        return [
            Case(
                f"{name}-s{position:03d}",
                name,
                name,
                position=int(position),
                foreground=int(foreground[position]),
            )
            for position in np.flatnonzero(imaged)
        ]

    def _outline(self, subject: int) -> Int64[np.ndarray, "2 s"]:
        """Of each slice, whether it is a case, and its labelled pixels."""
        image, labels = self.slices(subject)
        imaged = np.zeros(len(image), np.int64)
        imaged[imaged_slices([image])] = 1
        return np.stack([imaged, np.count_nonzero(labels, axis=(1, 2))])

    def _key(self, subject: int) -> str:
        return f"phantom_brains-r{REVISION}-seed{self.seed}-{self.spacing:g}mm/brain{subject:03d}"


_remembered = lru_cache(maxsize=4)(scan_subject)


@dataclass(frozen=True, slots=True)
class SliceReader:
    """Reads the sample of a case, and where a scan lies; the `read` and `affine` of a `Dataset`.

    Attributes:
        phantoms: Where the scans come from.
        canvas: Height and width of every image.
    """

    phantoms: Phantoms
    canvas: tuple[int, ...]

    def __call__(self, case: Case) -> Sample:
        """Image and labels of a case, in the middle of the canvas."""
        stacks = self.phantoms.slices(_subject(case.scan_id))
        image, labels = (on_canvas(stack[case.position], self.canvas) for stack in stacks)
        return Sample(image[None], labels.astype(np.int64))

    def affine(self, scan_id: str) -> Affine:
        """From slice, row and column of a scan to millimetres from its middle."""
        slices, *extent = self.phantoms.slices(_subject(scan_id))[0].shape
        top, left = margins(self.canvas, extent)
        place = centred((slices, *extent), self.phantoms.spacing, VIEWS[self.phantoms.axis][0])
        return shifted(place, (0, -top, -left))


def _subject(scan_id: str) -> int:
    return int(scan_id.removeprefix("brain"))


def fingerprint(**parameters: object) -> str:
    """SHA-256 of everything that the images and labels depend on."""
    recipe = {"name": "phantom_brains", "revision": REVISION, **parameters}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def facts(axis: Axis, canvas: tuple[int, ...]) -> dict[str, str]:
    """What a report states about the data."""
    return {
        "phantom": "generated: shows that the tool works, says nothing about your networks",
        "orientation": f"{axis} slices, {VIEWS[axis][1]}",
        "canvas": f"{canvas[0]} x {canvas[1]} pixels, brain centred; auto: multiples of {CANVAS_STEP}",
        "intensity": "per scan, 0 stays 0 and the 99.5th percentile of the brain becomes 1, clipped",
        "labels": "27 structures; outer fluid, vermis and basal forebrain are seen, but labelled background",
        "left and right": "differ in position only, not in intensity",
        "cases": "all slices that show some of the brain; networks are trained on those with a structure",
        "credit": (
            "tissue maps: ICBM152 2009a, Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging "
            "Centre, Montreal Neurological Institute, McGill University; carried by nilearn"
        ),
    }

"""The phantoms as data sets, for trying the tool out and for testing it.

They say nothing about networks for real images.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float32, Int64

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data.cache import cached_array
from medrobust.data.phantoms.brains import phantom_brain
from medrobust.data.phantoms.lesions import LOOKS, phantom_lesion
from medrobust.data.scans.geometry import (
    CANVAS_STEP,
    VIEWS,
    Affine,
    Axis,
    Cut,
    centred,
    fit_canvas,
    imaged_slices,
    margins,
    on_canvas,
    shifted,
    slices_along,
    view_of,
)
from medrobust.data.scans.structures import STRUCTURES
from medrobust.rng import generator

REVISION = 1
"""Raised with every change of what images or labels hold: it is part of the fingerprint."""

CLASSES = tuple(LOOKS)
LESIONS_PER_PATIENT = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
SAME_DIAGNOSIS = 0.85

Side = Annotated[int, Ge(1)]


def open_phantom_brains(
    cache: Path | None,
    *,
    subjects: Annotated[int, Ge(2), Le(999)] = 24,
    seed: Annotated[int, Ge(0)] = 0,
    spacing: Annotated[float, Ge(1), Le(4)] = 2.0,
    axis: Cut = "coronal",
    canvas: Literal["auto"] | tuple[Side, Side] | tuple[Side, Side, Side] = "auto",
) -> Dataset:
    """Phantom brains; a case is a volume, or a slice that shows some of the brain, whatever is labelled.

    Args:
        cache: Folder for finished scans; None keeps only the last few, in memory.
        subjects: Number of subjects, each a patient with one scan. More subjects leave the first unchanged.
        seed: Seed of the subjects.
        spacing: Edge of a voxel in mm.
        axis: Along which the scans are cut into slices; "volume" leaves them whole, oriented as a stack of
            axial slices.
        canvas: Height and width in pixels of every slice, or depth, height and width of every volume, the
            brain in its middle; "auto" takes the smallest multiples of 16 that every scan fits in.

    Raises:
        DataError: nilearn is not installed, or the canvas is too small.
    """
    names = [f"brain{subject:03d}" for subject in range(subjects)]
    brains = Brains(seed, float(spacing), axis, cache)
    extents = {name: brains.slices(name)[0].shape[-brains.sides :] for name in names}
    size = fit_canvas(canvas, extents, [CANVAS_STEP] * brains.sides)
    is_volume = axis == "volume"
    cut, unit = ("whole volumes as stacks of axial", "voxels") if is_volume else (axis, "pixels")
    reader = replace(brains, canvas=size)
    return Dataset(
        name="phantom_brains",
        task=Task.SEGMENTATION,
        classes=STRUCTURES,
        unit="patient",
        channels=1,
        shape=size,
        spacing=(float(spacing),) * len(size),
        cases=tuple(case for name in names for case in brains.cases(name)),
        read=reader,
        fingerprint=fingerprint(subjects=subjects, seed=seed, spacing=float(spacing), axis=axis, canvas=size),
        facts={
            "phantom": "generated: shows that the tool works, says nothing about your networks",
            "orientation": f"{cut} slices, {VIEWS[brains.view][1]}",
            "canvas": f"{' x '.join(map(str, size))} {unit}, brain centred; auto: multiples of {CANVAS_STEP}",
            "intensity": "per scan, 0 stays 0 and the 99.5th percentile of the brain becomes 1, clipped",
            "labels": "27 structures; outer fluid, vermis and basal forebrain are visible background",
            "left and right": "differ in position only, not in intensity",
            "cases": (
                "whole volumes"
                if is_volume
                else "all slices that show some of the brain; networks are trained on those with a structure"
            ),
            "credit": (
                "tissue maps: ICBM152 2009a, Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging "
                "Centre, Montreal Neurological Institute, McGill University; carried by nilearn"
            ),
        },
        phantom=True,
        bits=12,
        affine=reader.affine,
    )


@dataclass(frozen=True, slots=True)
class Brains:
    """The `read` and `affine` of a `Dataset`: scans of one seed, each made when it is first read."""

    seed: int
    spacing: float  # edge of a voxel in mm
    axis: Cut  # along which the scans are cut
    cache: Path | None  # folder for finished scans; None keeps the last few in memory
    canvas: tuple[int, ...] = ()  # sides of every image

    @property
    def view(self) -> Axis:
        """How the scans are turned."""
        return view_of(self.axis)

    @property
    def sides(self) -> int:
        """Sides of an image."""
        return 3 if self.axis == "volume" else 2

    def slices(self, name: str) -> tuple[Float32[np.ndarray, "s h w"], Float32[np.ndarray, "s h w"]]:
        """Images and labels of a subject, cut and oriented as `VIEWS` says."""
        subject = int(name.removeprefix("brain"))
        scan = cached_array(
            self.cache, self._key(name), lambda: _remembered(self.seed, subject, self.spacing)
        )
        image, labels = (slices_along(volume, self.view) for volume in scan)
        return image, labels

    def cases(self, name: str) -> Iterator[Case]:
        """The slices of a subject, from the first to the last that shows any of it, or its volume."""
        key = f"{self._key(name)}-{self.view}-slices"
        imaged, foreground = cached_array(self.cache, key, lambda: self._outline(name)).tolist()
        if self.axis == "volume":
            yield Case(name, name, name, foreground=sum(foreground))
            return
        for position, (is_case, count) in enumerate(zip(imaged, foreground, strict=True)):
            if is_case:
                yield Case(f"{name}-s{position:03d}", name, name, position=position, foreground=count)

    def __call__(self, case: Case) -> Sample:
        """Image and labels of a case, in the middle of the canvas."""
        stacks = self.slices(case.scan_id)
        shown = stacks if self.axis == "volume" else [stack[case.position] for stack in stacks]
        image, labels = (on_canvas(each, self.canvas) for each in shown)
        return Sample(image[None], labels.astype(np.int64))

    def affine(self, scan_id: str) -> Affine:
        """From slice, row and column of a scan to millimetres from its middle."""
        shape = self.slices(scan_id)[0].shape
        begins = [-margin for margin in margins(self.canvas, shape[-self.sides :])]
        place = centred(shape, self.spacing, VIEWS[self.view][0])
        return shifted(place, [0] * (3 - self.sides) + begins)

    def _outline(self, name: str) -> Int64[np.ndarray, "2 s"]:
        """Of each slice, whether it is a case, and its labelled pixels."""
        image, labels = self.slices(name)
        imaged = np.zeros(len(image), np.int64)
        imaged[imaged_slices([image])] = 1
        return np.stack([imaged, np.count_nonzero(labels, axis=(1, 2))])

    def _key(self, name: str) -> str:
        return f"phantom_brains-r{REVISION}-seed{self.seed}-{self.spacing:g}mm/{name}"


_remembered = lru_cache(maxsize=4)(phantom_brain)


def fingerprint(**parameters: object) -> str:
    """SHA-256 of everything that the brains depend on."""
    recipe = {"name": "phantom_brains", "revision": REVISION, **parameters}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def open_phantom_lesions(
    cache: Path | None,
    *,
    images: Annotated[int, Ge(20), Le(100_000)] = 1300,
    size: Annotated[int, Ge(32), Le(512)] = 96,
    balance: Annotated[float, Ge(0), Le(1)] = 0.5,
    overlap: Annotated[float, Ge(0), Le(1)] = 0.2,
    seed: Annotated[int, Ge(0)] = 0,
) -> Dataset:
    """Phantom photographs of skin lesions in ten classes, drawn when first read.

    A patient has one to six lesions, mostly of one diagnosis, which share skin, camera, light and hair, so
    that, as in real collections, a split that ignores patients flatters every network. Names follow
    Dermofit's: `A102a` is the first lesion of patient `A102`.

    Args:
        cache: Folder that keeps drawn pictures; None draws them at every reading.
        images: Number of images.
        size: Pixels along each side of an image.
        balance: 0 gives the classes their frequencies in Dermofit, 1 equal ones; values between mix the two.
        overlap: Fraction of the lesions that partly look like another class.
        seed: Seed of patients and pictures.

    Returns:
        The data set; the unit is the patient.
    """
    name = "phantom_lesions"
    settings = {"revision": REVISION, "images": images, "size": size, "balance": balance, "overlap": overlap}
    fingerprint = hashlib.sha256(json.dumps([name, settings, seed]).encode()).hexdigest()
    cases = tuple(sorted(_cases(seed, _class_counts(images, balance)), key=lambda case: case.case_id))
    return Dataset(
        name=name,
        task=Task.CLASSIFICATION,
        classes=CLASSES,
        unit="patient",
        channels=3,
        shape=(size, size),
        spacing=None,
        cases=cases,
        read=partial(_read_lesion, seed, size, overlap, cache, f"{name}-{fingerprint[:16]}"),
        fingerprint=fingerprint,
        facts={
            "origin": "drawn by medrobust (phantom); no patient behind it",
            "patients": (
                f"{len({case.patient_id for case in cases})} with {len(cases)} images; those of one patient "
                "share skin, camera, light and hair"
            ),
            "class frequencies": f"Dermofit's, mixed with equal ones at a fraction of {balance:g}",
            "class overlap": f"{overlap:.0%} of the lesions partly look like another class",
        },
        phantom=True,
    )


def _read_lesion(seed: int, size: int, overlap: float, cache: Path | None, folder: str, case: Case) -> Sample:
    assert isinstance(case.label, int)
    names = (case.patient_id, case.case_id, CLASSES[case.label])
    draw = partial(phantom_lesion, seed, *names, size=size, overlap=overlap)
    pixels = cached_array(cache, f"{folder}/{case.case_id}", lambda: draw().image)
    return Sample(np.asarray(pixels, np.float32) / 255, np.array(case.label, np.int64))


def _class_counts(images: int, balance: float) -> list[int]:
    """How many images each class has: largest remainders, at least two each."""
    counts = np.array([look.images for look in LOOKS.values()])
    fractions = (1 - balance) * counts / counts.sum() + balance / len(counts)
    quota = 2 + fractions * (images - 2 * len(counts))
    whole = np.floor(quota).astype(int)
    for index in np.argsort(whole - quota, kind="stable")[: images - whole.sum()]:
        whole[index] += 1
    return [int(count) for count in whole]


def _cases(seed: int, counts: list[int]) -> Iterator[Case]:
    """Distribute the lesions among patients until every class has its number.

    No patient has more than a quarter of a class, so that a split by patient can put it on both sides.
    """
    rng = generator(seed, "phantom_lesions", "patients")
    left = np.array(counts)
    limit = np.maximum(1, left // 4)
    number = 0
    while left.any():
        number += 1
        patient_id = f"{rng.choice(list('ABCDGPT'))}{number:03d}"
        labels = _diagnoses(rng, left, limit)
        left -= np.bincount(labels, minlength=left.size)
        for position, label in enumerate(labels):
            case_id = patient_id + ("abcdef"[position] if len(labels) > 1 else "")
            yield Case(case_id, case_id, patient_id, label)


def _diagnoses(rng: np.random.Generator, left: np.ndarray, limit: np.ndarray) -> list[int]:
    """Classes of one patient's lesions, drawn from those that are left; mostly the first one's."""
    lesions = 1 + int(rng.choice(LESIONS_PER_PATIENT.size, p=LESIONS_PER_PATIENT))
    labels: list[int] = []
    for _ in range(lesions):
        taken = np.bincount(labels, minlength=left.size).astype(int)
        free = np.where(taken < limit, left - taken, 0)
        if not free.any():
            break
        repeated = bool(labels) and free[labels[0]] > 0 and rng.random() < SAME_DIAGNOSIS
        labels.append(labels[0] if repeated else int(rng.choice(left.size, p=free / free.sum())))
    return labels

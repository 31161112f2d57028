"""Phantom chest X-rays with any of four findings, for trying the tool out and for testing it.

A frontal view in grey: the lungs are dark, heart, spine and ribs bright. Images of one patient share the
anatomy and most findings, as follow-up images do. They say nothing about networks for real images.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import UInt8

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data.cache import cached_array
from medrobust.data.phantoms.lesion_drawing import Map, discs, fractal, grid, smoothstep
from medrobust.rng import generator

REVISION = 1
"""Raised with every change of what images or labels hold: it is part of the fingerprint."""

FINDINGS = {"cardiomegaly": 0.3, "effusion": 0.35, "mass": 0.3, "pneumothorax": 0.25}
"""Fraction of the patients that have each finding."""

CHANGES = 0.15
"""Fraction of a patient's images in which a finding has come or gone."""

IMAGES_OF_PATIENT = np.array([0.5, 0.3, 0.2])


def open_phantom_chests(
    cache: Path | None,
    *,
    images: Annotated[int, Ge(20), Le(100_000)] = 800,
    size: Annotated[int, Ge(32), Le(512)] = 64,
    seed: Annotated[int, Ge(0)] = 0,
) -> Dataset:
    """Phantom chest X-rays, drawn when first read; a patient has one to three.

    Args:
        cache: Folder that keeps drawn images; None draws them at every reading.
        images: Number of images. More images leave the first unchanged.
        size: Pixels along each side of an image.
        seed: Seed of patients and images.

    Returns:
        The data set; the unit is the patient.
    """
    name = "phantom_chests"
    recipe = json.dumps([name, {"revision": REVISION, "images": images, "size": size}, seed])
    fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
    cases = tuple(_cases(seed, images))
    shown = np.array([case.label for case in cases])
    return Dataset(
        name=name,
        task=Task.MULTILABEL,
        classes=tuple(FINDINGS),
        unit="patient",
        channels=1,
        shape=(size, size),
        spacing=None,
        cases=cases,
        read=partial(_read, seed, size, cache, f"{name}-{fingerprint[:16]}"),
        fingerprint=fingerprint,
        facts={
            "origin": "drawn by medrobust (phantom); no patient behind it",
            "patients": f"{len({case.patient_id for case in cases})} with {images} images",
            "findings": ", ".join(f"{each} {n}" for each, n in zip(FINDINGS, shown.sum(0), strict=True)),
            "without any finding": str(int((~shown.any(1)).sum())),
        },
        phantom=True,
    )


def _cases(seed: int, images: int) -> Iterator[Case]:
    rng = generator(seed, "phantom_chests", "patients")
    fractions = np.array([*FINDINGS.values()])
    left, number = images, 0
    while left:
        number += 1
        patient, own = f"C{number:05d}", rng.random(len(fractions)) < fractions
        count = 1 + int(rng.choice(IMAGES_OF_PATIENT.size, p=IMAGES_OF_PATIENT))
        changes = rng.random((count, len(fractions))) < CHANGES
        for position in range(min(count, left)):
            label = tuple((own ^ changes[position]).astype(int).tolist())
            yield Case(f"{patient}-{position}", f"{patient}-{position}", patient, label)
        left -= min(count, left)


def _read(seed: int, size: int, cache: Path | None, folder: str, case: Case) -> Sample:
    assert isinstance(case.label, tuple)
    shown = dict(zip(FINDINGS, map(bool, case.label), strict=True))
    draw = partial(phantom_chest, seed, case.patient_id, case.case_id, shown, size=size)
    pixels = cached_array(cache, f"{folder}/{case.case_id}", draw)
    return Sample(np.asarray(pixels, np.float32)[None] / 255, np.array(case.label, np.int64))


class Anatomy(NamedTuple):
    """What the images of a patient share; lengths are fractions of the image's side."""

    lung: tuple[float, float]  # half the width and the height of a lung
    apart: float  # from the midline to the middle of a lung
    heart: float  # half the width of a heart of normal size
    ribs: float  # distance between two ribs
    brightness: float  # of soft tissue

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Anatomy":
        """The anatomy of a random patient."""
        lung = rng.uniform(0.13, 0.16), rng.uniform(0.28, 0.34)
        ranges = ((0.19, 0.22), (0.10, 0.13), (0.075, 0.095), (0.6, 0.7))
        return cls(lung, *(float(rng.uniform(*ends)) for ends in ranges))


def phantom_chest(
    seed: int, patient: str, image: str, shown: dict[str, bool], *, size: int
) -> UInt8[np.ndarray, "size size"]:
    """A chest X-ray.

    Args:
        seed: Seed of all patients.
        patient: Name of the patient, which determines the anatomy.
        image: Name of the image, which determines everything else.
        shown: Whether it shows each of `FINDINGS`.
        size: Pixels along each side.
    """
    anatomy = Anatomy.draw(generator(seed, "phantom_chests", "patient", patient))
    rng = generator(seed, "phantom_chests", "image", image)
    x, y = (axis - np.float32(rng.uniform(-0.02, 0.02)) for axis in grid(size))
    width, height = anatomy.lung
    # 1 inside of the left and the right lung, 0 outside, smooth at the edge.
    lungs = [
        smoothstep(((x - side * anatomy.apart) / width) ** 2 + ((y + 0.03) / height) ** 2, 1.15, 0.85)
        for side in (-1, 1)
    ]
    air = np.maximum(*lungs)
    picture: Map = np.float32(anatomy.brightness) - np.float32(0.42) * air
    from_rib = np.abs((y + np.float32(0.25) * np.abs(x)) % anatomy.ribs - anatomy.ribs / 2)
    picture += 0.10 * air * smoothstep(from_rib, 0.02, 0.0)
    picture += 0.08 * smoothstep(np.abs(x), 0.05, 0.02)
    heart = anatomy.heart * (rng.uniform(1.6, 1.9) if shown["cardiomegaly"] else rng.uniform(0.9, 1.1))
    silhouette = ((x - 0.05) / heart) ** 2 + ((y - 0.12) / 0.15) ** 2
    picture += (anatomy.brightness + 0.1 - picture) * smoothstep(silhouette, 1.2, 0.8)
    if shown["effusion"]:
        lung, level = lungs[rng.integers(2)], rng.uniform(0.03, 0.12)
        fluid = lung * smoothstep(y + 0.5 * x**2, level - 0.03, level + 0.03)
        picture += (anatomy.brightness + 0.05 - picture) * fluid
    if shown["pneumothorax"]:
        side = int(rng.choice([-1, 1]))
        beyond = side * x - anatomy.apart - 0.35 * (y + 0.2)
        free = lungs[0 if side < 0 else 1] * smoothstep(beyond, 0.0, 0.03)
        picture += (0.08 - picture) * 0.8 * free
    if shown["mass"]:
        place = (rng.choice([-1, 1]) * anatomy.apart + rng.uniform(-0.05, 0.05), rng.uniform(-0.2, 0.08))
        disc = discs(size, np.array([place]), np.array([rng.uniform(0.04, 0.07)]), blur=0.01)
        picture += 0.3 * disc
    picture = picture + 0.03 * fractal(rng, size) + rng.normal(0, 0.02, picture.shape).astype(np.float32)
    pixels: UInt8[np.ndarray, "size size"] = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    return pixels

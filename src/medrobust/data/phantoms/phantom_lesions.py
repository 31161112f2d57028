"""Phantom photographs of skin lesions in the ten classes of the Dermofit library, without any download.

A patient has one to six lesions, which share the skin, the camera and its light, the hair, and mostly the
diagnosis: as in real collections, images of one patient resemble each other, and a split that ignores
patients flatters every network. Identifiers follow Dermofit's: `A102a` is the first lesion of patient `A102`.

Classes overlap in two ways: every feature of a class is missing in some of its lesions, and a share of the
lesions also carries the features of a class that it is mistaken for in practice.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, UInt8

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data.cache import cached_array
from medrobust.data.phantoms.lesion_artefacts import Circumstances, add_artefacts, photograph
from medrobust.data.phantoms.lesion_classes import LOOKS
from medrobust.data.phantoms.lesion_shape import draw_outline
from medrobust.data.phantoms.lesion_skin import Layers, Skin
from medrobust.rng import generator

NAME = "phantom_lesions"
REVISION = 1
"""Raise with every change of the pictures: it is part of the fingerprint."""

CLASSES = tuple(LOOKS)
LESIONS_PER_PATIENT = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
SAME_DIAGNOSIS = 0.85


class Picture(NamedTuple):
    """A rendered lesion: the photograph, and which of its pixels the lesion covers."""

    image: UInt8[np.ndarray, "3 size size"]
    mask: Bool[np.ndarray, "size size"]


@dataclass(frozen=True)
class Renderer:
    """Draws the photograph of any case from its identifiers alone.

    Attributes:
        seed: Seed of the data set.
        size: Pixels along each side.
        overlap: Share of the lesions that partly look like another class, in [0, 1].
    """

    seed: int
    size: int
    overlap: float

    def __call__(self, case: Case) -> Picture:
        """Draw at twice the size, then reduce."""
        assert case.label is not None
        patient = generator(self.seed, NAME, "patient", case.patient_id)
        skin, circumstances = Skin.draw(patient), Circumstances.draw(patient)
        rng = generator(self.seed, NAME, "image", case.case_id)
        layers = Layers(2 * self.size)
        skin.paint(rng, layers)
        mask = self._paint_lesion(rng, CLASSES[case.label], layers)
        add_artefacts(rng, circumstances, layers)
        return Picture(photograph(rng, circumstances, layers.light()), mask[::2, ::2])

    def _paint_lesion(self, rng: np.random.Generator, name: str, layers: Layers) -> Bool[np.ndarray, "n n"]:
        look = LOOKS[name]
        outline = draw_outline(rng, layers.n, look.form)
        other = rng.uniform(0.2, 0.65) if rng.random() < self.overlap else 0.0
        for painter, share in ((look.paint, 1 - other), (LOOKS[rng.choice(look.mimics)].paint, other)):
            if share > 0:
                lesion = Layers(layers.n)
                painter(rng, outline, lesion)
                lesion.mottle(rng)
                layers.add(lesion, share)
        return np.asarray(outline.inside > 0.5)


def open_phantom_lesions(
    cache: Path | None,
    *,
    images: Annotated[int, Ge(20), Le(100_000)] = 1300,
    size: Annotated[int, Ge(32), Le(512)] = 96,
    balance: Annotated[float, Ge(0), Le(1)] = 0.5,
    overlap: Annotated[float, Ge(0), Le(1)] = 0.2,
    seed: Annotated[int, Ge(0)] = 0,
) -> Dataset:
    """Phantom photographs of skin lesions: ten classes, grouped by patient, drawn when first read.

    Args:
        cache: Folder that keeps drawn pictures; None draws them at every reading.
        images: Number of images.
        size: Pixels along each side of an image.
        balance: 0 gives the classes the frequencies they have in Dermofit, 1 gives all the same, values
            between mix the two.
        overlap: Share of the lesions that partly look like another class.
        seed: Seed of patients and pictures.

    Returns:
        The data set; the unit is the patient.
    """
    settings = {"revision": REVISION, "images": images, "size": size, "balance": balance, "overlap": overlap}
    fingerprint = hashlib.sha256(json.dumps([NAME, settings, seed]).encode()).hexdigest()
    cases = tuple(sorted(_cases(seed, _class_counts(images, balance)), key=lambda case: case.case_id))
    return Dataset(
        name=NAME,
        task=Task.CLASSIFICATION,
        classes=CLASSES,
        unit="patient",
        channels=3,
        shape=(size, size),
        spacing=None,
        cases=cases,
        read=partial(_read, Renderer(seed, size, overlap), cache, f"{NAME}-{fingerprint[:16]}"),
        fingerprint=fingerprint,
        facts=_facts(cases, balance, overlap),
        phantom=True,
    )


def _read(renderer: Renderer, cache: Path | None, folder: str, case: Case) -> Sample:
    pixels = cached_array(cache, f"{folder}/{case.case_id}", lambda: renderer(case).image)
    return Sample(np.asarray(pixels, np.float32) / 255, np.array(case.label, np.int64))


def _facts(cases: tuple[Case, ...], balance: float, overlap: float) -> dict[str, str]:
    patients = len({case.patient_id for case in cases})
    return {
        "origin": "drawn by medrobust (phantom); no patient behind it",
        "patients": f"{patients} with {len(cases)} images; a patient's share skin, camera, light and hair",
        "class frequencies": f"Dermofit's, mixed with equal ones by a share of {balance:g}",
        "class overlap": f"{overlap:.0%} of the lesions partly look like another class",
    }


def _class_counts(images: int, balance: float) -> list[int]:
    """How many images each class has: largest remainders, at least two each."""
    counts = np.array([look.images for look in LOOKS.values()])
    share = (1 - balance) * counts / counts.sum() + balance / len(counts)
    quota = 2 + share * (images - 2 * len(counts))
    whole = np.floor(quota).astype(int)
    for index in np.argsort(whole - quota, kind="stable")[: images - whole.sum()]:
        whole[index] += 1
    return [int(count) for count in whole]


def _cases(seed: int, counts: list[int]) -> Iterator[Case]:
    """Hand the lesions out to patients until every class has its number.

    No patient has more than a quarter of a class, so that a split by patient can put each class on both
    sides.
    """
    rng = generator(seed, NAME, "patients")
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

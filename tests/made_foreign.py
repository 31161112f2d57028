"""Phantoms for networks of other people: heads for deepbet, organs for LiteMedSAM, lesions for sklesion."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data import open_dataset
from medrobust.data.own import fingerprint

OF_HAM10000 = {
    "AK": "akiec", "BCC": "bcc", "SK": "bkl", "DF": "df", "MEL": "mel", "ML": "nv", "VASC": "vasc",
}  # fmt: skip


def heads(cache: Path | None, *, subjects: int = 2) -> Dataset:
    """Phantom brains of 2 mm in fluid, skull and scalp; the classes are brain and the rest."""
    block = {"name": "phantom_brains", "axis": "volume", "canvas": [128, 128, 128], "subjects": subjects}
    brains = open_dataset(block, cache, None)

    def read(case: Case) -> Sample:
        (image,), _ = brains.read(case)
        brain = image > 0
        away = distance_transform_edt(~brain)  # in voxels
        head = np.select([brain, away < 2, away < 5, away < 9], [image, 0.1, 0.03, 0.9], 0)
        return Sample(head[None].astype(np.float32), brain.astype(np.int64))

    cases = tuple(replace(case, foreground=int(read(case).label.sum())) for case in brains.cases)
    return replace(brains, name="heads", classes=("background", "brain"), cases=cases, read=read)


def organs(*, images: int = 4) -> Dataset:
    """Bright ellipses in noise, each with the box around it in the second channel."""
    y, x = np.mgrid[:256, :256]

    def ellipse(number: int) -> np.ndarray:
        centre, radii = np.random.default_rng(number).uniform([[90] * 2, [25] * 2], [[160] * 2, [60] * 2])
        return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1

    def read(case: Case) -> Sample:
        organ = ellipse(case.position)
        noise = np.random.default_rng([case.position, 1]).normal(0, 0.03, organ.shape)
        shown = [np.clip(0.3 + 0.3 * organ + noise, 0, 1), np.outer(organ.any(1), organ.any(0))]
        return Sample(np.stack(shown).astype(np.float32), organ.astype(np.int64))

    cases = tuple(
        Case(name, name, name, position=number, foreground=int(ellipse(number).sum()))
        for number, name in enumerate(f"organ{number}" for number in range(images))
    )
    return Dataset(
        name="organs", task=Task.SEGMENTATION, classes=("background", "organ"), unit="patient", channels=2,
        shape=(256, 256), spacing=None, cases=cases, read=read, fingerprint=fingerprint(cases, read),
        phantom=True,
    )  # fmt: skip


def seven(cache: Path | None, *, images: int = 100) -> Dataset:
    """Phantom lesions of the seven diagnoses of HAM10000, by their names there, with age, sex and place."""
    lesions = open_dataset({"name": "phantom_lesions", "images": images, "size": 254}, cache, None)
    names = tuple(sorted(OF_HAM10000.values()))
    known = {
        old: names.index(OF_HAM10000[name]) for old, name in enumerate(lesions.classes) if name in OF_HAM10000
    }
    former = {case.case_id: case for case in lesions.cases if case.label in known}

    def read(case: Case) -> Sample:
        return Sample(lesions.read(former[case.case_id]).image, np.array(case.label, np.int64))

    cases = tuple(replace(case, label=known[case.label]) for case in former.values())
    return replace(
        lesions, name="seven_lesions", classes=names, cases=cases, read=read,
        attributes={case.scan_id: told(number) for number, case in enumerate(cases)},
    )  # fmt: skip


def told(number: int) -> dict[str, str | float]:
    """What is known of a phantom lesion; of some, not everything is."""
    sex = ("female", "male")[number % 2]
    place = ("hand", "face", "foot", "back", "unknown", "abdomen", "genital")[number % 7]
    every: dict[str, str | float] = {"sex": sex, "localization": place, "age": 25 + 5 * (number % 12)}
    return {name: value for name, value in every.items() if (number + len(name)) % 5 and value != "unknown"}

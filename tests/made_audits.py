"""Phantoms in the folders of real data sets, without any fault: what damaged copies are made from."""

import csv
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates

from made_folders import write_volume
from medrobust.core import Part
from medrobust.data import open_dataset
from medrobust.data.adapters.ham10000 import CLASSES
from medrobust.data.phantoms.brains import phantom_brain
from medrobust.data.scans.structures import BRAINCOLOR

HEADER = ("lesion_id", "image_id", "dx")
TEST, VALIDATION, TRAIN = 22, 2, 3
"""Lesions of each class in each part: 20 are enough for an interval narrow enough for no warning."""

SPACING = 4.0
LAS = np.diag([-SPACING, SPACING, SPACING, 1])
CODES = np.array([numbers[0] if numbers else 0 for numbers in BRAINCOLOR.values()], np.int16)


class Lesions:
    """A folder like HAM10000's with a table and a split file, which are written last.

    Attributes:
        root: The folder.
        rows: Lesion and diagnosis of each image.
        parts: Part of each lesion.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: dict[str, tuple[str, str]] = {}
        self.parts: dict[str, Part] = {}
        (root / "images").mkdir(parents=True)
        for label, pictures in enumerate(_lesions()):
            for number, pixels in enumerate(pictures):
                name = f"{CLASSES[label]}{number:02d}"
                self.add(name, Image.fromarray(pixels), f"L-{name}", CLASSES[label], _part(number))

    def add(
        self, name: str, image: Image.Image, lesion: str, diagnosis: str, part: Part, ending: str = "jpg"
    ) -> Path:
        """A further photograph."""
        self.rows[name], self.parts[lesion] = (lesion, diagnosis), part
        path = self.root / "images" / f"{name}.{ending}"
        image.save(path, **({"quality": 92} if ending == "jpg" else {}))
        return path

    def path(self, name: str) -> Path:
        """File of a photograph of the clean folder."""
        return self.root / "images" / f"{name}.jpg"

    def image(self, name: str) -> Image.Image:
        """Pixels of a photograph of the clean folder."""
        with Image.open(self.path(name)) as image:
            return image.convert("RGB")

    def write(self, further: Iterable[tuple[str, str, str]] = (), twice: Mapping[str, Part] = {}) -> Path:
        """Write the table, with further rows, and the split, with some lesions in a second part."""
        rows = [(lesion, name, diagnosis) for name, (lesion, diagnosis) in self.rows.items()]
        _write(self.root / "HAM10000_metadata.csv", HEADER, [*rows, *further])
        _write(self.split, ("patient_id", "part"), [*self.parts.items(), *twice.items()])
        return self.root

    @property
    def split(self) -> Path:
        """The split file."""
        return self.root / "split.csv"


class Brains:
    """A folder like MALC-2012's: each scan is another brain."""

    def __init__(self, root: Path, training: int, testing: int) -> None:
        self.root = root
        self.made = 0
        self.training = [self.add("training", f"{1000 + number}_3") for number in range(training)]
        self.testing = [self.add("testing", f"{1100 + number}_3") for number in range(testing)]

    def add(self, part: str, scan: str) -> str:
        """A further scan, of a new person."""
        image, classes = person(self.made)
        self.made += 1
        write_volume(self.image(part, scan), as_stored(image), LAS)
        write_volume(self.labels(part, scan), CODES[classes][::-1], LAS)
        return scan

    def copy(self, part: str, scan: str, to: str, name: str) -> Path:
        """The same files under another name; gives that of the image."""
        shutil.copy(self.image(part, scan), self.image(to, name))
        shutil.copy(self.labels(part, scan), self.labels(to, name))
        return self.image(to, name)

    def image(self, part: str, scan: str) -> Path:
        """File of the intensities."""
        return self.root / f"{part}-images" / f"{scan}.nii.gz"

    def labels(self, part: str, scan: str) -> Path:
        """File of the labels."""
        return self.root / f"{part}-labels" / f"{scan}_glm.nii.gz"


def person(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Intensities in [0, 1] and classes of a brain, in RAS: a phantom, bent."""
    image, classes = _phantom(number % 2)
    rng = np.random.default_rng(number)
    bend = np.stack([gaussian_filter(rng.normal(size=image.shape), 4) for _ in range(3)])
    places = np.indices(image.shape) + bend / bend.std()
    return (
        map_coordinates(image, places, order=1),
        map_coordinates(classes, places, order=0).astype(np.uint8),
    )


def scanned_again(image: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same head a little turned, brighter to one side, with other noise."""
    rng, angle = np.random.default_rng(seed), np.deg2rad(4)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    centre = (np.array(image.shape) - 1) / 2
    lying = affine_transform(image, turn, centre - turn @ centre + 0.5, order=1)
    bias = np.linspace(0.9, 1.1, image.shape[1])[:, None]
    return np.where(lying > 0.05, lying * bias + rng.normal(0, 0.01, image.shape), 0).clip(0)


def as_stored(image: np.ndarray) -> np.ndarray:
    """Intensities as int16 with the axis x to the left."""
    return np.rint(image[::-1] * 2000).astype(np.int16)


@cache
def _lesions() -> tuple[tuple[np.ndarray, ...], ...]:
    """Pictures of the first seven classes of phantom lesions, each of another patient."""
    dataset = open_dataset({"name": "phantom_lesions", "images": 1000, "size": 64}, None, None)
    found: defaultdict[int, dict[str, np.ndarray]] = defaultdict(dict)
    for case in dataset.cases:
        label = int(case.label or 0)
        is_wanted = label < len(CLASSES) and len(found[label]) < TEST + VALIDATION + TRAIN
        if is_wanted and all(case.patient_id not in pictures for pictures in found.values()):
            image = dataset.read(case).image.transpose(1, 2, 0)
            found[label][case.patient_id] = np.rint(image * 255).astype(np.uint8)
    return tuple(tuple(found[label].values()) for label in range(len(CLASSES)))


@cache
def _phantom(subject: int) -> tuple[np.ndarray, np.ndarray]:
    return phantom_brain(0, subject, SPACING)


def _part(number: int) -> Part:
    return Part.TEST if number < TEST else Part.VALIDATION if number < TEST + VALIDATION else Part.TRAIN


def _write(path: Path, header: tuple[str, ...], rows: Iterable[Iterable[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])

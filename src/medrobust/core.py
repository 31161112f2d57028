"""The vocabulary of medrobust: tasks, cases, data sets, roles and progress.

Words (see docs/protocol.md): a *case* is one network input (a photo, or a slice or volume of a scan); a
*scan* is what a score belongs to; a *patient* is what splits and intervals are made over; a *target* is
judged; a *source* is the network an attack was crafted on; a *cell* is (perturbation, source, target).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64


class Task(StrEnum):
    """What the networks of a study do. The tasks differ in the rank of labels and logits only.

    Labels of shape `n *labelspace` go with logits `n answers *labelspace`, so that `argmax(1)`,
    cross-entropy and counts are the same lines for all. An image has one label (classification), one for
    each finding (multilabel), or one for each pixel (segmentation). Answers are the classes; a finding has
    two, absent and present, and a network's one logit z for it becomes the two logits (0, z), which have the
    decision, the probability and the cross-entropy of a sigmoid.
    """

    CLASSIFICATION = "classification"
    MULTILABEL = "multilabel"
    SEGMENTATION = "segmentation"

    @property
    def has_maps(self) -> bool:
        """Whether pixels have labels, which are counted scan by scan; else images as a whole have them."""
        return self is Task.SEGMENTATION

    @property
    def is_of_paper(self) -> bool:
        """Whether the paper attacks such networks; where it does not, no attack goes beyond it."""
        return self is not Task.MULTILABEL


UNKNOWN = -1
"""In place of a label that nobody gave, such as that of an uncertain finding or of a pixel to be ignored.

It is in no loss, no score and no success of an attack.
"""


class Role(StrEnum):
    """Why a network was trained: to be judged, or to craft attacks on."""

    TARGET = "target"
    SURROGATE = "surrogate"


class Part(StrEnum):
    """A part of a split. `UNUSED` patients are left out of the study."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    UNUSED = "unused"


Unit = Literal["patient", "lesion", "scan", "image"]
"""The finest group that a data set declares.

Splits and intervals are made over it, and every table names it.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One network input.

    Attributes:
        case_id: Unique in its data set.
        scan_id: The photo or volume that it belongs to.
        patient_id: The group that splits and intervals are made over.
        label: Class of a photo, or 1 (present), 0 (absent) or `UNKNOWN` for each finding; None in
            segmentation.
        position: Index of a slice or patch in its scan; 0 otherwise.
        foreground: Number of pixels that are known to be no background in segmentation; 0 of photos.
    """

    case_id: str
    scan_id: str
    patient_id: str
    label: int | tuple[int, ...] | None = None
    position: int = 0
    foreground: int = 0

    @property
    def is_labelled(self) -> bool:
        """Whether it has a class, findings or a labelled pixel; others are evaluated, but not trained on."""
        return self.label is not None or self.foreground > 0


class Sample(NamedTuple):
    """The content of a case: image in [0, 1], shape `c *space`; label, shape `()`, `k` or `*space`.

    Pixels of a label map that nobody labelled are `UNKNOWN`.
    """

    image: Float32[np.ndarray, "c *space"]
    label: Int64[np.ndarray, "*labelspace"]


def pixels_of(shape: Sequence[int]) -> Literal["pixels", "voxels"]:
    """What images of a spatial shape consist of, in words."""
    return "voxels" if len(shape) == 3 else "pixels"


class Grid(NamedTuple):
    """The voxel grid of a volume: its size along each axis, and the affine from indices to mm."""

    shape: tuple[int, ...]
    affine: Float64[np.ndarray, "4 4"]


@dataclass(frozen=True)
class Dataset:
    """A data set, read case by case, so that memory does not grow with the number of cases.

    Attributes:
        name: Name in the catalogue.
        task: The task that it is labelled for.
        classes: Names of the classes, or of the findings; in segmentation the first is the background.
        unit: The finest group that it declares.
        channels: Channels of an image.
        shape: Spatial shape of every image.
        spacing: Size of a pixel in mm along each spatial axis; None if unknown.
        cases: All cases, sorted by `case_id`.
        read: Returns the sample of a case.
        fingerprint: SHA-256 of everything that its images and labels depend on.
        official: Part of each patient in the official split, if there is one.
        facts: What a report must state, e.g. orientation, spacing, intensity normalisation.
        phantom: Whether the data are generated, and so say nothing about anybody's networks.
        bits: Bits per channel of the images as they would be saved (8 for photos, 12 for MRI).
        affine: Returns the affine of a scan, given its id: from (slice, row, column) of its stacked images to
            world millimetres (right, anterior, superior); None if images have no place in space, as photos.
        attributes: What is known of a scan and its patient, by scan id: `{"s1": {"age": 63}}`. Scores
            are also shown by these groups; unknown values are left out.
        colours: Red, green and blue (0 to 255) of each class in label maps, None if unknown; empty if the
            data define no colours.
        patches: Along each axis of the grid of `affine`, how many patches tile a scan; `position` counts them
            in C order. None if cases are no patches, or lie elsewhere.
        original: Returns the grid of the file of a scan, given its id, so that exports match it voxel by
            voxel; None if there is no such file.
        regions: Structures that are unions of classes, and may overlap: the numbers of their classes, by
            name. Label maps hold classes; regions, where there are any, are what is scored.
    """

    name: str
    task: Task
    classes: tuple[str, ...]
    unit: Unit
    channels: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    cases: tuple[Case, ...]
    read: Callable[[Case], Sample]
    fingerprint: str
    official: Mapping[str, Part] | None = None
    facts: Mapping[str, str] | None = None
    phantom: bool = False
    bits: int = 8
    affine: Callable[[str], Float64[np.ndarray, "4 4"]] | None = None
    attributes: Mapping[str, Mapping[str, str | float]] | None = None
    colours: tuple[tuple[int, int, int] | None, ...] = ()
    patches: tuple[int, ...] | None = None
    original: Callable[[str], Grid] | None = None
    regions: Mapping[str, tuple[int, ...]] | None = None

    @property
    def labelspace(self) -> tuple[int, ...]:
        """Shape of a label."""
        if self.task.has_maps:
            return self.shape
        return (len(self.classes),) if self.task is Task.MULTILABEL else ()

    @property
    def answers(self) -> int:
        """How many answers each label is one of: the classes, or absent and present."""
        return 2 if self.task is Task.MULTILABEL else len(self.classes)

    @property
    def structures(self) -> tuple[str, ...]:
        """What is scored in segmentation: the background, then the regions or, without any, the classes."""
        return (self.classes[0], *self.regions) if self.regions else self.classes

    @property
    def members(self) -> Bool[np.ndarray, "structures classes"] | None:
        """Which classes each structure consists of; None where each is a class."""
        return members_of(self.regions, len(self.classes)) if self.regions else None


def members_of(regions: Mapping[str, Sequence[int]], classes: int) -> Bool[np.ndarray, "structures classes"]:
    """Which classes the background, in the first row, and each region consist of.

    >>> members_of({"tumour": (1, 2), "core": (2,)}, 3).astype(int).tolist()
    [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    """
    return np.array([[number in own for number in range(classes)] for own in ((0,), *regions.values())])


@dataclass(frozen=True, slots=True, order=True)
class NetworkId:
    """One trained network of a study."""

    name: str
    role: Role
    seed: int
    fold: int | None = None

    @property
    def folder(self) -> str:
        """Name of its folder in `models/`."""
        fold = "" if self.fold is None else f"-f{self.fold}"
        return f"{self.name}-{self.role}-s{self.seed}{fold}"

    @property
    def title(self) -> str:
        """Its name for people, e.g. "unet (target, seed 0, fold 2)"."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.name} ({self.role}, seed {self.seed}{fold})"


def task_of_label(label: int | tuple[int, ...] | None) -> Task:
    """The task that the label of a case is for, see `Case.label`."""
    if label is None:
        return Task.SEGMENTATION
    return Task.MULTILABEL if isinstance(label, tuple) else Task.CLASSIFICATION


def names_in(label: int | Sequence[int], classes: Sequence[str]) -> list[str]:
    """What a label of a whole image says: the name of its class, or of each finding that is present.

    >>> names_in(1, ("nevus", "melanoma")), names_in((1, 0, -1), ("effusion", "mass", "nodule"))
    (['melanoma'], ['effusion'])
    """
    if isinstance(label, Sequence):
        return [name for name, answer in zip(classes, label, strict=True) if answer == 1]
    return [classes[label]]


LEFT, RIGHT = ("left", "lh", "l"), ("right", "rh", "r")
"""How names of classes spell a side, in small letters."""


class Pair(NamedTuple):
    """Classes of one structure on the two sides."""

    left: int
    right: int


def side_pairs(classes: Sequence[str]) -> list[Pair]:
    """Classes whose names differ only in the side.

    >>> side_pairs(("background", "left caudate", "right caudate", "Left-Putamen"))
    [Pair(left=1, right=2)]
    """
    named: dict[tuple[str, tuple[str, ...]], int] = {}
    for index, name in enumerate(classes):
        words = re.findall(r"[a-z0-9]+", name.lower())
        for side, spellings in (("left", LEFT), ("right", RIGHT)):
            rest = tuple("" if word in spellings else word for word in words)
            if rest.count("") == 1:
                named[side, rest] = index
    return [
        Pair(index, named["right", rest])
        for (side, rest), index in named.items()
        if side == "left" and ("right", rest) in named
    ]


def sides_of(classes: Sequence[str]) -> tuple[int, ...] | None:
    """The class that each becomes where left and right change names; None where no class has a side.

    >>> sides_of(("background", "left putamen", "right putamen", "brain stem")), sides_of(("nevus",))
    ((0, 2, 1, 3), None)
    """
    other = {one: two for pair in side_pairs(classes) for one, two in (pair, pair[::-1])}
    return tuple(other.get(number, number) for number in range(len(classes))) if other else None


OnProgress = Callable[[float, str], None]
"""Called with the finished fraction of a step, in [0, 1], and a short note such as the loss."""


def silent(done: float, note: str) -> None:
    """An `OnProgress` that says nothing."""

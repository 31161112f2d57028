"""What an adapter finds in a folder: its items, and what is wrong with them.

Adapters only list: `(root, *, parameters) -> Photos | Scans`. What the files hold is read by `open_photos`
and `open_scans`, the same for all adapters, and by the audit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medrobust.core import Case, Part, Task, Unit, task_of_label
from medrobust.data.findings import Finding
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.photographs.pictures import PictureFormat
from medrobust.data.scans.labels import LabelMap
from medrobust.data.scans.volumes import VOLUME_FILES, VolumeFormat


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph on disk."""

    case_id: str  # unique in its data set
    patient_id: str  # the group that splits are made over
    label: int | tuple[int, ...] | None  # index of its class, or its findings; None if it has a mask
    path: Path
    entry: tuple[str, int] | None = None  # array and number inside a file that holds many pictures
    mask: Path | None = None  # file of its mask, of the same size; None in classification

    @property
    def place(self) -> Path:
        """Its file; for a picture inside a file of many "file/array[number]", as if that were a folder."""
        return self.path if self.entry is None else self.path / f"{self.entry[0]}[{self.entry[1]}]"

    @property
    def case(self) -> Case:
        """It as a case; what its mask marks is not known yet."""
        return Case(self.case_id, self.case_id, self.patient_id, self.label)


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan on disk."""

    scan_id: str  # unique in its data set
    patient_id: str
    images: tuple[Path, ...]  # files of the intensities: one per channel, or one that holds all channels
    labels: Path  # file of the labels, on the same grid
    format: VolumeFormat = VOLUME_FILES

    @property
    def image(self) -> Path:
        """The first of its images."""
        return self.images[0]

    @property
    def case(self) -> Case:
        """All of it as a case; what is labelled is not known yet."""
        return Case(self.scan_id, self.scan_id, self.patient_id)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What every kind of data has in common."""

    items: tuple[Photo, ...] | tuple[Scan, ...]  # sorted by name
    classes: tuple[str, ...]  # or findings; in segmentation the first is the background
    unit: Unit  # the finest group that the data declare
    facts: Mapping[str, str] = field(default_factory=dict)  # what a report must state about the data
    findings: tuple[Finding, ...] = ()  # what is wrong; items that cannot be used are left out
    official: Mapping[str, Part] | None = None  # part of each patient, if the data come with a split
    # what is known of a scan or photograph and its patient, by its id: age, sex, site
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    regions: Mapping[str, tuple[int, ...]] | None = None  # unions of classes, see `Dataset.regions`

    @property
    def task(self) -> Task:
        """What they are labelled for."""
        return Task.SEGMENTATION


@dataclass(frozen=True, kw_only=True)
class Photos(Listing):
    """Photographs with a class, findings or a mask each."""

    items: tuple[Photo, ...]  # sorted by `case_id`
    format: PictureFormat = IMAGE_FILES
    ignored: tuple[int, ...] = ()  # values of pixels of masks that are not labelled

    @property
    def task(self) -> Task:
        """What they are labelled for: by the first of them."""
        return task_of_label(self.items[0].label) if self.items else Task.CLASSIFICATION


@dataclass(frozen=True, kw_only=True)
class Scans(Listing):
    """Scans with a class for every voxel."""

    items: tuple[Scan, ...]  # sorted by `scan_id`
    classes_of: LabelMap  # turns the label numbers in a file into class indices

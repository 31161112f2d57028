"""What an adapter finds in a folder: which items there are, and what is wrong with them.

Adapters only list: `(root, *, parameters) -> Photos | Scans`. What the files hold is read by `open_photos`
and `open_scans`, the same for all adapters, and by the audit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medrobust.core import Part, Unit
from medrobust.data.findings import Finding
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.photographs.pictures import PictureFormat
from medrobust.data.scans.labels import LabelMap
from medrobust.data.scans.volumes import VOLUME_FILES, VolumeFormat


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph on disk.

    Attributes:
        case_id: Unique in its data set.
        patient_id: The group that splits are made over.
        label: Index of its class; None where every pixel has one, in a mask.
        path: Its file.
        entry: Array and number inside a file of many; None where the file is the photograph.
        mask: File of its mask, of the same size; None in classification.
    """

    case_id: str
    patient_id: str
    label: int | None
    path: Path
    entry: tuple[str, int] | None = None
    mask: Path | None = None

    @property
    def place(self) -> Path:
        """Its file; of a picture inside a file of many "file/array[number]", as if that were a folder."""
        return self.path if self.entry is None else self.path / f"{self.entry[0]}[{self.entry[1]}]"


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan on disk.

    Attributes:
        scan_id: Unique in its data set.
        patient_id: Whose it is.
        images: Files of the intensities: one per channel, or one that holds all channels.
        labels: File of the labels, on the same grid.
        format: How these files are read.
    """

    scan_id: str
    patient_id: str
    images: tuple[Path, ...]
    labels: Path
    format: VolumeFormat = VOLUME_FILES

    @property
    def image(self) -> Path:
        """The first of its images."""
        return self.images[0]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What every kind of data has in common.

    Attributes:
        classes: Names of the classes; in segmentation the first is the background.
        unit: The finest group that the data declare.
        facts: What a report must state about the data.
        findings: What is wrong; items that cannot be used are left out.
        official: Part of each patient in the data's official split, None where there is none.
        attributes: What the data say of a scan or photograph and its patient, by its id: age, sex, site. What
            is not known is left out.
    """

    classes: tuple[str, ...]
    unit: Unit
    facts: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    official: Mapping[str, Part] | None = None
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Photos(Listing):
    """Photographs with a class each, or a mask each.

    Attributes:
        items: All that can be used, sorted by `case_id`.
        format: How their files are read.
    """

    items: tuple[Photo, ...]
    format: PictureFormat = IMAGE_FILES


@dataclass(frozen=True, kw_only=True)
class Scans(Listing):
    """Scans with a class for every voxel.

    Attributes:
        items: All that can be used, sorted by `scan_id`.
        classes_of: What the label numbers in the files mean; called with them and their file, it gives class
            indices.
    """

    items: tuple[Scan, ...]
    classes_of: LabelMap

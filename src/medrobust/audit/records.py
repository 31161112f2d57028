"""What an audit keeps of every file: a small record, whose size does not depend on that of the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float64, UInt8

from medrobust.core import Part
from medrobust.data.listing import Photo, Photos, Scan, Scans

Splits = tuple[Mapping[str, Part], ...]
"""Part of each patient in the split, or in each fold; none where the split could not be made."""


BLANK = 2
"""Steps of 255 that the values of a blank image may differ by."""


@dataclass(frozen=True, slots=True)
class PhotoLook:
    """What a photograph that can be read looks like.

    Attributes:
        form: Format of the file, whatever its name says, in Pillow's words: "JPEG", "PNG"; empty of others.
        mode: "CMYK" or "YCCK" where it was made for print.
        turned: Whether its EXIF tag asks for a rotation or reflection.
        alpha: Whether any pixel is transparent.
        shape: Height and width.
        grey: Whether all channels are equal.
        bits: Bits per channel of the file: 8 or 16.
        high: Largest value of any channel, in [0, 2**bits - 1].
        contrast: Difference of largest and smallest value, of the channel where it is largest.
        clipped: Share of the pixels that have the largest possible value in all channels.
        digest: Hash of size and pixels: equal for equal images, however they are compressed.
        structure: Perceptual hash of 64 bits.
        small: The whole image in grey, upright, squeezed to 32 x 32 pixels.
    """

    form: str
    mode: str
    turned: bool
    alpha: bool
    shape: tuple[int, ...]
    grey: bool
    bits: int
    high: int
    contrast: int
    clipped: float
    digest: bytes
    structure: int
    small: UInt8[np.ndarray, "32 32"]

    @property
    def is_blank(self) -> bool:
        """Whether nothing can be seen; compression leaves traces of `BLANK` steps."""
        is_deep = self.bits > 8 and self.high > 255  # not 8-bit values in a 16-bit file
        return self.contrast <= BLANK * (257 if is_deep else 1)


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """A photograph of the listing and what its file holds.

    Attributes:
        photo: As listed.
        look: What it looks like; None where it cannot be read.
        inside: Share of its mask that is inside; None where there is no mask, or none that can be read.
        errors: Why a file cannot be read, as a sentence, by file.
    """

    photo: Photo
    look: PhotoLook | None
    inside: float | None
    errors: Mapping[Path, str]


def short(photo: Photo) -> str:
    """The file of a photograph, and its place inside where that holds many, without the folder."""
    return str(photo.place.relative_to(photo.path.parent))


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a file lie.

    Attributes:
        shape: Voxels along x, y, z of the canonical orientation RAS.
        affine: From x, y, z to world millimetres.
        stored: Where the file's own axes grow to, e.g. "LAS".
        codes: NIfTI's qform and sform code; (1, 1) where the format has none.
        forms_differ: Largest difference in mm between the two forms, where both are set.
    """

    shape: tuple[int, ...]
    affine: Float64[np.ndarray, "4 4"]
    stored: str
    codes: tuple[int, int]
    forms_differ: float


COUNTED_LEVELS = 257
"""One more than 8 bits can tell apart."""


@dataclass(frozen=True, slots=True)
class VolumeLook:
    """What the intensities of a scan look like.

    Attributes:
        grid: Where its voxels lie.
        dtype: Type of the numbers in the file.
        not_numbers: Voxels that are NaN.
        infinite: Voxels that are infinite.
        low: Smallest finite intensity.
        high: Largest finite intensity.
        levels: Different intensities, counted up to `COUNTED_LEVELS`.
        clipped: Share of the voxels above the smallest intensity that have the largest one.
        digest: Hash of shape and intensities.
        person: The scan in a frame of its own axes, detail only; None where nothing can be compared.
        size: Size of what is pictured in mm: the root mean square distance from its centre along an axis.
    """

    grid: Grid
    dtype: str
    not_numbers: int
    infinite: int
    low: float
    high: float
    levels: int
    clipped: float
    digest: bytes
    person: Float16[np.ndarray, "voxels"] | None
    size: float


@dataclass(frozen=True, slots=True)
class LabelsLook:
    """What the labels of a scan look like.

    Attributes:
        grid: Where their voxels lie.
        strange: What is wrong with the numbers, as a sentence; empty where all are known.
        whole: Whether all are whole numbers in [0, 65535].
        voxels: Voxels of each class.
        centres: Centre of each class in world millimetres (right, anterior, superior); NaN where it is empty.
    """

    grid: Grid
    strange: str
    whole: bool
    voxels: tuple[int, ...]
    centres: Float64[np.ndarray, "classes 3"]


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan of the listing and what its files hold.

    Attributes:
        scan: As listed.
        images: Its intensities, by file; those that can be read.
        labels: Its labels; None where they cannot be read.
        errors: Why a file cannot be read, as a sentence, by file.
    """

    scan: Scan
    images: Mapping[Path, VolumeLook]
    labels: LabelsLook | None
    errors: Mapping[Path, str]


@dataclass(frozen=True)
class PhotoEvidence:
    """Everything that checks of photographs may look at.

    Attributes:
        listing: What there is.
        splits: Part of each patient, in each fold.
        records: One per photograph, in the listing's order.
    """

    listing: Photos
    splits: Splits
    records: tuple[PhotoRecord, ...]

    @property
    def readable(self) -> list[tuple[Photo, PhotoLook]]:
        """The photographs that can be read."""
        return [(record.photo, record.look) for record in self.records if record.look]


@dataclass(frozen=True)
class ScanEvidence:
    """Everything that checks of scans may look at.

    Attributes:
        listing: What there is.
        splits: Part of each patient, in each fold.
        records: One per scan, in the listing's order.
    """

    listing: Scans
    splits: Splits
    records: tuple[ScanRecord, ...]

    @property
    def images(self) -> list[tuple[Path, VolumeLook]]:
        """All files of intensities that can be read; a scan may have several, one per channel."""
        return [image for record in self.records for image in record.images.items()]

    @property
    def scans(self) -> list[tuple[Scan, VolumeLook]]:
        """The scans whose first file can be read, with what it looks like."""
        return [
            (record.scan, record.images[record.scan.image])
            for record in self.records
            if record.scan.image in record.images
        ]

    @property
    def labels(self) -> list[tuple[Scan, LabelsLook]]:
        """The scans whose labels can be read and mean something."""
        return [
            (record.scan, record.labels)
            for record in self.records
            if record.labels and not record.labels.strange
        ]

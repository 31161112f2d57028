"""What the headers of a folder of DICOM files say: which series of images and segmentations there are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from medrobust.data.files.dicom_files import read_dicom_file
from medrobust.data.files.missing import is_missing
from medrobust.data.findings import Finding, refused
from medrobust.data.photographs.pictures import naming
from medrobust.data.scans.dicom_series import background_of, voxels_of
from medrobust.data.scans.labels import Colour
from medrobust.errors import DataError

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of segmentations: of Segmentation Storage and of Label Map Segmentation Storage."""

ELEMENTS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription"),
    *("Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PatientID", "PatientSex", "PatientAge", "Manufacturer"),
    *("ReferencedSeriesSequence", "SegmentSequence", "PixelPaddingValue"),
)
"""What is read of a header."""

MAGIC = (128, b"DICM")
"""Where in a DICOM file what stands."""

YEARS = re.compile(r"(\d{3})Y")
"""How DICOM writes an age in years."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series of images.

    Attributes:
        uid: Its SeriesInstanceUID.
        frame: Its FrameOfReferenceUID.
        patient: PatientID, "" where there is none.
        modality: Such as CT or MR.
        attributes: What is known of the patient and the scanner.
        files: Its files by SOPInstanceUID, so that copies count once, each with the voxels it claims.
    """

    uid: str
    frame: str
    patient: str
    modality: str
    attributes: Mapping[str, str]
    files: dict[str, tuple[Path, int]] = field(default_factory=dict)


class Segmentation(NamedTuple):
    """A segmentation object.

    Attributes:
        path: Its file.
        frame: Its FrameOfReferenceUID.
        description: SeriesDescription.
        refers: SeriesInstanceUIDs of the series that it refers to.
        segments: Labels of its segments by their numbers.
        colours: Of its labels, those that it gives.
    """

    path: Path
    frame: str
    description: str
    refers: tuple[str, ...]
    segments: Mapping[int, str]
    colours: Mapping[str, Colour]


def read_headers(root: Path, findings: list[Finding]) -> tuple[dict[str, Series], list[Segmentation]]:
    """The series of grey images in a folder, by UID, and the segmentations; of other files nothing is said.

    Args:
        root: Looked through with all folders below it, but hidden ones.
        findings: Get the DICOM files that cannot be read.
    """
    series: dict[str, Series] = {}
    segmentations: dict[str, Segmentation] = {}
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.relative_to(root).parts)
        try:
            with naming(path, "a DICOM file"):
                if hidden or not path.is_file() or not _is_dicom(path):
                    continue
                header = read_dicom_file(path, pixels=False, elements=ELEMENTS)
                if header.get("SOPClassUID") in SEGMENTATIONS:
                    segmentations.setdefault(str(header.SOPInstanceUID), _segmentation(path, header))
                elif header.get("SamplesPerPixel") == 1:
                    own = series.setdefault(str(header.SeriesInstanceUID), _series(header))
                    own.files.setdefault(str(header.SOPInstanceUID), (path, voxels_of(header)))
        except DataError as error:
            findings.append(refused("unreadable", error, path))
    return series, list(segmentations.values())


def _is_dicom(path: Path) -> bool:
    place, magic = MAGIC
    with path.open("rb") as file:
        return file.read(place + len(magic))[place:] == magic


def _series(header: Any) -> Series:
    age = YEARS.fullmatch(_text(header, "PatientAge"))
    attributes = {
        "sex": _text(header, "PatientSex"),
        "age": str(int(age[1])) if age else "",
        "manufacturer": _text(header, "Manufacturer"),
    }
    return Series(
        uid=str(header.SeriesInstanceUID),
        frame=_text(header, "FrameOfReferenceUID"),
        patient="" if is_missing(patient := _text(header, "PatientID")) else patient,
        modality=_text(header, "Modality"),
        attributes={name: text for name, text in attributes.items() if not is_missing(text)},
    )


def _segmentation(path: Path, header: Any) -> Segmentation:
    segments = {int(one.SegmentNumber): _text(one, "SegmentLabel") for one in header.SegmentSequence}
    segments.pop(background_of(header), None)  # label maps describe it too
    nameless = [number for number, label in segments.items() if not label or not label.isprintable()]
    if nameless:
        raise DataError(
            f"{path}: segment {nameless[0]} has no label that can be shown, and labels tell its class. "
            "Name it."
        )
    return Segmentation(
        path=path,
        frame=_text(header, "FrameOfReferenceUID"),
        description=_text(header, "SeriesDescription"),
        refers=tuple(str(one.SeriesInstanceUID) for one in header.get("ReferencedSeriesSequence", ())),
        segments=segments,
        colours=dict(filter(None, map(_colour, header.SegmentSequence))),
    )


def _colour(segment: Any) -> tuple[str, Colour] | None:
    from highdicom.color import CIELabColor

    value = segment.get("RecommendedDisplayCIELabValue")
    if value is None:
        return None
    return _text(segment, "SegmentLabel"), CIELabColor.from_dicom_value(value).to_rgb(clip=True)


def _text(header: Any, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()

"""What the headers of a folder of DICOM files say: which series of images and segmentations there are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from medrobust.data.dicom import grouped, is_dicom, present, read_dicom_file
from medrobust.data.files import is_missing, naming
from medrobust.data.findings import Finding, refused
from medrobust.data.scans.dicom_series import background_of, series_name, voxels_of
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

YEARS = re.compile(r"(\d{3})Y")
"""How DICOM writes an age in years."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series of images.

    Attributes:
        uid: Its SeriesInstanceUID.
        name: What to call it.
        frame: Its FrameOfReferenceUID.
        patient: PatientID, "" where there is none.
        modality: Such as CT or MR.
        attributes: What is known of the patient and the scanner.
        files: Its files by SOPInstanceUID, so that copies count once, each with the voxels it claims.
    """

    uid: str
    name: str
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
                if hidden or not path.is_file() or not is_dicom(path):
                    continue
                header = read_dicom_file(path, pixels=False, elements=ELEMENTS)
                if header.get("SOPClassUID") in SEGMENTATIONS:
                    one = _segmentation(path, header)
                    segmentations.setdefault(_uid(header, "SOPInstanceUID", path), one)
                elif present(header, "Rows") and (present(header, "SamplesPerPixel") or 1) == 1:
                    uid, instance = (_uid(header, f"{of}InstanceUID", path) for of in ("Series", "SOP"))
                    own = series.setdefault(uid, _series(header))
                    own.files.setdefault(instance, (path, voxels_of(header)))
        except DataError as error:
            findings.append(refused("unreadable", error, path))
    return series, list(segmentations.values())


def _uid(header: Any, keyword: str, path: Path) -> str:
    uid = _text(header, keyword)
    if not uid:
        raise DataError(
            f"{path} has no {keyword}, which tells what it belongs to. Export it again, with one."
        )
    return uid


def _series(header: Any) -> Series:
    age = YEARS.fullmatch(_text(header, "PatientAge"))
    attributes = {
        "sex": _text(header, "PatientSex"),
        "age": str(int(age[1])) if age else "",
        "manufacturer": _text(header, "Manufacturer"),
    }
    return Series(
        uid=str(header.SeriesInstanceUID),
        name=series_name(header),
        frame=_text(header, "FrameOfReferenceUID"),
        patient="" if is_missing(patient := _text(header, "PatientID")) else patient,
        modality=_text(header, "Modality"),
        attributes={name: text for name, text in attributes.items() if not is_missing(text)},
    )


def _segmentation(path: Path, header: Any) -> Segmentation:
    described = present(header, "SegmentSequence") or ()
    segments = {int(one.SegmentNumber): _text(one, "SegmentLabel") for one in described}
    segments.pop(background_of(header), None)  # label maps describe it too
    if not segments:
        raise DataError(f"{path} describes no segment (SegmentSequence). Leave it out, or export it again.")
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
        refers=tuple(
            _text(one, "SeriesInstanceUID") for one in present(header, "ReferencedSeriesSequence") or ()
        ),
        segments=segments,
        colours=dict(filter(None, map(_colour, described))),
    )


def _colour(segment: Any) -> tuple[str, Colour] | None:
    from highdicom.color import CIELabColor

    value = present(segment, "RecommendedDisplayCIELabValue")
    if value is None:
        return None
    return _text(segment, "SegmentLabel"), CIELabColor.from_dicom_value(value).to_rgb(clip=True)


def _text(header: Any, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def sources_of(path: Path) -> set[str]:
    """SOPInstanceUIDs of the images that the frames of a segmentation say they were derived from."""
    with naming(path, "a DICOM segmentation"):
        header = read_dicom_file(path, pixels=False)
        return {
            _text(source, "ReferencedSOPInstanceUID")
            for frame in present(header, "PerFrameFunctionalGroupsSequence") or ()
            for derivation in grouped(header, frame, "DerivationImageSequence")
            for source in present(derivation, "SourceImageSequence") or ()
        }

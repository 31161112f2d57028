"""DICOM series, such as CT or MR, with the segmentation objects (SEG) that label them.

    <anything>/IM0001 ...    slices of a series    <anything>/seg.dcm    its segmentation

The headers say what belongs together: slices by SeriesInstanceUID, a segmentation by the series that it
refers to, or whose frame of reference it shares; patients by PatientID.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from medrobust.core import Unit
from medrobust.data.adapters.labelled import visible
from medrobust.data.adapters.pairing import compiled, scans_of
from medrobust.data.dicom import grouped, is_dicom, present, read_dicom_file, rgb_of_cielab
from medrobust.data.files import is_missing, naming
from medrobust.data.findings import Finding, error, quoted, refused, require_sound, warning
from medrobust.data.listing import Scan, Scans
from medrobust.data.regions import MOST_MASKS
from medrobust.data.scans.dicom_series import (
    DicomScan,
    background_of,
    series_name,
    voxels_of,
)
from medrobust.data.scans.labels import BACKGROUND, IGNORED, Colour, LabelMap
from medrobust.data.scans.masks import NOT_LABELLED, classes_of_masks
from medrobust.errors import DataError, StudyError, unknown

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of Segmentation Storage and of Label Map Segmentation Storage."""

ELEMENTS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription"),
    *("Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PatientID", "PatientSex", "PatientAge", "Manufacturer"),
    *("ReferencedSeriesSequence", "SegmentSequence", "PixelPaddingValue"),
)
"""The elements of a header that are read."""

YEARS = re.compile(r"(\d{3})Y")
"""How DICOM writes an age in years."""

Names = dict[str, str | list[str]]
"""Labels of the segments of each class, and perhaps of `background`."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series of images."""

    uid: str  # its SeriesInstanceUID
    name: str  # what to call it
    frame: str  # its FrameOfReferenceUID
    patient: str  # PatientID, "" if there is none
    modality: str  # such as CT or MR
    attributes: Mapping[str, str]  # what is known of the patient and the scanner
    # its files, each with the voxels it claims, by SOPInstanceUID, so that copies count once
    claims: dict[str, tuple[Path, int]] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, sorted."""
        return tuple(sorted(path for path, _ in self.claims.values()))


class Segmentation(NamedTuple):
    """A segmentation object."""

    path: Path  # its file
    frame: str  # its FrameOfReferenceUID
    description: str  # SeriesDescription
    refers: tuple[str, ...]  # SeriesInstanceUIDs of the series that it refers to
    segments: Mapping[int, str]  # labels of its segments by their numbers
    colours: Mapping[str, Colour]  # of its labels, those that it gives


def list_dicom_seg(
    root: Path,
    *,
    labels: Names | None = None,
    segmentation: str | None = None,
    overlapping: bool = False,
    ignore: str | list[str] | None = None,
) -> Scans:
    """The series of grey images below a folder that a segmentation labels.

    Args:
        root: Folder of all files, in any arrangement.
        labels: Labels of the segments of each class, e.g. {tumour: [GTV-1, GTV-2], background: Body}; None:
            every label is a class. Numbers of segments mean nothing, since they may differ between files.
        segmentation: Regular expression that chooses segmentations by their series description, if a series
            has several; None: all.
        overlapping: Whether a voxel may be in segments of several classes: combinations that occur become
            classes, and what was a class becomes a region that is scored.
        ignore: Labels of segments whose voxels count nowhere, e.g. Unlabelled.

    Raises:
        StudyError: The mapping contradicts itself, or the expression is not a valid one.
        DataError: No series has a segmentation, or there are too many labels.
    """
    findings: list[Finding] = []
    series, found = _read_headers(root, findings)
    chosen = _chosen(found, segmentation)
    pairs = _paired(series, chosen, findings)
    if not pairs:
        require_sound(reversed(findings))
        raise DataError(
            f"data.root: none of {len(series)} series of images below {root} has one of {len(chosen)} DICOM "
            "segmentations. Give the folder that holds both."
        )
    every = {label for _, one in pairs for label in one.segments.values()}
    ignored = _ignored(ignore, every, labels)
    owner = _owners(every - ignored, labels)
    classes = (BACKGROUND, *dict.fromkeys(name for name in owner.values() if name != BACKGROUND))
    most, how = (MOST_MASKS + 1, " where they may overlap") if overlapping else (IGNORED, "")
    if not 2 <= len(classes) <= most:
        raise DataError(
            f"data.labels: the segments belong to {len(classes) - 1} classes ({quoted(classes[1:])}); 1 to "
            f"{most - 1} are supported{how}. Give `labels`, e.g. {{tumour: [GTV-1, GTV-2]}}."
        )
    scans: list[Scan] = []
    known: dict[str, Series] = {}
    for own, one in pairs:
        if nameless := sorted({label for label in one.segments.values() if label not in {*owner, *ignored}}):
            says = f"{one.path} has segments that data.labels do not name: {quoted(nameless)}."
            advice = "Name them there, or list them under background. The scan is left out."
            findings.append(error("unknown label", says, advice, one.path))
        else:
            numbers = {label: classes.index(name) for label, name in owner.items()}
            if overlapping:
                numbers = {label: 1 << place >> 1 for label, place in numbers.items()}
            numbers |= dict.fromkeys(ignored, NOT_LABELLED)
            scans.append(_scan(own, one, classes, numbers, overlapping))
            known[scans[-1].scan_id] = own
    unit, how = _unit(list(known.values()), root, findings)
    kinds = Counter(own.modality for own in known.values())
    facts = {"modality": ", ".join(f"{kind} {kinds[kind]}" for kind in sorted(kinds)), "patients": how}
    colours: dict[str, Colour] = {}
    for label, colour in (pair for _, one in pairs for pair in one.colours.items()):
        colours.setdefault(owner.get(label, ""), colour)
    if overlapping:
        scans, label_map = classes_of_masks(scans, classes[1:], findings)
        known = {scan.scan_id: known[scan.scan_id] for scan in scans}
    else:
        shown = tuple(colours.get(name) for name in classes) if colours else ()
        numbered = tuple((index,) for index in range(len(classes)))
        label_map = LabelMap(classes, numbered, shown, ignored=(NOT_LABELLED,) if ignored else ())
    attributes = {scan: own.attributes for scan, own in known.items()}
    return scans_of(scans, label_map, unit, findings, facts, attributes=attributes)


def _read_headers(root: Path, findings: list[Finding]) -> tuple[dict[str, Series], list[Segmentation]]:
    """The series of grey images below a folder, by UID, and the segmentations; other files are ignored."""
    series: dict[str, Series] = {}
    segmentations: dict[str, Segmentation] = {}
    for path in visible(root):
        try:
            with naming(path, "a DICOM file"):
                if not is_dicom(path):
                    continue
                header = read_dicom_file(path, pixels=False, elements=ELEMENTS)
                if header.get("SOPClassUID") in SEGMENTATIONS:
                    one = _segmentation(path, header)
                    segmentations.setdefault(_uid(header, "SOPInstanceUID", path), one)
                elif present(header, "Rows") and (present(header, "SamplesPerPixel") or 1) == 1:
                    uid, instance = (_uid(header, f"{of}InstanceUID", path) for of in ("Series", "SOP"))
                    own = series.setdefault(uid, _series(header))
                    own.claims.setdefault(instance, (path, voxels_of(header)))
        except DataError as unreadable:
            findings.append(refused("unreadable", unreadable, path))
    return series, list(segmentations.values())


def _text(header: Any, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _uid(header: Any, keyword: str, path: Path) -> str:
    uid = _text(header, keyword)
    if not uid:
        raise DataError(
            f"{path} has no {keyword}, so nothing says what it belongs to. Export it again with one."
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
            f"{path}: segment {nameless[0]} has no printable label, and the label decides its class. "
            "Name the segment."
        )
    refers = present(header, "ReferencedSeriesSequence") or ()
    return Segmentation(
        path=path,
        frame=_text(header, "FrameOfReferenceUID"),
        description=_text(header, "SeriesDescription"),
        refers=tuple(_text(one, "SeriesInstanceUID") for one in refers),
        segments=segments,
        colours={
            _text(one, "SegmentLabel"): rgb_of_cielab(value)
            for one in described
            if (value := present(one, "RecommendedDisplayCIELabValue")) is not None
        },
    )


def _chosen(found: Sequence[Segmentation], expression: str | None) -> list[Segmentation]:
    """The segmentations whose description matches an expression."""
    wanted = compiled(expression or "", "data.segmentation")
    chosen = [one for one in found if wanted.search(one.description)]
    if found and not chosen:
        seen = quoted(sorted({one.description for one in found}))
        raise DataError(
            f"data.segmentation: {expression!r} matches no series description of the {len(found)} "
            f"segmentations, which are {seen}. Correct it."
        )
    return chosen


def _paired(
    series: Mapping[str, Series], segmentations: Iterable[Segmentation], findings: list[Finding]
) -> list[tuple[Series, Segmentation]]:
    """Series with their segmentations; those with no partner, or several, become findings."""
    pairs: dict[str, tuple[Series, Segmentation]] = {}
    for one in segmentations:
        own = _series_of(one, series, findings)
        if own is None:
            continue
        if own.uid in pairs:
            first = pairs[own.uid][1].path
            says = f"{first} and {one.path} are segmentations of the same series."
            advice = "Choose with data.segmentation. The second is left out."
            findings.append(error("listed twice", says, advice, first, one.path))
        else:
            pairs[own.uid] = (own, one)
    if files := [own.files[0] for uid, own in series.items() if uid not in pairs]:
        says = f"{len(files)} series of images have no segmentation: {quoted(list(map(str, files)))}."
        findings.append(warning("labels missing", says, "They are left out.", *files))
    return list(pairs.values())


def _series_of(one: Segmentation, series: Mapping[str, Series], findings: list[Finding]) -> Series | None:
    """The series that a segmentation labels; None, and a finding, if that is unclear."""
    candidates = [series[uid] for uid in dict.fromkeys(one.refers) if uid in series] or [
        own for own in series.values() if own.frame and own.frame == one.frame
    ]
    if len(candidates) != 1:
        sources = _sources_of(one.path)
        of = [own for own in candidates or series.values() if sources & own.claims.keys()]
        candidates = of or candidates
    if not candidates:
        names = quoted(one.refers) if one.refers else f"one in the frame of reference '{one.frame}'"
        kind, says = "image missing", f"{one.path} segments a series that is missing: {names}."
        advice = "Add its images, or remove the file. It is left out."
    elif len(candidates) > 1:
        kind, says = "several series", f"{one.path} could belong to any of {len(candidates)} series."
        advice = f"Keep one of them: {', '.join(own.name for own in candidates)}. The file is left out."
    elif candidates[0].frame and one.frame and candidates[0].frame != one.frame:
        kind = "other frame of reference"
        says = f"{one.path} lies in the frame of reference '{one.frame}', and its {candidates[0].name} in "
        says += f"'{candidates[0].frame}': its position in the images is unknown."
        advice = "Save it in the frame of its series. It is left out."
    else:
        return candidates[0]
    findings.append(error(kind, says, advice, one.path))
    return None


def _sources_of(path: Path) -> set[str]:
    """SOPInstanceUIDs of the images that the frames of a segmentation say they were derived from."""
    with naming(path, "a DICOM segmentation"):
        header = read_dicom_file(path, pixels=False)
        return {
            _text(source, "ReferencedSOPInstanceUID")
            for frame in present(header, "PerFrameFunctionalGroupsSequence") or ()
            for derivation in grouped(header, frame, "DerivationImageSequence")
            for source in present(derivation, "SourceImageSequence") or ()
        }


def _owners(present: Iterable[str], labels: Names | None) -> dict[str, str]:
    """The class of every label of a segment; labels that the study does not name have none."""
    if labels is None:
        return {label: label for label in sorted(set(present))}
    owner: dict[str, str] = {}
    for name, own in labels.items():
        for label in [own] if isinstance(own, str) else own:
            if owner.setdefault(label, name) != name:
                raise StudyError(
                    f"data.labels: '{label}' is both '{owner[label]}' and '{name}'. Name it once."
                )
    return owner


def _ignored(ignore: str | list[str] | None, present: Set[str], labels: Names | None) -> Set[str]:
    """Labels of segments that are to be ignored; refused where none is called so, or where it has a class."""
    ignored = {ignore} if isinstance(ignore, str) else {*(ignore or ())}
    named = {label for own in (labels or {}).values() for label in ([own] if isinstance(own, str) else own)}
    for label in sorted(ignored):
        if label not in present:
            raise DataError(f"data.ignore: {unknown('label of a segment', label, sorted(present))}")
        if label in named:
            raise StudyError(f"data.ignore: '{label}' is also in data.labels. Name it once.")
    return ignored


def _scan(
    own: Series,
    one: Segmentation,
    classes: tuple[str, ...],
    numbers: Mapping[str, int],
    may_overlap: bool,
) -> Scan:
    """A scan; `numbers` are those of each segment's class in its labels."""
    segments = tuple(sorted((number, numbers[label]) for number, label in one.segments.items()))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", own.patient)[:32] or "scan"
    scan_id = f"{name}_{sha256(own.uid.encode()).hexdigest()[:8]}"
    voxels = sum(count for _, count in own.claims.values())
    files = DicomScan(own.files, voxels, classes, segments, may_overlap)
    return Scan(scan_id, own.patient or scan_id, own.files[:1], one.path, files)


def _unit(series: Sequence[Series], root: Path, findings: list[Finding]) -> tuple[Unit, str]:
    """The unit, and how patients are known."""
    lacking = sum(not own.patient for own in series)
    if lacking == len(series):
        return "scan", "none: the headers give no PatientID; every scan counts by itself"
    if lacking:
        says = f"{root}: {lacking} series have no PatientID."
        advice = "Each counts as a patient of its own: one patient may end up on both sides of a split."
        findings.append(warning("group missing", says, advice, root))
    return "patient", "PatientID of the headers"

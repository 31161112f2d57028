"""DICOM series, such as CT or MR, with the segmentation objects (SEG) that label them.

    <anything>/IM0001 ...    slices of a series    <anything>/seg.dcm    its segmentation

What belongs together is read from the headers: slices by SeriesInstanceUID, a segmentation by the series that
it refers to, or by the frame of reference that it shares with one; patients by PatientID.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from medrobust.core import Unit
from medrobust.data.adapters.dicom_headers import Segmentation, Series, read_headers, sources_of
from medrobust.data.findings import Finding, Severity, quoted, require_sound
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.dicom_series import DicomScan
from medrobust.data.scans.labels import BACKGROUND, UNKNOWN, Colour, LabelMap
from medrobust.errors import DataError, StudyError

Names = dict[str, str | list[str]]
"""Labels of the segments of each class, and perhaps of `background`."""


def list_dicom_seg(root: Path, *, labels: Names | None = None, segmentation: str | None = None) -> Scans:
    """The series of grey images below a folder that a segmentation labels.

    Args:
        root: Folder of all files, which may lie in it in any way.
        labels: Labels of the segments of each class, e.g. {tumour: [GTV-1, GTV-2], background: Body}; None:
            every label is a class. Numbers of segments mean nothing: they may differ between files.
        segmentation: Regular expression that is searched in the series description of the segmentations, and
            chooses where a series has several; None: all.

    Raises:
        StudyError: A mapping that contradicts itself, or what is no regular expression.
        DataError: No series has a segmentation, or there are too many labels.
    """
    findings: list[Finding] = []
    series, found = read_headers(root, findings)
    chosen = _chosen(found, segmentation)
    pairs = _paired(series, chosen, findings)
    if not pairs:
        require_sound(reversed(findings))
        raise DataError(
            f"data.root: none of {len(series)} series of images below {root} has one of {len(chosen)} DICOM "
            "segmentations. Give the folder that holds both."
        )
    owner = _owners((label for _, one in pairs for label in one.segments.values()), labels)
    classes = (BACKGROUND, *dict.fromkeys(name for name in owner.values() if name != BACKGROUND))
    if not 2 <= len(classes) <= UNKNOWN:
        raise DataError(
            f"data.labels: the segments are of {len(classes) - 1} classes ({quoted(classes[1:])}); 1 to "
            f"{UNKNOWN - 1} are possible. Give `labels`, e.g. {{tumour: [GTV-1, GTV-2]}}."
        )
    known = [(own, one) for own, one in pairs if _are_known(one, owner, findings)]
    scans = [_scan(own, one, classes, owner) for own, one in known]
    unit, grouping = _unit([own for own, _ in known], root, findings)
    return Scans(
        classes=classes,
        unit=unit,
        items=tuple(sorted(scans, key=lambda scan: scan.scan_id)),
        classes_of=LabelMap(
            classes, tuple((index,) for index in range(len(classes))), _colours(classes, owner, pairs)
        ),
        facts={
            "labels": ", ".join(classes[1:]),
            "modality": ", ".join(
                f"{kind} {count}" for kind, count in sorted(Counter(own.modality for own, _ in known).items())
            ),
            "patients": grouping,
        },
        findings=tuple(findings),
        attributes={scan.scan_id: own.attributes for scan, (own, _) in zip(scans, known, strict=True)},
    )


def _chosen(found: Sequence[Segmentation], expression: str | None) -> list[Segmentation]:
    """The segmentations whose description an expression finds something in."""
    try:
        search = re.compile(expression or "").search
    except re.error as error:
        raise StudyError(f"data.segmentation: {expression!r} is no regular expression ({error}).") from None
    chosen = [one for one in found if search(one.description)]
    if found and not chosen:
        seen = quoted(sorted({one.description for one in found}))
        raise DataError(
            f"data.segmentation: {expression!r} is found in no series description of the {len(found)} "
            f"segmentations; they are {seen}. Correct it."
        )
    return chosen


def _paired(
    series: Mapping[str, Series], segmentations: Iterable[Segmentation], findings: list[Finding]
) -> list[tuple[Series, Segmentation]]:
    """Series with their segmentations; what has no partner, or several, becomes a finding."""
    pairs: dict[str, tuple[Series, Segmentation]] = {}
    for one in segmentations:
        own = _series_of(one, series, findings)
        if own is None:
            continue
        if own.uid in pairs:
            both = (pairs[own.uid][1].path, one.path)
            says = f"{both[0]} and {both[1]} are segmentations of the same series."
            advice = "Choose by data.segmentation. The second is left out."
            findings.append(Finding("listed twice", Severity.ERROR, says, advice, both))
        else:
            pairs[own.uid] = (own, one)
    files = [_files(own)[0] for uid, own in series.items() if uid not in pairs]
    if files:
        says = f"{len(files)} series of images have no segmentation: {quoted(list(map(str, files)))}."
        findings.append(Finding("labels missing", Severity.WARNING, says, "They are left out.", tuple(files)))
    return list(pairs.values())


def _series_of(one: Segmentation, series: Mapping[str, Series], findings: list[Finding]) -> Series | None:
    """The series that a segmentation is of; None, and a finding, where that is not clear."""
    candidates = [series[uid] for uid in dict.fromkeys(one.refers) if uid in series] or [
        own for own in series.values() if own.frame and own.frame == one.frame
    ]
    if len(candidates) != 1:
        sources = sources_of(one.path)
        of = [own for own in candidates or series.values() if sources & own.files.keys()]
        candidates = of or candidates
    if not candidates:
        names = quoted(one.refers) if one.refers else f"one in the frame of reference '{one.frame}'"
        kind, says = "image missing", f"{one.path} is a segmentation of a series that is not there: {names}."
        advice = "Add its images, or take the file away. It is left out."
    elif len(candidates) > 1:
        kind, says = "several series", f"{one.path} may be of any of {len(candidates)} series."
        advice = (
            f"Keep one of them: {', '.join(own.name for own in candidates)}. The segmentation is left out."
        )
    elif candidates[0].frame and one.frame and candidates[0].frame != one.frame:
        kind = "other frame of reference"
        says = f"{one.path} lies in the frame of reference '{one.frame}', and its {candidates[0].name} in "
        says += f"'{candidates[0].frame}': where it lies is not known."
        advice = "Save it in that of the series. It is left out."
    else:
        return candidates[0]
    findings.append(Finding(kind, Severity.ERROR, says, advice, (one.path,)))
    return None


def _owners(present: Iterable[str], labels: Names | None) -> dict[str, str]:
    """The class of every label of a segment; those that the study does not name have none."""
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


def _colours(
    classes: Sequence[str], owner: Mapping[str, str], pairs: Sequence[tuple[Series, Segmentation]]
) -> tuple[Colour | None, ...]:
    """The first colour that a segmentation gives to a label of each class; empty where none gives any."""
    given: dict[str, Colour] = {}
    for _, one in pairs:
        for label, colour in one.colours.items():
            given.setdefault(owner.get(label, ""), colour)
    return tuple(given.get(name) for name in classes) if given else ()


def _are_known(one: Segmentation, owner: Mapping[str, str], findings: list[Finding]) -> bool:
    """Whether every segment has a class; a finding where not."""
    unknown = sorted({label for label in one.segments.values() if label not in owner})
    if unknown:
        says = f"{one.path} has segments that data.labels do not name: {quoted(unknown)}."
        advice = "Name them there, or list them under background. The scan is left out."
        findings.append(Finding("unknown label", Severity.ERROR, says, advice, (one.path,)))
    return not unknown


def _scan(own: Series, one: Segmentation, classes: tuple[str, ...], owner: Mapping[str, str]) -> Scan:
    files = _files(own)
    segments = tuple(sorted((number, classes.index(owner[label])) for number, label in one.segments.items()))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", own.patient)[:32] or "scan"
    scan_id = f"{name}_{sha256(own.uid.encode()).hexdigest()[:8]}"
    voxels = sum(count for _, count in own.files.values())
    return Scan(
        scan_id, own.patient or scan_id, files[:1], one.path, DicomScan(files, voxels, classes, segments)
    )


def _files(own: Series) -> tuple[Path, ...]:
    return tuple(sorted(path for path, _ in own.files.values()))


def _unit(series: Sequence[Series], root: Path, findings: list[Finding]) -> tuple[Unit, str]:
    """What patients are told by."""
    lacking = sum(not own.patient for own in series)
    if lacking == len(series):
        return "scan", "none: the headers give no PatientID; every scan counts by itself"
    if lacking:
        says = f"{root}: {lacking} series have no PatientID."
        advice = "They count as patients of their own; two of one may be on both sides of a split."
        findings.append(Finding("group missing", Severity.WARNING, says, advice, (root,)))
    return "patient", "PatientID of the headers"

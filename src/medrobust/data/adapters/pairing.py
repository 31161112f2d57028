"""How scan adapters are written: they find images and labels, and this module does the rest.

Functions add what is wrong to the list `findings`, and leave out the scans concerned.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medrobust.core import Part, Unit
from medrobust.data.files import is_missing
from medrobust.data.findings import Finding, error, quoted, warning
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.labels import LabelMap
from medrobust.data.scans.volumes import is_volume
from medrobust.errors import StudyError

TOKEN = re.compile(r"(\{[^{}]*\}|\*\*/|\*|\?)")
WILD = {"**/": r"(?:.*/)?", "*": r"[^/]*", "?": r"[^/]"}


def pattern(text: str, where: str) -> re.Pattern[str]:
    """A pattern of relative paths, such as "{patient}/{scan}_t1.nii.gz"; *, ? and **/ match anything.

    A field that occurs twice must match the same text. A StudyError if there is a field other than {scan} and
    {patient}, or neither of them.
    """
    seen: set[str] = set()
    parts = []
    for token in TOKEN.split(text):
        field = token[1:-1] if token.startswith("{") and token.endswith("}") else None
        if field is None:
            parts.append(WILD.get(token, re.escape(token)))
        elif field not in ("scan", "patient"):
            raise StudyError(f"{where}: the fields are {{scan}} and {{patient}}; got {token!r} in {text!r}.")
        else:
            parts.append(f"(?P={field})" if field in seen else f"(?P<{field}>[^/]+?)")
            seen.add(field)
    if not seen:
        raise StudyError(f"{where}: {text!r} needs {{scan}} or {{patient}} to tell scans apart.")
    return re.compile("".join(parts))


def volumes_below(root: Path) -> list[Path]:
    """All NIfTI and MGH files below a folder, sorted."""
    return sorted(path for path in root.rglob("*") if is_volume(path) and path.is_file())


def files_by_scan(
    root: Path, paths: Iterable[Path], named: re.Pattern[str], findings: list[Finding], example: str = ""
) -> dict[str, Path]:
    """The files whose paths below the root match a pattern, by scan.

    The name of a scan is what the fields for patient and scan matched; a second file of a scan is a finding.
    So is a file that does not match, if an `example` of one that would is given.
    """
    found: dict[str, Path] = {}
    for path in paths:
        match = named.fullmatch(path.relative_to(root).as_posix())
        if match is None:
            if example:
                says = f"{path} is not named like {example}."
                findings.append(error("strange name", says, "Rename or move it.", path))
            continue
        fields = match.groupdict()
        scan = "_".join(dict.fromkeys(filter(None, map(fields.get, ("patient", "scan")))))
        if found.setdefault(scan, path) != path:
            says = f"{found[scan]} and {path} are the same scan, '{scan}'."
            advice = "Keep one, or make the pattern tell them apart."
            findings.append(error("listed twice", says, advice, found[scan], path))
    return found


def pair(
    images: Sequence[Mapping[str, Path]],
    labels: Mapping[str, Path],
    findings: list[Finding],
    *,
    unlabelled: Callable[..., Finding] = warning,
) -> list[Scan]:
    """Scans that have all channels and labels, each a patient of its own, sorted.

    `images` are the files of each channel by scan. An image without labels is an `unlabelled` finding.
    """
    scans = []
    for scan in sorted({*labels, *(name for channel in images for name in channel)}):
        own = tuple(channel[scan] for channel in images if scan in channel)
        if scan in labels and len(own) == len(images):
            scans.append(Scan(scan, scan, own, labels[scan]))
            continue
        files = own or (labels[scan],)
        kind, lacks = "channel missing", f"{len(own)} of {len(images)} channels"
        if scan not in labels:
            kind, lacks = "labels missing", "no labels"
        elif not own:
            kind, lacks = "image missing", "no image"
        says = f"The scan '{scan}' has {lacks}: {', '.join(map(str, files))}."
        advice = "Add the file, or remove these. The scan is left out."
        findings.append((error if scan in labels else unlabelled)(kind, says, advice, *files))
    return scans


def by_patient(
    scans: Sequence[Scan], expression: str | None, findings: list[Finding]
) -> tuple[Sequence[Scan], Unit, str]:
    """Scans with the patient found in their id, the unit, and what a report states.

    The patient is the group of the regular `expression`, or all that it matches; None: nothing is known.
    """
    if expression is None:
        return scans, "scan", "none declared: every scan counts by itself; give `patient` if some share one"
    patient = compiled(expression, "data.patient")
    matches = {scan.scan_id: patient.search(scan.scan_id) for scan in scans}
    patients = {scan: match and match[min(patient.groups, 1)] for scan, match in matches.items()}
    named = of_patients(scans, patients, f"data.patient {expression!r}", findings)
    return named, "patient", f"from the scan's name by {expression!r}"


def compiled(expression: str, key: str) -> re.Pattern[str]:
    """The regular expression that a key of the study gives; a StudyError if it is not valid."""
    try:
        return re.compile(expression)
    except re.error as wrong:
        raise StudyError(f"{key}: {expression!r} is not a valid regular expression ({wrong}).") from None


def of_patients(
    scans: Iterable[Scan], patients: Mapping[str, str | None], how: str, findings: list[Finding]
) -> list[Scan]:
    """Scans with their patients, by scan id; None, "" and words such as "unknown" are no patient.

    `how` names the source of the patients in messages.
    """
    named = []
    for scan in scans:
        patient = patients.get(scan.scan_id) or ""
        if not is_missing(patient):
            named.append(replace(scan, patient_id=patient))
            continue
        written = f" (it says '{patient}')" if patient else ""
        says = f"The scan '{scan.scan_id}' has no patient by {how}{written}."
        advice = "Correct the expression, or rename the files. The scan is left out."
        findings.append(error("patient unknown", says, advice, *scan.images))
    return named


def official_split(placed: Sequence[tuple[Scan, Part]], findings: list[Finding]) -> dict[str, Part] | None:
    """Part of each patient, by the parts of its scans; None unless some train and some test."""
    if not {Part.TRAIN, Part.TEST} <= {part for _, part in placed}:
        return None
    official = {scan.patient_id: part for scan, part in placed}
    mixed = {scan.patient_id for scan, part in placed if official[scan.patient_id] != part}
    if mixed:
        says = f"Patients have scans in several parts of the data's split: {quoted(sorted(mixed))}."
        advice = "Move them to one part: networks must not be tested on what they were trained on."
        files = [scan.image for scan, _ in placed if scan.patient_id in mixed]
        findings.append(error("patient on both sides", says, advice, *files))
    return official


def scans_of(
    scans: Iterable[Scan],
    labels: LabelMap,
    unit: Unit,
    findings: Sequence[Finding],
    facts: Mapping[str, str],
    *,
    official: Mapping[str, Part] | None = None,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
) -> Scans:
    """The listing: scans sorted by id, with what their numbers mean and what a report must state."""
    return Scans(
        classes=labels.names,
        unit=unit,
        items=tuple(sorted(scans, key=lambda scan: scan.scan_id)),
        classes_of=labels,
        facts={"labels": ", ".join(labels.names[1:]), **facts},
        findings=tuple(findings),
        official=official,
        attributes=attributes or {},
        regions=dict(labels.regions) or None,
    )

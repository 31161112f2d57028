"""Scans that show the same person: copies, and rescans under another name."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from medrobust.audit.parts import are_apart, part_of
from medrobust.audit.records import ScanEvidence, VolumeLook
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Scan

ALIKE = 0.85
"""Correlation of detail from which on two scans may show one person; `person` says what was measured."""

SAME_SIZE = 1.05
"""Most that the sizes of two scans of one person may differ, as a factor."""

BLOCK = 256
"""Scans that are compared with all others at a time; bounds the memory."""


def equal_scans(evidence: ScanEvidence) -> list[Finding]:
    """Scans with the same intensities."""
    groups: defaultdict[bytes, list[Scan]] = defaultdict(list)
    for scan, look in evidence.scans:
        if look.high > look.low:
            groups[look.digest].append(scan)
    findings = []
    for group in groups.values():
        patients = [scan.patient_id for scan in group]
        apart = are_apart(patients, evidence.splits)
        if len(group) < 2:
            continue
        if apart:
            kind, advice = "same scan on both sides", "Keep one: networks are tested on what they learned."
        elif len(set(patients)) > 1:
            kind, advice = "same scan, two patients", "Find out whose it is, and keep one."
        else:
            kind, advice = "same scan twice", "Keep one: the second adds nothing, and counts twice."
        severity = Severity.ERROR if len(set(patients)) > 1 else Severity.WARNING
        says = f"{_names(evidence, group)} hold the same intensities."
        findings.append(Finding(kind, severity, says, advice, tuple(scan.image for scan in group)))
    return findings


def several_scans(evidence: ScanEvidence) -> list[Finding]:
    """Patients that were scanned more than once."""
    owned: defaultdict[str, list[Scan]] = defaultdict(list)
    for scan in evidence.listing.items:
        owned[scan.patient_id].append(scan)
    return [
        Finding(
            "several scans of one patient",
            Severity.NOTE,
            f"{evidence.listing.unit.capitalize()} '{patient}' has {len(scans)} scans.",
            "They stay on one side of the split and count as one patient in every interval.",
            tuple(scan.image for scan in scans),
        )
        for patient, scans in sorted(owned.items())
        if len(scans) > 1
    ]


def one_person_twice(evidence: ScanEvidence) -> list[Finding]:
    """Two patients whose scans look like the same person."""
    findings = []
    for (first, _), (second, _), likeness in _alike(evidence.scans):
        apart = are_apart([first.patient_id, second.patient_id], evidence.splits)
        says = f"{_names(evidence, (first, second))} look like one person (correlation {likeness:.2f})."
        advice = (
            "Look at them: rescans of one person need the same patient id, to stay on one side of the split."
        )
        kind = "one person on both sides" if apart else "one person, two patients"
        findings.append(Finding(kind, Severity.WARNING, says, advice, (first.image, second.image)))
    return findings


def _alike(
    seen: Sequence[tuple[Scan, VolumeLook]],
) -> Iterator[tuple[tuple[Scan, VolumeLook], tuple[Scan, VolumeLook], float]]:
    """Pairs of scans of different patients that look alike, but are not equal."""
    known = [(scan, look) for scan, look in seen if look.person is not None]
    if not known:
        return
    details = np.stack([look.person for _, look in known if look.person is not None])
    for start in range(0, len(known), BLOCK):
        block = details[start : start + BLOCK].astype(np.float32)
        likeness = np.concatenate(
            [block @ details[at : at + BLOCK].astype(np.float32).T for at in range(0, len(known), BLOCK)],
            axis=1,
        )
        for row, column in np.argwhere(likeness > ALIKE).tolist():
            one, other = known[start + row], known[column]
            if start + row < column and _may_be_one_person(one, other):
                yield one, other, float(likeness[row, column])


def _may_be_one_person(one: tuple[Scan, VolumeLook], other: tuple[Scan, VolumeLook]) -> bool:
    sizes = sorted((one[1].size, other[1].size))
    return (
        one[0].patient_id != other[0].patient_id
        and one[1].digest != other[1].digest
        and sizes[1] < SAME_SIZE * sizes[0]
    )


def _names(evidence: ScanEvidence, group: Sequence[Scan]) -> str:
    """Each scan with the part of its patient."""
    parts = (part_of(scan.patient_id, evidence.splits) for scan in group)
    return " and ".join(
        f"{scan.scan_id} ({part})" if part else scan.scan_id for scan, part in zip(group, parts, strict=True)
    )

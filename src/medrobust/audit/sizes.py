"""Whether there are enough patients to say anything: the interval to expect."""

from collections import defaultdict

import numpy as np

from medrobust.audit.parts import is_tested
from medrobust.audit.records import PhotoEvidence, ScanEvidence
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Photo
from medrobust.stats.intervals import Estimate, wilson

CONFIDENCE = 0.95
EXPECTED = 0.8
"""Share of right answers that intervals are worked out for."""

TOO_WIDE, WIDE = 0.4, 0.25
"""Widths of the interval that are a warning and a note: fewer than 20 and 46 patients."""

FEWEST_PAIRS = 6
"""Fewer patients cannot give p < 0.05 in a two-sided sign test: 2 x 0.5^5 = 0.06."""


def expected_interval(patients: int) -> Estimate:
    """The interval of a share of right answers of about `EXPECTED`, one answer per patient."""
    right = np.zeros(patients)
    right[: round(EXPECTED * patients)] = 1
    return wilson(right, np.ones(patients), CONFIDENCE)


def small_classes(evidence: PhotoEvidence) -> list[Finding]:
    """Classes with so few test patients that their score will be known badly."""
    tested: defaultdict[int, list[Photo]] = defaultdict(list)
    for photo in evidence.listing.items:
        if photo.label is not None and is_tested(photo.patient_id, evidence.splits):
            tested[photo.label].append(photo)
    findings = (
        _small_class(evidence, name, tested[label]) for label, name in enumerate(evidence.listing.classes)
    )
    return [finding for finding in findings if finding]


def _small_class(evidence: PhotoEvidence, name: str, photos: list[Photo]) -> Finding | None:
    patients = len({photo.patient_id for photo in photos})
    if patients == 0:  # making the split refuses that
        return None
    expected = expected_interval(patients)
    if expected.high - expected.low < WIDE:
        return None
    severity = Severity.NOTE if expected.high - expected.low < TOO_WIDE else Severity.WARNING
    interval = (
        "has no interval at all"
        if patients == 1
        else f"of {expected.value:.2f} would have a 95 % interval of "
        f"{expected.low:.2f} to {expected.high:.2f}"
    )
    unit = evidence.listing.unit if patients == 1 else f"{evidence.listing.unit}s"
    return Finding(
        "few test cases",
        severity,
        f"Class '{name}' is tested on {len(photos)} photographs of {patients} {unit}: "
        f"its accuracy {interval}.",
        "Bring more, let more of them test, join it to another class, or claim nothing about it.",
        tuple(photo.place for photo in photos),
    )


def few_patients(evidence: ScanEvidence) -> list[Finding]:
    """So few test patients that no difference between networks can be shown."""
    tested = [scan for scan in evidence.listing.items if is_tested(scan.patient_id, evidence.splits)]
    patients = len({scan.patient_id for scan in tested})
    if not tested or patients >= FEWEST_PAIRS:
        return []
    return [
        Finding(
            "few test patients",
            Severity.WARNING,
            f"{patients} {evidence.listing.unit}s test: even if all of them prefer one network, chance alone "
            f"does so with probability {2 * 0.5**patients:.2f}.",
            f"Let at least {FEWEST_PAIRS} test.",
            tuple(scan.image for scan in tested),
        )
    ]

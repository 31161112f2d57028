"""Checks of scans, each a function of the evidence; `SCAN_CHECKS` lists them."""

from collections.abc import Callable

import numpy as np

from medrobust.audit.label_checks import (
    empty_labels,
    missing_structures,
    strange_labels,
    swapped_sides,
    unused_classes,
)
from medrobust.audit.records import COUNTED_LEVELS, ScanEvidence
from medrobust.audit.rescans import equal_scans, one_person_twice, several_scans
from medrobust.audit.sizes import few_patients
from medrobust.data.findings import Finding, Severity
from medrobust.data.scans.volumes import AFFINE_TOLERANCE

CLIPPED = 0.01
"""Share of the voxels above the smallest intensity that may have the largest one."""

FEWEST_LEVELS = 16
"""With fewer intensities than that, many voxels have the largest one without any clipping."""

NARROW = ("uint8", "int8")


def unreadable(evidence: ScanEvidence) -> list[Finding]:
    """Files that are damaged, cut short, or no volumes."""
    return [
        Finding("unreadable file", Severity.ERROR, says, "Download it again, or leave the scan out.", (path,))
        for record in evidence.records
        for path, says in record.errors.items()
    ]


def other_grid(evidence: ScanEvidence) -> list[Finding]:
    """Labels whose voxels are not those of the image."""
    findings = []
    for record in evidence.records:
        if record.image is None or record.labels is None:
            continue
        image, labels = record.image.grid, record.labels.grid
        files = (record.scan.image, record.scan.labels)
        difference = float(np.abs(image.affine - labels.affine).max())
        if image.shape != labels.shape:
            kind = "labels of another shape"
            says = f"{files[0]} has the shape {image.shape}, its labels {files[1].name} {labels.shape}."
        elif difference <= AFFINE_TOLERANCE:
            continue
        elif image.stored != labels.stored:
            kind = "labels of another orientation"
            says = f"{files[0]} is stored as {image.stored}, its labels {files[1].name} as {labels.stored}, "
            says += f"and they do not lie on each other: the affines differ by up to {difference:.3g} mm."
        else:
            kind = "labels of another affine"
            says = (
                f"{files[0]} and its labels {files[1].name} have affines that differ by {difference:.3g} mm."
            )
        advice = "Resample the labels to the image by nearest neighbour, or repair the header that is wrong."
        findings.append(Finding(kind, Severity.ERROR, says, advice, files))
    return findings


def uncertain_orientation(evidence: ScanEvidence) -> list[Finding]:
    """NIfTI headers that do not say, or say in two ways, where left is."""
    findings = []
    for scan, look in evidence.images:
        if look.grid.codes == (0, 0):
            says = f"{scan.image} does not say how the patient lies: its qform and sform codes are both 0."
        elif look.grid.forms_differ > AFFINE_TOLERANCE:
            says = f"{scan.image} says in two ways how the patient lies: qform and sform differ by "
            says += f"{look.grid.forms_differ:.3g} mm. The sform is used."
        else:
            continue
        advice = "See in a viewer that left is left, and write a header that says it once."
        findings.append(Finding("uncertain orientation", Severity.WARNING, says, advice, (scan.image,)))
    return findings


def not_finite(evidence: ScanEvidence) -> list[Finding]:
    """Intensities that are no numbers."""
    findings = []
    for scan, look in evidence.images:
        for kind, count in (("NaN", look.not_numbers), ("infinite values", look.infinite)):
            if count:
                says = f"{scan.image} holds {kind} in {count} voxels."
                advice = "Find out which program wrote them, and repair the file."
                findings.append(Finding(kind, Severity.ERROR, says, advice, (scan.image,)))
    return findings


def constant(evidence: ScanEvidence) -> list[Finding]:
    """Scans that show nothing."""
    return [
        Finding(
            "constant image",
            Severity.ERROR,
            f"{scan.image} shows nothing: every voxel has the same intensity.",
            "Download it again, or leave the scan out.",
            (scan.image,),
        )
        for scan, look in evidence.images
        if not look.high > look.low
    ]


def few_levels(evidence: ScanEvidence) -> list[Finding]:
    """Scans that were rounded to 8 bits, or fewer, at some point."""
    return [
        Finding(
            "few intensities",
            Severity.NOTE if look.dtype in NARROW else Severity.WARNING,
            f"{scan.image} holds only {look.levels} different intensities, as {look.dtype}."
            if look.dtype not in NARROW
            else f"{scan.image} is stored with 8 bits: {look.levels} intensities.",
            "Take the scan from before it was converted: attacks and noise may be smaller than these steps.",
            (scan.image,),
        )
        for scan, look in evidence.images
        if 1 < look.levels < COUNTED_LEVELS
    ]


def clipped(evidence: ScanEvidence) -> list[Finding]:
    """Scans whose brightest tissue was cut off."""
    return [
        Finding(
            "clipped intensities",
            Severity.WARNING,
            f"{scan.image} has its largest intensity, {look.high:g}, in {look.clipped:.1%} of the voxels "
            "that are not air: what was brighter is lost.",
            "Take the scan from before it was windowed.",
            (scan.image,),
        )
        for scan, look in evidence.images
        if look.clipped > CLIPPED and look.levels >= FEWEST_LEVELS
    ]


SCAN_CHECKS: tuple[Callable[[ScanEvidence], list[Finding]], ...] = (
    unreadable,
    other_grid,
    strange_labels,
    empty_labels,
    swapped_sides,
    not_finite,
    constant,
    equal_scans,
    one_person_twice,
    missing_structures,
    unused_classes,
    uncertain_orientation,
    few_levels,
    clipped,
    few_patients,
    several_scans,
)
"""All checks of scans; a further kind of finding is a function here."""

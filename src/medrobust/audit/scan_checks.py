"""Checks of scans, each a function of the evidence; `SCAN_CHECKS` lists them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from medrobust.audit.label_checks import (
    empty_labels,
    missing_structures,
    strange_labels,
    swapped_sides,
    unused_classes,
)
from medrobust.audit.records import COUNTED_LEVELS, Grid, ScanEvidence
from medrobust.audit.rescans import equal_scans, one_person_twice, several_scans
from medrobust.audit.sizes import few_patients
from medrobust.data.findings import Finding, Severity, refused
from medrobust.data.scans.geometry import turn_onto
from medrobust.data.scans.volumes import AFFINE_TOLERANCE, OTHER_GRID
from medrobust.errors import DataError

CLIPPED = 0.01
"""Share of the voxels above the smallest intensity that may have the largest one."""

FEWEST_LEVELS = 16
"""With fewer intensities than that, many voxels have the largest one without any clipping."""

NARROW = ("uint8", "int8")


def unreadable(evidence: ScanEvidence) -> list[Finding]:
    """Files that are damaged, cut short, or no volumes."""
    return [
        refused("unreadable file", DataError(says), path)
        for record in evidence.records
        for path, says in record.errors.items()
    ]


def other_grid(evidence: ScanEvidence) -> list[Finding]:
    """Labels whose voxels are not those of the image."""
    return [
        finding
        for record in evidence.records
        if record.labels
        for path, look in record.images.items()
        for finding in _grids_differ(path, look.grid, record.scan.labels, record.labels.grid)
    ]


def _grids_differ(path: Path, image: Grid, truth: Path, labels: Grid) -> list[Finding]:
    _, shape, affine = turn_onto(labels.affine, labels.shape, image.affine)
    difference = float(np.abs(image.affine - affine).max())
    if image.shape != shape:
        kind = "labels of another shape"
        says = f"{path} has the shape {image.shape}, its labels {truth.name} {shape}."
    elif difference <= AFFINE_TOLERANCE:
        return []
    elif image.stored != labels.stored:
        kind = "labels of another orientation"
        says = f"{path} is stored as {image.stored}, its labels {truth.name} as {labels.stored}, and they do "
        says += f"not lie on each other: the affines differ by up to {difference:.3g} mm."
    else:
        kind = "labels of another affine"
        says = f"{path} and its labels {truth.name} have affines that differ by {difference:.3g} mm."
    return [Finding(kind, Severity.ERROR, says, OTHER_GRID, (path, truth))]


def uncertain_orientation(evidence: ScanEvidence) -> list[Finding]:
    """NIfTI headers that do not say, or say in two ways, where left is."""
    findings = []
    for path, look in evidence.images:
        if look.grid.codes == (0, 0):
            says = (
                f"{path} does not say how the patient lies: its qform and sform codes are both 0. The first "
            )
            says += "axis is taken to run to the left, the second to the front, the third to the top."
        elif look.grid.forms_differ > AFFINE_TOLERANCE:
            says = f"{path} says in two ways how the patient lies: qform and sform differ by "
            says += f"{look.grid.forms_differ:.3g} mm. The sform is used."
        else:
            continue
        advice = "See in a viewer that left is left, and write a header that says it once."
        findings.append(Finding("uncertain orientation", Severity.WARNING, says, advice, (path,)))
    return findings


def not_finite(evidence: ScanEvidence) -> list[Finding]:
    """Intensities that are no numbers."""
    findings = []
    for path, look in evidence.images:
        for kind, count in (("NaN", look.not_numbers), ("infinite values", look.infinite)):
            if count:
                says = f"{path} holds {kind} in {count} voxels."
                advice = "Find out which program wrote them, and repair the file."
                findings.append(Finding(kind, Severity.ERROR, says, advice, (path,)))
    return findings


def constant(evidence: ScanEvidence) -> list[Finding]:
    """Scans that show nothing."""
    return [
        Finding(
            "constant image",
            Severity.ERROR,
            f"{path} shows nothing: every voxel has the same intensity.",
            "Look at it, and leave the scan out, or replace it.",
            (path,),
        )
        for path, look in evidence.images
        if not look.high > look.low
    ]


def few_levels(evidence: ScanEvidence) -> list[Finding]:
    """Scans that were rounded to 8 bits, or fewer, at some point."""
    return [
        Finding(
            "few intensities",
            Severity.NOTE if look.dtype in NARROW else Severity.WARNING,
            f"{path} holds only {look.levels} different intensities, as {look.dtype}."
            if look.dtype not in NARROW
            else f"{path} is stored with 8 bits: {look.levels} intensities.",
            "Take the scan from before it was converted: attacks and noise may be smaller than these steps.",
            (path,),
        )
        for path, look in evidence.images
        if 1 < look.levels < COUNTED_LEVELS
    ]


def clipped(evidence: ScanEvidence) -> list[Finding]:
    """Scans whose brightest tissue was cut off."""
    return [
        Finding(
            "clipped intensities",
            Severity.WARNING,
            f"{path} has its largest intensity, {look.high:g}, in {look.clipped:.1%} of the voxels "
            "that are not air: what was brighter is lost.",
            "Take the scan from before it was windowed.",
            (path,),
        )
        for path, look in evidence.images
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

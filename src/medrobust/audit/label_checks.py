"""Checks of what the labels of scans say."""

import re
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

import numpy as np

from medrobust.audit.records import LabelsLook, ScanEvidence
from medrobust.data.findings import Finding, Severity, quoted

LEFT, RIGHT = ("left", "lh", "l"), ("right", "rh", "r")

COMMON = 0.8
"""Share of the scans from which on a structure is expected in every one; lesions are in some only."""


class Pair(NamedTuple):
    """Classes of the same structure on the two sides."""

    left: int
    right: int


def strange_labels(evidence: ScanEvidence) -> list[Finding]:
    """Label numbers that mean nothing."""
    return [
        Finding(
            "unknown label" if record.labels.whole else "labels are no whole numbers",
            Severity.ERROR,
            record.labels.strange,
            "Use the labels that belong to this data set, or name their numbers."
            if record.labels.whole
            else "They were resampled by interpolation: resample the original by nearest neighbour.",
            (record.scan.labels,),
        )
        for record in evidence.records
        if record.labels and record.labels.strange
    ]


def empty_labels(evidence: ScanEvidence) -> list[Finding]:
    """Scans without any structure."""
    return [
        Finding(
            "empty labels",
            Severity.WARNING,
            f"{scan.labels} labels nothing but background.",
            "Right where there is nothing to find: the scan has no Dice, and what networks show in it is "
            "counted as false. Else find its labels, or leave it out.",
            (scan.labels,),
        )
        for scan, look in evidence.labels
        if not any(look.voxels[1:])
    ]


def missing_structures(evidence: ScanEvidence) -> list[Finding]:
    """Scans that lack a structure which nearly all others have."""
    labelled = [(scan, look) for scan, look in evidence.labels if any(look.voxels[1:])]
    classes = range(1, len(evidence.listing.classes))
    holders = {index: sum(look.voxels[index] > 0 for _, look in labelled) for index in classes}
    common = [index for index in classes if holders[index] >= COMMON * len(labelled)]
    findings = []
    for scan, look in labelled:
        lacking = [evidence.listing.classes[index] for index in common if not look.voxels[index]]
        if lacking:
            says = f"{scan.labels} lacks {quoted(lacking)}, which nearly all other scans have."
            advice = "Look at it: the score of a structure that is not there is left out of all means."
            findings.append(Finding("missing structure", Severity.WARNING, says, advice, (scan.labels,)))
    return findings


def unused_classes(evidence: ScanEvidence) -> list[Finding]:
    """Classes that no scan has."""
    unused = [
        name
        for index, name in enumerate(evidence.listing.classes)
        if index and evidence.labels and not any(look.voxels[index] for _, look in evidence.labels)
    ]
    if not unused:
        return []
    says = f"No scan has any voxel of {quoted(unused)}."
    advice = "Leave them out of the classes, or find out which number they have in these labels."
    return [Finding("class in no scan", Severity.WARNING, says, advice)]


def swapped_sides(evidence: ScanEvidence) -> list[Finding]:
    """Structures named left whose centre lies right of the midline by the file's affine, and the reverse."""
    pairs = side_pairs(evidence.listing.classes)
    findings = []
    for scan, look in evidence.labels:
        wrong = [evidence.listing.classes[index] for index in _on_the_wrong_side(look, pairs)]
        present = sum(look.voxels[index] > 0 for pair in pairs for index in pair)
        if wrong:
            which = "All" if len(wrong) == present else f"{len(wrong)} of the"
            says = (
                f"{which} {present} paired structures of {scan.labels} lie on the other side of the midline "
                f"than their names say: {quoted(wrong, 3)}."
            )
            advice = "Look at it in a viewer: the labels are swapped, or the affine mirrors the patient."
            findings.append(Finding("left and right swapped", Severity.ERROR, says, advice, (scan.labels,)))
    return findings


def side_pairs(classes: tuple[str, ...]) -> list[Pair]:
    """Classes that are named alike but for the side.

    >>> side_pairs(("background", "left caudate", "right caudate", "Left-Putamen"))
    [Pair(left=1, right=2)]
    """
    named: dict[tuple[str, tuple[str, ...]], int] = {}
    for index, name in enumerate(classes):
        words = re.findall(r"[a-z0-9]+", name.lower())
        for side, spellings in (("left", LEFT), ("right", RIGHT)):
            rest = tuple("" if word in spellings else word for word in words)
            if rest.count("") == 1:
                named[side, rest] = index
    return [
        Pair(index, named["right", rest])
        for (side, rest), index in named.items()
        if side == "left" and ("right", rest) in named
    ]


def _on_the_wrong_side(look: LabelsLook, pairs: list[Pair]) -> Iterator[int]:
    """Classes whose centre lies on the other side; where both of a pair are swapped, the midline stays."""
    across = look.centres[:, 0]
    both = [pair for pair in pairs if look.voxels[pair.left] and look.voxels[pair.right]]
    if not both:
        return
    midline = median((across[pair.left] + across[pair.right]) / 2 for pair in both)
    margin = float(np.abs(look.grid.affine[0, :3]).max())  # about a voxel
    for pair in pairs:
        crossed = across[pair.left] > across[pair.right]  # never, where one of them is empty
        if crossed or across[pair.left] > midline + margin:
            yield pair.left
        if crossed or across[pair.right] < midline - margin:
            yield pair.right

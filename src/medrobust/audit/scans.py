"""Checks of scans and their labels: each a function of all records, and `SCAN_CHECKS` lists them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from medrobust.audit.looking import COUNTED_LEVELS, Grid, LabelsLook, ScanRecord, VolumeLook
from medrobust.audit.splits import Splits, are_apart, is_tested, part_of
from medrobust.data.findings import Finding, error, note, quoted, refused, warning
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.geometry import turn_onto
from medrobust.data.scans.volumes import AFFINE_TOLERANCE, OTHER_GRID

CLIPPED = 0.01
"""Fraction of the voxels above the smallest intensity that may have the largest one."""

FEWEST_LEVELS = 16
"""With fewer intensities than that, many voxels have the largest one without any clipping."""

NARROW = ("uint8", "int8")

COMMON = 0.8
"""Fraction of the scans from which on a structure is expected in every one; lesions are in some only."""

LEFT, RIGHT = ("left", "lh", "l"), ("right", "rh", "r")

ALIKE = 0.85
"""Correlation of detail from which on two scans may show one person; `similarity` says what was measured."""

SAME_SIZE = 1.05
"""Most that the sizes of two scans of one person may differ, as a factor."""

BLOCK = 256
"""Scans that are compared with all others at a time; bounds the memory."""

FEWEST_PAIRS = 6
"""Fewer patients cannot give p < 0.05 in a two-sided sign test: 2 x 0.5^5 = 0.06."""


@dataclass(frozen=True)
class ScanEvidence:
    """Everything that checks of scans may look at.

    Attributes:
        listing: What there is.
        splits: Part of each patient, in each fold.
        records: One per scan, in the listing's order.
    """

    listing: Scans
    splits: Splits
    records: tuple[ScanRecord, ...]

    @property
    def images(self) -> list[tuple[Path, VolumeLook]]:
        """All files of intensities that can be read; a scan may have several, one per channel."""
        return [image for record in self.records for image in record.images.items()]

    @property
    def scans(self) -> list[tuple[Scan, VolumeLook]]:
        """The scans whose first file can be read, with what it looks like."""
        return [
            (record.scan, record.images[record.scan.image])
            for record in self.records
            if record.scan.image in record.images
        ]

    @property
    def labels(self) -> list[tuple[Scan, LabelsLook]]:
        """The scans whose labels can be read and mean something."""
        return [
            (record.scan, record.labels)
            for record in self.records
            if record.labels and not record.labels.strange
        ]


def unreadable(evidence: ScanEvidence) -> list[Finding]:
    """Files that are damaged, cut short, or no volumes."""
    return [
        refused("unreadable file", says, path)
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
    return [error(kind, says, OTHER_GRID, path, truth)]


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
        findings.append(warning("uncertain orientation", says, advice, path))
    return findings


def not_finite(evidence: ScanEvidence) -> list[Finding]:
    """Intensities that are no numbers."""
    findings = []
    for path, look in evidence.images:
        for kind, count in (("NaN", look.not_numbers), ("infinite values", look.infinite)):
            if count:
                says = f"{path} holds {kind} in {count} voxels."
                advice = "Find out which program wrote them, and repair the file."
                findings.append(error(kind, says, advice, path))
    return findings


def constant(evidence: ScanEvidence) -> list[Finding]:
    """Scans that show nothing."""
    return [
        error(
            "constant image",
            f"{path} shows nothing: every voxel has the same intensity.",
            "Look at it, and leave the scan out, or replace it.",
            path,
        )
        for path, look in evidence.images
        if not look.high > look.low
    ]


def few_levels(evidence: ScanEvidence) -> list[Finding]:
    """Scans that were rounded to 8 bits, or fewer, at some point."""
    return [
        (note if look.dtype in NARROW else warning)(
            "few intensities",
            f"{path} holds only {look.levels} different intensities, as {look.dtype}."
            if look.dtype not in NARROW
            else f"{path} is stored with 8 bits: {look.levels} intensities.",
            "Take the scan from before it was converted: attacks and noise may be smaller than these steps.",
            path,
        )
        for path, look in evidence.images
        if 1 < look.levels < COUNTED_LEVELS
    ]


def clipped(evidence: ScanEvidence) -> list[Finding]:
    """Scans whose brightest tissue was cut off."""
    return [
        warning(
            "clipped intensities",
            f"{path} has its largest intensity, {look.high:g}, in {look.clipped:.1%} of the voxels "
            "that are not air: what was brighter is lost.",
            "Take the scan from before it was windowed.",
            path,
        )
        for path, look in evidence.images
        if look.clipped > CLIPPED and look.levels >= FEWEST_LEVELS
    ]


class Pair(NamedTuple):
    """Classes of the same structure on the two sides."""

    left: int
    right: int


def strange_labels(evidence: ScanEvidence) -> list[Finding]:
    """Label numbers that mean nothing."""
    return [
        refused(
            "unknown label" if record.labels.whole else "labels are no whole numbers",
            record.labels.strange,
            record.scan.labels,
        )
        for record in evidence.records
        if record.labels and record.labels.strange
    ]


def empty_labels(evidence: ScanEvidence) -> list[Finding]:
    """Scans without any structure."""
    return [
        warning(
            "empty labels",
            f"{scan.labels} labels nothing but background.",
            "Right where there is nothing to find: the scan has no Dice, and what networks show in it is "
            "counted as false. Else find its labels, or leave it out.",
            scan.labels,
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
            findings.append(warning("missing structure", says, advice, scan.labels))
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
    return [warning("class in no scan", says, advice)]


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
            findings.append(error("left and right swapped", says, advice, scan.labels))
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
        severity = error if len(set(patients)) > 1 else warning
        says = f"{_names(evidence, group)} hold the same intensities."
        findings.append(severity(kind, says, advice, *(scan.image for scan in group)))
    return findings


def several_scans(evidence: ScanEvidence) -> list[Finding]:
    """Patients that were scanned more than once."""
    owned: defaultdict[str, list[Scan]] = defaultdict(list)
    for scan in evidence.listing.items:
        owned[scan.patient_id].append(scan)
    return [
        note(
            "several scans of one patient",
            f"{evidence.listing.unit.capitalize()} '{patient}' has {len(scans)} scans.",
            "They stay on one side of the split and count as one patient in every interval.",
            *(scan.image for scan in scans),
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
        advice = "Look at them: rescans of one person need one patient id, to stay on one side of the split."
        kind = "one person on both sides" if apart else "one person, two patients"
        findings.append(warning(kind, says, advice, first.image, second.image))
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


def few_patients(evidence: ScanEvidence) -> list[Finding]:
    """So few test patients that no difference between networks can be shown."""
    tested = [scan for scan in evidence.listing.items if is_tested(scan.patient_id, evidence.splits)]
    patients = len({scan.patient_id for scan in tested})
    if not tested or patients >= FEWEST_PAIRS:
        return []
    return [
        warning(
            "few test patients",
            f"{patients} {evidence.listing.unit}s test: even if all of them prefer one network, chance alone "
            f"does so with probability {2 * 0.5**patients:.2f}.",
            f"Let at least {FEWEST_PAIRS} test.",
            *(scan.image for scan in tested),
        )
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

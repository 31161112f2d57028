"""Checks of scans and their labels, each a function of everything that was seen."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from jaxtyping import Float16
from rich.console import Console

from medrobust.audit.looking import (
    COUNTED_LEVELS,
    Grid,
    LabelsLook,
    ScanRecord,
    VolumeLook,
    look_at,
    look_at_scan,
)
from medrobust.audit.splits import Splits, are_apart, is_tested, part_of
from medrobust.core import Pair, side_pairs
from medrobust.data.findings import Finding, error, note, quoted, refused, warning
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.geometry import turn_onto
from medrobust.data.scans.volumes import AFFINE_TOLERANCE, OTHER_GRID

CLIPPED = 0.01
"""Fraction of the voxels above the smallest intensity that may have the largest one."""

FEWEST_LEVELS = 16
"""With fewer intensities, many voxels have the largest one without any clipping."""

COMMON = 0.8
"""Fraction of the scans above which a structure is expected in all; lesions are only in some."""

ALIKE = 0.85
"""Correlation of detail above which two scans may show one person; `similarity` says what was measured."""

SAME_SIZE = 1.05
"""Largest ratio of the sizes of two scans of one person."""

BLOCK = 256
"""Scans that are compared at a time; bounds the memory."""

FEWEST_PAIRS = 6
"""Fewer patients cannot give p < 0.05 in a two-sided sign test: 2 x 0.5^5 = 0.06."""


def check_scans(listing: Scans, splits: Splits, console: Console) -> Iterator[Finding]:
    """Look at all scans and their labels, and say what is wrong with them."""
    records = look_at(partial(look_at_scan, classes_of=listing.classes_of), listing.items, console)
    evidence = ScanEvidence(listing, splits, records)
    for check in (
        unreadable,
        swapped_sides,
        faults,
        unclear_sides,
        equal_scans,
        one_person_twice,
        structures,
        few_patients,
        several_scans,
    ):
        yield from check(evidence)


@dataclass(frozen=True)
class ScanEvidence:
    """Everything that checks of scans may look at."""

    listing: Scans
    splits: Splits
    records: tuple[ScanRecord, ...]  # one per scan, in the listing's order

    @property
    def images(self) -> list[tuple[Path, VolumeLook]]:
        """All readable files of intensities; a scan may have several, one per channel."""
        return [image for record in self.records for image in record.images.items()]

    @property
    def scans(self) -> list[tuple[Scan, VolumeLook]]:
        """The scans whose first file can be read, with what is in it."""
        return [
            (record.scan, record.images[record.scan.image])
            for record in self.records
            if record.scan.image in record.images
        ]

    @property
    def labels(self) -> list[tuple[Scan, LabelsLook]]:
        """The scans whose labels can be read and are all known."""
        return [
            (record.scan, record.labels)
            for record in self.records
            if record.labels and not record.labels.strange
        ]


def unreadable(evidence: ScanEvidence) -> Iterator[Finding]:
    """Files that are damaged, truncated or not volumes; labels on another grid, or unknown ones."""
    for record in evidence.records:
        for path, why in record.errors.items():
            yield refused("unreadable file", why, path)
        if record.labels is None:
            continue
        for path, look in record.images.items():
            yield from _grids_differ(path, look.grid, record.scan.labels, record.labels.grid)
        if record.labels.strange:
            kind = "unknown label" if record.labels.whole else "labels are not whole numbers"
            yield refused(kind, record.labels.strange, record.scan.labels)


def _grids_differ(path: Path, image: Grid, truth: Path, labels: Grid) -> Iterator[Finding]:
    _, shape, affine = turn_onto(labels.affine, labels.shape, image.affine)
    difference = float(np.abs(image.affine - affine).max())
    if image.shape != shape:
        kind = "labels of another shape"
        says = f"{path} has the shape {image.shape}, its labels {truth.name} {shape}."
    elif difference <= AFFINE_TOLERANCE:
        return
    elif image.stored != labels.stored:
        kind = "labels of another orientation"
        says = f"{path} is stored as {image.stored}, its labels {truth.name} as {labels.stored}, and they "
        says += f"do not coincide: the affines differ by up to {difference:.3g} mm."
    else:
        kind = "labels of another affine"
        says = f"{path} and its labels {truth.name} have affines that differ by {difference:.3g} mm."
    yield error(kind, says, OTHER_GRID, path, truth)


def faults(evidence: ScanEvidence) -> Iterator[Finding]:
    """Intensities that are not finite, all the same, rounded or clipped."""
    for path, look in evidence.images:
        for kind, count in (("NaN", look.not_numbers), ("infinite values", look.infinite)):
            if count:
                says = f"{path} holds {kind} in {count} voxels."
                yield error(kind, says, "Find out which program wrote them, and repair the file.", path)
        if not look.high > look.low:
            says = f"{path} shows nothing: every voxel has the same intensity."
            yield error("constant image", says, "Look at it, then replace the scan or leave it out.", path)
        if 1 < look.levels < COUNTED_LEVELS:
            severity = warning
            says = f"{path} holds only {look.levels} different intensities, as {look.dtype}."
            if look.dtype in ("uint8", "int8"):
                severity = note
                says = f"{path} is stored with 8 bits: {look.levels} intensities."
            advice = "Use the scan from before conversion: attacks and noise may be smaller than these steps."
            yield severity("few intensities", says, advice, path)
        if look.clipped > CLIPPED and look.levels >= FEWEST_LEVELS:
            says = f"{path} has its largest intensity, {look.high:g}, in {look.clipped:.1%} of the voxels "
            says += "that are not air: anything brighter is lost."
            yield warning("clipped intensities", says, "Use the scan from before windowing.", path)


def unclear_sides(evidence: ScanEvidence) -> Iterator[Finding]:
    """NIfTI headers that do not say where left is, or say it in two ways."""
    for path, look in evidence.images:
        if look.grid.codes == (0, 0):
            says = f"{path} does not say how the patient is oriented: its qform and sform codes are both 0. "
            says += "The first axis is taken to run to the left, the second to the front, the third upwards."
        elif look.grid.forms_differ > AFFINE_TOLERANCE:
            says = f"{path} contradicts itself about the patient's position: qform and sform differ by "
            says += f"{look.grid.forms_differ:.3g} mm. The sform is used."
        else:
            continue
        advice = "Check in a viewer that left is left, and write one consistent header."
        yield warning("uncertain orientation", says, advice, path)


def structures(evidence: ScanEvidence) -> Iterator[Finding]:
    """Scans without any structure, or without a common one; classes that no scan has."""
    names, labelled = evidence.listing.classes, []
    for scan, look in evidence.labels:
        if any(look.voxels[1:]):
            labelled.append((scan, look))
            continue
        yield warning(
            "empty labels",
            f"{scan.labels} labels nothing{' but background' if any(look.voxels) else ''}.",
            "Correct if there is nothing to find: the scan then has no Dice, and whatever networks show in "
            "it is a false positive. Otherwise find its labels, or leave it out.",
            scan.labels,
        )
    holders = [sum(look.voxels[index] > 0 for _, look in labelled) for index in range(len(names))]
    common = [index for index in range(1, len(names)) if holders[index] >= COMMON * len(labelled)]
    for scan, look in labelled:
        if lacking := [names[index] for index in common if not look.voxels[index]]:
            says = f"{scan.labels} lacks {quoted(lacking)}, which nearly all other scans have."
            advice = "Look at it: a structure that is not there is left out of all means."
            yield warning("missing structure", says, advice, scan.labels)
    unused = [name for index, name in enumerate(names) if index and not holders[index]]
    if unused and evidence.labels:
        advice = "Leave them out of the classes, or find out which number they have in these labels."
        yield warning("class in no scan", f"No scan has any voxel of {quoted(unused)}.", advice)


def swapped_sides(evidence: ScanEvidence) -> Iterator[Finding]:
    """Structures named left whose centre lies right of the midline by the file's affine, or vice versa."""
    pairs = side_pairs(evidence.listing.classes)
    for scan, look in evidence.labels:
        wrong = [evidence.listing.classes[index] for index in _on_the_wrong_side(look, pairs)]
        present = sum(look.voxels[index] > 0 for pair in pairs for index in pair)
        if wrong:
            which = "All" if len(wrong) == present else f"{len(wrong)} of the"
            says = f"{which} {present} paired structures of {scan.labels} lie on the other side of the "
            says += f"midline from what their names say: {quoted(wrong, 3)}."
            advice = "Look at it in a viewer: the labels are swapped, or the affine mirrors the patient."
            yield error("left and right swapped", says, advice, scan.labels)


def _on_the_wrong_side(look: LabelsLook, pairs: list[Pair]) -> Iterator[int]:
    """Classes on the wrong side; the midline does not move where both of a pair are swapped."""
    across = look.centres[:, 0]
    both = [pair for pair in pairs if look.voxels[pair.left] and look.voxels[pair.right]]
    if not both:
        return
    midline = median((across[pair.left] + across[pair.right]) / 2 for pair in both)
    margin = float(np.abs(look.grid.affine[0, :3]).max())  # about a voxel
    for pair in pairs:
        crossed = across[pair.left] > across[pair.right]  # false where one of them is empty
        if crossed or across[pair.left] > midline + margin:
            yield pair.left
        if crossed or across[pair.right] < midline - margin:
            yield pair.right


def equal_scans(evidence: ScanEvidence) -> Iterator[Finding]:
    """Scans with identical intensities."""
    groups: defaultdict[bytes, list[Scan]] = defaultdict(list)
    for scan, look in evidence.scans:
        if look.high > look.low:
            groups[look.digest].append(scan)
    for group in groups.values():
        if len(group) < 2:
            continue
        patients = {scan.patient_id for scan in group}
        severity = error if len(patients) > 1 else warning
        if are_apart(patients, evidence.splits):
            kind = "same scan on both sides"
            advice = "Keep one: networks must not be tested on what they were trained on."
        elif len(patients) > 1:
            kind, advice = "same scan, two patients", "Find out whose it is, and keep one."
        else:
            kind, advice = "same scan twice", "Keep one: the second adds nothing, and counts twice."
        says = f"{_names(evidence, group)} hold the same intensities."
        yield severity(kind, says, advice, *(scan.image for scan in group))


def several_scans(evidence: ScanEvidence) -> Iterator[Finding]:
    """Patients who were scanned more than once."""
    owned: defaultdict[str, list[Path]] = defaultdict(list)
    for scan in evidence.listing.items:
        owned[scan.patient_id].append(scan.image)
    for patient, images in sorted(owned.items()):
        if len(images) > 1:
            says = f"{evidence.listing.unit.capitalize()} '{patient}' has {len(images)} scans."
            advice = "They stay on one side of the split and count as one patient in every interval."
            yield note("several scans of one patient", says, advice, *images)


def one_person_twice(evidence: ScanEvidence) -> Iterator[Finding]:
    """Scans of two patients that look like one person."""
    known = [(scan, look.digest, look.person) for scan, look in evidence.scans if look.person]
    for one, other, likeness in _alike([person.detail for *_, person in known]):
        (first, digest, person), (second, other_digest, other_person) = known[one], known[other]
        small, large = sorted((person.size, other_person.size))
        is_equal = digest == other_digest  # `equal_scans` reports it
        if first.patient_id == second.patient_id or is_equal or large >= SAME_SIZE * small:
            continue
        apart = are_apart([first.patient_id, second.patient_id], evidence.splits)
        kind = "one person on both sides" if apart else "one person, two patients"
        says = f"{_names(evidence, (first, second))} look like one person (correlation {likeness:.2f})."
        advice = "Look at them: rescans of one person need one patient id, to stay on one side of the split."
        yield warning(kind, says, advice, first.image, second.image)


def _alike(details: Sequence[Float16[np.ndarray, "voxels"]]) -> Iterator[tuple[int, int, float]]:
    """Places of two scans whose details correlate by more than `ALIKE`, and their correlation."""
    blocks = [np.stack(details[start : start + BLOCK]) for start in range(0, len(details), BLOCK)]
    for number, block in enumerate(blocks):
        likeness = np.concatenate(
            [block.astype(np.float32) @ each.astype(np.float32).T for each in blocks], 1
        )
        for row, other in np.argwhere(likeness > ALIKE).tolist():
            one = number * BLOCK + row
            if one < other:
                yield one, other, float(likeness[row, other])


def _names(evidence: ScanEvidence, group: Sequence[Scan]) -> str:
    """The scans, each with the part of its patient."""
    parts = (part_of(scan.patient_id, evidence.splits) for scan in group)
    return " and ".join(
        f"{scan.scan_id} ({part})" if part else scan.scan_id for scan, part in zip(group, parts, strict=True)
    )


def few_patients(evidence: ScanEvidence) -> Iterator[Finding]:
    """Too few test patients to show any difference between networks."""
    tested = [scan for scan in evidence.listing.items if is_tested(scan.patient_id, evidence.splits)]
    patients = len({scan.patient_id for scan in tested})
    if 0 < patients < FEWEST_PAIRS:
        says = (
            f"{patients} {evidence.listing.unit}s are tested: even if all favour one network, chance alone "
        )
        says += f"does so with probability {2 * 0.5**patients:.2f}."
        images = (scan.image for scan in tested)
        yield warning("few test patients", says, f"Test at least {FEWEST_PAIRS}.", *images)

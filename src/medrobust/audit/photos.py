"""Checks of photographs, each a function of everything that was seen."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt64
from rich.console import Console
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medrobust.audit.looking import PhotoLook, PhotoRecord, look_at, look_at_photo
from medrobust.audit.similarity import ORIENTATIONS, detail, near_pairs, turned, turned_hashes
from medrobust.audit.splits import Splits, are_apart, is_tested, part_of
from medrobust.core import Task, names_in
from medrobust.data.findings import Finding, error, note, refused, warning
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.image_files import ENDINGS
from medrobust.stats.intervals import Estimate, wilson


def check_photos(listing: Photos, splits: Splits, console: Console) -> Iterator[Finding]:
    """Look at all photographs, and say what is wrong with them."""
    records = look_at(
        partial(look_at_photo, files=listing.format, ignored=listing.ignored), listing.items, console
    )
    evidence = PhotoEvidence(listing, splits, records)
    for check in (unreadable, faults, equal_photos, similar_photos, small_classes, unusual):
        yield from check(evidence)


@dataclass(frozen=True)
class PhotoEvidence:
    """Everything that checks of photographs may look at."""

    listing: Photos
    splits: Splits
    records: tuple[PhotoRecord, ...]  # one per photograph, in the listing's order

    @property
    def readable(self) -> list[tuple[Photo, PhotoLook]]:
        """The photographs that can be read."""
        return [(record.photo, record.look) for record in self.records if record.look]


CLIPPED = 0.2
"""Largest fraction of pure white pixels in a sound photograph."""


def unreadable(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Files that are missing, damaged, truncated or not images; masks that mark nothing."""
    for record in evidence.records:
        photo = record.photo
        for path, why in record.errors.items():
            yield refused("unreadable file", why, path)
        if photo.mask and record.inside == 0:
            yield warning(
                "empty mask",
                f"{photo.mask} is black: nothing is marked.",
                "Correct if there is nothing to find: the photograph then has no Dice, and whatever "
                "networks show in it is a false positive. Otherwise find its mask.",
                photo.path,
                photo.mask,
            )


def faults(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Photographs that show nothing or large white areas, hold 8 bits in 16, or have a misleading name."""
    for photo, look in evidence.readable:
        if look.is_blank:
            says = f"{photo.place} shows nothing: no channel varies by more than {look.contrast}."
            yield error("constant image", says, "Look at it, and remove or replace it.", photo.place)
        elif look.bits == 16 and look.high <= 255:
            says = f"{photo.place} is a 16-bit file with 8-bit content: its largest value is {look.high}."
            advice = "It looks black. Save it with 8 bits, or scale it to the 16 bits of its file."
            yield warning("wrong bit depth", says, advice, photo.place)
        elif look.clipped > CLIPPED:
            says = f"{photo.place} is pure white in {look.clipped:.0%} of its pixels: their content is lost."
            advice = "Look at it: overexposed photographs and scanned paper are better left out."
            yield warning("clipped intensities", says, advice, photo.place)
        form = look.origin.form
        if form and photo.path.suffix.lower() not in ENDINGS[form]:
            says = f"{photo.path} is a {form} file by its content."
            advice = "It is read as what it is; rename it, for programs that trust the name."
            yield note("misnamed file", says, advice, photo.path)


def unusual(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Photographs stored in unusual ways; grey ones among colour ones, or the other way around."""
    readable = evidence.readable
    grey = sum(look.grey for _, look in readable)
    is_mixed, fewer = 0 < grey < len(readable), 2 * grey <= len(readable)
    kinds: tuple[tuple[str, Callable[[PhotoLook], bool], str, str], ...] = (
        (
            "EXIF rotation",
            lambda look: look.origin.turned,
            "are stored rotated, with an EXIF tag that sets them upright",
            "They are read upright; programs that ignore the tag see them rotated.",
        ),
        (
            "alpha channel",
            lambda look: look.origin.alpha,
            "have transparent pixels",
            "Transparent pixels are read as black: make sure that this is not a mask.",
        ),
        (
            "CMYK image",
            lambda look: look.origin.mode in ("CMYK", "YCCK"),
            "are CMYK images",
            "They are converted without their colour profile: save them as RGB if their colours matter.",
        ),
        (
            "grey and colour mixed",
            lambda look: is_mixed and look.grey is fewer,
            "are grey among colour images" if fewer else "are in colour among grey images",
            "A network may learn the camera instead of the disease: make sure that classes do not differ "
            "in it.",
        ),
    )
    for kind, applies, what, advice in kinds:
        if files := [photo.place for photo, look in readable if applies(look)]:
            says = f"{len(files)} of {len(evidence.records)} photographs {what}."
            yield note(kind, says, advice, *files)


CONFIDENCE = 0.95
EXPECTED = 0.8
"""Accuracy for which intervals are worked out."""

TOO_WIDE, WIDE = 0.4, 0.25
"""Widths of the interval that are a warning and a note: fewer than 20 and 46 patients."""


def small_classes(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Classes with too few test patients for a precise score."""
    tested: defaultdict[str, list[Photo]] = defaultdict(list)
    for photo in evidence.listing.items:
        if photo.label is not None and is_tested(photo.patient_id, evidence.splits):
            for name in names_in(photo.label, evidence.listing.classes):
                tested[name].append(photo)
    listing = evidence.listing
    what, score = ("Finding", "sensitivity") if listing.task is Task.MULTILABEL else ("Class", "accuracy")
    for name, photos in sorted(tested.items(), key=lambda item: listing.classes.index(item[0])):
        patients = len({photo.patient_id for photo in photos})
        expected = expected_interval(patients)
        width = expected.high - expected.low
        if width < WIDE:
            continue
        interval = "has no interval at all"
        if patients > 1:
            interval = f"of {expected.value:.2f} would have a 95 % interval of "
            interval += f"{expected.low:.2f} to {expected.high:.2f}"
        unit = listing.unit if patients == 1 else f"{listing.unit}s"
        says = f"{what} '{name}' is tested on {len(photos)} photographs of {patients} {unit}: "
        says += f"its {score} {interval}."
        advice = "Add more, test more of them, merge the class with another, or make no claim about it."
        severity = note if width < TOO_WIDE else warning
        yield severity("few test cases", says, advice, *(photo.place for photo in photos))


def expected_interval(patients: int) -> Estimate:
    """The interval of an accuracy of about `EXPECTED`, from one answer per patient."""
    right = np.zeros(patients)
    right[: round(EXPECTED * patients)] = 1
    return wilson(right, np.ones(patients), CONFIDENCE)


ALIKE = 0.82
"""Correlation of detail above which two photographs are copies; `similarity` says what was measured."""

NAMED = 3
"""Copies that a sentence names."""

BLOCK = 4096
"""Pairs that are compared at a time; bounds the memory."""


def equal_photos(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Photographs with identical pixels."""
    for twins in _twins(evidence):
        if len(twins) > 1:
            yield _copies(evidence, [photo for photo, _ in twins], "hold the same pixels")


def similar_photos(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Photographs that are copies of one another, turned, mirrored, resized or compressed again."""
    groups = _twins(evidence)
    if not groups:
        return
    looks = [twins[0][1] for twins in groups]  # equal photographs are compared once
    hashes = np.array([look.structure for look in looks], np.uint64)
    links = near_copies(hashes, np.stack([look.small for look in looks]))
    for places, is_turned in _groups(links, len(looks)):
        how = "rotated or mirrored" if is_turned else "resized or compressed again"
        photos = [photo for place in places for photo, _ in groups[place]]
        yield _copies(evidence, photos, f"look like the same image, {how}", is_near=True)


def _twins(evidence: PhotoEvidence) -> list[list[tuple[Photo, PhotoLook]]]:
    """Photographs that are not blank, grouped by identical pixels."""
    groups: defaultdict[bytes, list[tuple[Photo, PhotoLook]]] = defaultdict(list)
    for photo, look in evidence.readable:
        if not look.is_blank:
            groups[look.digest].append((photo, look))
    return list(groups.values())


def _copies(evidence: PhotoEvidence, group: Sequence[Photo], what: str, *, is_near: bool = False) -> Finding:
    """Copies contradict each other, leak across the split, or count twice."""
    patients = {photo.patient_id for photo in group}
    severity, mild = (warning, note) if is_near else (error, warning)
    if len({photo.label for photo in group}) > 1:
        kind, advice = ", two labels", "Find out which label is right, and keep one of them."
    elif are_apart(patients, evidence.splits):
        kind = " on both sides"
        advice = "Keep one, or assign both to one patient: what is tested must not have been trained on."
    elif is_near and len(patients) > 1:
        kind = ", two patients"
        advice = "Keep one, or assign both to one patient: intervals treat patients as independent."
    elif is_near:
        severity, kind, advice = mild, "", "Keep one, unless both are there on purpose."
    else:
        severity, kind, advice = mild, " twice", "Keep one: the second adds nothing, and counts twice."
    if is_near:
        advice = f"Look at them first. {advice}"
    kind = f"{'near copy' if is_near else 'same image'}{kind}"
    says = f"{_names(evidence, group)} {what}."
    return severity(kind, says, advice, *(photo.place for photo in group))


def _names(evidence: PhotoEvidence, group: Sequence[Photo]) -> str:
    """The first few photographs, each with its class and part."""
    names = []
    for photo in group[:NAMED]:
        part = part_of(photo.patient_id, evidence.splits)
        labels = [] if photo.label is None else names_in(photo.label, evidence.listing.classes)
        known = ", ".join(str(each) for each in (*labels, part) if each)
        short = str(photo.place.relative_to(photo.path.parent))
        names.append(f"{short} ({known})" if known else short)
    more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
    return ", ".join(names) + more


class Link(NamedTuple):
    """Places of two photographs that are near copies, and whether one of them is turned or mirrored."""

    first: int
    second: int
    turned: bool


def near_copies(hashes: UInt64[np.ndarray, "n"], smalls: UInt8[np.ndarray, "n 32 32"]) -> list[Link]:
    """All pairs of photographs that are near copies, by their hashes and small images."""
    links: dict[tuple[int, int], Link] = {}
    for way in ORIENTATIONS:
        pairs = near_pairs(turned_hashes(hashes, way), hashes)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        for start in range(0, len(pairs), BLOCK):
            block = pairs[start : start + BLOCK]
            one = detail(np.ascontiguousarray(turned(smalls[block[:, 0]], way)))
            alike = np.einsum("ij,ij->i", one, detail(smalls[block[:, 1]])) > ALIKE
            for first, second in block[alike].tolist():
                links.setdefault((first, second), Link(first, second, any(way)))
    return sorted(links.values())


def _groups(links: Sequence[Link], count: int) -> Iterator[tuple[list[int], bool]]:
    """Places of photographs that links connect, and whether any of them is turned."""
    if not links:
        return
    pairs = np.array([(link.first, link.second) for link in links])
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    members: defaultdict[int, list[int]] = defaultdict(list)
    for place in np.unique(pairs).tolist():
        members[int(component[place])].append(place)
    turned_ones = {int(component[link.first]) for link in links if link.turned}
    for number, group in members.items():
        yield group, number in turned_ones

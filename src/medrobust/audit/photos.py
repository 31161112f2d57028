"""Checks of photographs: each a function of all records, and `PHOTO_CHECKS` lists them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medrobust.audit.looking import PhotoLook, PhotoRecord
from medrobust.audit.similarity import ORIENTATIONS, detail, near_pairs, turned, turned_hashes
from medrobust.audit.splits import Splits, are_apart, is_tested, part_of
from medrobust.data.findings import Finding, error, note, refused, warning
from medrobust.data.listing import Photo, Photos
from medrobust.stats.intervals import Estimate, wilson


@dataclass(frozen=True)
class PhotoEvidence:
    """Everything that checks of photographs may look at."""

    listing: Photos  # what there is
    splits: Splits  # part of each patient, in each fold
    records: tuple[PhotoRecord, ...]  # one per photograph, in the listing's order

    @property
    def readable(self) -> list[tuple[Photo, PhotoLook]]:
        """The photographs that can be read."""
        return [(record.photo, record.look) for record in self.records if record.look]


SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
}
"""How files of each format may be called."""

CLIPPED = 0.2
"""Fraction of purely white pixels that is too much."""


def unreadable(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Files that are missing, damaged, cut short, or no images; and masks with nothing inside."""
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
    """Photographs that show nothing or are white over a large part; 8 bits in 16; misleading names."""
    for photo, look in evidence.readable:
        if look.is_blank:
            says = f"{photo.place} shows nothing: no channel varies by more than {look.contrast}."
            yield error("constant image", says, "Look at it, and remove or replace it.", photo.place)
        elif look.bits == 16 and look.high <= 255:
            says = f"{photo.place} is a 16-bit file with 8-bit content: its largest value is {look.high}."
            advice = "It looks black. Save it with 8 bits, or scale it to the 16 bits that the file promises."
            yield warning("wrong bit depth", says, advice, photo.place)
        elif look.clipped > CLIPPED:
            says = f"{photo.place} is pure white in {look.clipped:.0%} of its pixels: their content is lost."
            advice = "Look at it: overexposed photographs and scanned paper are better left out."
            yield warning("clipped intensities", says, advice, photo.place)
        if look.form in SUFFIXES and photo.path.suffix.lower() not in SUFFIXES[look.form]:
            says = f"{photo.path} is a {look.form} file by its content."
            advice = "It is read as what it is; rename it, for programs that trust the name."
            yield note("misnamed file", says, advice, photo.path)


def unusual(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Photographs stored in unusual ways; grey ones among colour ones, or the other way around."""
    grey = sum(look.grey for _, look in evidence.readable)
    is_mixed, fewer = 0 < grey < len(evidence.readable), 2 * grey <= len(evidence.readable)
    kinds: tuple[tuple[str, Callable[[PhotoLook], bool], str, str], ...] = (
        (
            "EXIF rotation",
            lambda look: look.turned,
            "are stored rotated, with an EXIF tag that sets them upright",
            "They are read upright; programs that ignore the tag see them rotated.",
        ),
        (
            "alpha channel",
            lambda look: look.alpha,
            "have transparent pixels",
            "Transparent pixels are read as black: make sure that this is no mask.",
        ),
        (
            "CMYK image",
            lambda look: look.mode in ("CMYK", "YCCK"),
            "are CMYK images",
            "They are converted without their colour profile: save them as RGB if their colours matter.",
        ),
        (
            "grey and colour mixed",
            lambda look: is_mixed and look.grey is fewer,
            "are grey among colour images" if fewer else "are in colour among grey images",
            (
                "A network may learn the camera instead of the disease: make sure that classes do not "
                "differ in it."
            ),
        ),
    )
    for kind, applies, what, advice in kinds:
        if files := [photo.place for photo, look in evidence.readable if applies(look)]:
            says = f"{len(files)} of {len(evidence.records)} photographs {what}."
            yield note(kind, says, advice, *files)


CONFIDENCE = 0.95
EXPECTED = 0.8
"""Fraction of right answers that intervals are worked out for."""

TOO_WIDE, WIDE = 0.4, 0.25
"""Widths of the interval that are a warning and a note: fewer than 20 and 46 patients."""


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
    findings = []
    for label, photos in sorted(tested.items()):
        patients = len({photo.patient_id for photo in photos})
        expected = expected_interval(patients)
        if expected.high - expected.low < WIDE:
            continue
        interval = (
            "has no interval at all"
            if patients == 1
            else f"of {expected.value:.2f} would have a 95 % interval of "
            f"{expected.low:.2f} to {expected.high:.2f}"
        )
        unit = evidence.listing.unit if patients == 1 else f"{evidence.listing.unit}s"
        says = (
            f"Class '{evidence.listing.classes[label]}' is tested on {len(photos)} photographs of {patients} "
        )
        says += f"{unit}: its accuracy {interval}."
        advice = "Add more, test more of them, merge the class with another, or make no claim about it."
        kind = note if expected.high - expected.low < TOO_WIDE else warning
        findings.append(kind("few test cases", says, advice, *(photo.place for photo in photos)))
    return findings


ALIKE = 0.82
"""Correlation of detail from which on two photographs are copies; `similarity` says what was measured."""

NAMED = 3
"""Copies that a sentence names."""

BLOCK = 4096
"""Pairs that are compared at a time; bounds the memory."""


def equal_photos(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Photographs with exactly the same pixels."""
    for twins in _twins(evidence):
        if len(twins) > 1:
            yield _copies(evidence, [photo for photo, _ in twins], "hold the same pixels")


def similar_photos(evidence: PhotoEvidence) -> Iterator[Finding]:
    """Photographs that show the same, turned, mirrored, resized or compressed again."""
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
    """Photographs that show something, those with the same pixels together."""
    groups: defaultdict[bytes, list[tuple[Photo, PhotoLook]]] = defaultdict(list)
    for photo, look in evidence.readable:
        if not look.is_blank:
            groups[look.digest].append((photo, look))
    return list(groups.values())


def _copies(evidence: PhotoEvidence, group: Sequence[Photo], what: str, *, is_near: bool = False) -> Finding:
    """What copies do to a study: contradict each other, leak across the split, or count twice."""
    patients = [photo.patient_id for photo in group]
    severity, mild = (warning, note) if is_near else (error, warning)
    if len({photo.label for photo in group}) > 1:
        kind, advice = ", two labels", "Find out which label is right, and keep one of them."
    elif are_apart(patients, evidence.splits):
        kind = " on both sides"
        advice = "Keep one, or assign both to one patient: what is tested must not have been trained on."
    elif is_near and len(set(patients)) > 1:
        kind = ", two patients"
        advice = "Keep one, or assign both to one patient: intervals treat patients as independent."
    elif is_near:
        severity, kind, advice = mild, "", "Keep one, unless both are there on purpose."
    else:
        severity, kind, advice = mild, " twice", "Keep one: the second adds nothing, and counts twice."
    if is_near:
        advice = f"Look at them first. {advice}"
    says = f"{_names(evidence, group)} {what}."
    kind = f"{'near copy' if is_near else 'same image'}{kind}"
    return severity(kind, says, advice, *(photo.place for photo in group))


class Link(NamedTuple):
    """Two photographs, by place, that are near copies; whether one is turned or mirrored."""

    first: int
    second: int
    turned: bool


def near_copies(hashes: UInt64[np.ndarray, "n"], smalls: UInt8[np.ndarray, "n 32 32"]) -> list[Link]:
    """All pairs of different photographs that are near copies of each other."""
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
    """Photographs that hang together by links, and whether any of them is turned."""
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


def _names(evidence: PhotoEvidence, group: Iterable[Photo]) -> str:
    """Each photograph with its class and part."""
    names = []
    for photo in group:
        part = part_of(photo.patient_id, evidence.splits)
        label = None if photo.label is None else evidence.listing.classes[photo.label]
        known = ", ".join(str(each) for each in (label, part) if each)
        short = str(photo.place.relative_to(photo.path.parent))
        names.append(f"{short} ({known})" if known else short)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


PHOTO_CHECKS: tuple[Callable[[PhotoEvidence], Iterable[Finding]], ...] = (
    unreadable,
    faults,
    equal_photos,
    similar_photos,
    small_classes,
    unusual,
)
"""All checks of photographs; a further kind of finding is a function here."""

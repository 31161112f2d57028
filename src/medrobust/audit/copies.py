"""The same image twice: exactly, or turned, mirrored, resized or compressed again."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8, UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medrobust.audit.hamming import near_pairs
from medrobust.audit.parts import are_apart, part_of
from medrobust.audit.records import PhotoEvidence, short
from medrobust.audit.structure import ORIENTATIONS, Orientation, detail, turned, turned_hashes
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Photo

ALIKE = 0.82
"""Correlation of detail from which on two photographs are copies; `structure` says what was measured."""

NAMED = 3
"""Copies that a sentence names."""

BLOCK = 4096
"""Pairs that are compared at a time; bounds the memory."""


class Link(NamedTuple):
    """Two photographs, by place, that are near copies; whether one is turned or mirrored."""

    first: int
    second: int
    turned: bool


def equal_photos(evidence: PhotoEvidence) -> list[Finding]:
    """Photographs with exactly the same pixels."""
    groups: defaultdict[bytes, list[Photo]] = defaultdict(list)
    for photo, look in evidence.readable:
        if not look.is_blank:
            groups[look.digest].append(photo)
    return [_equal(evidence, group) for group in groups.values() if len(group) > 1]


def similar_photos(evidence: PhotoEvidence) -> list[Finding]:
    """Photographs that show the same, turned, mirrored, resized or compressed again."""
    seen = [(photo, look) for photo, look in evidence.readable if not look.is_blank]
    if not seen:
        return []
    first = {look.digest: place for place, (_, look) in reversed(list(enumerate(seen)))}
    places = np.array(sorted(first.values()))  # equal photographs are compared once
    links = near_copies(
        np.array([seen[place][1].structure for place in places], np.uint64),
        np.stack([seen[place][1].small for place in places]),
    )
    twins: defaultdict[bytes, list[Photo]] = defaultdict(list)
    for photo, look in seen:
        twins[look.digest].append(photo)
    return [
        _similar(
            evidence, [photo for place in group for photo in twins[seen[places[place]][1].digest]], is_turned
        )
        for group, is_turned in _groups(links, len(places))
    ]


def near_copies(hashes: UInt64[np.ndarray, "n"], smalls: UInt8[np.ndarray, "n 32 32"]) -> list[Link]:
    """All pairs of different photographs that are near copies of each other."""
    links: dict[tuple[int, int], Link] = {}
    for way in ORIENTATIONS:
        pairs = near_pairs(turned_hashes(hashes, way), hashes)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        for start in range(0, len(pairs), BLOCK):
            for first, second in _alike(pairs[start : start + BLOCK], smalls, way):
                links.setdefault((first, second), Link(first, second, any(way)))
    return sorted(links.values())


def _alike(
    pairs: Int64[np.ndarray, "pairs 2"], smalls: UInt8[np.ndarray, "n 32 32"], way: Orientation
) -> Iterator[tuple[int, int]]:
    one = detail(np.ascontiguousarray(turned(smalls[pairs[:, 0]], way)))
    other = detail(smalls[pairs[:, 1]])
    yield from pairs[np.einsum("ij,ij->i", one, other) > ALIKE].tolist()


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


def _equal(evidence: PhotoEvidence, group: list[Photo]) -> Finding:
    says = f"{_names(evidence, group)} hold the same pixels."
    labels, apart = _conflicts(evidence, group)
    if labels:
        kind, advice = "same image, two labels", "Find out which label is right, and keep one of them."
    elif apart:
        kind = "same image on both sides"
        advice = "Keep one, or give both the same patient: networks are tested on what they learned."
    else:
        kind, advice = "same image twice", "Keep one: the second adds nothing, and counts twice."
    severity = Severity.ERROR if labels or apart else Severity.WARNING
    return Finding(kind, severity, says, advice, _paths(group))


def _similar(evidence: PhotoEvidence, group: list[Photo], is_turned: bool) -> Finding:
    how = "turned or mirrored" if is_turned else "resized or compressed again"
    says = f"{_names(evidence, group)} look like the same image, {how}."
    labels, apart = _conflicts(evidence, group)
    if labels:
        kind, advice = "near copy, two labels", "Look at them; find out which label is right, and keep one."
    elif apart:
        kind = "near copy on both sides"
        advice = "Look at them; keep one, or give both the same patient."
    elif len({photo.patient_id for photo in group}) > 1:
        kind = "near copy, two patients"
        advice = (
            "Look at them; keep one, or give both the same patient: intervals take patients as independent."
        )
    else:
        kind, advice = "near copy", "Look at them; keep one, unless they are two photographs on purpose."
        return Finding(kind, Severity.NOTE, says, advice, _paths(group))
    return Finding(kind, Severity.WARNING, says, advice, _paths(group))


def _conflicts(evidence: PhotoEvidence, group: Iterable[Photo]) -> tuple[bool, bool]:
    """Whether photographs of the same thing differ in their labels, and are on two sides."""
    group = list(group)
    apart = are_apart([photo.patient_id for photo in group], evidence.splits)
    return len({photo.label for photo in group}) > 1, apart


def _names(evidence: PhotoEvidence, group: Iterable[Photo]) -> str:
    """Each photograph with its class and part."""
    names = []
    for photo in group:
        part = part_of(photo.patient_id, evidence.splits)
        label = None if photo.label is None else evidence.listing.classes[photo.label]
        known = ", ".join(str(each) for each in (label, part) if each)
        names.append(f"{short(photo)} ({known})" if known else short(photo))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _paths(group: Iterable[Photo]) -> tuple[Path, ...]:
    return tuple(photo.place for photo in group)

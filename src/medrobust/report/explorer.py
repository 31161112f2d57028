"""The explorer of a report: what can be chosen, the scores of every scan, and frames.

A frame is what is shown at once: a photo, a slice, or a slice of a volume in one of three planes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Int, Int8

from medrobust.analysis.results import Results
from medrobust.core import UNKNOWN, Task, members_of, names_in
from medrobust.data.scans.geometry import Axis, seen_along
from medrobust.metrics.overlap import overlap_counts
from medrobust.metrics.scores import dice_of_counts, mean_defined
from medrobust.report.style import image_uri, labels_uri, region_colours, structure_colours
from medrobust.running.explorer import EXPLORED, LEVELS, View, Wanted, read_views
from medrobust.storage import RunFolder

GREY, STEP = 128, 127 // LEVELS
"""Value of no change, and step of a level, in pictures of changes; the page computes images from these."""

SURELY_TOO_MUCH = 1.6
"""Frames are not even made if they would take so many times the room, were all as large as the middle ones.

The middle frames are the largest, so this is an overestimate.
"""

COUNTS = ("n_true", "n_pred", "n_both")
CELL = ("perturbation", "role", "source", "source_seed", "target", "target_seed")


def read_explorer(folder: RunFolder, results: Results, room: int) -> dict[str, Any] | None:
    """The explorer of a report as data for JSON; None where the run kept no scan, or none fits.

    Args:
        folder: The run folder.
        results: Its rows.
        room: Most bytes that it may take. Until it fits, frames are left out evenly, then the last scans.

    Returns:
        `index`, see below; `frames` of each scan, see `frame`; `left_out`, in words.
    """
    if not folder.exists(*EXPLORED):
        return None
    facts = folder.read_json(*EXPLORED)
    wanted = Wanted(**facts["wanted"])
    scans = [read_views(folder, wanted, number) for number in range(len(facts["scans"]))]
    colours = structure_colours(results.classes, results.colours)
    groups: list[list[tuple[int, Frame]]] = []  # frames of one plane of one scan
    for number, (scan, views) in enumerate(zip(facts["scans"], scans, strict=True)):
        shape = views[0].clean.shape[1:]
        frames = frames_of(scan["cases"], results.task, shape, scan.get("axes"), results.spacing)
        for plane in dict.fromkeys(each.plane for each in frames):
            own = [each for each in frames if each.plane == plane]
            if plane:  # black planes around what a volume shows tell nothing
                own = [each for each in own if np.ptp(each.of(views[each.case]).clean)] or own
                own = [own[place] for place in _evenly(len(own), wanted.slices)]
            groups.append([(number, each) for each in own])

    @cache
    def shown(group: int, place: int) -> dict[str, Any]:
        number, each = groups[group][place]
        return frame(each.of(scans[number][each.case]), colours, results.regions)

    counts = [len(group) for group in groups]
    places = fitting(counts, lambda group, place: len(json.dumps(shown(group, place))) + 2, room)
    kept: dict[int, list[tuple[Frame, dict[str, Any]]]] = {}
    for group, some in enumerate(places):
        for place in some:
            number, each = groups[group][place]
            kept.setdefault(number, []).append((each, shown(group, place)))
    if not kept:
        return None
    left_out, in_frames = "", sum(map(len, kept.values()))
    if in_frames < sum(counts):
        cases = "" if len(kept) == len(scans) else f" and {len(kept)} of {len(scans)} cases"
        left_out = f"To keep this file small, it holds {in_frames} of {sum(counts)} kept images{cases}."
    described = [facts["scans"][number] | {"frames": [each for each, _ in of]} for number, of in kept.items()]
    return {
        "index": index({**facts, "scans": described}, results),
        "frames": [[picture for _, picture in of] for of in kept.values()],
        "left_out": left_out,
    }


def index(facts: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """What can be chosen, and the scores of every scan under each choice.

    Args:
        facts: `sets`, `targets`, `pairs` and `scans`; each scan has `scan_id`, `why`, `cases` and its
            `frames`.
        results: The rows of the run.
    """
    segmentation = results.task.has_maps
    colours = structure_colours(results.classes, results.colours) if segmentation else ()
    if results.regions:
        colours = region_colours(colours, results.regions)
    scores = _scores(results, [scan["scan_id"] for scan in facts["scans"]])
    sets, targets = facts["sets"], facts["targets"]
    cells = [
        (*(sets[place][key] for key in CELL[:4]), targets[target]["name"], targets[target]["seed"])
        for place, target in facts["pairs"]
    ]
    several = len({target["seed"] for target in targets}) > 1
    return {
        "segmentation": segmentation,
        "volumes": any(each.plane for scan in facts["scans"] for each in scan["frames"]),
        "levels": {"grey": GREY, "step": STEP, "count": LEVELS},
        "classes": list(results.structures if segmentation else results.classes),
        "colours": list(colours),
        "regions": bool(results.regions),
        "targets": [
            f"{target['name']}, seed {target['seed']}" if several else target["name"] for target in targets
        ],
        "sets": [
            {"perturbation": each["perturbation"], "source": source}
            for each, source in zip(sets, _sources(sets), strict=True)
        ],
        "pairs": [list(pair) for pair in facts["pairs"]],
        "scans": [
            {
                "id": scan["scan_id"],
                "why": scan["why"],
                "truth": [] if segmentation else names_in(scan["cases"][0]["label"], results.classes),
                "frames": [each.name for each in scan["frames"]],
                "planes": [each.plane for each in scan["frames"] if each.plane],
                "tall": [round(each.tall, 4) for each in scan["frames"]],
                "scores": [scores.get((*cell, scan["scan_id"])) for cell in cells],
            }
            for scan in facts["scans"]
        ],
    }


def fitting(counts: Sequence[int], size: Callable[[int, int], int], room: int) -> list[list[int]]:
    """Places of the frames of each scan that take at most `room` bytes together.

    Args:
        counts: Number of frames of each scan.
        size: Bytes of a frame, by scan and place; called for as few frames as possible.
        room: Bytes available.

    Returns:
        As many of each scan as fit, evenly spaced; if even one of each is too much, the middle ones of the
        first scans.
    """
    middles = [size(scan, count // 2) for scan, count in enumerate(counts)]
    for most in range(max(counts, default=0), 0, -1):
        kept = [_evenly(count, most) for count in counts]
        about = sum(middle * len(places) for middle, places in zip(middles, kept, strict=True))
        if about > SURELY_TOO_MUCH * room:
            continue
        if sum(size(scan, place) for scan, places in enumerate(kept) for place in places) <= room:
            return kept
    fit = sum(total <= room for total in accumulate(middles))
    return [[count // 2] for count in counts[:fit]]


def _evenly(count: int, most: int) -> list[int]:
    """Places of at most `most` of `count` things; a single one is in the middle."""
    if most == 1:
        return [count // 2]
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})


def _sources(sets: Sequence[Mapping[str, Any]]) -> list[str]:
    transfer = [each for each in sets if each["role"] == "transfer"]
    several = len({each["source_seed"] for each in transfer}) > 1
    return [
        each["source"]
        + (f", seed {each['source_seed']}" if several and each["role"] == "transfer" else "")
        + (" (white-box)" if each["role"] == "whitebox" else "")
        for each in sets
    ]


def _scores(results: Results, scans: Sequence[str]) -> dict[tuple[Any, ...], Any]:
    """By cell and scan, the (mean) probability of the truth or the overlap of structures (`overlap_of`)."""
    rounded = pl.col("perturbation").str.contains("~", literal=True)
    rows = results.every_row.filter(pl.col("scan_id").is_in(scans), ~rounded)
    if not results.task.has_maps:
        truth = pl.col("probabilities").list.get(pl.col("label")).cast(pl.Float64).mean().round(4)
        of_scans = rows.group_by(*CELL, "scan_id").agg(truth)
        return {row[:-1]: row[-1] for row in of_scans.iter_rows()}
    place = {name: number for number, name in enumerate(results.structures)}
    counts: dict[tuple[Any, ...], np.ndarray] = {}
    for *cell, structure, n_true, n_pred, n_both in rows.select(
        *CELL, "scan_id", "structure", *COUNTS
    ).iter_rows():
        of_scan = counts.setdefault(tuple(cell), np.zeros((len(COUNTS), len(place)), np.int64))
        of_scan[:, place[structure]] = n_true, n_pred, n_both
    return {cell: overlap_of(*of_scan) for cell, of_scan in counts.items()}


# ---- frames ----


STACK = "SPL"
"""Where the indices of volumes are taken to grow to if the data do not say, for the sake of three planes."""


class Frame(NamedTuple):
    """What is shown at once of a scan.

    Attributes:
        case: Place of the case among those of the scan.
        name: For people; empty for a photo.
        plane: What a volume is cut along, see `PLANES`; empty for an image.
        place: Number of the slice along it.
        axes: Where the indices of the volume grow to.
        tall: Height of a pixel, relative to its width.
    """

    case: int
    name: str
    plane: str = ""
    place: int = 0
    axes: str = STACK
    tall: float = 1.0

    def of(self, view: View) -> View:
        """What a view of the case shows of it."""
        if not self.plane:
            return view

        def cut(volume: np.ndarray) -> np.ndarray:
            return seen_along(volume, self.axes, PLANES[self.plane])[..., self.place, :, :]

        return replace(
            view,
            clean=cut(view.clean),
            changes=cut(view.changes),
            truth=cut(view.truth) if view.truth.ndim > 1 else view.truth,
            answers=cut(view.answers) if view.truth.ndim > 1 else view.answers,
        )


PLANES: Mapping[str, Axis] = {
    "axial": "axial",
    "coronal": "coronal",
    "sagittal": "sagittal",
    "first axis": "axial",
    "second axis": "coronal",
    "third axis": "sagittal",
}
"""How a volume is turned for each plane; those of volumes that lie nowhere in space go by their axes."""


def frames_of(
    cases: Sequence[Mapping[str, Any]],
    task: Task,
    shape: Sequence[int],
    axes: str | None,
    spacing: Sequence[float] | None = None,
) -> list[Frame]:
    """The frames of a scan: its slices, or the slices of its volumes in three planes.

    Args:
        cases: The facts of its cases.
        task: Of the study.
        shape: Spatial shape of the cases.
        axes: Where the indices of volumes grow to; None if unknown.
        spacing: Size of a pixel in mm along each side of the shape; None if unknown.
    """
    sides = spacing or (1.0,) * len(shape)
    if len(shape) == 2:
        return [
            Frame(place, f"slice {case['position']}" if task.has_maps else "", tall=sides[0] / sides[1])
            for place, case in enumerate(cases)
        ]
    volume = np.broadcast_to(np.uint8(0), tuple(shape))
    numbered = np.broadcast_to(np.uint8(0), (1, 2, 3))  # each side tells which axis it is

    def tall(plane: str) -> float:
        down, across = seen_along(numbered, axes or STACK, PLANES[plane]).shape[-2:]
        return float(sides[down - 1] / sides[across - 1])

    names = list(PLANES)[: len(PLANES) // 2] if axes else list(PLANES)[len(PLANES) // 2 :]
    return [
        Frame(
            number,
            (f"patch {case['position']}, " if len(cases) > 1 else "") + f"{plane} {place}",
            plane,
            place,
            axes or STACK,
            tall(plane),
        )
        for plane in names
        for number, case in enumerate(cases)
        for place in range(len(seen_along(volume, axes or STACK, PLANES[plane])))
    ]


def frame(
    view: View, colours: tuple[str, ...], regions: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Any]:
    """A plane on a page; `colours` are those of the classes, `regions` what is scored in their place.

    Returns:
        `clean`; by set `changes` (null for an unchanged image) and `largest`; by pair `answers`. In
        segmentation also `truth`, whether some of it is `unlabelled`, and by pair `overlap`, see
        `overlap_of`.
    """
    shown: dict[str, Any] = {
        "clean": image_uri(view.clean),
        "changes": [change_uri(change) if change.any() else None for change in view.changes],
        "largest": [float(f"{largest:.4g}") for largest in view.largest],
    }
    if view.truth.ndim < 2:
        return shown | {"answers": [[round(float(p), 4) for p in answer] for answer in view.answers]}
    predictions = torch.from_numpy(view.answers.astype(np.int64))
    labels = torch.from_numpy(view.truth.astype(np.int64)).expand_as(predictions)
    members = members_of(regions, len(colours)) if regions else None
    counts = overlap_counts(labels, predictions, len(colours), members).numpy()
    return shown | {
        "truth": labels_uri(view.truth, colours),
        "unlabelled": bool((view.truth == UNKNOWN).any()),
        "answers": [labels_uri(answer, colours) for answer in view.answers],
        "overlap": [overlap_of(*of_answer.T) for of_answer in counts],
    }


def overlap_of(
    n_true: Int[np.ndarray, " k"], n_pred: Int[np.ndarray, " k"], n_both: Int[np.ndarray, " k"]
) -> dict[str, Any]:
    """The overlap of structures in a slice or a scan.

    Args:
        n_true: Pixels of every class in the truth; the first is the background.
        n_pred: Pixels in the prediction.
        n_both: Pixels in both.

    Returns:
        `dice` by class in thousandths, null where undefined and for the background; their `mean` in [0, 1],
        or null; and `extra`, the pixels predicted of structures that the truth lacks, by class.
    """
    values = dice_of_counts(n_true, n_pred, n_both)
    values[0] = np.nan
    mean = float(mean_defined(values))
    extra = (n_true == 0) & (n_pred > 0) & (np.arange(len(values)) > 0)
    return {
        "dice": [None if np.isnan(value) else round(1000 * value) for value in values.tolist()],
        "mean": None if np.isnan(mean) else round(mean, 6),
        "extra": {str(place): int(n_pred[place]) for place in np.flatnonzero(extra).tolist()},
    }


def change_uri(change: Int8[np.ndarray, "c h w"]) -> str:
    """Changes in levels as a picture, around middle grey."""
    return image_uri((GREY + STEP * change.astype(np.int16)).astype(np.uint8))

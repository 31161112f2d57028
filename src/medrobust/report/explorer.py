"""The explorer of a report: what can be chosen, how every scan does, and the frames of those it holds."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Int, Int8, Shaped

from medrobust.analysis.results import Results
from medrobust.core import Task
from medrobust.metrics.overlap import overlap_counts
from medrobust.metrics.scores import dice_of_counts, mean_defined
from medrobust.report.style import image_uri, labels_uri, structure_colours
from medrobust.running.explorer import EXPLORED, LEVELS, View, Wanted, read_views
from medrobust.storage import RunFolder

GREY, STEP = 128, 127 // LEVELS
"""Of a picture of changes: the value of no change, and of one level. The page computes the image from it."""
Facts = Mapping[str, Any]
SURELY_TOO_MUCH = 1.6
"""Of the room, judged by the middle frames, which are the largest: then the others are not even made."""
COUNTS = ("n_true", "n_pred", "n_both")
CELL = ("perturbation", "role", "source", "source_seed", "target", "target_seed")


def read_explorer(folder: RunFolder, results: Results, room: int) -> dict[str, Any] | None:
    """The explorer of a report, as JSON: `index`, see below, and the `frames` of each scan.

    Args:
        folder: The run folder.
        results: Its rows.
        room: Bytes that it may take. Frames are left out evenly, then scans from the last, until it fits;
            `left_out` says what was.

    Returns:
        None where the run kept no scan, or none fits.
    """
    if not folder.exists(*EXPLORED):
        return None
    facts = folder.read_json(*EXPLORED)
    wanted = Wanted(**facts["wanted"])
    scans = [
        [plane for view in read_views(folder, wanted, number) for plane in planes(view)]
        for number in range(len(facts["scans"]))
    ]
    colours = structure_colours(results.classes, results.colours)
    shown = cache(lambda scan, place: frame(scans[scan][place], colours))
    counts = [len(scan) for scan in scans]
    kept = fitting(counts, lambda scan, place: len(json.dumps(shown(scan, place))) + 2, room)
    if not kept:
        return None
    told = [
        scan | {"frames": [_frame_names(scan, results.task, count)[place] for place in places]}
        for scan, count, places in zip(facts["scans"], counts, kept, strict=False)
    ]
    return {
        "index": index({**facts, "scans": told}, results),
        "frames": [[shown(scan, place) for place in places] for scan, places in enumerate(kept)],
        "left_out": _left_out(counts, kept),
    }


def index(facts: Facts, results: Results) -> dict[str, Any]:
    """What can be chosen, and how every scan does under each choice.

    Args:
        facts: `sets`, `targets`, `pairs` and `scans`; a scan has `scan_id`, `why`, its `cases` and the names
            of its `frames`.
        results: The rows of the run.
    """
    segmentation = results.task is Task.SEGMENTATION
    scores = _scores(results, [scan["scan_id"] for scan in facts["scans"]])
    cells = [_cell(facts["sets"][place], facts["targets"][target]) for place, target in facts["pairs"]]
    return {
        "segmentation": segmentation,
        "levels": {"grey": GREY, "step": STEP, "count": LEVELS},
        "classes": list(results.classes),
        "colours": structure_colours(results.classes, results.colours) if segmentation else [],
        "targets": _names(facts["targets"], "name", "seed"),
        "sets": [
            {"perturbation": each["perturbation"], "source": source}
            for each, source in zip(facts["sets"], _sources(facts["sets"]), strict=True)
        ],
        "pairs": [list(pair) for pair in facts["pairs"]],
        "scans": [
            {
                "id": scan["scan_id"],
                "why": scan["why"],
                "truth": None if segmentation else results.classes[scan["cases"][0]["label"]],
                "frames": scan["frames"],
                "scores": [scores.get((*cell, scan["scan_id"])) for cell in cells],
            }
            for scan in facts["scans"]
        ],
    }


def fitting(counts: Sequence[int], size: Callable[[int, int], int], room: int) -> list[list[int]]:
    """Places of the frames to keep of each scan, so that they take at most `room` bytes.

    Args:
        counts: Frames of each scan.
        size: Bytes of a frame, by scan and place; asked for as few as possible.
        room: Bytes that there are.

    Returns:
        As many of each scan as fit, evenly spaced; where even the middle ones are too much, those of the
        first scans only.
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
    """Places of at most so many of `count` things; a single one is the middle."""
    if most == 1:
        return [count // 2]
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})


def _left_out(counts: Sequence[int], kept: Sequence[Sequence[int]]) -> str:
    """What there was no room for, in words; empty where everything is shown."""
    shown, whole = sum(map(len, kept)), sum(counts)
    if shown == whole:
        return ""
    scans = "" if len(kept) == len(counts) else f" and {len(kept)} of {len(counts)} cases"
    return f"To keep this file small, it holds {shown} of {whole} kept images{scans}."


def _frame_names(scan: Mapping[str, Any], task: Task, count: int) -> list[str]:
    """Names of all frames of a scan: slices by their position, planes of a volume by their number."""
    return frame_names(scan["cases"], task, count // len(scan["cases"]))


def frame_names(cases: Sequence[Mapping[str, Any]], task: Task, depth: int) -> list[str]:
    """Names of the frames of some cases: slices by their position, the planes of a volume by their number."""
    if depth > 1:
        return [f"plane {plane}" for _ in cases for plane in range(depth)]
    return [f"slice {case['position']}" if task is Task.SEGMENTATION else "" for case in cases]


def _cell(image_set: Mapping[str, Any], target: Mapping[str, Any]) -> tuple[Any, ...]:
    """A set and a target by the columns of their rows."""
    return (
        *(image_set[key] for key in ("perturbation", "role", "source", "source_seed")),
        target["name"],
        target["seed"],
    )


def _sources(sets: Sequence[Mapping[str, Any]]) -> list[str]:
    transfer = [each for each in sets if each["role"] == "transfer"]
    several = len({each["source_seed"] for each in transfer}) > 1
    return [
        each["source"]
        + (f", seed {each['source_seed']}" if several and each["role"] == "transfer" else "")
        + (" (white-box)" if each["role"] == "whitebox" else "")
        for each in sets
    ]


def _names(targets: Sequence[Mapping[str, Any]], name: str, seed: str) -> list[str]:
    several = len({each[seed] for each in targets}) > 1
    return [f"{each[name]}, seed {each[seed]}" if several else str(each[name]) for each in targets]


def _scores(results: Results, scans: Sequence[str]) -> dict[tuple[Any, ...], Any]:
    """Of every cell and these scans: probability of the truth, or how structures overlap (`overlap_of`)."""
    rounded = pl.col("perturbation").str.contains("~", literal=True)
    rows = results.rows.filter(pl.col("scan_id").is_in(scans), ~rounded)
    if results.task is Task.CLASSIFICATION:
        truth = pl.col("probabilities").list.get(pl.col("label")).cast(pl.Float64).round(4)
        return {row[:-1]: row[-1] for row in rows.select(*CELL, "scan_id", truth).iter_rows()}
    place = {name: number for number, name in enumerate(results.classes)}
    counts: dict[tuple[Any, ...], np.ndarray] = {}
    for *cell, structure, n_true, n_pred, n_both in rows.select(
        *CELL, "scan_id", "structure", *COUNTS
    ).iter_rows():
        of_scan = counts.setdefault(tuple(cell), np.zeros((len(COUNTS), len(place)), np.int64))
        of_scan[:, place[structure]] = n_true, n_pred, n_both
    return {cell: overlap_of(*of_scan) for cell, of_scan in counts.items()}


# ---- frames: what is shown at once: a photo, a slice, or a plane of a volume ----


def planes(view: View) -> list[View]:
    """The view of an image itself; of a volume, a view of each plane."""
    if view.clean.ndim == 3:
        return [view]
    maps = view.truth.ndim > 0
    return [
        replace(
            view,
            clean=view.clean[:, plane],
            changes=view.changes[:, :, plane],
            truth=view.truth[plane] if maps else view.truth,
            answers=view.answers[:, plane] if maps else view.answers,
        )
        for plane in range(view.clean.shape[1])
    ]


def frame(view: View, colours: tuple[str, ...]) -> dict[str, Any]:
    """Everything about one plane; `colours` are those of the classes in label maps.

    Returns:
        `clean`, `changes` (null for an unchanged image) and `largest` by set; `answers` by pair. In
        segmentation also `truth`, and `overlap` by pair, see `overlap_of`.
    """
    shown: dict[str, Any] = {
        "clean": image_uri(view.clean),
        "changes": [change_uri(change) if change.any() else None for change in view.changes],
        "largest": [float(f"{largest:.4g}") for largest in view.largest],
    }
    if view.truth.ndim == 0:
        return shown | {"answers": [[round(float(p), 4) for p in answer] for answer in view.answers]}
    return shown | {
        "truth": labels_uri(view.truth, colours),
        "answers": [labels_uri(answer, colours) for answer in view.answers],
        "overlap": [_overlap(view.truth, answer, len(colours)) for answer in view.answers],
    }


def overlap_of(
    n_true: Int[np.ndarray, " k"], n_pred: Int[np.ndarray, " k"], n_both: Int[np.ndarray, " k"]
) -> dict[str, Any]:
    """How structures overlap, as a page says it of a slice and of a scan alike.

    Args:
        n_true: Pixels of every class in the truth; the first is the background.
        n_pred: Pixels in the prediction.
        n_both: Pixels in both.

    Returns:
        `dice` in thousandths by class, null where it is undefined and for the background; their `mean`, in
        [0, 1] or null; and `extra`, the pixels shown of structures that the truth does not have, by their
        numbers.
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


def _overlap(
    truth: Shaped[np.ndarray, "h w"], answer: Shaped[np.ndarray, "h w"], classes: int
) -> dict[str, Any]:
    labels, predictions = (torch.from_numpy(each[None].astype(np.int64)) for each in (truth, answer))
    return overlap_of(*overlap_counts(labels, predictions, classes)[0].numpy().T)


def change_uri(change: Int8[np.ndarray, "c h w"]) -> str:
    """Changes in levels, around middle grey."""
    return image_uri((GREY + STEP * change.astype(np.int16)).astype(np.uint8))

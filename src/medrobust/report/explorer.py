"""The explorer of a report: what can be chosen, how every scan does, and the frames of those it holds."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from medrobust.analysis.results import Results
from medrobust.core import Task
from medrobust.report.frames import frame, planes
from medrobust.report.pixels import GREY, STEP, hexadecimal
from medrobust.steps.explorer import FACTS, read_views
from medrobust.steps.views import LEVELS
from medrobust.storage import RunFolder

Facts = Mapping[str, Any]
CELL = ("perturbation", "role", "source", "source_seed", "target", "target_seed")


def read_explorer(folder: RunFolder, results: Results, room: int) -> dict[str, Any] | None:
    """The explorer of a report, as JSON: `index`, see below, and the `frames` of each scan.

    Args:
        folder: The run folder.
        results: Its rows.
        room: Bytes that it may take. Slices are left out evenly, then scans from the last, until it fits;
            `left_out` says what was.

    Returns:
        None where the run kept no scan, or none fits.
    """
    if not folder.exists(*FACTS):
        return None
    facts = folder.read_json(*FACTS)
    frames = [_frames(folder, number, results.classes) for number in range(len(facts["scans"]))]
    kept = fitting(frames, room)
    if not kept:
        return None
    scans = [
        scan | {"frames": [_frame_names(scan, results.task, len(whole))[place] for place in places]}
        for scan, whole, places in zip(facts["scans"], frames, kept, strict=False)
    ]
    return {
        "index": index({**facts, "scans": scans}, results),
        "frames": [[whole[place] for place in places] for whole, places in zip(frames, kept, strict=False)],
        "left_out": _left_out(frames, kept),
    }


def index(facts: Facts, results: Results) -> dict[str, Any]:
    """What can be chosen, and how every scan does under each choice.

    Args:
        facts: `sets`, `targets`, `pairs` and `scans`; a scan has `scan_id`, `why`, its `cases` and the names
            of its `frames`.
        results: The rows of the run.
    """
    segmentation = results.task is Task.SEGMENTATION
    scores = _scores(results)
    cells = [_cell(facts["sets"][place], facts["targets"][target]) for place, target in facts["pairs"]]
    return {
        "segmentation": segmentation,
        "levels": {"grey": GREY, "step": STEP, "count": LEVELS},
        "classes": list(results.classes),
        "colours": hexadecimal(results.classes) if segmentation else [],
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


def fitting(frames: Sequence[Sequence[Any]], room: int) -> list[list[int]]:
    """Places of the frames to keep of each scan, so that their JSON takes at most `room` bytes.

    All of them where they fit; else every second, third, ... of each scan, the middle one always among them;
    and where even one of each is too much, only of the first scans.
    """
    sizes = [[len(json.dumps(each)) + 2 for each in scan] for scan in frames]
    longest = max(map(len, sizes), default=0)
    for stride in range(1, longest + 1):
        kept = [_every(len(scan), stride) for scan in sizes]
        if sum(scan[place] for scan, places in zip(sizes, kept, strict=True) for place in places) <= room:
            return kept
    kept, total = [], 0
    for scan in sizes:
        middle = len(scan) // 2
        total += scan[middle]
        if total > room:
            break
        kept.append([middle])
    return kept


def _every(count: int, stride: int) -> list[int]:
    middle = count // 2
    return [place for place in range(count) if (place - middle) % stride == 0]


def _left_out(frames: Sequence[Sequence[Any]], kept: Sequence[Sequence[int]]) -> str:
    """What there was no room for, in words; empty where everything is shown."""
    shown, whole = sum(map(len, kept)), sum(map(len, frames))
    if shown == whole:
        return ""
    scans = "" if len(kept) == len(frames) else f" and {len(kept)} of {len(frames)} cases"
    return f"To keep this file small, it holds {shown} of {whole} kept images{scans}."


def _frames(folder: RunFolder, number: int, classes: Sequence[str]) -> list[dict[str, Any]]:
    return [frame(plane, classes) for view in read_views(folder, number) for plane in planes(view)]


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


def _scores(results: Results) -> dict[tuple[Any, ...], Any]:
    """Of every cell and scan: the probability of the truth, or the Dice of each structure in thousandths."""
    rows = results.rows.filter(~pl.col("perturbation").str.contains("~", literal=True))
    if results.task is Task.CLASSIFICATION:
        truth = pl.col("probabilities").list.get(pl.col("label")).cast(pl.Float64).round(4)
        return {row[:-1]: row[-1] for row in rows.select(*CELL, "scan_id", truth).iter_rows()}
    whole = pl.col("n_true") + pl.col("n_pred")
    dice = pl.when(pl.col("n_true") > 0).then((2000 * pl.col("n_both") / whole).round().cast(pl.Int64))
    found: dict[tuple[Any, ...], list[int | None]] = {}
    place = {name: number for number, name in enumerate(results.classes)}
    for *cell, structure, value in rows.select(*CELL, "scan_id", "structure", dice).iter_rows():
        row = found.setdefault(tuple(cell), [None] * len(place))
        row[place[structure]] = value if place[structure] else None
    return found

"""Evaluation: show every set of images to every target, and keep rows from which all scores are computed."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float32, Int64, Num
from torch import Tensor

from medrobust.core import UNKNOWN, Dataset, OnProgress
from medrobust.metrics.overlap import empty_counts, overlap_counts
from medrobust.metrics.surfaces import SUMS, surface_sums
from medrobust.running.batches import Batch, stack
from medrobust.running.estimate import Speeds
from medrobust.running.jobs import Do, Job
from medrobust.running.noise import CPU, made_again, moved_along
from medrobust.running.plan import Cell, ImageSet, cells_of, part_name, target_folder
from medrobust.running.predict import Columns, outputs_of, remember_weights
from medrobust.running.rows import rows_of, timed
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.storage import ImageStore, Parts, frame_of, write_rows
from medrobust.storage.schemas import (
    EMPTY_CASES,
    OVERLAPS,
    SCORED,
    SURFACES,
    Table,
)
from medrobust.study.analysis import primary_score

BOUNDARY_SECONDS = 5e-7
"""What measuring the boundaries of structures takes per pixel of a case."""


class Shown(NamedTuple):
    """A chunk as it is in the data, and its images and labels in a cell, on the CPU."""

    cell: Cell
    clean: Batch
    images: Float32[Tensor, "n c *space"]
    labels: Int64[Tensor, "n *labelspace"]


def evaluation_job(
    setup: Setup, images: ImageSet, speeds: Speeds, *, boundaries: bool = True, rounded: bool = True
) -> Job:
    """Show a set to every target that faces it; a piece is a chunk.

    What is done is not done again: targets may be added. `boundaries` as in `open_evaluation`; `rounded`:
    also images rounded as they would be saved.
    """
    cells = list(cells_of([images], setup.targets, setup.bits if rounded else None))
    tables = [(table, folder) for cell in cells for table, folder in row_folders(setup, cell, boundaries)]
    measured = sum(table is SURFACES for table, _ in tables) * math.prod(setup.dataset.shape)
    asked = sum(speeds[cell.target.id.name].forward for cell in cells)
    return Job(
        kind="evaluate",
        name=images.name,
        title=f"evaluate {images.title}",
        seconds=images.chunks.n_cases * (asked + measured * BOUNDARY_SECONDS),
        disk=0,
        pieces=len(images.chunks),
        finished=lambda: setup.folder.all_numbers([folder for _, folder in tables]),
        open=lambda: open_evaluation(setup, cells, boundaries=boundaries),
    )


def whole_test_job(setup: Setup, images: ImageSet, speeds: Speeds) -> Job:
    """The clean score on all test cases, of which only some are attacked."""
    job = evaluation_job(setup, images, speeds, boundaries=False)
    return replace(job, title=f"score the whole test set{images.of_fold}")


def open_evaluation(setup: Setup, cells: Sequence[Cell], *, boundaries: bool = True) -> Do:
    """Load the networks of some cells of one set, and record whose weights their rows are of.

    In segmentation, `boundaries` measures the boundaries of structures too, and what is painted into cases
    without any label.

    Raises:
        RunError: Finished rows were made with other weights.
    """
    for cell in cells:
        for table, _ in row_folders(setup, cell, boundaries):
            name = cell.target.id.folder
            weights = setup.weights_sha256(cell.target)
            remember_weights(setup.folder, weights, name, *target_folder(cell.target, table))

    def evaluate(piece: int, progress: OnProgress) -> None:
        missing: dict[Cell, list[tuple[Table, Parts]]] = {}
        for cell in cells:
            parts = [
                (table, (*folder, part_name(piece))) for table, folder in row_folders(setup, cell, boundaries)
            ]
            left = [(table, part) for table, part in parts if not setup.folder.exists(*part)]
            if left:
                missing[cell] = left
        for number, seen in enumerate(shown(setup, list(missing), piece), 1):
            parts = missing[seen.cell]
            times, n_cases = seen.cell.timing_folder(parts[0][0]), len(seen.clean.cases)
            with timed(setup.folder, times, "evaluate", seen.cell.columns, piece, n_cases):
                _write_rows(setup, seen, parts)
            progress(number / len(missing), "")

    return evaluate


def shown(setup: Setup, cells: Sequence[Cell], number: int) -> Iterator[Shown]:
    """A chunk of one set as each of some cells sees it; read once, or not at all without any cell."""
    if not cells:
        return
    image_set = cells[0].image_set
    clean = stack(setup.dataset, image_set.chunks[number], CPU)
    stored, labels = images_of(setup, image_set, number, clean)
    for bits, same_bits in groupby(cells, key=lambda cell: cell.bits):
        images = stored if bits is None else quantised(stored, bits)
        yield from (Shown(cell, clean, images, labels) for cell in same_bits)


def images_of(
    setup: Setup, images: ImageSet, number: int, clean: Batch
) -> tuple[Float32[Tensor, "n c *space"], Int64[Tensor, "n *labelspace"]]:
    """The images of a chunk, read or made again, and their labels, on the CPU.

    `clean` is the chunk as it is in the data.

    Raises:
        RunError: The chunk is not finished or damaged.
    """
    if images.is_stored:
        return torch.from_numpy(ImageStore(setup.folder, *images.folder).read(number)), clean.labels
    if images.request is not None:
        made = made_again(setup, images, number, clean)
        return made.images, made.labels
    if images.matched is not None:
        return clean.images, moved_along(setup, images.matched, clean, clean.labels)
    return clean.images, clean.labels


def quantised(images: Float[Tensor, "n c *space"], bits: int) -> Float[Tensor, "n c *space"]:
    """Images in [0, 1] as they come back from a file with `bits` bits per channel, rounded half to even."""
    levels = float(2**bits - 1)
    return (images * levels).round() / levels


def _write_rows(setup: Setup, seen: Shown, parts: Sequence[tuple[Table, Parts]]) -> None:
    """Ask a target, and write the rows of each table to its part."""
    logits = outputs_of(setup, seen.cell.target, seen.images, seen.clean.cases)
    if not setup.study.task.has_maps:
        every = torch.cat([part.float().cpu() for _, part in logits])
        rows = [_answer_rows(setup.dataset, seen, every)]
    else:
        wanted = [table.name for table, _ in parts]
        rows = _scan_rows(
            setup, seen, logits, [each for each in _measures(setup) if each.table.name in wanted]
        )
    for (table, part), of_table in zip(parts, rows, strict=True):
        write_rows(setup.folder, frame_of(table, of_table), *part)


def _answer_rows(
    dataset: Dataset, seen: Shown, logits: Float[Tensor, "n answers *findings"]
) -> list[dict[str, Any]]:
    """A row for each image, or for each of its findings that are known."""
    labels, every = seen.labels.flatten(), logits.movedim(1, -1).flatten(0, -2)
    known = (labels != UNKNOWN).nonzero()[:, 0].tolist()
    of_image = len(labels) // len(seen.clean.cases)
    columns: Columns = {
        "finding": [dataset.classes[place % of_image] for place in known],
        "label": labels[known].tolist(),
        "prediction": every[known].argmax(1).tolist(),
        "probabilities": every[known].softmax(1).tolist(),
    }
    asked = {name: values for name, values in columns.items() if name in SCORED[dataset.task].schema}
    return rows_of([seen.clean.cases[place // of_image] for place in known], seen.cell.columns, asked)


Maps = Int64[Tensor, "n *space"]


@dataclass(frozen=True)
class Measure:
    """Numbers of a case that add up over the cases of a scan, a row for each structure or one for all.

    Attributes:
        table: Where the rows go.
        names: Columns of the numbers.
        rows: Columns that tell the rows of a scan apart.
        count: The numbers of each case and row, from true and predicted classes.
        facts: Further columns of a scan, by its id, in which nothing is added up.
    """

    table: Table
    names: tuple[str, ...]
    rows: Sequence[Mapping[str, str]]
    count: Callable[[Maps, Maps], Num[np.ndarray, "n r m"]]
    facts: Callable[[str], Mapping[str, Any]] = lambda _: {}

    def rows_of(self, scan_id: str, numbers: Num[np.ndarray, "r m"]) -> Iterator[dict[str, Any]]:
        """The rows of a scan, without the columns of its cell."""
        for row, values in zip(self.rows, numbers.tolist(), strict=True):
            named = {
                name: int(value) if self.table.schema[name] == pl.Int64 else value
                for name, value in zip(self.names, values, strict=True)
            }
            yield {**row, **named, **self.facts(scan_id)}


def _measures(setup: Setup) -> list[Measure]:
    """Overlap of structures, distances between their boundaries, and what is painted where there is nothing.

    Boundaries lie in the plane of a slice or, where cases are volumes, in space. Distances are in pixels
    where the pixel size is unknown.
    """
    dataset, tolerance = setup.dataset, setup.tolerance
    n_classes, members = len(dataset.classes), dataset.members
    structures = [{"structure": name} for name in dataset.structures]
    spacing = dataset.spacing or (1.0,) * len(dataset.shape)
    unit = "pixels" if dataset.spacing is None else "mm"
    return [
        Measure(
            OVERLAPS,
            ("n_true", "n_pred", "n_both"),
            structures,
            lambda labels, predictions: overlap_counts(labels, predictions, n_classes, members).cpu().numpy(),
        ),
        Measure(
            SURFACES,
            SUMS,
            structures,
            lambda labels, predictions: surface_sums(
                labels,
                predictions,
                n_classes,
                spacing=spacing,
                tolerance=float(tolerance or 0),
                members=members,
            ),
            lambda _: {"tolerance": tolerance, "unit": unit},
        ),
        Measure(
            EMPTY_CASES,
            ("n_cases", "n_empty", "n_painted", "n_pixels"),
            [{}],
            lambda labels, predictions: empty_counts(labels, predictions).cpu().numpy()[:, None],
            lambda scan_id: {"pixel_mm3": pixel_volume(dataset, scan_id)},
        ),
    ]


def pixel_volume(dataset: Dataset, scan_id: str) -> float | None:
    """Volume of a pixel of a scan in cubic millimetres, slices as thick as they lie apart; None if unknown.

    Known where the data say where their slices lie, and of volumes where they say the spacing.
    """
    if dataset.affine is not None:
        return abs(float(np.linalg.det(dataset.affine(scan_id)[:3, :3])))
    if dataset.spacing is not None and len(dataset.spacing) == 3:
        return math.prod(dataset.spacing)
    return None


def _scan_rows(
    setup: Setup, seen: Shown, logits: Iterable[tuple[slice, Tensor]], measures: Sequence[Measure]
) -> list[list[dict[str, Any]]]:
    """The rows of all scans, measure by measure."""
    sums: list[dict[tuple[str, str], Num[np.ndarray, "r m"]]] = [{} for _ in measures]
    for place, part in logits:
        labels = seen.labels[place].to(part.device)
        # On CPUs argmax over the channels of logit maps takes up to three times as long as max.
        predictions = part.max(1).indices
        image_set = seen.cell.image_set
        if image_set.request is None and image_set.matched is not None:
            maps = moved_along(setup, image_set.matched, seen.clean.part(place), predictions.cpu())
            predictions = maps.to(part.device).clamp_min(0)  # what has no label is not counted
        for measure, of_scans in zip(measures, sums, strict=True):
            of_cases = measure.count(labels, predictions)
            for case, numbers in zip(seen.clean.cases[place], of_cases, strict=True):
                scan = (case.scan_id, case.patient_id)
                of_scans[scan] = of_scans[scan] + numbers if scan in of_scans else numbers
    return [
        [
            {**seen.cell.columns, "scan_id": scan_id, "patient_id": patient_id, **row}
            for (scan_id, patient_id), numbers in of_scans.items()
            for row in measure.rows_of(scan_id, numbers)
        ]
        for measure, of_scans in zip(measures, sums, strict=True)
    ]


def row_folders(setup: Setup, cell: Cell, boundaries: bool = True) -> list[tuple[Table, Parts]]:
    """The tables that a cell has rows of, and their folders.

    Of rounded, white-box, corrupted and transformed images only the scores are shown. The folder of
    `surfaces` names the tolerance: it may change in a run folder.
    """
    scores = SCORED[setup.study.task]
    folders = [(scores, cell.rows_folder(scores))]
    shown = cell.bits is None and cell.image_set.role != "whitebox"
    if cell.image_set.role in ("corruption", "transform"):
        shown = primary_score(setup.study.analysis.score, setup.study.task).needs_surfaces
    if boundaries and setup.tolerance is not None and shown:
        within = (*target_folder(cell.target, SURFACES), f"within-{setup.tolerance}", cell.image_set.name)
        folders += [(SURFACES, within), (EMPTY_CASES, cell.rows_folder(EMPTY_CASES))]
    return folders


def evaluation_parts(
    setup: Setup,
    sets: Iterable[ImageSet],
    targets: Sequence[StudyNetwork],
    table: Table,
    *,
    rounded: bool = True,
) -> list[Parts]:
    """Paths of all rows of a table that evaluation leaves for these sets and targets."""
    return [
        (*folder, part_name(chunk))
        for cell in cells_of(sets, targets, setup.bits if rounded else None)
        for of, folder in row_folders(setup, cell)
        if of.name == table.name
        for chunk in range(len(cell.image_set.chunks))
    ]


def timing_parts(setup: Setup, sets: Sequence[ImageSet]) -> list[Parts]:
    """Paths of the times of crafting and evaluating, as far as they are known."""
    crafted = [(*images.folder, "timing") for images in sets]
    table = SCORED[setup.study.task]
    evaluated = [cell.timing_folder(table) for cell in cells_of(sets, setup.targets, setup.bits)]
    return [(*times, name) for times in (*crafted, *evaluated) for name in setup.folder.names(*times)]

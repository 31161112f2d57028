"""Evaluation: show every set of images to every target, and keep rows from which all scores are computed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medrobust.core import Dataset, NetworkId, Task, Tick, silent
from medrobust.steps.image_sets import ImageSet, Part
from medrobust.steps.parts import rows_of, timed
from medrobust.steps.predict import outputs_of, remember_weights
from medrobust.steps.scan_counts import overlap, scan_rows, surface_part, surfaces
from medrobust.steps.targets import Cell, Shown, Target, Visit, cells_of, parts_of
from medrobust.storage import RunFolder, frame_of, write_rows
from medrobust.storage.schemas import (
    OVERLAPS,
    PREDICTIONS,
    SURFACES,
    WHOLE_TEST_OVERLAPS,
    WHOLE_TEST_PREDICTIONS,
    Table,
)


def evaluate(
    sets: Iterable[ImageSet],
    targets: Sequence[Target],
    networks: Mapping[NetworkId, nn.Module],
    dataset: Dataset,
    folder: RunFolder,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    quantise: int | None = None,
    tolerance: float | None = None,
    tick: Tick = silent,
) -> None:
    """Show every set to every target that faces it. What is done is not done again: both lists may grow.

    Args:
        sets: Clean, crafted and noisy images, all finished.
        targets: The networks to judge.
        networks: Each target's network, on `device` and in eval mode.
        dataset: Where the cases come from.
        folder: The run folder.
        device: Where the networks are.
        batch_size: Images that a network sees at once.
        quantise: Show perturbed images also after rounding to this many bits per channel.
        tolerance: Measure boundaries of structures too, those this far apart as the same; None: do not.
        tick: Told the progress after each chunk of a set.

    Raises:
        ModelError: A network's outputs are not finite.
        RunError: Images are not finished or damaged, the disk is full, or finished rows were made with other
            weights.
    """
    table = row_table(dataset.task)
    for target in targets:
        for each in (table, *([] if tolerance is None else [SURFACES])):
            network = networks[target.network_id]
            remember_weights(folder, network, target.network_id.folder, *target.folder(each))

    def missing(cell: Cell, chunk: int) -> list[tuple[Table, Part]]:
        parts = _parts(cell, chunk, table, tolerance)
        return [(each, part) for each, part in parts if not folder.exists(*part)]

    visit = Visit(cells_of(sets, targets, quantise), missing, dataset, folder)
    total = len(visit)
    for number, shown in enumerate(visit, 1):
        cell, cases, parts = shown.cell, shown.clean.cases, missing(shown.cell, shown.chunk)
        timing = cell.timing_part(parts[0][0], shown.chunk)
        with timed(folder, timing, "evaluate", cell.columns, shown.chunk, len(cases)):
            logits = outputs_of(
                networks[cell.target.network_id],
                shown.images,
                name=cell.target.network_id.folder,
                cases=cases,
                device=device,
                batch_size=batch_size,
            )
            _write_rows(shown, parts, logits, dataset, folder, tolerance)
        tick(number / total, "")
    tick(1.0, "")


def row_table(task: Task) -> Table:
    """The table that the rows of a task go to."""
    return PREDICTIONS if task is Task.CLASSIFICATION else OVERLAPS


def whole_test_table(task: Task) -> Table:
    """The table for rows of clean images of all test cases, where a study attacks only some of them."""
    return WHOLE_TEST_PREDICTIONS if task is Task.CLASSIFICATION else WHOLE_TEST_OVERLAPS


def evaluation_parts(
    sets: Iterable[ImageSet], targets: Sequence[Target], task: Task, quantise: int | None
) -> list[Part]:
    """Paths of all rows that `evaluate` leaves for these sets and targets."""
    return parts_of(cells_of(sets, targets, quantise), row_table(task))


def timing_parts(
    sets: Sequence[ImageSet], targets: Sequence[Target], task: Task, quantise: int | None, folder: RunFolder
) -> list[Part]:
    """Paths of the times of crafting and evaluating, as far as they are known."""
    crafted = [image_set.timing_part(chunk) for image_set in sets for chunk in range(len(image_set.chunks))]
    evaluated = [
        cell.timing_part(row_table(task), chunk)
        for cell in cells_of(sets, targets, quantise)
        for chunk in range(len(cell.image_set.chunks))
    ]
    return [part for part in (*crafted, *evaluated) if folder.exists(*part)]


def _parts(cell: Cell, chunk: int, table: Table, tolerance: float | None) -> list[tuple[Table, Part]]:
    """What a chunk of a cell leaves: rows of the task's table and, where they are wanted, of `surfaces`."""
    surface = None if tolerance is None else surface_part(cell, chunk, tolerance)
    return [(table, cell.part(table, chunk)), *([] if surface is None else [(SURFACES, surface)])]


def _write_rows(
    shown: Shown,
    parts: Sequence[tuple[Table, Part]],
    logits: Iterable[tuple[slice, Tensor]],
    dataset: Dataset,
    folder: RunFolder,
    tolerance: float | None,
) -> None:
    """Write the rows of each table to its part."""
    if dataset.task is Task.CLASSIFICATION:
        rows = [_predictions(shown, logits)]
    else:
        known = [overlap(dataset), *([] if tolerance is None else [surfaces(dataset, tolerance)])]
        wanted = [table.name for table, _ in parts]
        measures = [measure for measure in known if measure.table.name in wanted]
        rows = scan_rows(shown, logits, dataset.classes, measures)
    for (table, part), of_table in zip(parts, rows, strict=True):
        write_rows(folder, frame_of(table, of_table), *part)


def _predictions(shown: Shown, logits: Iterable[tuple[slice, Tensor]]) -> list[dict[str, Any]]:
    """A row per case."""
    every = torch.cat([part.float().cpu() for _, part in logits])
    columns = {
        "label": shown.clean.labels.tolist(),
        "prediction": every.argmax(1).tolist(),
        "probabilities": every.softmax(1).tolist(),
    }
    return rows_of(shown.clean.cases, shown.cell.columns, columns)

"""Evaluation: show every set of images to every target, and keep rows from which all scores are computed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from medrobust.core import Dataset, NetworkId, Task, Tick, silent
from medrobust.metrics.counts import overlap_counts
from medrobust.steps.image_sets import ImageSet, Part
from medrobust.steps.parts import rows_of, timed
from medrobust.steps.predict import outputs_of, remember_weights
from medrobust.steps.targets import Shown, Target, Visit, cells_of, parts_of
from medrobust.storage import RunFolder, frame_of, write_rows
from medrobust.storage.schemas import (
    OVERLAPS,
    PREDICTIONS,
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
        tick: Told the progress after each chunk of a set.

    Raises:
        ModelError: A network's outputs are not finite.
        RunError: Images are not finished or damaged, the disk is full, or finished rows were made with other
            weights.
    """
    table = row_table(dataset.task)
    for target in targets:
        remember_weights(folder, networks[target.network_id], target.network_id.folder, *target.folder(table))
    visit = Visit(cells_of(sets, targets, quantise), table, dataset, folder)
    total = len(visit)
    for number, shown in enumerate(visit, 1):
        cell, n_cases = shown.cell, len(shown.clean.cases)
        with timed(
            folder, cell.timing_part(table, shown.chunk), "evaluate", cell.columns, shown.chunk, n_cases
        ):
            rows = _rows(shown, networks[cell.target.network_id], dataset, device, batch_size)
            write_rows(folder, frame_of(table, rows), *cell.part(table, shown.chunk))
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


def _rows(
    shown: Shown, network: nn.Module, dataset: Dataset, device: torch.device | str, batch_size: int
) -> list[dict[str, Any]]:
    logits = outputs_of(
        network,
        shown.images,
        name=shown.cell.target.network_id.folder,
        cases=shown.clean.cases,
        device=device,
        batch_size=batch_size,
    )
    if dataset.task is Task.CLASSIFICATION:
        return _predictions(shown, logits)
    return _overlaps(shown, logits, dataset.classes)


def _predictions(shown: Shown, logits: Iterable[tuple[slice, Tensor]]) -> list[dict[str, Any]]:
    """A row per case."""
    every = torch.cat([part.float().cpu() for _, part in logits])
    columns = {
        "label": shown.clean.labels.tolist(),
        "prediction": every.argmax(1).tolist(),
        "probabilities": every.softmax(1).tolist(),
    }
    return rows_of(shown.clean.cases, shown.cell.columns, columns)


def _overlaps(
    shown: Shown, logits: Iterable[tuple[slice, Tensor]], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """A row per scan and class: counts are added up over the cases of a scan."""
    counts: dict[tuple[str, str], Int64[Tensor, "k 3"]] = {}
    for place, part in logits:
        labels = shown.clean.labels[place].to(part.device)
        # On CPUs argmax over the channels of logit maps takes up to three times as long as max.
        of_cases = overlap_counts(labels, part.max(1).indices, len(classes)).cpu()
        for case, count in zip(shown.clean.cases[place], of_cases, strict=True):
            scan = (case.scan_id, case.patient_id)
            counts[scan] = counts[scan] + count if scan in counts else count
    return [
        shown.cell.columns
        | {"scan_id": scan_id, "patient_id": patient_id, "structure": structure}
        | {"n_true": n_true, "n_pred": n_pred, "n_both": n_both}
        for (scan_id, patient_id), count in counts.items()
        for structure, (n_true, n_pred, n_both) in zip(classes, count.tolist(), strict=True)
    ]

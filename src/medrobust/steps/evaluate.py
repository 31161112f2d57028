"""Evaluation: show every set of images to every target, and keep rows from which all scores are computed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from medrobust.core import Dataset, NetworkId, Task, Tick, silent
from medrobust.metrics.counts import overlap_counts
from medrobust.steps.image_sets import ImageSet, Part
from medrobust.steps.memory import Limit
from medrobust.steps.parts import rows_of, timed
from medrobust.steps.predict import outputs_of, remember_weights
from medrobust.steps.targets import Shown, Target, cells_of, parts_of, shown
from medrobust.storage import RunFolder, frame_of, write_rows
from medrobust.storage.schemas import (
    OVERLAPS,
    PREDICTIONS,
    WHOLE_TEST_OVERLAPS,
    WHOLE_TEST_PREDICTIONS,
    Table,
)


@dataclass(frozen=True)
class Judges:
    """The networks that images are shown to, and how.

    Attributes:
        targets: The networks to judge.
        networks: Each target's network, on `device` and in eval mode.
        dataset: Where the cases come from.
        folder: The run folder.
        device: Where the networks are.
        limit: Images that a network sees at once.
        quantise: Show perturbed images also after rounding to this many bits per channel.
    """

    targets: Sequence[Target]
    networks: Mapping[NetworkId, nn.Module]
    dataset: Dataset
    folder: RunFolder
    device: torch.device | str = "cpu"
    limit: Limit = field(default_factory=Limit)
    quantise: int | None = None

    def remember_weights(self) -> None:
        """Record whose weights the rows are of, or compare with what is recorded.

        Raises:
            RunError: Finished rows were made with other weights.
        """
        table = row_table(self.dataset.task)
        for target in self.targets:
            network = self.networks[target.network_id]
            remember_weights(self.folder, network, target.network_id.folder, *target.folder(table))


@dataclass(frozen=True)
class Evaluation:
    """Show the images of a set to every target that faces it; a piece is a chunk.

    What is done is not done again: targets may be added.
    """

    image_set: ImageSet
    judges: Judges

    def do(self, piece: int, tick: Tick = silent) -> None:
        """Keep the rows of a chunk.

        Raises:
            ModelError: A network's outputs are not finite.
            RunError: Images are not finished or damaged, or the disk is full.
        """
        judges, table = self.judges, row_table(self.judges.dataset.task)
        cells = list(cells_of([self.image_set], judges.targets, judges.quantise))
        for number, seen in enumerate(shown(cells, piece, table, judges.dataset, judges.folder), 1):
            cell, n_cases = seen.cell, len(seen.clean.cases)
            with timed(
                judges.folder, cell.timing_part(table, piece), "evaluate", cell.columns, piece, n_cases
            ):
                write_rows(judges.folder, frame_of(table, _rows(seen, judges)), *cell.part(table, piece))
            tick(number / len(cells), "")


def row_table(task: Task) -> Table:
    """The table that the rows of a task go to."""
    return PREDICTIONS if task is Task.CLASSIFICATION else OVERLAPS


def whole_test_table(task: Task) -> Table:
    """The table for rows of clean images of all test cases, where a study attacks only some of them."""
    return WHOLE_TEST_PREDICTIONS if task is Task.CLASSIFICATION else WHOLE_TEST_OVERLAPS


def evaluation_parts(
    sets: Iterable[ImageSet], targets: Sequence[Target], task: Task, quantise: int | None
) -> list[Part]:
    """Paths of all rows that evaluation leaves for these sets and targets."""
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


def _rows(seen: Shown, judges: Judges) -> list[dict[str, Any]]:
    target = seen.cell.target.network_id
    logits = outputs_of(
        judges.networks[target],
        seen.images,
        name=target.folder,
        cases=seen.clean.cases,
        device=judges.device,
        limit=judges.limit,
    )
    if judges.dataset.task is Task.CLASSIFICATION:
        return _predictions(seen, logits)
    return _overlaps(seen, logits, judges.dataset.classes)


def _predictions(seen: Shown, logits: Iterable[tuple[slice, Tensor]]) -> list[dict[str, Any]]:
    """A row per case."""
    every = torch.cat([part.float().cpu() for _, part in logits])
    columns = {
        "label": seen.clean.labels.tolist(),
        "prediction": every.argmax(1).tolist(),
        "probabilities": every.softmax(1).tolist(),
    }
    return rows_of(seen.clean.cases, seen.cell.columns, columns)


def _overlaps(
    seen: Shown, logits: Iterable[tuple[slice, Tensor]], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """A row per scan and class: counts are added up over the cases of a scan."""
    counts: dict[tuple[str, str], Int64[Tensor, "k 3"]] = {}
    for place, part in logits:
        labels = seen.clean.labels[place].to(part.device)
        # On CPUs argmax over the channels of logit maps takes up to three times as long as max.
        of_cases = overlap_counts(labels, part.max(1).indices, len(classes)).cpu()
        for case, count in zip(seen.clean.cases[place], of_cases, strict=True):
            scan = (case.scan_id, case.patient_id)
            counts[scan] = counts[scan] + count if scan in counts else count
    return [
        seen.cell.columns
        | {"scan_id": scan_id, "patient_id": patient_id, "structure": structure}
        | {"n_true": n_true, "n_pred": n_pred, "n_both": n_both}
        for (scan_id, patient_id), count in counts.items()
        for structure, (n_true, n_pred, n_both) in zip(classes, count.tolist(), strict=True)
    ]

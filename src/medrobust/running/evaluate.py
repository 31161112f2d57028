"""Evaluation: show every set of images to every target, and keep rows from which all scores are computed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medrobust.core import Dataset, NetworkId, OnProgress, Task, silent
from medrobust.running.image_sets import ImageSet, Part
from medrobust.running.memory import Limit
from medrobust.running.parts import rows_of, timed
from medrobust.running.predict import outputs_of, remember_weights
from medrobust.running.scan_counts import measures, row_folders, scan_rows
from medrobust.running.targets import Cell, Shown, Target, cells_of, part_name, parts_of, shown
from medrobust.storage import RunFolder, frame_of, write_rows
from medrobust.storage.schemas import (
    EMPTY_CASES,
    OVERLAPS,
    PREDICTIONS,
    SURFACES,
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
        further = [SURFACES, EMPTY_CASES] if self.dataset.task is Task.SEGMENTATION else []
        for target in self.targets:
            for table in (row_table(self.dataset.task), *further):
                network = self.networks[target.network_id]
                remember_weights(self.folder, network, target.network_id.folder, *target.folder(table))


@dataclass(frozen=True)
class Evaluation:
    """Show the images of a set to every target that faces it; a piece is a chunk.

    What is done is not done again: targets may be added.

    Attributes:
        image_set: The images.
        judges: The networks.
        tolerance: Measure boundaries of structures too, those this far apart as the same, and what is painted
            into cases without any label; None: do not.
    """

    image_set: ImageSet
    judges: Judges
    tolerance: float | None = None

    def do(self, piece: int, progress: OnProgress = silent) -> None:
        """Keep the rows of a chunk.

        Raises:
            ModelError: A network's outputs are not finite.
            RunError: Images are not finished or damaged, or the disk is full.
        """
        judges = self.judges
        missing = [
            (cell, parts)
            for cell in cells_of([self.image_set], judges.targets, judges.quantise)
            if (parts := self._missing(cell, piece))
        ]
        every = shown([cell for cell, _ in missing], piece, judges.dataset, judges.folder)
        for number, (seen, (cell, parts)) in enumerate(zip(every, missing, strict=True), 1):
            n_cases = len(seen.clean.cases)
            timing = cell.timing_part(parts[0][0], piece)
            with timed(judges.folder, timing, "evaluate", cell.columns, piece, n_cases):
                self._write_rows(seen, parts)
            progress(number / len(missing), "")

    def _missing(self, cell: Cell, piece: int) -> list[tuple[Table, Part]]:
        """The rows of a cell that are not there yet."""
        folders = row_folders(cell, self.judges.dataset.task, self.tolerance)
        parts = [(table, (*folder, part_name(piece))) for table, folder in folders]
        return [(table, part) for table, part in parts if not self.judges.folder.exists(*part)]

    def _write_rows(self, seen: Shown, parts: Sequence[tuple[Table, Part]]) -> None:
        """Ask a target, and write the rows of each table to its part."""
        judges, target = self.judges, seen.cell.target.network_id
        logits = outputs_of(
            judges.networks[target],
            seen.images,
            name=target.folder,
            cases=seen.clean.cases,
            device=judges.device,
            limit=judges.limit,
        )
        if judges.dataset.task is Task.CLASSIFICATION:
            rows = [_predictions(seen, logits)]
        else:
            wanted = [table.name for table, _ in parts]
            known = measures(judges.dataset, self.tolerance)
            rows = scan_rows(seen, logits, [each for each in known if each.table.name in wanted])
        for (table, part), of_table in zip(parts, rows, strict=True):
            write_rows(judges.folder, frame_of(table, of_table), *part)


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
    crafted = [image_set.timing_part(0)[:-1] for image_set in sets]
    evaluated = [cell.timing_part(row_table(task), 0)[:-1] for cell in cells_of(sets, targets, quantise)]
    return [(*times, name) for times in (*crafted, *evaluated) for name in folder.names(*times)]


def _predictions(seen: Shown, logits: Iterable[tuple[slice, Tensor]]) -> list[dict[str, Any]]:
    """A row per case."""
    every = torch.cat([part.float().cpu() for _, part in logits])
    columns = {
        "label": seen.clean.labels.tolist(),
        "prediction": every.argmax(1).tolist(),
        "probabilities": every.softmax(1).tolist(),
    }
    return rows_of(seen.clean.cases, seen.cell.columns, columns)

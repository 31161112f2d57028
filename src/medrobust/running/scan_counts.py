"""What is counted of every scan in segmentation: overlap, distances of boundaries, and false positives."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64, Num
from torch import Tensor

from medrobust.core import Dataset, Task
from medrobust.metrics.overlap import empty_counts, overlap_counts
from medrobust.metrics.surfaces import SUMS, surface_sums
from medrobust.running.image_sets import ImageSet, Part
from medrobust.running.targets import Cell, Shown, Target, cells_of, part_name
from medrobust.storage.schemas import EMPTY_CASES, OVERLAPS, PREDICTIONS, SURFACES, Table

Maps = Int64[Tensor, "n *space"]


@dataclass(frozen=True)
class Measure:
    """Numbers of a case that add up over the cases of a scan, a row for each structure or one for all.

    Attributes:
        table: Where their rows go.
        names: Their columns.
        rows: What tells the rows of a scan apart.
        count: Gives the numbers of each case and row from true and predicted classes.
        facts: Of a scan, by its id: columns that nothing is added up in.
    """

    table: Table
    names: tuple[str, ...]
    rows: Sequence[Mapping[str, str]]
    count: Callable[[Maps, Maps], Num[np.ndarray, "n r m"]]
    facts: Callable[[str], Mapping[str, Any]] = lambda _: {}

    def rows_of(self, scan_id: str, numbers: Num[np.ndarray, "r m"]) -> Iterator[dict[str, Any]]:
        """The rows of a scan, without the columns of its cell."""
        whole = [self.table.schema[name] == pl.Int64 for name in self.names]
        for row, values in zip(self.rows, numbers.tolist(), strict=True):
            counted = zip(self.names, values, whole, strict=True)
            named = {name: int(value) if is_whole else value for name, value, is_whole in counted}
            yield {**row, **named, **self.facts(scan_id)}


def measures(dataset: Dataset, tolerance: float | None) -> list[Measure]:
    """All that is counted; without a tolerance of boundaries overlap only."""
    further = [] if tolerance is None else [surfaces(dataset, tolerance), empty_cases(dataset)]
    return [overlap(dataset), *further]


def overlap(dataset: Dataset) -> Measure:
    """Pixels of every class in the truth, in the prediction, and in both."""
    return Measure(
        OVERLAPS,
        ("n_true", "n_pred", "n_both"),
        _structures(dataset),
        lambda labels, predictions: overlap_counts(labels, predictions, len(dataset.classes)).cpu().numpy(),
    )


def surfaces(dataset: Dataset, tolerance: float) -> Measure:
    """Distances of boundaries, in the plane of a slice or, where cases are volumes, in space.

    Args:
        dataset: Where the cases come from; in pixels where it does not know their size.
        tolerance: Up to which distance boundaries count as the same.
    """
    spacing = dataset.spacing or (1.0,) * len(dataset.shape)
    unit = "pixels" if dataset.spacing is None else "mm"
    return Measure(
        SURFACES,
        SUMS,
        _structures(dataset),
        lambda labels, predictions: surface_sums(
            labels, predictions, len(dataset.classes), spacing=spacing, tolerance=tolerance
        ),
        lambda _: {"tolerance": tolerance, "unit": unit},
    )


def empty_cases(dataset: Dataset) -> Measure:
    """Cases without any label, and what is painted into them; and how large a pixel is, for all volumes."""
    return Measure(
        EMPTY_CASES,
        ("n_cases", "n_empty", "n_painted", "n_pixels"),
        [{}],
        lambda labels, predictions: empty_counts(labels, predictions).cpu().numpy()[:, None],
        lambda scan_id: {"pixel_mm3": pixel_volume(dataset, scan_id)},
    )


def pixel_volume(dataset: Dataset, scan_id: str) -> float | None:
    """Volume of a pixel of a scan in cubic millimetres, slices as thick as they lie apart; None if unknown.

    Known where the data say where their slices lie, and of volumes where they say the spacing.
    """
    if dataset.affine is not None:
        return abs(float(np.linalg.det(dataset.affine(scan_id)[:3, :3])))
    if dataset.spacing is not None and len(dataset.spacing) == 3:
        return math.prod(dataset.spacing)
    return None


def _structures(dataset: Dataset) -> list[dict[str, str]]:
    return [{"structure": name} for name in dataset.classes]


def surface_tolerance(dataset: Dataset, asked: float | None) -> float:
    """The tolerance that a study asks for; else the longest side of a pixel: no grid shows less."""
    return float(asked or max(dataset.spacing or (1.0,)))


def row_folders(cell: Cell, task: Task, tolerance: float | None) -> list[tuple[Table, Part]]:
    """The tables that a cell has rows of, and their folders.

    Of rounded and white-box images only the scores are shown. The folder of `surfaces` names the tolerance:
    it may change in a run folder.
    """
    scores = PREDICTIONS if task is Task.CLASSIFICATION else OVERLAPS
    folders = [(scores, cell.rows_folder(scores))]
    if tolerance is not None and cell.bits is None and cell.image_set.role != "whitebox":
        within = (*cell.target.folder(SURFACES), f"within-{tolerance}", cell.image_set.name)
        folders += [(SURFACES, within), (EMPTY_CASES, cell.rows_folder(EMPTY_CASES))]
    return folders


def scan_parts(
    table: Table, sets: Iterable[ImageSet], targets: Sequence[Target], tolerance: float
) -> list[Part]:
    """Paths of all rows of a table that evaluation leaves for these sets and targets of a segmentation."""
    return [
        (*folder, part_name(chunk))
        for cell in cells_of(sets, targets, None)
        for of, folder in row_folders(cell, Task.SEGMENTATION, tolerance)
        if of.name == table.name
        for chunk in range(len(cell.image_set.chunks))
    ]


def scan_rows(
    shown: Shown, logits: Iterable[tuple[slice, Tensor]], measures: Sequence[Measure]
) -> list[list[dict[str, Any]]]:
    """Of each measure the rows of all scans.

    Args:
        shown: The images, and what they are of.
        logits: What the network says, each part with its place among the images.
        measures: What is counted.
    """
    sums: list[dict[tuple[str, str], Num[np.ndarray, "r m"]]] = [{} for _ in measures]
    for place, part in logits:
        labels = shown.clean.labels[place].to(part.device)
        # On CPUs argmax over the channels of logit maps takes up to three times as long as max.
        predictions = part.max(1).indices
        for measure, of_scans in zip(measures, sums, strict=True):
            of_cases = measure.count(labels, predictions)
            for case, numbers in zip(shown.clean.cases[place], of_cases, strict=True):
                scan = (case.scan_id, case.patient_id)
                of_scans[scan] = of_scans[scan] + numbers if scan in of_scans else numbers
    return [
        [
            {**shown.cell.columns, "scan_id": scan_id, "patient_id": patient_id, **row}
            for (scan_id, patient_id), numbers in of_scans.items()
            for row in measure.rows_of(scan_id, numbers)
        ]
        for measure, of_scans in zip(measures, sums, strict=True)
    ]

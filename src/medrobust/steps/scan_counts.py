"""What is counted of every scan and structure in segmentation: overlap, and distances of boundaries."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64, Num
from torch import Tensor

from medrobust.core import Dataset
from medrobust.metrics.counts import overlap_counts
from medrobust.metrics.surfaces import SUMS, surface_sums
from medrobust.steps.image_sets import ImageSet, Part
from medrobust.steps.targets import Cell, Shown, Target, cells_of, part_name
from medrobust.storage.schemas import OVERLAPS, SURFACES, Table

Maps = Int64[Tensor, "n *space"]


@dataclass(frozen=True)
class Measure:
    """Numbers of a case and structure that add up over the cases of a scan.

    Attributes:
        table: Where their rows go.
        names: Their columns.
        count: Gives them from true and predicted classes, of shape `n k numbers`.
        fixed: Columns that have the same value in all rows.
    """

    table: Table
    names: tuple[str, ...]
    count: Callable[[Maps, Maps], Num[np.ndarray, "n k m"]]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def row(self, numbers: Num[np.ndarray, "m"]) -> dict[str, Any]:
        """The columns of a scan and structure."""
        whole = (self.table.schema[name] == pl.Int64 for name in self.names)
        values = zip(self.names, numbers.tolist(), whole, strict=True)
        return {**{name: int(value) if is_whole else value for name, value, is_whole in values}, **self.fixed}


def overlap(dataset: Dataset) -> Measure:
    """Pixels of every class in the truth, in the prediction, and in both."""
    return Measure(
        OVERLAPS,
        ("n_true", "n_pred", "n_both"),
        lambda labels, predictions: overlap_counts(labels, predictions, len(dataset.classes)).cpu().numpy(),
    )


def surfaces(dataset: Dataset, tolerance: float) -> Measure:
    """Distances of boundaries, in the plane of a slice or, where cases are volumes, in space.

    Args:
        dataset: Where the cases come from; in pixels where it does not know their size.
        tolerance: Up to which distance boundaries count as the same.
    """
    spacing = dataset.spacing or (1.0,) * len(dataset.shape)
    return Measure(
        SURFACES,
        SUMS,
        lambda labels, predictions: surface_sums(
            labels, predictions, len(dataset.classes), spacing=spacing, tolerance=tolerance
        ),
        {"tolerance": tolerance, "unit": "pixels" if dataset.spacing is None else "mm"},
    )


def surface_tolerance(dataset: Dataset, asked: float | None) -> float:
    """The tolerance that a study asks for; else the longest side of a pixel: no grid shows less."""
    return float(asked or max(dataset.spacing or (1.0,)))


def surface_folder(cell: Cell, tolerance: float) -> Part | None:
    """Folder of the `surfaces` rows of a cell, which names the tolerance: it may change in a run folder.

    None for rounded and white-box images, whose boundaries no table shows.
    """
    if cell.bits is not None or cell.image_set.role == "whitebox":
        return None
    return (*cell.target.folder(SURFACES), f"within-{tolerance}", cell.image_set.name)


def surface_parts(sets: Iterable[ImageSet], targets: Sequence[Target], tolerance: float) -> list[Part]:
    """Paths of all `surfaces` rows that evaluation leaves for these sets and targets."""
    return [
        (*folder, part_name(chunk))
        for cell in cells_of(sets, targets, None)
        if (folder := surface_folder(cell, tolerance)) is not None
        for chunk in range(len(cell.image_set.chunks))
    ]


def scan_rows(
    shown: Shown,
    logits: Iterable[tuple[slice, Tensor]],
    classes: Sequence[str],
    measures: Sequence[Measure],
) -> list[list[dict[str, Any]]]:
    """Of each measure a row per scan and class.

    Args:
        shown: The images, and what they are of.
        logits: What the network says, each part with its place among the images.
        classes: Their names.
        measures: What is counted.
    """
    sums: list[dict[tuple[str, str], Num[np.ndarray, "k m"]]] = [{} for _ in measures]
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
            {**shown.cell.columns, "scan_id": scan_id, "patient_id": patient_id, "structure": structure}
            | measure.row(numbers)
            for (scan_id, patient_id), of_classes in of_scans.items()
            for structure, numbers in zip(classes, of_classes, strict=True)
        ]
        for measure, of_scans in zip(measures, sums, strict=True)
    ]

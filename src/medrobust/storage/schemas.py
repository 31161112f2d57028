"""The columns of every table of rows in a run folder, in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from medrobust.core import Task

Schema = dict[str, Any]
"""Types of polars by name; their own class is not one that beartype can check."""


@dataclass(frozen=True)
class Table:
    """One `results/<name>.parquet`.

    Attributes:
        name: Name of the file, without its ending.
        schema: Columns and their types, in order.
        keys: Columns that name a row. Rows are sorted by them, so that the file does not depend on the order
            of the work.
        is_measured: True for times, which are never the same twice.
    """

    name: str
    schema: Schema
    keys: tuple[str, ...]
    is_measured: bool = False

    @property
    def items(self) -> tuple[str, ...]:
        """Columns that tell the rows of a cell apart."""
        return tuple(key for key in self.keys if key not in _CELL)


_ORIGIN: Schema = {"perturbation": pl.String, "source": pl.String, "source_seed": pl.Int64, "fold": pl.Int64}
_CELL: Schema = {
    "perturbation": pl.String,
    "role": pl.String,
    "source": pl.String,
    "target": pl.String,
    "source_seed": pl.Int64,
    "target_seed": pl.Int64,
    "fold": pl.Int64,
}
_SCAN: Schema = {"scan_id": pl.String, "patient_id": pl.String}
_CASE: Schema = {"case_id": pl.String, **_SCAN}

CRAFTED = Table(
    "crafted",
    {
        **_ORIGIN,
        **_CASE,
        **dict.fromkeys(("mse", "l0", "l2", "linf", "ssim", "ssim_image", "strength"), pl.Float64),
        "steps": pl.Int64,
        "outcome": pl.String,
        "role": pl.String,
        "already_wrong": pl.Float64,
        "fooled_source": pl.Float64,
        "n_active": pl.Int64,
    },
    keys=(*_ORIGIN, "role", "case_id"),
)
PREDICTIONS = Table(
    "predictions",
    {**_CELL, **_CASE, "label": pl.Int64, "prediction": pl.Int64, "probabilities": pl.List(pl.Float32)},
    keys=(*_CELL, "case_id"),
)
FINDINGS = Table(
    "predictions",
    {**_CELL, **_CASE, "finding": pl.String, **dict(list(PREDICTIONS.schema.items())[-3:])},
    keys=(*PREDICTIONS.keys, "finding"),
)
"""Predictions of several findings: a row for each finding of an image; answers are absent and present."""
OVERLAPS = Table(
    "overlaps",
    {
        **_CELL,
        **_SCAN,
        "structure": pl.String,
        **dict.fromkeys(("n_true", "n_pred", "n_both"), pl.Int64),
    },
    keys=(*_CELL, "scan_id", "structure"),
)
SURFACES = Table(
    "surfaces",
    {
        **_CELL,
        **_SCAN,
        "structure": pl.String,
        "n_boundary": pl.Int64,
        "n_within": pl.Int64,
        "hd95_sum": pl.Float64,
        "n_both": pl.Int64,
        "n_missed": pl.Int64,
        "n_added": pl.Int64,
        "tolerance": pl.Float64,
        "unit": pl.String,
    },
    keys=(*_CELL, "scan_id", "structure"),
)
EMPTY_CASES = Table(
    "empty_cases",
    {
        **_CELL,
        **_SCAN,
        **dict.fromkeys(("n_cases", "n_empty", "n_painted", "n_pixels"), pl.Int64),
        "pixel_mm3": pl.Float64,
    },
    keys=(*_CELL, "scan_id"),
)
SCORED: Mapping[Task, Table] = {
    Task.CLASSIFICATION: PREDICTIONS,
    Task.MULTILABEL: FINDINGS,
    Task.SEGMENTATION: OVERLAPS,
}
"""The rows that the scores of a task are computed from."""
WHOLE_TEST: Mapping[Task, Table] = {
    task: Table(f"whole_test_{table.name}", table.schema, table.keys) for task, table in SCORED.items()
}
"""The same for clean images of all test cases, where a study attacks only some of them."""
VALIDATION: Mapping[Task, Table] = {
    task: Table(f"validation_{table.name}", table.schema, table.keys) for task, table in SCORED.items()
}
"""The same for transferred attacks on validation cases, by which the strongest on each target is chosen."""
_CERTIFIED: Schema = {
    "target": pl.String,
    "target_seed": pl.Int64,
    "fold": pl.Int64,
    "condition": pl.String,
    "radius": pl.Float64,
}
CERTIFICATES: Mapping[Task, Table] = {
    Task.CLASSIFICATION: Table(
        "certificates",
        {
            **_CERTIFIED,
            **_CASE,
            **dict.fromkeys(("label", "prediction"), pl.Int64),
            "largest_radius": pl.Float64,
            "contradicted": pl.Boolean,
        },
        keys=(*_CERTIFIED, "case_id"),
    ),
    Task.SEGMENTATION: Table(
        "certificates",
        {
            **_CERTIFIED,
            **_SCAN,
            "structure": pl.String,
            **dict.fromkeys(("n_true", "n_pred", "n_both", "n_answered"), pl.Int64),
            **dict.fromkeys(("n_pixels", "n_abstained", "n_cases", "n_contradicted"), pl.Int64),
        },
        keys=(*_CERTIFIED, "scan_id", "structure"),
    ),
}
"""What is certain of smoothed networks. A prediction of -1: nothing is. Conditions: the `network` itself and
the `smoothed` one on clean images, what is `certified` at a radius, and the smoothed one `attacked` at it.
Pixels without an answer count in `n_pred` wherever that is wrong."""
ATTRIBUTES = Table(
    "attributes",
    {**_SCAN, "attribute": pl.String, "value": pl.String},
    keys=("scan_id", "attribute"),
)
EMBEDDINGS = Table(
    "embeddings",
    {
        "target": pl.String,
        "target_seed": pl.Int64,
        **_ORIGIN,
        "case_id": pl.String,
        "patient_id": pl.String,
        "label": pl.Int64,
        "embedding": pl.List(pl.Float32),
    },
    keys=("target", "target_seed", *_ORIGIN, "case_id"),
)
SELFTEST = Table(
    "selftest",
    {
        **_ORIGIN,
        "check": pl.String,
        "passed": pl.Boolean,
        "value": pl.Float64,
        "seen": pl.String,
        "cases": pl.String,
        "n_images": pl.Int64,
    },
    keys=(*_ORIGIN, "check"),
)
TIMING = Table(
    "timing",
    {
        "step": pl.String,
        **_ORIGIN,
        "role": pl.String,
        "target": pl.String,
        "target_seed": pl.Int64,
        "chunk": pl.Int64,
        "n_cases": pl.Int64,
        "seconds": pl.Float64,
    },
    keys=("step", *_ORIGIN, "role", "target", "target_seed", "chunk"),
    is_measured=True,
)

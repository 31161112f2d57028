"""What a report shows: plain data, so that rendering it is a pure function."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from medrobust.core import Task, Unit
from medrobust.errors import Remark


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in the report.

    Attributes:
        content: The file.
        media: Its media type, "image/png" or "image/svg+xml".
        alt: What it shows, for those who cannot see it.
        caption: What stands below it.
    """

    content: bytes
    media: str
    alt: str
    caption: str

    @property
    def uri(self) -> str:
        """The file as a data URI."""
        return f"data:{self.media};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class ReportContext:
    """Everything that stands in a report.

    Attributes:
        title: Headline.
        task: What the networks do.
        unit: What splits and intervals are made over.
        phantom: True for generated data.
        confidence: Of all intervals, in (0, 1).
        outcome: The verdict in a word, e.g. "ranked" or "not distinguishable".
        verdict: The sentences of the verdict, the most important one first.
        remarks: Warnings, each with the section that it belongs to.
        data: What must be stated about the data, e.g. name, spacing, intensity normalisation.
        split: A row per part of the split: `part`, `n_patients` and what else is known.
        networks: A row per network.
        attacks: A row per attack: its label and every parameter.
        tables: Frames by the name of their file; `table1` and `table2` must be there.
        pictures: Figures by name: dotplot, heatmap, examples, tsne.
        study: The study as resolved.
        record: Versions, seeds and hashes.
        threats: A row per attack and place where it was crafted, from `threats.threat_table`.
        explorer: What the explorer shows, from `explorer.read_explorer`; None: nothing.
        subgroups: What the scores of groups of patients show, a sentence per attribute.
        beyond_paper: Labels of the attacks that the paper did not have, and of points of curves.
    """

    title: str
    task: Task
    unit: Unit
    phantom: bool
    confidence: float
    outcome: str
    verdict: tuple[str, ...]
    remarks: tuple[Remark, ...]
    data: Mapping[str, str]
    split: pl.DataFrame
    networks: pl.DataFrame
    attacks: pl.DataFrame
    tables: Mapping[str, pl.DataFrame]
    pictures: Mapping[str, Picture]
    study: Mapping[str, Any]
    record: Mapping[str, Any]
    threats: pl.DataFrame
    explorer: Mapping[str, Any] | None = None
    subgroups: tuple[str, ...] = ()
    beyond_paper: tuple[str, ...] = ()

    @property
    def score(self) -> str:
        """Name of the score."""
        return "accuracy" if self.task is Task.CLASSIFICATION else "Dice"

    @property
    def matched_noise(self) -> bool:
        """Whether the strength of the noise is solved for each attack; else the study gives it."""
        return isinstance(self.study["noise"], Mapping)

    @property
    def units(self) -> str:
        """The unit, in the plural."""
        return f"{self.unit}s"

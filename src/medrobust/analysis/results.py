"""What an analysis reads: the rows of a run and what its study asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from medrobust.analysis.complete import check_complete
from medrobust.analysis.patients import CLEAN, Cell, Panel, classification_panel, segmentation_panel
from medrobust.core import Task, Unit
from medrobust.errors import Remark, RunError
from medrobust.rng import generator
from medrobust.stats.resampling import resampled_sums
from medrobust.study.analysis import RELEVANT_DIFFERENCE, Attack, Settings


@dataclass(frozen=True, eq=False)
class Results:
    """The rows of a run, and the order in which its study names things.

    Attributes:
        task: What the networks do.
        unit: What a patient is in these data.
        classes: Names of the classes; in segmentation the first is the background.
        models: Targets, in the order of the study.
        attacks: Attacks, in the order of the study.
        noise: Kinds of noise; matched to attacks (`gaussian@fgsm`) or of fixed strength.
        crafted: Rows of `results/crafted.parquet`.
        predictions: Rows of `results/predictions.parquet`, in classification.
        overlaps: Rows of `results/overlaps.parquet`, in segmentation.
        surfaces: Rows of `results/surfaces.parquet`, in segmentation; None in runs of before there were any.
        empty_cases: Rows of `results/empty_cases.parquet`, in segmentation; None in older runs.
        attributes: Rows of `results/attributes.parquet`; None in runs of before there were any.
        audit: What an audit of the data found, as `audit.json` has it; None where there was none.
        whole_test: Rows of clean images of all test cases, where the study attacks only some of them.
        selftests: Rows of `results/selftest.parquet`; None or empty where attacks were not tested.
        left_out: Pictures that the run could not make.
        settings: How numbers are judged.
        architectures: Architecture of each network, where its name is another; sources of the same one are
            told apart.
        colours: Red, green and blue of each class, None where unknown; empty where the data give none.
        record: What was run, handed on to `results.json`.
    """

    task: Task
    unit: Unit
    classes: tuple[str, ...]
    models: tuple[str, ...]
    attacks: tuple[Attack, ...]
    noise: tuple[str, ...]
    crafted: pl.DataFrame
    predictions: pl.DataFrame | None = None
    overlaps: pl.DataFrame | None = None
    surfaces: pl.DataFrame | None = None
    empty_cases: pl.DataFrame | None = None
    attributes: pl.DataFrame | None = None
    audit: Mapping[str, Any] | None = None
    whole_test: pl.DataFrame | None = None
    selftests: pl.DataFrame | None = None
    left_out: tuple[Remark, ...] = ()
    settings: Settings = field(default_factory=Settings)
    architectures: Mapping[str, str] = field(default_factory=dict)
    colours: tuple[Sequence[int] | None, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> str:
        """Name of the score."""
        return "accuracy" if self.task is Task.CLASSIFICATION else "Dice"

    @property
    def relevant_difference(self) -> float:
        """Smallest difference of scores that matters."""
        return self.settings.relevant_difference or RELEVANT_DIFFERENCE[self.task]

    @property
    def rows(self) -> pl.DataFrame:
        """Predictions or overlaps, whichever the task has.

        Raises:
            RunError: There are none.
        """
        name = "predictions" if self.task is Task.CLASSIFICATION else "overlaps"
        rows = self.predictions if self.task is Task.CLASSIFICATION else self.overlaps
        if rows is None or rows.is_empty():
            raise RunError(f"results/{name}.parquet holds no rows. Run the study again on the same folder.")
        return rows

    @cached_property
    def panel(self) -> Panel:
        """Scores of every patient in every cell, all on the same cases.

        Raises:
            RunError: There are no rows, or cells were not evaluated on the same cases.
        """
        check_complete(self.rows, self.task, self.models, [attack.label for attack in self.attacks])
        if self.task is Task.CLASSIFICATION:
            panel = classification_panel(self.rows)
        else:
            panel = segmentation_panel(self.rows, self.classes[0])
        return panel if self.settings.interval == "default" else panel.resampled(self.resampled)

    def resampled(self, values: Float64[np.ndarray, "k patients"]) -> Float64[np.ndarray, "k resamples"]:
        """Sums of k numbers over the patients of every resample; the resamples are always the same."""
        return resampled_sums(values, self.settings.resamples, generator(self.settings.seed, "resamples"))

    @property
    def folds(self) -> int:
        """Number of splits in which every patient was tested once; 0 where there is a single split."""
        return self.rows["fold"].drop_nulls().n_unique()

    @property
    def n_cases(self) -> int:
        """Cases that every cell is scored on."""
        rows = self.rows if self.task is Task.CLASSIFICATION else self.crafted
        return rows["case_id"].n_unique()

    @property
    def averaged(self) -> tuple[str, ...]:
        """Labels of the attacks that enter averages, comparisons and the verdict.

        The paper's; where a study has none of these, all that are no points of curves; else all.
        """
        single = [attack for attack in self.attacks if attack.curve is None]
        paper = [attack for attack in single if not attack.beyond_paper]
        return tuple(attack.label for attack in paper or single or self.attacks)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Sources that all targets face, those with the name of a target first."""
        faced = [{cell.source for cell in self.transfer(model)} for model in self.models]
        return tuple(self._in_order(set.intersection(*faced) if faced else set()))

    @cached_property
    def other_sources(self) -> tuple[str, ...]:
        """Sources that only some targets face; they stand in no average."""
        return tuple(
            self._in_order({cell.source for cell in self.panel.cells if cell.source} - {*self.sources})
        )

    def _in_order(self, sources: set[str]) -> list[str]:
        return [*(name for name in self.models if name in sources), *sorted(sources - set(self.models))]

    def transfer(self, target: str) -> list[Cell]:
        """All cells of a target whose images were crafted on a network trained apart from it."""
        return [
            cell for cell in self.panel.cells if cell.target == target and cell.source and not cell.whitebox
        ]

    def cells(
        self, target: str, perturbations: Sequence[str], sources: Sequence[str] | None = None
    ) -> list[Cell]:
        """Transfer cells of a target that were evaluated, in the order given.

        Args:
            target: The network that is judged.
            perturbations: Names, as in the rows.
            sources: Sources; None: those that all targets face.
        """
        sources = self.sources if sources is None else sources
        grid = [Cell(target, perturbation, source) for perturbation in perturbations for source in sources]
        return [cell for cell in grid if cell in self.panel.cells]

    def attack_cells(
        self, target: str, rounding: str = "", sources: Sequence[str] | None = None
    ) -> list[Cell]:
        """Cells that the adversarial score of a target is the mean of."""
        return self.cells(target, [label + rounding for label in self.averaged], sources)

    def matched_cells(self, target: str, attacks: Sequence[str], rounding: str = "") -> list[Cell]:
        """Cells of the noise that is matched to attacks."""
        names = [f"{noise}@{attack}{rounding}" for attack in attacks for noise in self.noise]
        return self.cells(target, names)

    @cached_property
    def failed_columns(self) -> frozenset[tuple[str, str]]:
        """Attacks and sources, for any seed of which a self-test failed."""
        if self.selftests is None:
            return frozenset()
        failed = self.selftests.filter(~pl.col("passed"))
        return frozenset(failed.select("perturbation", "source").iter_rows())

    def judged_cells(self, target: str, sources: Sequence[str] | None = None) -> list[Cell]:
        """Cells that the verdict on a target rests on: those of its score without failed attacks."""
        cells = self.attack_cells(target, sources=sources)
        return [cell for cell in cells if (cell.perturbation, cell.source) not in self.failed_columns]

    def noise_cells(self, target: str, attacks: Sequence[str], rounding: str = "") -> list[Cell]:
        """Cells that the noise score of a target is the mean of: matched noise, else fixed strengths."""
        matched = self.matched_cells(target, attacks, rounding)
        return matched or self.cells(target, [noise + rounding for noise in self.noise], sources=[""])

    def clean_cell(self, target: str) -> Cell:
        """The cell of a target's clean score."""
        return Cell(target, CLEAN)

    @property
    def perturbations(self) -> list[str]:
        """What targets are shown, in the order of the study: noise before the attacks it is matched to."""
        labels = [attack.label for attack in self.attacks]
        matched = [f"{noise}@{label}" for label in labels for noise in self.noise]
        return [CLEAN, *self.noise, *matched, *labels]

    @property
    def shared_rows(self) -> pl.DataFrame:
        """Rows of clean images, and of noise and transferred attacks from sources that all targets face."""
        return self.rows.filter(pl.col("source").is_in(["", *self.sources]), pl.col("role") != "whitebox")

    @property
    def shown_cells(self) -> list[Cell]:
        """Of every target: clean images, noise, and the attacks of Table 2."""
        labels = [attack.label for attack in self.attacks]
        return [
            cell
            for model in self.models
            for cell in (
                self.clean_cell(model),
                *self.noise_cells(model, labels),
                *self.cells(model, labels),
            )
        ]

    @property
    def roundings(self) -> tuple[str, ...]:
        """Suffixes of the rounded variants that were evaluated, e.g. `~8bit`."""
        names = {cell.perturbation for cell in self.panel.cells if "~" in cell.perturbation}
        return tuple(sorted({name[name.index("~") :] for name in names}))

    def restricted(self, rows: pl.Expr) -> "Results":
        """The same study on some of its rows, e.g. `pl.col("target_seed") == 0`."""
        return replace(
            self,
            predictions=None if self.predictions is None else self.predictions.filter(rows),
            overlaps=None if self.overlaps is None else self.overlaps.filter(rows),
        )

    def architecture(self, network: str) -> str:
        """Architecture of a network: its own name where nothing else is said."""
        return self.architectures.get(network, network)

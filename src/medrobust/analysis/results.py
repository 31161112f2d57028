"""What an analysis reads: the rows of a run and what its study asked for."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

import polars as pl
import polars.selectors as cs

from medrobust.analysis.scores import CLEAN, SEEDS, Cell, Panel, Scores, panel_of
from medrobust.core import Task, Unit, pixels_of
from medrobust.errors import Remark, RunError
from medrobust.metrics.catalogue import SCORES, Score
from medrobust.stats.significance import patients_for_equivalence
from medrobust.storage.schemas import SCORED
from medrobust.study.analysis import (
    PRIMARY,
    RELEVANT_DIFFERENCE,
    Attack,
    Corruption,
    Ladder,
    Settings,
    Transform,
    primary_score,
)

CONDITIONS = ("clean", "noise", "adversarial")

ROUNDED = pl.col("perturbation").str.contains("~", literal=True)
"""Rows of images rounded as they would be saved, e.g. `fgsm~8bit`."""


def reference_of(label: str) -> str:
    """Name of clean images judged at the pixels that are left by what moves pixels."""
    return f"{CLEAN}@{label}"


BASE = pl.col("perturbation").str.extract("([^@~]+)(~.*)?$")
"""Label of the attack that images, noise matched to it and rounded ones belong to."""

ASIDE = pl.col("role").is_in(["corruption", "transform"])
"""Rows of corrupted and transformed images, and of clean ones judged at the same pixels."""


@dataclass(frozen=True, eq=False)
class Results:
    """The rows of a run, and the order in which its study names things.

    Attributes:
        task: What the networks do.
        unit: What a patient is in these data.
        classes: Names of the classes, or of the findings; in segmentation the first is the background.
        models: Targets, in the order of the study.
        attacks: Attacks, in the order of the study.
        noise: Kinds of noise; matched to attacks (`gaussian@fgsm`) or of fixed strength.
        corruptions: Corruptions at each strength, in the order of the study.
        transforms: Transforms, searched in each way, in the order of the study.
        ladder: The threat-model ladder of the study; None without one.
        crafted: Rows of `results/crafted.parquet`.
        predictions: Rows of `results/predictions.parquet`, where images as a whole have labels.
        overlaps: Rows of `results/overlaps.parquet`, in segmentation.
        surfaces: Rows of `results/surfaces.parquet`, in segmentation; None in older runs.
        empty_cases: Rows of `results/empty_cases.parquet`, in segmentation; None in older runs.
        attributes: Rows of `results/attributes.parquet`; None in older runs.
        audit: The content of `audit.json`; None without an audit of the data.
        whole_test: Rows of clean images of all test cases, where the study attacks only some of them.
        validation: Rows of the ladder's transferred attacks on validation cases, if there are any.
        selftests: Rows of `results/selftest.parquet`; None or empty where attacks were not tested.
        certificates: Rows of `results/certificates.parquet`; None where the study asks for none.
        smoothing: `certificates` of the study: noise, draws and radii; None without.
        left_out: Pictures that the run could not make.
        settings: How numbers are judged.
        architectures: Architecture of each network whose name is not that of its architecture.
        colours: Red, green and blue of each class, None where unknown; empty where the data give none.
        regions: Numbers of the classes of each region, where the data have regions.
        record: What was run, handed on to `results.json`.
        cards: Cards of networks that were trained adversarially, by the names of their folders.
        fewer: The same study with attacks on fewer cases only, on these cases; one for each number of cases.
    """

    task: Task
    unit: Unit
    classes: tuple[str, ...]
    models: tuple[str, ...]
    attacks: tuple[Attack, ...]
    noise: tuple[str, ...]
    crafted: pl.DataFrame
    corruptions: tuple[Corruption, ...] = ()
    transforms: tuple[Transform, ...] = ()
    ladder: Ladder | None = None
    predictions: pl.DataFrame | None = None
    overlaps: pl.DataFrame | None = None
    surfaces: pl.DataFrame | None = None
    empty_cases: pl.DataFrame | None = None
    attributes: pl.DataFrame | None = None
    audit: Mapping[str, Any] | None = None
    whole_test: pl.DataFrame | None = None
    validation: pl.DataFrame | None = None
    selftests: pl.DataFrame | None = None
    certificates: pl.DataFrame | None = None
    smoothing: Mapping[str, Any] | None = None
    left_out: tuple[Remark, ...] = ()
    settings: Settings = field(default_factory=Settings)
    architectures: Mapping[str, str] = field(default_factory=dict)
    colours: tuple[Sequence[int] | None, ...] = ()
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fewer: tuple["Results", ...] = ()

    @cached_property
    def score(self) -> Score:
        """What the networks are judged by."""
        return primary_score(self.settings.score, self.task)

    @property
    def structures(self) -> tuple[str, ...]:
        """What is scored in segmentation: the background, then the regions or, without any, the classes."""
        return (self.classes[0], *self.regions) if self.regions else self.classes

    @property
    def pixels(self) -> str:
        """What images consist of: "pixels", or "voxels" where cases are volumes."""
        return pixels_of(self.record.get("data", {}).get("shape", ()))

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Size of a pixel in mm along each axis of an image; None where unknown, as in older runs."""
        spacing = self.record.get("data", {}).get("spacing")
        return None if spacing is None else tuple(spacing)

    def fewest_for_equality(self, pairs: int) -> int:
        """Fewest patients with which a family of this many pairs could call one equally good when clean."""
        return patients_for_equivalence(self.settings.alpha, pairs)

    @property
    def relevant_difference(self) -> float:
        """Smallest difference of scores that matters."""
        return self.settings.relevant_difference or RELEVANT_DIFFERENCE[self.task]

    @property
    def rows(self) -> pl.DataFrame:
        """Predictions or overlaps, whichever the task has, but for those of corruptions and transforms.

        Raises:
            RunError: There are none.
        """
        return self.every_row.filter(~ASIDE)

    @property
    def every_row(self) -> pl.DataFrame:
        """The same with those of corruptions and transforms."""
        rows = self.overlaps if self.task.has_maps else self.predictions
        if rows is None or rows.is_empty():
            raise RunError(
                f"results/{SCORED[self.task].name}.parquet holds no rows. Run the study again on the same "
                "folder."
            )
        return rows

    @cached_property
    def confident(self) -> tuple[str, ...]:
        """Networks that say how sure they are of each image, unlike those of decisions."""
        decides = {
            each["name"]
            for each in self.record.get("networks", {}).values()
            if each.get("network", {}).get("output", {}).get("kind") == "decisions"
        }
        return tuple(model for model in self.models if model not in decides)

    @cached_property
    def panel(self) -> Panel:
        """Scores of every patient in every cell, all on the same cases.

        Raises:
            RunError: There are no rows, or cells were not evaluated on the same cases.
        """
        return self._panel(self.score)

    @cached_property
    def accuracy_panel(self) -> Panel:
        """The panel of accuracy, whatever the networks are judged by; where images as a whole have labels."""
        return self.panel if self.score == SCORES["accuracy"] else self._panel(SCORES["accuracy"])

    @cached_property
    def balanced_panel(self) -> Panel:
        """The panel of balanced accuracy, where images as a whole have labels."""
        return self._panel(SCORES["balanced_accuracy"])

    @cached_property
    def corrupted_panel(self) -> Panel:
        """The panel of clean and corrupted images, of the patients whose score is defined on all of these.

        Apart, so that a structure that leaves the field of view changes no other table.
        """
        return self._panel(self.score, aside="corruption")

    @cached_property
    def balanced_corrupted_panel(self) -> Panel:
        """The same of balanced accuracy, where images as a whole have labels."""
        return self._panel(SCORES["balanced_accuracy"], aside="corruption")

    @cached_property
    def transformed_panel(self) -> Panel:
        """The panel of clean and transformed images, of the patients whose score is defined on all of it."""
        return self._panel(self.score, aside="transform")

    @cached_property
    def on_validation(self) -> Mapping[Cell, float]:
        """Score of each transferred attack of the ladder on validation cases, a mean over folds.

        Scores of boundaries, which are not measured there, are replaced by that of the task.
        """
        if self.validation is None or self.validation.is_empty():
            return {}
        score = SCORES[PRIMARY[self.task]] if self.score.needs_surfaces else self.score
        settings = replace(self.settings, interval="default")
        found: dict[Cell, list[float]] = {}
        for rows in self.validation.partition_by("fold"):
            panel = panel_of(score, settings, rows, self.classes[0])
            for cell, scores in panel.cells.items():
                found.setdefault(cell, []).append(panel.value(scores))
        means = {cell: sum(values) / len(values) for cell, values in found.items()}
        return {cell: value for cell, value in means.items() if not math.isnan(value)}

    def _panel(self, score: Score, *, aside: str = "") -> Panel:
        which = pl.col("role").is_in([aside, "clean"]) if aside else ~ASIDE
        rows = self.every_row.filter(which)
        moving = [each.label for each in self.corruptions if each.moves]
        moving += [each.label for each in self.transforms if each.moves]
        moved = pl.col("perturbation").is_in([*moving, *map(reference_of, moving)])
        _check_complete(rows, self.task, self.models, [] if aside else self.attacks, moved)
        rows = self._boundaries(rows).filter(which) if score.needs_surfaces else rows
        return panel_of(score, self.settings, rows, self.classes[0])

    def _boundaries(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of surfaces; every clean and transferred cell with counts of pixels must have them."""
        name = self.score.name
        again = "Run the study again on the same folder: it keeps what is there and measures boundaries."
        if self.surfaces is None or self.surfaces.is_empty():
            raise RunError(
                f"The score {name} needs results/surfaces.parquet, which has no rows here. {again}"
            )
        wanted = rows.filter(pl.col("role") != "whitebox", ~ROUNDED, pl.col("structure") != self.classes[0])
        missing = wanted.join(self.surfaces, on=[*_KEYS, "scan_id", "structure"], how="anti").height
        if missing:
            raise RunError(f"The score {name} needs boundaries, and {missing} rows lack them. {again}")
        return self.surfaces

    @property
    def folds(self) -> int:
        """Number of splits in which every patient was tested once; 0 where there is a single split."""
        return self.rows["fold"].drop_nulls().n_unique()

    @property
    def n_cases(self) -> int:
        """Cases that every cell is scored on."""
        rows = self.crafted if self.task.has_maps else self.rows
        return rows["case_id"].n_unique()

    @property
    def attack_labels(self) -> list[str]:
        """Labels of all attacks."""
        return [attack.label for attack in self.attacks]

    @property
    def averaged(self) -> tuple[str, ...]:
        """Labels of the attacks that enter averages, comparisons and the verdict.

        Those of the paper; in a study without any, all that are neither points of a curve nor rungs of the
        ladder; else all.
        """
        rungs = self.ladder.attacks if self.ladder else ()
        single = [each for each in self.attacks if each.curve is None and each.label not in rungs]
        paper = [attack for attack in single if not attack.beyond_paper]
        return tuple(attack.label for attack in paper or single or self.attacks)

    def matched(self, attacks: Sequence[str]) -> list[str]:
        """Names of the noise matched to attacks."""
        return [f"{noise}@{attack}" for attack in attacks for noise in self.noise]

    def faced(self, target: str) -> set[str]:
        """Sources of the transferred attacks on a target and of the noise matched to them."""
        cells = self.panel.cells
        return {cell.source for cell in cells if cell.target == target and cell.source and not cell.whitebox}

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Sources that scores are averaged over, those with the name of a target first.

        Those that all targets face; if there are none, since every network attacks the others, all.
        """
        faced = [self.faced(model) for model in self.models] or [set()]
        return tuple(self._in_order(set.intersection(*faced) or set.union(*faced)))

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """Labels of noise of a fixed strength."""
        labels = dict.fromkeys(cell.perturbation for cell in self.panel.cells if not cell.source)
        return tuple(label for label in labels if label != CLEAN and "~" not in label)

    @cached_property
    def other_sources(self) -> tuple[str, ...]:
        """Sources that only some targets face; they enter no average."""
        every = {cell.source for cell in self.panel.cells if cell.source}
        return tuple(self._in_order(every - {*self.sources}))

    def common_sources(self, *targets: str) -> list[str]:
        """Sources to compare targets on: those of the averages that all of them face."""
        faced = [self.faced(target) for target in targets]
        return [source for source in self.sources if all(source in each for each in faced)]

    def _in_order(self, sources: set[str]) -> list[str]:
        return [*(name for name in self.models if name in sources), *sorted(sources - set(self.models))]

    def cells(
        self, target: str, perturbations: Sequence[str], sources: Sequence[str] | None = None
    ) -> list[Cell]:
        """Transfer cells of a target that were evaluated, in the order given; by default of `sources`."""
        sources = self.sources if sources is None else sources
        grid = [Cell(target, perturbation, source) for perturbation in perturbations for source in sources]
        return [cell for cell in grid if cell in self.panel.cells]

    def attack_cells(
        self, target: str, rounding: str = "", sources: Sequence[str] | None = None
    ) -> list[Cell]:
        """Cells whose mean is the adversarial score of a target."""
        return self.cells(target, [label + rounding for label in self.averaged], sources)

    def matched_cells(self, target: str, attacks: Sequence[str], rounding: str = "") -> list[Cell]:
        """Cells of the noise that is matched to attacks."""
        return self.cells(target, self.matched([attack + rounding for attack in attacks]))

    @cached_property
    def failed_columns(self) -> frozenset[tuple[str, str]]:
        """Pairs of attack and source for which a self-test failed with any seed."""
        if self.selftests is None:
            return frozenset()
        failed = self.selftests.filter(~pl.col("passed"))
        return frozenset(failed.select("perturbation", "source").iter_rows())

    def failed(self, sources: Iterable[str]) -> list[str]:
        """The `failed_columns` among averaged attacks and these sources, in words."""
        columns = product(self.averaged, sources)
        return [" from ".join(column) for column in columns if column in self.failed_columns]

    def judged_cells(self, target: str, sources: Sequence[str] | None = None) -> list[Cell]:
        """Cells that the verdict on a target rests on: its attack cells without failed columns."""
        cells = self.attack_cells(target, sources=sources)
        return [cell for cell in cells if (cell.perturbation, cell.source) not in self.failed_columns]

    def noise_cells(self, target: str, attacks: Sequence[str], rounding: str = "") -> list[Cell]:
        """Cells whose mean is the noise score of a target: matched noise, else noise of fixed strength."""
        matched = self.matched_cells(target, attacks, rounding)
        return matched or self.cells(target, [noise + rounding for noise in self.noise], sources=[""])

    def clean(self, target: str) -> Scores:
        """Scores of a target's patients on clean images."""
        return self.panel.cells[Cell(target, CLEAN)]

    def condition_cells(self, target: str, rounding: str = "") -> dict[str, list[Cell]]:
        """Cells whose means are the clean, noise and adversarial score of a target."""
        return {
            "clean": [Cell(target, CLEAN)],
            "noise": self.noise_cells(target, self.averaged, rounding),
            "adversarial": self.attack_cells(target, rounding),
        }

    def conditions(self, target: str, rounding: str = "") -> dict[str, Scores | None]:
        """Clean, noise and adversarial scores of a target's patients; None without cells."""
        of_conditions = self.condition_cells(target, rounding).items()
        return {name: self.panel.mean(cells) for name, cells in of_conditions}

    def name_of(self, finding: str | int) -> str:
        """Name of a finding that an attack is for."""
        return self.classes[finding] if isinstance(finding, int) else finding

    def refuse_maps(self, what: str) -> None:
        """Refuse what label maps do not have.

        Raises:
            RunError: The study is one of segmentation.
        """
        if self.task.has_maps:
            raise RunError(f"{what}; this study is one of {self.task}.")

    def require(self, task: Task, what: str) -> None:
        """Refuse what only one task has.

        Raises:
            RunError: The study is of another task.
        """
        if self.task is not task:
            raise RunError(f"{what}; this study is one of {self.task}.")

    def ordered(self, table: pl.DataFrame, perturbations: Sequence[str] | None = None) -> pl.DataFrame:
        """Rows in the order in which the study names networks, perturbations and structures, others last.

        Counts, which polars makes unsigned, become signed.
        """
        named = {
            "target": self.models,
            "perturbation": self.perturbations if perturbations is None else perturbations,
            "source": self.models,
            "structure": self.structures,
            "finding": self.classes,
        }
        keys = [key for key in named if key in table.columns]
        ranks = [
            pl.col(key).replace_strict(
                {name: place for place, name in enumerate(named[key])}, default=len(named[key])
            )
            for key in keys
        ]
        rest = [column for column in ("source_seed", "fold", "role") if column in table.columns]
        signed = table.with_columns(cs.unsigned_integer().cast(pl.Int64))
        return signed.sort(*ranks, *keys, *rest, maintain_order=True)

    @property
    def perturbations(self) -> list[str]:
        """What targets are shown, in the order of the study, noise before attacks."""
        return [CLEAN, *self.noise, *self.matched(self.attack_labels), *self.attack_labels]

    @property
    def shared_rows(self) -> pl.DataFrame:
        """Rows of clean images, and of noise and transferred attacks from `sources`."""
        return self.rows.filter(pl.col("source").is_in(["", *self.sources]), pl.col("role") != "whitebox")

    @property
    def shown_cells(self) -> list[Cell]:
        """Of every target: clean images, noise, and the attacks of Table 2."""
        return [
            cell
            for model in self.models
            for cell in (
                Cell(model, CLEAN),
                *self.noise_cells(model, self.attack_labels),
                *self.cells(model, self.attack_labels),
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
            surfaces=None if self.surfaces is None else self.surfaces.filter(rows),
        )

    def parted(self) -> "Results":
        """The study without its attacks on fewer cases, which are put into `fewer`.

        All that is averaged, ranked or compared is then on the same cases, in each part.
        """
        few = [attack for attack in self.attacks if attack.cases is not None]
        if not few:
            return self
        whole = tuple(attack for attack in self.attacks if attack.cases is None)
        parts = {
            number: tuple(attack for attack in few if attack.cases == number)
            for number in sorted({attack.cases or 0 for attack in few}, reverse=True)
        }
        on_all = ~BASE.is_in([attack.label for attack in few])
        return replace(
            self.restricted(on_all),
            attacks=whole,
            empty_cases=None if self.empty_cases is None else self.empty_cases.filter(on_all),
            fewer=tuple(self._of_fewer(attacks) for attacks in parts.values()),
        )

    def _of_fewer(self, attacks: tuple[Attack, ...]) -> "Results":
        """Some attacks on the same cases, and clean images of these cases."""
        own = BASE.is_in([attack.label for attack in attacks])
        item, crafted = SCORED[self.task].items[0], self.crafted.filter(own)
        same_cases = pl.col(item).is_in(crafted[item].unique().implode())
        return replace(
            self.restricted((own | (pl.col("perturbation") == CLEAN)) & same_cases),
            attacks=attacks,
            crafted=crafted,
            corruptions=(),
            transforms=(),
            ladder=None,
        )

    def architecture(self, network: str) -> str:
        """Architecture of a network; by default its name."""
        return self.architectures.get(network, network)


_KEYS = ("target", "target_seed", "perturbation", "role", "source", "source_seed")
_SHOWN = 3
_AGAIN = "Run the study again in the same folder: only what is missing is evaluated."


def _check_complete(
    rows: pl.DataFrame, task: Task, models: Sequence[str], attacks: Sequence[Attack], moved: pl.Expr
) -> None:
    """Refuse rows that do not hold every cell on exactly the same cases."""
    cells = rows.lazy().select(_KEYS).unique().collect(engine="streaming")
    _check_models(cells, models)
    transferred = [attack for attack in attacks if attack.crafted_on != "targets"]
    for alike in {attack.sources: None for attack in transferred}:
        labels = [attack.label for attack in transferred if attack.sources == alike]
        _check_cells(cells.filter(BASE.is_in(labels)), labels)
    _check_cases(rows, SCORED[task].items)
    if task.has_maps:
        _check_truth(rows.filter(~moved))


def _check_models(cells: pl.DataFrame, models: Sequence[str]) -> None:
    trained = cells.select("target", "target_seed").unique()
    clean = cells.filter(pl.col("perturbation") == CLEAN).select("target", "target_seed").unique()
    incomplete = {*trained.join(clean, on=["target", "target_seed"], how="anti")["target"]}
    missing = [model for model in models if model in incomplete or model not in trained["target"]]
    if missing:
        raise RunError(
            f"Every network needs a score on clean images; missing: {', '.join(missing)}. {_AGAIN}"
        )


def _check_cells(cells: pl.DataFrame, attacks: Sequence[str]) -> None:
    """Every source that a target faces, with all its seeds, is needed for every crafted perturbation."""
    crafted = cells.filter(pl.col("source") != "", pl.col("role") == "transfer")
    perturbations = crafted.filter(~ROUNDED)["perturbation"].unique().to_list()
    faced = crafted.select("target", "target_seed", "source", "source_seed").unique()
    asked = pl.DataFrame(
        {"perturbation": sorted({*perturbations, *attacks})}, schema={"perturbation": pl.String}
    )
    keys = ("target", "target_seed", "perturbation", "source", "source_seed")
    missing = (
        faced.join(asked, how="cross").join(crafted.select(keys).unique(), on=keys, how="anti").sort(keys)
    )
    if attacks and faced.is_empty() and (cells["role"] != "whitebox").all():
        raise RunError(f"No images of {', '.join(attacks)} were evaluated. {_AGAIN}")
    if not missing.is_empty():
        names = "; ".join(_cell_name(cell) for cell in missing.head(_SHOWN).iter_rows(named=True))
        raise RunError(f"Every cell must be evaluated; missing: {names}{_more(missing.height)}. {_AGAIN}")


def _check_cases(rows: pl.DataFrame, item: tuple[str, ...]) -> None:
    of_cells = rows.lazy().group_by(_KEYS).agg(pl.len(), distinct=pl.struct(item).n_unique())
    counts = of_cells.collect(engine="streaming")  # in pieces: there may be millions of rows
    if (counts["distinct"] < counts["len"]).any():
        row = rows.filter(rows.select(*_KEYS, *item).is_duplicated()).row(0, named=True)
        raise RunError(
            f"{_cell_name(row)}: {item[0]} {row[item[0]]!r} was evaluated more than once. Delete the folder"
            " `results` of the run and evaluate again."
        )
    every = rows.select(item).unique()
    short = counts.filter(pl.col("len") < every.height).sort(_KEYS)
    if short.is_empty():
        return
    cell = short.row(0, named=True)
    inside = pl.all_horizontal(*(pl.col(key) == cell[key] for key in _KEYS))
    missing = every.join(rows.filter(inside), on=item, how="anti").sort(item)
    names = [str(name) for name in missing[item[0]].unique(maintain_order=True).head(_SHOWN)]
    others = f" (so do {short.height - 1} other cells)" if short.height > 1 else ""
    raise RunError(
        f"Every score must come from the same cases; {_cell_name(cell)} lacks {missing.height} of"
        f" {every.height} rows: {item[0]} {', '.join(names)}{_more(missing[item[0]].n_unique())}{others}."
        f" {_AGAIN}"
    )


def _check_truth(rows: pl.DataFrame) -> None:
    """Counts of a scan are summed over slices: if true pixels differ between cells, the slices did."""
    truth = rows.group_by("scan_id", "structure").agg(
        least=pl.col("n_true").min(), most=pl.col("n_true").max()
    )
    different = truth.filter(pl.col("least") < pl.col("most")).sort("scan_id", "structure")
    if not different.is_empty():
        row = different.row(0, named=True)
        raise RunError(
            f"Every score must come from the same cases; scan {row['scan_id']!r} has {row['least']} to"
            f" {row['most']} pixels of {row['structure']!r} in the truth, so cells used different slices."
            " Delete the folder `results` of the run and evaluate again."
        )


def _cell_name(cell: dict[str, object]) -> str:
    source = f" from {cell['source']}" if cell["source"] else ""
    seeds = ", ".join(f"{seed} {cell[seed]}" for seed in SEEDS)
    return f"{cell['perturbation']}{source} on {cell['target']} ({seeds})"


def _more(number: int) -> str:
    return f" and {number - _SHOWN} more" if number > _SHOWN else ""

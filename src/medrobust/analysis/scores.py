"""From rows to one number per patient and cell, and from these to estimates with intervals.

A panel holds the score of every patient in every cell, all on the same cases. Every number in the tables is a
ratio of two totals over its patients (`medrobust.stats.intervals`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float64

from medrobust.errors import RunError, reason
from medrobust.metrics.catalogue import Score
from medrobust.metrics.scores import mean_defined
from medrobust.rng import generator
from medrobust.stats.intervals import (
    ROUNDING,
    UNDEFINED,
    Estimate,
    Ratio,
    Totals,
    accuracy_difference,
    mean_of_ratios,
    paired_interval,
    ratio,
    wilson,
)
from medrobust.stats.resampling import Draws, bca, bootstrap_t, percentile, resampled_sums
from medrobust.stats.significance import false_claim, sign_flip_test, swap_test
from medrobust.study.analysis import Settings

CLEAN = "clean"
CELL = ("target", "perturbation", "source", "whitebox")
SEEDS = ("target_seed", "source_seed")
TRAINING = (*SEEDS, "fold")
PER_SEED = (*CELL, *SEEDS, "patient_id")

RIGHT = pl.col("label") == pl.col("prediction")
"""Whether the answer in a row of `predictions` is right."""

ByClass = Float64[np.ndarray, "patients classes"]


class Cell(NamedTuple):
    """One target under one perturbation whose images were crafted on one source ("" where there is none)."""

    target: str
    perturbation: str
    source: str = ""
    whitebox: bool = False

    @property
    def names(self) -> dict[str, Any]:
        """Its columns in a table."""
        return {"target": self.target, "perturbation": self.perturbation, "source": self.source}


class Answers(NamedTuple):
    """The answers behind a score of all images at once: of one training, in one cell (to one finding).

    Attributes:
        labels: True class of each image.
        given: What the network answered to each: probabilities or predictions, whichever the score is of.
        patients: The number of each image's patient.
    """

    labels: np.ndarray
    given: np.ndarray
    patients: np.ndarray


class Scores(NamedTuple):
    """Scores of all patients under one condition.

    Attributes:
        totals: Score of each patient, or number of its right images; a mean where cells or seeds are pooled.
        repeats: How many cells and seeds are pooled.
        draws: Sum of the totals in every resample of the patients; None without resampling.
        by_class: Right images of each patient and class, for scores in which every class counts the same.
        answers: Of scores that can be computed anew when networks swap patients.
    """

    totals: Totals
    repeats: int
    draws: Draws | None = None
    by_class: ByClass | None = None
    answers: tuple[Answers, ...] = ()

    def minus(self, other: "Scores") -> "Scores":
        """Paired differences."""
        draws = None if self.draws is None or other.draws is None else self.draws - other.draws
        return Scores(self.totals - other.totals, self.repeats, draws)


def averaged(chosen: Sequence[Scores]) -> Scores | None:
    """Scores under several conditions averaged within each patient; None without any."""
    if not chosen:
        return None
    totals: Float64[np.ndarray, "conditions patients"] = np.stack([scores.totals for scores in chosen])
    drawn = [scores.draws for scores in chosen if scores.draws is not None]
    draws = np.mean(drawn, axis=0) if len(drawn) == len(chosen) else None
    of_classes = [scores.by_class for scores in chosen if scores.by_class is not None]
    by_class = np.mean(of_classes, axis=0) if of_classes else None
    answers = tuple(each for scores in chosen for each in scores.answers)
    return Scores(totals.mean(0), sum(scores.repeats for scores in chosen), draws, by_class, answers)


@dataclass(frozen=True)
class Panel:
    """Scores of every patient in every cell, seeds averaged within the patient.

    Attributes:
        score: What they are scores of.
        settings: How numbers are judged.
        patients: Patients whose score is defined, sorted.
        undefined: Number of other patients, such as those without any structure in the truth.
        sizes: Weight of each patient: its images where every image counts, else 1.
        cells: Scores of each cell, in the order of `patients`.
        counts_outcomes: Whether totals are numbers of outcomes, each right or wrong.
        class_sizes: Images of each patient and class, where every class counts the same.
        floor: Score of a network that always answers with the majority class or the background.
        drawn_sizes: Sum of the sizes in every resample; None without resampling.
    """

    score: Score
    settings: Settings
    patients: tuple[str, ...]
    undefined: int
    sizes: Totals
    cells: Mapping[Cell, Scores]
    counts_outcomes: bool = False
    class_sizes: ByClass | None = None
    floor: float = math.nan
    drawn_sizes: Draws | None = None

    def value(self, scores: Scores | None) -> float:
        """Mean score over patients; NaN without any."""
        return math.nan if scores is None else float(scores.totals.sum() / self.sizes.sum())

    def mean(self, cells: Iterable[Cell]) -> Scores | None:
        """Scores in several cells averaged within each patient; None without cells."""
        return averaged([self.cells[cell] for cell in cells])

    def estimate(self, scores: Scores | None) -> Estimate:
        """A score with its interval; NaN without any."""
        if scores is None:
            return UNDEFINED
        confidence, bounds = self.settings.confidence, self.score.bounds
        resampled = self._bootstrap(scores, self._weights)
        if resampled is not None:
            return resampled.clipped(*bounds)
        if self.class_sizes is not None and scores.by_class is not None:
            counts = (scores.by_class * scores.repeats, self.class_sizes * scores.repeats)
            return mean_of_ratios(*counts).fraction_interval(confidence)
        if self.counts_outcomes:
            # Outcomes are counted before they are averaged over cells and seeds: each is right or wrong.
            return wilson(scores.totals * scores.repeats, self.sizes * scores.repeats, confidence)
        found = ratio(scores.totals, self.sizes)
        lowest, width = bounds[0], bounds[1] - bounds[0]
        if math.isinf(width):
            return found.interval(confidence).clipped(*bounds)
        within = ratio((scores.totals - lowest * self.sizes) / width, self.sizes).fraction_interval(
            confidence
        )
        return Estimate(found.value, *(lowest + width * bound for bound in within[1:]))

    def difference(self, first: Scores | None, second: Scores | None, limit: float = 1.0) -> Estimate:
        """Mean of `first` minus that of `second`, paired over patients; NaN where one is missing.

        Args:
            first: Scores of the patients, or their drops.
            second: The same.
            limit: Largest possible difference, in ranges of the score: 1 for scores, 2 for drops.
        """
        if first is None or second is None:
            return UNDEFINED
        largest = self.score.bounds[1] - self.score.bounds[0]
        found = self._relative(first.minus(second), self._weights, largest)
        return found.clipped(-limit * largest, limit * largest)

    def lost(self, clean: Scores, attacked: Scores) -> Scores:
        """By how much each patient's score is worse under attack."""
        return clean.minus(attacked) if self.score.higher_is_better else attacked.minus(clean)

    def drop(self, clean: Scores | None, attacked: Scores | None) -> Estimate:
        """By how much the mean score is worse under attack, paired."""
        better, worse = (clean, attacked) if self.score.higher_is_better else (attacked, clean)
        return self.difference(better, worse)

    def relative_drop(self, clean: Scores | None, attacked: Scores | None) -> Estimate:
        """The drop as a fraction of the clean score, paired; at most 1 for scores in [0, 1]."""
        if clean is None or attacked is None:
            return UNDEFINED
        # A patient loses at most a whole score, of which the mean clean score is a part.
        largest = ratio(self.sizes, clean.totals).value if self.score.is_fraction else math.inf
        most = 1.0 if self.score.is_fraction and self.score.higher_is_better else math.inf
        return self._relative(self.lost(clean, attacked), clean, largest).clipped(-math.inf, most)

    def paired_ratio(self, first: Scores, second: Scores) -> Ratio:
        """A paired difference with the standard error that suits the score."""
        x, sizes = first.totals - second.totals, self.sizes
        return accuracy_difference(x, sizes, sizes) if self.counts_outcomes else ratio(x, sizes)

    def false_claim(self, first: Scores | None, second: Scores | None) -> float:
        """Probability that the network with the better mean is no better; NaN where one is missing."""
        if first is None or second is None:
            return math.nan
        return false_claim(first.totals - second.totals, outcomes=self.counts_outcomes)

    def swap_test(self, first: Scores, second: Scores, resamples: int, rng: np.random.Generator) -> float:
        """Two-sided p value of "the answers to any patient's images might as well have been the other's".

        Of sums over patients, weighted by class or not, that is the sign flip of the patients' differences.
        Other scores are computed anew, cell by cell, where both have as many of these; else the signs of the
        patients' contributions are flipped, which is an approximation.
        """
        swaps = self.score.swaps
        if swaps is None or not first.answers or len(first.answers) != len(second.answers):
            return sign_flip_test(first.totals - second.totals, resamples, rng)
        differences = [
            swaps(one.labels, one.given, other.given, one.patients)
            for one, other in zip(first.answers, second.answers, strict=True)
        ]
        return swap_test(
            lambda signs: np.mean([each(signs) for each in differences], axis=0),
            first.totals.size,
            resamples,
            rng,
        )

    def resampled(self, values: Float64[np.ndarray, "k patients"]) -> Float64[np.ndarray, "k resamples"]:
        """Sums of k numbers over the patients of every resample; the resamples are always the same."""
        return resampled_sums(values, self.settings.resamples, generator(self.settings.seed, "resamples"))

    def with_draws(self) -> "Panel":
        """The panel with draws of all cells, from the same resamples, if its intervals need them."""
        if self.settings.interval == "default":
            return self
        names = list(self.cells)
        sums = self.resampled(np.stack([self.sizes, *(self.cells[name].totals for name in names)]))
        cells = {
            name: self.cells[name]._replace(draws=draws) for name, draws in zip(names, sums[1:], strict=True)
        }
        return replace(self, cells=cells, drawn_sizes=sums[0])

    @property
    def _weights(self) -> Scores:
        """The sizes as a denominator."""
        return Scores(self.sizes, 1, self.drawn_sizes)

    def _relative(self, x: Scores, y: Scores, largest: float) -> Estimate:
        resampled = self._bootstrap(x, y)
        if resampled is not None:
            return resampled
        images = self.sizes if self.counts_outcomes else None
        return paired_interval(x.totals, y.totals, self.settings.confidence, images=images, largest=largest)

    def _bootstrap(self, x: Scores, y: Scores) -> Estimate | None:
        """An interval from resamples; None where none was asked for, or all resamples are alike."""
        method = self.settings.interval
        if method == "default" or not ratio(x.totals, y.totals).varies:
            return None
        assert x.draws is not None
        assert y.draws is not None
        numbers, confidence = (x.totals, y.totals, x.draws, y.draws), self.settings.confidence
        if method == "bootstrap-t":
            products = np.stack([x.totals * x.totals, x.totals * y.totals, y.totals * y.totals])
            interval = bootstrap_t(*numbers, self.resampled(products), confidence)
        else:
            interval = (bca if method == "bca" else percentile)(*numbers, confidence)
        return interval if interval.high - interval.low > ROUNDING else None


def panel_of(score: Score, settings: Settings, rows: pl.DataFrame, background: str) -> Panel:
    """Scores of all patients in all cells.

    Args:
        score: What is computed.
        settings: How numbers are judged.
        rows: Rows of `predictions`, `overlaps` or `surfaces`, whichever the score needs.
        background: Name of the class that is no structure, in segmentation.

    Raises:
        RunError: A user's score fails, or returns something other than it should.
    """
    if score.is_of_maps:
        return _panel_of_scans(score, settings, rows, background).with_draws()
    return _panel_of_images(score, settings, with_whitebox(rows)).with_draws()


def with_whitebox(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the flag that keeps white-box cells apart from transfer cells of the same names."""
    return rows.with_columns(whitebox=pl.col("role") == "whitebox")


def _panel_of_scans(score: Score, settings: Settings, rows: pl.DataFrame, background: str) -> Panel:
    scans = scan_scores(rows, background, score)
    nothing = {name: np.zeros(scans.height, np.int64) for name in score.columns}
    for name in ("n_true", "n_boundary", "n_missed"):
        if name in nothing:
            nothing[name] = scans[name].to_numpy()
    floor = float(mean_defined(_called(score, nothing, scans.height).astype(np.float64)))
    known = scans.filter(pl.col("score").is_not_nan())
    of_seeds = means(known, ("score",), (*PER_SEED, "scan_id"), PER_SEED)
    return _panel_of_patients(score, settings, of_seeds, rows, floor)


def scan_scores(rows: pl.DataFrame, background: str, score: Score) -> pl.DataFrame:
    """`score` of every structure in every scan, NaN where undefined, beside the sums it is computed from.

    Sorted, so that no mean depends on the order of the rows.
    """
    keys = (*CELL, *SEEDS, "patient_id", "scan_id", "structure")
    counts = (
        with_whitebox(rows)
        .filter(pl.col("structure") != background)
        .group_by(keys)
        .agg(pl.col(score.columns).sum())
        .sort(keys)
    )
    values = _called(score, {name: counts[name].to_numpy() for name in score.columns}, counts.height)
    return counts.with_columns(score=pl.Series(values.astype(np.float64)))


def means(rows: pl.DataFrame, columns: Sequence[str], *levels: Sequence[str]) -> pl.DataFrame:
    """Means of columns within each group of the first level's keys, then of these within the next level's.

    Nulls are left out. The order of the rows is kept: a mean may depend on it in the last bit.
    """
    for keys in levels:
        rows = rows.group_by(keys, maintain_order=True).agg(pl.col(columns).mean())
    return rows


def _panel_of_images(score: Score, settings: Settings, rows: pl.DataFrame) -> Panel:
    """Scores of images, or of all of them at once. A case counts once, however many seeds there are.

    With several findings in each image, an item is a finding of an image.
    """
    item = ("case_id", *_finding(rows))
    cases = rows.unique(item).sort(item)
    floors = [
        _image_scores(score, each.with_columns(prediction=pl.lit(_majority(each))), sure=True)
        for each in _of_findings(cases)
    ]
    if floors[0].ndim == 0:
        return _panel_of_samples(score, settings, rows, float(mean_defined(np.array(floors, np.float64))))
    values = np.concatenate(floors)
    if values.dtype != np.bool_:
        floor = float(mean_defined(values.astype(np.float64)))
        scores = pl.Series(_image_scores(score, rows)).cast(pl.Float64).fill_nan(None)
        known = rows.with_columns(score=scores).filter(pl.col("score").is_not_null())
        of_seeds = means(known.sort(*PER_SEED, *item), ("score",), PER_SEED)
        return _panel_of_patients(score, settings, of_seeds, rows, floor)
    right = rows.with_columns(right=pl.Series(_image_scores(score, rows)))
    counts = right.group_by(*CELL, "patient_id").agg(
        pl.col("right").sum(), repeats=pl.struct(SEEDS).n_unique()
    )
    scored = counts.with_columns(total=pl.col("right") / pl.col("repeats"))
    sizes = cases.group_by("patient_id").len().sort("patient_id")["len"].to_numpy().astype(np.float64)
    panel = _panel(score, settings, scored, sizes, 0, floor=float(values.mean()), counts_outcomes=True)
    return _balanced(panel, right, cases) if score.balanced else panel


def _finding(rows: pl.DataFrame) -> list[str]:
    """The column that names a finding, where images have several."""
    return [name for name in ("finding",) if name in rows.columns]


def _of_findings(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows of each finding; all rows where an image has one label."""
    return rows.partition_by(_finding(rows), maintain_order=True) if _finding(rows) else [rows]


def _majority(cases: pl.DataFrame) -> int:
    """The most frequent label."""
    return int(cases["label"].value_counts().sort("count", "label")["label"].to_numpy()[-1])


def _balanced(panel: Panel, rows: pl.DataFrame, cases: pl.DataFrame) -> Panel:
    """The panel with outcomes weighted so that every class counts the same: N / (k N_c) for k classes.

    Of several findings, each counts the same as well, present as much as absent.
    """
    answer = [*_finding(rows), "label"]
    classes = cases.group_by(answer).len("images").sort(answer).with_row_index("place")
    images, places = classes["images"].to_numpy(), classes.drop("images")
    weights = images.sum() / images.size / images

    def table(counts: pl.DataFrame, name: str) -> ByClass:
        filled = np.zeros((len(panel.patients), images.size))
        placed = counts.join(places, on=answer)
        patients = np.searchsorted(panel.patients, placed["patient_id"].to_numpy().astype(str))
        filled[patients, placed["place"].to_numpy()] = placed[name]
        return filled

    right = rows.group_by(*CELL, "patient_id", *answer).agg(pl.col("right").sum())
    of_cells = right.partition_by(CELL, as_dict=True)
    tables = {cell: table(of_cells[cell], "right") / each.repeats for cell, each in panel.cells.items()}
    cells = {
        cell: panel.cells[cell]._replace(totals=by_class @ weights, by_class=by_class)
        for cell, by_class in tables.items()
    }
    class_sizes = table(cases.group_by("patient_id", *answer).len("images"), "images")
    return replace(
        panel,
        cells=cells,
        sizes=class_sizes @ weights,
        class_sizes=class_sizes,
        floor=len(_of_findings(cases)) / images.size,
    )


def _panel_of_patients(
    score: Score, settings: Settings, of_seeds: pl.DataFrame, rows: pl.DataFrame, floor: float
) -> Panel:
    """Means over seeds of the patients whose score is defined in every cell; every patient counts once."""
    scored = of_seeds.group_by(*CELL, "patient_id", maintain_order=True).agg(
        total=pl.col("score").mean(), repeats=pl.len()
    )
    kept = scored.filter(pl.len().over("patient_id") == scored.select(CELL).n_unique())
    patients = kept["patient_id"].n_unique()
    undefined = rows["patient_id"].n_unique() - patients
    return _panel(score, settings, kept, np.ones(patients), undefined, floor=floor)


def _panel_of_samples(score: Score, settings: Settings, rows: pl.DataFrame, floor: float) -> Panel:
    """A score of all images at once: each patient's contribution to it, found by leaving the patient out.

    With n patients, t the score and t_i that without patient i, a patient contributes
    `t + (n - 1) (mean(t_j) - t_i)`: these have the score as their mean, and its jackknife error.

    Of several findings, the contribution is the mean of those to the findings that have a score.

    Source:
        Efron and Stein, Annals of Statistics 9, 1981.
    """
    patients = sorted(rows["patient_id"].unique())
    cells: dict[Cell, Scores] = {}
    for key, of_cell in rows.partition_by(CELL, as_dict=True).items():
        trainings = of_cell.sort("case_id", *SEEDS).partition_by(SEEDS)
        parts = [each for training in trainings for each in _of_findings(training)]
        contributions = [_contributions(score, each, patients) for each in parts]
        known = [place for place, each in enumerate(contributions) if not np.isnan(each).any()]
        totals = np.mean([contributions[place] for place in known] or contributions, axis=0)
        answers = [_answers(score, parts[place], patients) for place in known if score.swaps is not None]
        cells[Cell(*key)] = Scores(totals, len(trainings), answers=tuple(answers))
    return Panel(score, settings, tuple(patients), 0, np.ones(len(patients)), cells, floor=floor)


def _answers(score: Score, rows: pl.DataFrame, patients: Sequence[str]) -> Answers:
    labels, given = _image_columns(score, rows).values()
    return Answers(labels, given, np.searchsorted(patients, rows["patient_id"].to_numpy().astype(str)))


def _contributions(score: Score, rows: pl.DataFrame, patients: Sequence[str]) -> Totals:
    whose = np.searchsorted(patients, rows["patient_id"].to_numpy().astype(str))
    columns = _image_columns(score, rows)
    whole = float(_called(score, columns, rows.height))

    def without(patient: int) -> float:
        kept = whose != patient
        return float(_called(score, {name: each[kept] for name, each in columns.items()}, int(kept.sum())))

    if score.without is None:
        left = np.array([without(patient) for patient in range(len(patients))])
    else:
        left = np.full(len(patients), whole)
        left[: whose.max() + 1] = score.without(**columns, patients=whose)
    left = np.where(np.isnan(left), np.nanmean(left) if (~np.isnan(left)).any() else whole, left)
    return np.asarray(whole + (len(patients) - 1) * (left.mean() - left))


def _image_scores(score: Score, rows: pl.DataFrame, *, sure: bool = False) -> np.ndarray:
    """`sure`: with the probabilities of a network that is certain of its prediction."""
    columns = _image_columns(score, rows)
    if sure and "probabilities" in columns:
        columns["probabilities"] = np.eye(columns["probabilities"].shape[1])[rows["prediction"].to_numpy()]
    return _called(score, columns, rows.height)


def _image_columns(score: Score, rows: pl.DataFrame) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {
        "labels": rows["label"].to_numpy(),
        "predictions": rows["prediction"].to_numpy(),
    }
    if "probabilities" in score.columns:
        columns["probabilities"] = matrix_of(rows["probabilities"])
    return {name: columns[name] for name in score.columns}


def matrix_of(lists: pl.Series) -> Float64[np.ndarray, "n d"]:
    """Lists of one length as the rows of a matrix."""
    return lists.list.to_array(lists.list.len().item(0)).to_numpy().astype(np.float64)


def _called(score: Score, columns: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """What a score returns for rows: a value for each, or in classification one for all."""
    try:
        with np.errstate(all="ignore"):
            values: np.ndarray = np.asarray(score.of(**columns))
    except Exception as error:  # of a user's function
        raise RunError(f"The score {score.name} failed: {reason(error)}.") from error
    whole = not score.is_of_maps
    if (values.shape != (rows,) and not (whole and values.shape == ())) or values.dtype.kind not in "biuf":
        wanted = "a number for each row" + (", or one for all" if whole else "")
        raise RunError(
            f"The score {score.name} must return {wanted} ({rows} rows here), but returned {values.dtype} of"
            f" shape {values.shape}."
        )
    return values


def _panel(
    score: Score, settings: Settings, scored: pl.DataFrame, sizes: Totals, undefined: int, **more: Any
) -> Panel:
    patients = tuple(sorted(scored["patient_id"].unique()))
    cells = {
        Cell(*key): Scores(rows["total"].to_numpy(), rows["repeats"].item(0))
        for key, rows in scored.sort("patient_id").partition_by(CELL, as_dict=True).items()
    }
    return Panel(score, settings, patients, undefined, sizes, cells, **more)

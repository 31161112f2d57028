"""Selective use: does a network's own confidence warn of its mistakes, clean, with noise and under attack?

Networks that say only what they decide have none, and are left out.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Int, Shaped

from medrobust.analysis.results import CONDITIONS, Results
from medrobust.analysis.scores import CELL, RIGHT, SEEDS, Cell, matrix_of, with_whitebox
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.metrics.selective import (
    Answers,
    Confidence,
    Wrong,
    answered_at,
    aurc,
    aurc_influence,
    excess_aurc,
    failure_auroc,
    failure_auroc_influence,
)
from medrobust.stats.intervals import (
    FEWEST_ON_A_SIDE,
    ROUNDING,
    UNDEFINED,
    Estimate,
    Totals,
    auroc_interval,
    effective_number,
    mean,
    wilson,
)

AREAS: Mapping[str, tuple[Callable[[Wrong, Confidence], float], Callable[[Wrong, Confidence], Answers]]] = {
    "failure_auroc": (failure_auroc, failure_auroc_influence),
    "aurc": (aurc, aurc_influence),
}
"""Areas that have intervals: the function, and by how much it moves with the weight of each answer."""
COVERAGES = {"risk": 1.0, "risk_90": 0.9, "risk_80": 0.8}
"""Columns of selective risks, and the fraction of the images that is answered."""
POINTS = 20
"""Coverages of a drawn curve."""


class Given(NamedTuple):
    """The answers of one training in a cell (to one finding), and the number of each image's patient."""

    wrong: Wrong
    confidence: Confidence
    patients: Int[np.ndarray, "n"]

    @property
    def differs(self) -> bool:
        """Whether some answers are right and some wrong, so that there is something to tell apart."""
        return bool(self.wrong.any() and not self.wrong.all())


class Area(NamedTuple):
    """An area averaged over cells and trainings.

    Attributes:
        contributions: Of each patient; their mean is the area.
        wrong: Wrong answers of each patient in all of them.
        right: Right answers.
    """

    contributions: Totals
    wrong: Totals
    right: Totals

    @property
    def freedom(self) -> int:
        """Degrees of freedom of its error: those of the rarer kind of answers; 0 where these are too few."""
        few = min(effective_number(self.wrong), effective_number(self.right))
        return round(few) - 1 if few >= FEWEST_ON_A_SIDE - ROUNDING else 0


def selective(results: Results) -> pl.DataFrame:
    """How well the confidence of every network tells its mistakes, for each perturbation.

    Returns:
        A row per target and perturbation, averaged over the sources that all targets face: `failure_auroc`
        and `aurc`; the fraction of wrong answers, `risk` of all, `risk_90` and `risk_80` of that percentage
        of the images which is answered with most confidence; each with `_low` and `_high`. `excess_aurc` has
        no interval. `n_undefined`, cells and trainings (and findings) whose answers are all right or all
        wrong, so that they enter no area; `n_cases, n_patients`.
    """
    answers, confidence, lines = _answers(results), results.settings.confidence, list[Line]()
    for model, perturbation in product(results.confident, results.perturbations):
        given = _of(answers, results.cells(model, [perturbation], ["", *results.sources]))
        if given:
            values = {name: _estimate(_area(given, name), name, confidence) for name in AREAS}
            for name, coverage in COVERAGES.items():
                values[name] = wilson(*_answered(given, coverage), confidence)
            excess = [excess_aurc(each.wrong, each.confidence) for each in given if each.differs]
            lines.append(
                {"target": model, "perturbation": perturbation, **with_bounds(values)}
                | {"excess_aurc": float(np.mean(excess)) if excess else math.nan}
                | {"n_undefined": sum(not each.differs for each in given), "n_cases": results.n_cases}
                | {"n_patients": 1 + max(int(each.patients.max()) for each in given)}
            )
    numbers = (*bounded(*AREAS), "excess_aurc", *bounded(*COVERAGES))
    return frame(lines, "target", "perturbation", *numbers, "n_undefined", "n_cases", "n_patients")


def selective_pairs(results: Results) -> pl.DataFrame:
    """Paired differences between all pairs of networks, clean, with noise and under attack.

    Returns:
        `condition, first, second`; `failure_auroc_difference` (first - second, so that the first warns better
        above 0) and `aurc_difference` (the first is better below 0), each with `_low` and `_high`, over the
        perturbations and sources in which both have right and wrong answers.
    """
    answers, confidence, lines = _answers(results), results.settings.confidence, list[Line]()
    for condition, pair in product(CONDITIONS, combinations(results.confident, 2)):
        columns = [
            {cell[1:]: _of(answers, [cell]) for cell in _cells(results, model, *pair)[condition]}
            for model in pair
        ]
        shared = [
            column
            for column, given in columns[0].items()
            if column in columns[1] and all(each.differs for each in given + columns[1][column])
        ]
        given = [[each for column in shared for each in of_model[column]] for of_model in columns]
        values = {
            f"{name}_difference": _difference(_area(given[0], name), _area(given[1], name), confidence)
            for name in AREAS
        }
        names = dict(zip(("condition", "first", "second"), (condition, *pair), strict=True))
        lines.append(names | with_bounds(values))
    numbers = bounded(*(f"{name}_difference" for name in AREAS))
    return frame(lines, "condition", "first", "second", *numbers)


def risk_coverage(results: Results) -> pl.DataFrame:
    """Risk-coverage curves: the fraction of wrong answers among the most confident ones.

    Returns:
        A row per condition, network and coverage, averaged over cells: `condition, model, coverage, risk`.
    """
    answers, lines = _answers(results), list[Line]()
    for model in results.confident:
        for condition, cells in results.condition_cells(model).items():
            given = _of(answers, cells)
            for coverage in (np.arange(1, POINTS + 1) / POINTS).tolist() if given else ():
                wrong, answered = _answered(given, coverage)
                risk = float(wrong.sum() / answered.sum())
                lines.append({"condition": condition, "model": model, "coverage": coverage, "risk": risk})
    return frame(lines, "condition", "model", "coverage", "risk")


def confidence_sentences(results: Results) -> list[str]:
    """Networks whose confidence tells their mistakes on clean images, and under attack less, if at all."""
    if results.task.has_maps:
        return []
    answers, level, silent = _answers(results), results.settings.confidence, []
    for model in results.confident:
        cells = _cells(results, model)
        clean, attacked = (
            _area(_of(answers, cells[each]), "failure_auroc") for each in ("clean", "adversarial")
        )
        before, after = (_estimate(each, "failure_auroc", level) for each in (clean, attacked))
        if before.low > 0.5 >= after.low and _difference(clean, attacked, level).low > 0:
            silent.append(
                f"{model} {after.value:.2f} [{after.low:.2f}, {after.high:.2f}], clean {before.value:.2f}"
                f" [{before.low:.2f}, {before.high:.2f}]"
            )
    if not silent:
        return []
    return [
        "Under attack confidence cannot be shown to warn of mistakes any more: the probability that a wrong"
        f" answer has less confidence than a right one (chance: 0.5) is {'; '.join(silent)}."
    ]


def _answers(results: Results) -> Mapping[Cell, list[Given]]:
    """The answers to clean images, to noise and to transferred attacks.

    Raises:
        RunError: The study is one of segmentation.
    """
    results.refuse_maps("Confidence is stored for images as a whole")
    rows = with_whitebox(results.rows).filter(~pl.col("whitebox"))
    rows = rows.with_columns(patient=pl.col("patient_id").rank("dense").cast(pl.Int64) - 1)
    parts = [*CELL, *SEEDS, *({"finding"} & {*rows.columns})]
    found: dict[Cell, list[Given]] = {}
    for key, part in rows.sort(*parts, "case_id").partition_by(parts, as_dict=True).items():
        wrong, confidence = (
            part.select(~RIGHT).to_series().to_numpy(),
            matrix_of(part["probabilities"]).max(1),
        )
        given = Given(wrong, confidence, part["patient"].to_numpy())
        found.setdefault(Cell(*key[: len(CELL)]), []).append(given)
    return found


def _of(answers: Mapping[Cell, list[Given]], cells: Iterable[Cell]) -> list[Given]:
    return [each for cell in cells for each in answers[cell]]


def _cells(results: Results, model: str, *compared: str) -> dict[str, list[Cell]]:
    """Cells of each condition; under attack those that a verdict rests on, from sources that all face."""
    sources = results.common_sources(*compared) if compared else None
    return results.condition_cells(model) | {"adversarial": results.judged_cells(model, sources)}


def _answered(given: Iterable[Given], coverage: float) -> tuple[Totals, Totals]:
    """Wrong answers of each patient, and all, among the most confident ones of each training and cell."""
    whose, wrong, answered = [], [], []
    for each in given:
        share = answered_at(each.confidence, coverage)
        whose.append(each.patients)
        wrong.append(share * each.wrong)
        answered.append(share)
    patient = np.concatenate(whose)
    every = np.bincount(patient, np.concatenate(answered))
    return np.bincount(patient, np.concatenate(wrong))[every > 0], every[every > 0]


def _area(given: Sequence[Given], name: str) -> Area | None:
    """The mean of an area over the answers in which it is defined; None where it is in none."""
    area, influence = AREAS[name]
    known = [each for each in given if each.differs]
    if not known:
        return None
    patients = 1 + max(int(each.patients.max()) for each in known)

    def per_patient(values: Shaped[np.ndarray, "n"], each: Given) -> Totals:
        return np.bincount(each.patients, values, minlength=patients)

    contributions = [
        area(each.wrong, each.confidence)
        + patients * per_patient(influence(each.wrong, each.confidence), each)
        for each in known
    ]
    wrong = np.sum([per_patient(each.wrong, each) for each in known], axis=0)
    right = np.sum([per_patient(~each.wrong, each) for each in known], axis=0)
    return Area(np.mean(contributions, axis=0), wrong, right)


def _estimate(area: Area | None, name: str, confidence: float) -> Estimate:
    if area is None:
        return UNDEFINED
    if name == "failure_auroc":
        return auroc_interval(*area, confidence)
    found = mean(area.contributions)
    if not area.freedom:
        return Estimate(found.value)
    return found._replace(freedom=area.freedom).fraction_interval(confidence)


def _difference(first: Area | None, second: Area | None, confidence: float) -> Estimate:
    if first is None or second is None:
        return UNDEFINED
    found, freedom = mean(first.contributions - second.contributions), min(first.freedom, second.freedom)
    if not freedom:
        return Estimate(found.value)
    return found._replace(freedom=freedom).interval(confidence, 1.0).clipped(-1.0, 1.0)

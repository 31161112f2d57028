"""Networks trained several times: scores of each training, and what holds for an architecture."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import polars as pl
from jaxtyping import Float64

from medrobust.analysis.results import CONDITIONS, Results
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.stats.intervals import Estimate, Totals, components_interval, mean, ratio

FEWEST_TRAININGS = 3
"""With fewer trainings nothing is said about their variance."""

Trainings = dict[str, Float64[np.ndarray, "target_seeds source_seeds patients"]]
"""Of every source what it adds to the adversarial totals of the patients, for each pair of trainings."""


def by_seed(results: Results) -> pl.DataFrame:
    """Scores of every training of a target, each a dot in a figure, since a few seeds show no variance."""
    lines: list[Line] = []
    for model in results.models:
        for seed in seeds(results, "target", model):
            one = alone(results, model, pl.col("target_seed") == seed)
            conditions = one.conditions(model).items()
            values = {name: one.panel.estimate(scores).value for name, scores in conditions}
            lines.append({"model": model, "target_seed": seed, **values})
    return frame(lines, "model", "target_seed", *CONDITIONS)


def seeds_needed(results: Results) -> tuple[int, int]:
    """Trainings of each target and of each source that claims about architectures take.

    Two surrogates show how much trainings of a source differ if there are more sources; of a single one that
    matters most, intervals of two would hold the truth in 88 % of the studies, of three in 93 %.
    """
    return 3, 2 if len(results.sources) > 1 else 3


def enough_seeds(results: Results) -> bool:
    """Whether every network was trained often enough for claims about architectures."""
    targets, surrogates = seeds_needed(results)
    return (
        bool(results.models and results.sources)
        and all(len(seeds(results, "target", model)) >= targets for model in results.models)
        and all(len(seeds(results, "source", source)) >= surrogates for source in results.sources)
    )


def architectures(results: Results) -> pl.DataFrame:
    """Differences of mean adversarial scores between architectures, over trainings as well as patients.

    The variance is that between trainings of the first target, of the second, of each source's surrogates,
    and between patients, each of what is averaged over the others; `components_interval`. Surrogates of
    different sources are different trainings even where their seeds have the same number.

    Returns:
        `first, second, difference` with `_low` and `_high`, which are null where nothing varies; empty with
        too few seeds, and if every attack failed its self-tests.
    """
    columns = ("first", "second", *bounded("difference"))
    if not enough_seeds(results) or not any(results.judged_cells(model) for model in results.models):
        return frame([], *columns)
    scores = {model: _trainings(results, model) for model in results.models}
    lines = []
    for first, second in combinations(results.models, 2):
        estimate = _over_all(results, scores[first], scores[second])
        lines.append({"first": first, "second": second, **with_bounds({"difference": estimate})})
    return frame(lines, *columns)


def seeds(results: Results, role: str, network: str) -> list[int]:
    """Seeds that a network was trained with, as "target" or as "source" of transferred attacks."""
    rows = results.rows.filter(pl.col(role) == network, (pl.col("role") != "whitebox"))
    return rows[f"{role}_seed"].unique().sort().to_list()


def _shared_source_seeds(results: Results) -> list[int]:
    """Seeds that all sources were trained with."""
    every = [set(seeds(results, "source", source)) for source in results.sources]
    return sorted(set.intersection(*every)) if every else []


def alone(results: Results, model: str, *rows: pl.Expr) -> Results:
    """One target's part of the results, on the sources that all targets face."""
    shared = pl.col("source").is_in(["", *results.sources]) | (pl.col("role") == "whitebox")
    return replace(
        results.restricted(pl.all_horizontal(pl.col("target") == model, shared, *rows)), models=(model,)
    )


def _trainings(results: Results, model: str) -> Trainings:
    cells = alone(results, model).judged_cells(model)
    target_seeds, source_seeds = seeds(results, "target", model), _shared_source_seeds(results)
    totals: dict[str, list[Totals]] = {cell.source: [] for cell in cells}
    for target_seed, source_seed in product(target_seeds, source_seeds):
        attacked = (pl.col("source") == "") | (pl.col("source_seed") == source_seed)
        panel = alone(results, model, pl.col("target_seed") == target_seed, attacked).panel
        for source, parts in totals.items():
            of_source = [panel.cells[cell].totals for cell in cells if cell.source == source]
            parts.append(np.sum(of_source, axis=0) / len(cells))
    shape = len(target_seeds), len(source_seeds), -1
    return {source: np.stack(parts).reshape(shape) for source, parts in totals.items()}


def _over_all(results: Results, first: Trainings, second: Trainings) -> Estimate:
    sizes = results.panel.sizes
    one, other = (np.sum([part.mean(1) for part in parts.values()], axis=0) for parts in (first, second))
    over_patients = ratio(one.mean(0) - other.mean(0), sizes)
    none = np.zeros((1, 1, 1))  # where every network attacks the others, each lacks another source
    over_trainings = [one, other] + [
        first.get(source, none).mean(0) - second.get(source, none).mean(0) for source in {**first, **second}
    ]
    parts = [*(mean(each.sum(1) / sizes.sum()) for each in over_trainings), over_patients]
    return components_interval(
        over_patients.value,
        [(part.error**2, part.freedom) for part in parts],
        results.settings.confidence,
    )


def variance(results: Results) -> pl.DataFrame:
    """Spread of the score of every network, clean, with noise and under attack.

    Returns:
        `model, condition`; `sd_patients`, standard deviation of the score between patients, all trainings
        averaged within the patient; `sd_targets` and `sd_surrogates`, of the mean score between trainings of
        the network itself and of the networks that attacks were crafted on, null below 3 of them; and their
        numbers, `n_patients, n_targets, n_surrogates`. Clean images have no surrogate.
    """
    lines: list[Line] = []
    for model in results.models:
        of_targets = _training_means(results, model, "target")
        of_surrogates = _training_means(results, model, "source")
        for name, scores in results.conditions(model).items():
            if scores is not None:
                surrogates = [] if name == "clean" else of_surrogates[name]
                lines.append(
                    {
                        "model": model,
                        "condition": name,
                        "sd_patients": _sd(scores.totals / results.panel.sizes, fewest=2),
                        "sd_targets": _sd(of_targets[name]),
                        "sd_surrogates": _sd(surrogates),
                        "n_patients": len(results.panel.patients),
                        "n_targets": len(of_targets[name]),
                        "n_surrogates": len(surrogates),
                    }
                )
    spreads = ("sd_patients", "sd_targets", "sd_surrogates")
    return frame(lines, "model", "condition", *spreads, "n_patients", "n_targets", "n_surrogates")


def _training_means(results: Results, model: str, role: str) -> dict[str, list[float]]:
    """Mean scores of a network with each seed of its own ("target"), or that its sources share ("source")."""
    column = pl.col(f"{role}_seed")
    if role == "target":
        every = [column == seed for seed in seeds(results, "target", model)]
    else:
        every = [(pl.col("source") == "") | (column == seed) for seed in _shared_source_seeds(results)]
    means: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    for rows in every:
        one = alone(results, model, rows)
        for name, scores in one.conditions(model).items():
            if scores is not None:
                means[name].append(one.panel.value(scores))
    return means


def _sd(values: object, fewest: int = FEWEST_TRAININGS) -> float | None:
    numbers = np.asarray(values, np.float64)
    return float(numbers.std(ddof=1)) if numbers.size >= fewest else None

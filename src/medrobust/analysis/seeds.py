"""Networks trained several times: scores of each training, and what holds for an architecture."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
from jaxtyping import Float64

from medrobust.analysis import estimates
from medrobust.analysis.results import Results
from medrobust.analysis.tables import bounded, conditions, frame, with_bounds
from medrobust.rng import generator
from medrobust.stats.intervals import ROUNDING, Estimate

FEWEST_TARGET_SEEDS = 3
FEWEST_SURROGATE_SEEDS = 2

Trainings = Float64[np.ndarray, "target_seeds source_seeds patients"]


def by_seed(results: Results) -> pl.DataFrame:
    """Scores of every training of a target: dots in a figure, since few seeds show no variance."""
    lines = []
    for model in results.models:
        for seed in seeds(results, "target", model):
            one = alone(results, model, pl.col("target_seed") == seed)
            names = ("clean", "noise", "adversarial")
            values = (estimates.score(one, scores).value for scores in conditions(one, model))
            lines.append({"model": model, "target_seed": seed, **dict(zip(names, values, strict=True))})
    columns = {"model": pl.String, "target_seed": pl.Int64}
    return frame(lines, columns | dict.fromkeys(("clean", "noise", "adversarial"), pl.Float64))


def enough_seeds(results: Results) -> bool:
    """Whether every network was trained often enough for claims about architectures."""
    targets = [len(seeds(results, "target", model)) for model in results.models]
    surrogates = [len(seeds(results, "source", source)) for source in results.sources]
    return (
        min(targets, default=0) >= FEWEST_TARGET_SEEDS
        and min(surrogates, default=0) >= FEWEST_SURROGATE_SEEDS
    )


def architectures(results: Results) -> pl.DataFrame:
    """Differences of mean adversarial scores between architectures, over trainings as well as patients.

    Seeds of the first target, of the second, of the surrogates, and patients are resampled crossed with each
    other; percentile intervals. With the fewest seeds allowed these are still rather short.

    Returns:
        `first, second, difference` with `_low` and `_high`, which are null where nothing varies; empty with
        too few seeds, and where every attack failed its self-tests.
    """
    columns = {"first": pl.String, "second": pl.String} | bounded("difference")
    if not enough_seeds(results) or not any(results.judged_cells(model) for model in results.models):
        return frame([], columns)
    scores = {model: _trainings(results, model) for model in results.models}
    lines = []
    for first, second in combinations(results.models, 2):
        rng = generator(results.settings.seed, "architectures", first, second)
        estimate = _crossed(results, scores[first], scores[second], rng)
        lines.append({"first": first, "second": second, **with_bounds({"difference": estimate})})
    return frame(lines, columns)


def seeds(results: Results, role: str, network: str) -> list[int]:
    """Seeds that a network was trained with, as "target" or as "source" of transferred attacks."""
    rows = results.rows.filter(pl.col(role) == network, (pl.col("role") != "whitebox"))
    return rows[f"{role}_seed"].unique().sort().to_list()


def alone(results: Results, model: str, *rows: pl.Expr) -> Results:
    """One target's share of the results, on the sources that all targets face."""
    shared = pl.col("source").is_in(["", *results.sources])
    return replace(
        results.restricted(pl.all_horizontal(pl.col("target") == model, shared, *rows)), models=(model,)
    )


def _trainings(results: Results, model: str) -> Trainings:
    """Adversarial totals of the patients for every pair of a target's and a surrogate's seed."""
    every = [set(seeds(results, "source", source)) for source in results.sources]
    source_seeds = sorted(set.intersection(*every))
    totals = []
    for target_seed in seeds(results, "target", model):
        for source_seed in source_seeds:
            of_source = (pl.col("source") == "") | (pl.col("source_seed") == source_seed)
            one = alone(results, model, pl.col("target_seed") == target_seed, of_source)
            cells = one.judged_cells(model)
            totals.append(np.mean([one.panel.cells[cell].totals for cell in cells], axis=0))
    return np.stack(totals).reshape(-1, len(source_seeds), results.panel.sizes.size)


def _crossed(results: Results, first: Trainings, second: Trainings, rng: np.random.Generator) -> Estimate:
    sizes, settings = results.panel.sizes, results.settings
    draws = np.array(
        [_difference(first, second, sizes, draw) for draw in _draws(first, second, settings.resamples, rng)]
    )
    low, high = np.quantile(draws, [(1 - settings.confidence) / 2, (1 + settings.confidence) / 2])
    if high - low <= ROUNDING:  # where nothing varies, resamples tell nothing of what others would show
        low = high = np.nan
    everything = [np.arange(n) for n in (first.shape[0], second.shape[0], *first.shape[1:])]
    return Estimate(_difference(first, second, sizes, everything), float(low), float(high))


def _draws(
    first: Trainings, second: Trainings, resamples: int, rng: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Indices of the first target's seeds, the second's, the surrogates', and of patients."""
    for _ in range(resamples):
        yield [rng.integers(0, n, n) for n in (first.shape[0], second.shape[0], *first.shape[1:])]


def _difference(first: Trainings, second: Trainings, sizes: np.ndarray, draw: list[np.ndarray]) -> float:
    seeds_first, seeds_second, surrogates, patients = draw
    one = first[np.ix_(seeds_first, surrogates, patients)].mean((0, 1))
    other = second[np.ix_(seeds_second, surrogates, patients)].mean((0, 1))
    return float((one - other).sum() / sizes[patients].sum())

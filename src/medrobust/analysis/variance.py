"""How much scores vary between patients, and between trainings of the same network."""

import numpy as np
import polars as pl

from medrobust.analysis.patients import Scores
from medrobust.analysis.results import Results
from medrobust.analysis.seeds import alone, seeds
from medrobust.analysis.tables import conditions, frame

FEWEST = 3
"""Trainings below which nothing is said of their variance."""

CONDITIONS = ("clean", "noise", "adversarial")


def variance(results: Results) -> pl.DataFrame:
    """Spread of the score of every network, clean, with noise and under attack.

    Returns:
        `model, condition`; `sd_patients`, standard deviation of the score between patients, all trainings
        averaged within the patient; `sd_targets` and `sd_surrogates`, of the mean score between trainings of
        the network itself and of the networks that attacks were crafted on, null below 3 of them; and how
        many there are, `n_patients, n_targets, n_surrogates`. Clean images have no surrogate.
    """
    lines: list[dict[str, object]] = []
    for model in results.models:
        of_targets = _means(results, model, "target")
        of_surrogates = _means(results, model, "source")
        for name, scores in zip(CONDITIONS, conditions(results, model), strict=True):
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
    spreads = dict.fromkeys(("sd_patients", "sd_targets", "sd_surrogates"), pl.Float64)
    numbers = dict.fromkeys(("n_patients", "n_targets", "n_surrogates"), pl.Int64)
    return frame(lines, {"model": pl.String, "condition": pl.String, **spreads, **numbers})


def _means(results: Results, model: str, role: str) -> dict[str, list[float]]:
    """Mean scores of a network with each seed of its own ("target"), or that its sources share ("source")."""
    column = pl.col(f"{role}_seed")
    if role == "target":
        every = [(seed, column == seed) for seed in seeds(results, "target", model)]
    else:
        of_sources = [set(seeds(results, "source", source)) for source in results.sources]
        shared = sorted(set.intersection(*of_sources)) if of_sources else []
        every = [(seed, (pl.col("source") == "") | (column == seed)) for seed in shared]
    means: dict[str, list[float]] = {name: [] for name in CONDITIONS}
    for _, rows in every:
        one = alone(results, model, rows)
        for name, scores in zip(CONDITIONS, conditions(one, model), strict=True):
            if scores is not None:
                means[name].append(_mean(one, scores))
    return means


def _mean(results: Results, scores: Scores) -> float:
    return float(scores.totals.sum() / results.panel.sizes.sum())


def _sd(values: object, fewest: int = FEWEST) -> float | None:
    numbers = np.asarray(values, np.float64)
    return float(numbers.std(ddof=1)) if numbers.size >= fewest else None

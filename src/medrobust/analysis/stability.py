"""How the order of the networks depends on which patients were there, by resampling them."""

import numpy as np
import polars as pl
from jaxtyping import Float64

from medrobust.analysis.results import Results
from medrobust.analysis.scores import Scores
from medrobust.analysis.table import bounded, frame, with_bounds
from medrobust.stats.resampling import rank_agreement, rank_frequencies
from medrobust.stats.vectors import spread

FEWEST_FOR_FRACTIONS = 20
"""With fewer patients the fraction of resamples in which something holds says nothing."""


def rank_stability(results: Results) -> pl.DataFrame:
    """How often each network has each rank when patients are drawn anew, clean and under attack.

    Returns:
        A row per condition, network and rank: `condition, model, place, frequency`; networks in the order of
        their scores, ties sharing their ranks. Empty with one network, and below 20 patients.
    """
    lines = [
        {"condition": condition, "model": model, "place": place + 1, "frequency": frequency}
        for condition, (models, totals) in _compared(results).items()
        for model, of_model in zip(models, rank_frequencies(results.panel.resampled(totals)), strict=True)
        for place, frequency in enumerate(map(float, of_model))
    ]
    return frame(lines, "condition", "model", "place", "frequency")


def order_agreement(results: Results) -> pl.DataFrame:
    """How far the order of all patients is that of resampled ones.

    Returns:
        A row per condition: `condition`; `tau`, the mean of Kendall's tau over resamples, and the quantiles
        that it lies between in a fraction `confidence` of them; `same_order`, the fraction of resamples with
        exactly this order; `n_networks, n_patients`. Empty below three networks or 20 patients.
    """
    lines = []
    for condition, (models, totals) in _compared(results).items():
        if len(models) > 2:
            tau = rank_agreement(totals.sum(1), results.panel.resampled(totals))
            estimate = spread(tau, results.settings.confidence)
            same = float(np.mean(np.isclose(tau, 1.0)))
            counts = {"n_networks": len(models), "n_patients": totals.shape[1]}
            line = {"condition": condition, **with_bounds({"tau": estimate}), "same_order": same, **counts}
            lines.append(line)
    return frame(lines, "condition", *bounded("tau"), "same_order", "n_networks", "n_patients")


def _compared(results: Results) -> dict[str, tuple[list[str], Float64[np.ndarray, "networks patients"]]]:
    """Networks and totals of their patients, the best first; none under attack unless attacked alike."""
    panel, models = results.panel, results.models
    judged = {model: results.judged_cells(model) for model in models}
    columns = {tuple((cell.perturbation, cell.source) for cell in cells) for cells in judged.values()}
    if len(models) < 2 or len(panel.patients) < FEWEST_FOR_FRACTIONS:
        return {}
    found: dict[str, list[Scores | None]] = {"clean": [results.clean(model) for model in models]}
    if len(columns) == 1 and () not in columns:
        found["adversarial"] = [panel.mean(judged[model]) for model in models]
    compared = {}
    for condition, scores in found.items():
        totals = results.score.sign * np.stack([each.totals for each in scores if each is not None])
        order = np.argsort(-totals.sum(1), kind="stable")
        compared[condition] = ([models[place] for place in order], totals[order])
    return compared

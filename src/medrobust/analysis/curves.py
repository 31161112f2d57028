"""Scores against the budget of an attack."""

from collections.abc import Sequence

import polars as pl

from medrobust.analysis import estimates
from medrobust.analysis.comparisons import Line
from medrobust.analysis.patients import CLEAN, Scores
from medrobust.analysis.results import Results
from medrobust.analysis.tables import bounded, frame, with_bounds
from medrobust.study.analysis import Attack

CURVE = {
    "curve": pl.String,
    "target": pl.String,
    "perturbation": pl.String,
    "budget": pl.Float64,
    **dict.fromkeys(("score", "low", "high"), pl.Float64),
    **bounded("noise"),
    "n_cases": pl.Int64,
    "n_patients": pl.Int64,
}


def curve_table(results: Results) -> pl.DataFrame:
    """Score of every target against the budget of every attack that the study gives a list of budgets.

    Returns:
        `curve, target, perturbation, budget`; `score` with `low` and `high`, and `noise` (matched to the
        attack) with `noise_low` and `noise_high`: means over the sources that all targets face. Sorted by
        budget; 0 is the clean image, which is also what noise of strength 0 leaves. Noise is null where the
        study matches none. Empty where the study has no list of budgets.
    """
    lines: list[Line] = []
    for curve in dict.fromkeys(attack.curve for attack in results.attacks if attack.curve):
        points = [attack for attack in results.attacks if attack.curve == curve]
        for model in results.models:
            lines += [{"curve": curve, "target": model, **line} for line in _points(results, model, points)]
    return frame(lines, CURVE)


def _points(results: Results, model: str, points: Sequence[Attack]) -> list[Line]:
    clean = results.panel.cells[results.clean_cell(model)]
    noisy = any(results.matched_cells(model, [point.label]) for point in points)
    lines = [_line(results, model, CLEAN, 0.0, clean, clean if noisy else None)]
    for point in sorted(points, key=lambda point: point.value or 0.0):
        attacked = results.panel.mean(results.cells(model, [point.label]))
        noise = results.panel.mean(results.matched_cells(model, [point.label]))
        lines.append(_line(results, model, point.label, point.value or 0.0, attacked, noise))
    return lines


def _line(
    results: Results, model: str, name: str, budget: float, attacked: Scores | None, noise: Scores | None
) -> Line:
    score, low, high = estimates.score(results, attacked)
    return {
        "perturbation": name,
        "budget": budget,
        "score": score,
        "low": low,
        "high": high,
        **with_bounds({"noise": estimates.score(results, noise)}),
        "n_cases": results.n_cases,
        "n_patients": len(results.panel.patients),
    }

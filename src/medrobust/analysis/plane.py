"""Generalizability against robustness: where each network lies, how surely, and which ones no other beats."""

import math

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64
from scipy import stats

from medrobust.analysis.patients import Scores
from medrobust.analysis.results import Results
from medrobust.analysis.tables import frame
from medrobust.stats.intervals import Totals, ratio

_COLUMNS = ("clean", "adversarial", "var_clean", "var_adversarial", "covariance", "scale")


def plane(results: Results) -> pl.DataFrame:
    """Clean and mean adversarial score of every network, with the region that holds both.

    The region is the ellipse of all points p with `(p - m)' C^-1 (p - m) <= scale`, m the two scores and C
    their covariance matrix over patients (linearised, as the standard errors of single scores are).

    Returns:
        `model, clean, adversarial`; `var_clean, var_adversarial, covariance` of the two scores; `scale`, from
        Hotelling's T2, null below three patients and where one of the scores does not vary; `on_front`: no
        other network is at least as good in both and better in one.
    """
    lines: list[dict[str, object]] = []
    for model in results.models:
        clean = results.panel.cells[results.clean_cell(model)]
        attacked = results.panel.mean(results.judged_cells(model))
        lines.append({"model": model, **_place(results, clean, attacked)})
    scores = np.array([[line["clean"], line["adversarial"]] for line in lines], dtype=np.float64)
    for line, front in zip(lines, on_front(scores), strict=True):
        line["on_front"] = bool(front)
    numbers = dict.fromkeys(_COLUMNS, pl.Float64)
    return frame(lines, {"model": pl.String} | numbers | {"on_front": pl.Boolean})


def on_front(scores: Float64[np.ndarray, "networks 2"]) -> Bool[np.ndarray, "networks"]:
    """Which networks are on the Pareto front; those with an undefined score are not, and beat nobody."""
    at_least = (scores[:, None] >= scores[None]).all(-1)
    better = (scores[:, None] > scores[None]).any(-1)
    beaten = (at_least & better).any(0)
    return np.asarray(~beaten & ~np.isnan(scores).any(1))


def _place(results: Results, clean: Scores, attacked: Scores | None) -> dict[str, float]:
    if attacked is None:
        return {"clean": ratio(clean.totals, results.panel.sizes).value, "adversarial": math.nan}
    sizes = results.panel.sizes
    both = [ratio(each.totals, sizes) for each in (clean, attacked)]
    return {
        "clean": both[0].value,
        "adversarial": both[1].value,
        "var_clean": both[0].error ** 2,
        "var_adversarial": both[1].error ** 2,
        "covariance": _covariance(clean.totals, attacked.totals, sizes),
        "scale": _hotelling(sizes.size, results.settings.confidence)
        if all(each.varies for each in both)
        else math.nan,
    }


def _covariance(x: Totals, z: Totals, sizes: Totals) -> float:
    """Covariance of two scores over the same patients; its diagonal are the squared errors of `ratio`."""
    patients, total = sizes.size, float(sizes.sum())
    if patients < 2:
        return math.nan
    residuals = [totals - totals.sum() / total * sizes for totals in (x, z)]
    return patients / (patients - 1) * float(residuals[0] @ residuals[1]) / total**2


def _hotelling(patients: int, confidence: float) -> float:
    """Squared radius of the region of two means, in units of their covariance.

    Source:
        Hotelling, Annals of Mathematical Statistics 2, 1931: `2 (n - 1) / (n - 2)` times the quantile of F.
    """
    if patients < 3:
        return math.nan
    quantile = float(stats.f.ppf(confidence, 2, patients - 2))
    return 2 * (patients - 1) / (patients - 2) * quantile

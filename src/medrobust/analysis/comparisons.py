"""Which networks differ: pairs of networks (family 1), and each attack against its own noise (family 2).

Differences are tested by exact sign flips over patients, equality on clean images by TOST, both adjusted by
Holm within the family. Intervals are not adjusted.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64
from scipy import stats

from medrobust.analysis.results import Results
from medrobust.analysis.scores import CLEAN, Cell, Panel, Scores
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.rng import generator
from medrobust.stats.intervals import Totals, ratio
from medrobust.stats.significance import (
    equivalence_test,
    holm,
    patients_needed,
    smallest_p,
)

RANKED = "ranked"
TIED = "not distinguishable"
TOO_FEW = "too few patients"
UNRANKED = "not ranked"


Pair = Mapping[str, Any]
"""A row of `pairs`, or of another family of pairs."""


class Network(NamedTuple):
    """A network to compare: the results of its run, its name there, and one that no other network has."""

    results: Results
    model: str
    name: str

    @property
    def clean(self) -> Scores:
        """Scores of its patients on clean images."""
        return self.results.clean(self.model)

    def attacked(self, sources: Sequence[str] | None = None) -> Scores | None:
        """Scores of its patients under the attacks that a verdict rests on; None without any."""
        return self.results.panel.mean(self.results.judged_cells(self.model, sources))


_PAIR = (
    *("first", "second", *bounded("difference"), "p", "p_holm", "verdict", "better", "false_claim"),
    *(*bounded("drop_difference"), "drops_agree", *bounded("neutral_difference"), "n_neutral_sources"),
    *(*bounded("clean_difference"), "p_equal", "p_equal_holm", "equally_good", "clean_false_claim"),
    *("patients_needed", "patients_for_claim"),
)


def pairs(results: Results) -> pl.DataFrame:
    """Family 1: all pairs of networks on the mean adversarial score, and what belongs beside it.

    Attacks that failed their self-tests on a source take no part. Where no source is faced by all targets,
    each pair is compared on the sources that both face.

    Returns:
        A row per pair: `difference` (first - second, in scores, paired over patients), `p`, `p_holm`,
        `verdict`, `better` (null unless ranked); `false_claim`, the probability that the network with the
        better mean is in truth no better, and `clean_false_claim`; `drop_difference` (drop in points of
        first - second) and `drops_agree` (drops put the same network ahead); `neutral_difference` from
        sources of neither architecture; `clean_difference`, `p_equal`, `p_equal_holm` and `equally_good`
        (`equivalence_test` within the relevant difference; null with too few patients to say);
        `patients_needed` for 80 % power at the relevant difference, and `patients_for_claim` at the observed
        one, null where nothing varies.
    """
    return duels(list(combinations([Network(results, model, model) for model in results.models], 2)))


def duels(networks: Sequence[tuple[Network, Network]]) -> pl.DataFrame:
    """A family of pairs in the columns of `pairs`; both of a pair share patients and settings."""
    tests = len(networks)
    lines = [_pair(first, second, tests) for first, second in networks]
    of_family = zip(networks, lines, adjusted(lines), adjusted(lines, "p_equal"), strict=True)
    for pair, line, p_holm, p_equal_holm in of_family:
        results = pair[0].results
        alpha, patients = results.settings.alpha, len(results.panel.patients)
        is_sound = all(above_majority(each.results)[each.model] for each in pair)
        can_be_equal = patients >= results.fewest_for_equality(tests)
        line |= {
            "p_holm": p_holm,
            "p_equal_holm": p_equal_holm,
            **judged(results, line, p_holm, patients, tests, sound=is_sound),
            "equally_good": p_equal_holm <= alpha if can_be_equal else None,
        }
    return frame(lines, *_PAIR)


def judged(
    results: Results, line: Line, p_holm: float, patients: int, tests: int, *, sound: bool
) -> dict[str, Any]:
    """What may be said of a pair: `verdict`, and the `better` network, None unless it is ranked.

    Args:
        results: The rows of a run.
        line: The pair: `first`, `second`, `difference` of their scores, and `p`.
        p_holm: Its p value, adjusted within the family.
        patients: Patients whose scores are defined.
        tests: Size of the family.
        sound: Whether both networks do better on clean images than the majority class.
    """
    alpha = results.settings.alpha
    if not sound or math.isnan(line["p"]):
        verdict = UNRANKED
    elif smallest_p(patients, _resamples(results, tests)) > alpha / tests:
        verdict = TOO_FEW
    else:
        verdict = RANKED if p_holm <= alpha else TIED
    ahead = "first" if results.score.sign * line["difference"] > 0 else "second"
    return {"verdict": verdict, "better": line[ahead] if verdict == RANKED else None}


def p_value(value: float) -> str:
    """A p value in words, e.g. "p = 0.031"."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def led(row: Pair, name: str) -> tuple[float, float, float]:
    """The better network of a ranked pair minus the other, with bounds; NaN where unknown."""
    value, low, high = (math.nan if row[column] is None else row[column] for column in bounded(name))
    return (value, low, high) if row["better"] == row["first"] else (-value, -high, -low)


def other_of(row: Pair) -> str:
    """The network of a ranked pair that is not the better one."""
    return str(row["second"] if row["better"] == row["first"] else row["first"])


def best_of(models: Sequence[str], pairs: pl.DataFrame) -> str | None:
    """The network that is significantly better than every other; None where there is none."""
    wins = pairs["better"].drop_nulls().to_list()
    return next((model for model in models if wins.count(model) == len(models) - 1 > 0), None)


def above_majority(results: Results, panel: Panel | None = None) -> dict[str, bool]:
    """Whether each network does better on clean images than one that always answers with the majority class.

    In segmentation that class is the background everywhere. Scores are those of `panel`, by default the main
    one.
    """
    panel, sign = panel or results.panel, results.score.sign
    clean = {model: panel.value(panel.cells[Cell(model, CLEAN)]) for model in results.models}
    return {
        model: math.isnan(panel.floor) or sign * value > sign * panel.floor for model, value in clean.items()
    }


def noise_control(results: Results) -> pl.DataFrame:
    """Family 2: does an attack do more harm than noise of the same SSIM?

    Returns:
        A row per target and attack that enters averages, averaged over the sources that all targets face:
        `attacked`, `noise`, `extra_drop_points` (drop under the attack minus drop under its own noise,
        paired; above 0: the attack is harder), `p`, `p_holm`.
    """
    lines: list[Line] = []
    panel, tests = results.panel, len(results.models) * len(results.averaged)
    for model in results.models:
        for label in results.averaged:
            attacked = panel.mean(results.cells(model, [label]))
            noise = panel.mean(results.matched_cells(model, [label]))
            if attacked is None or noise is None:
                continue
            values = {
                "attacked": panel.estimate(attacked),
                "noise": panel.estimate(noise),
                "extra_drop_points": panel.drop(noise, attacked).scaled(100),
            }
            p = {"p": sign_flip(results, noise, attacked, model, label, "noise control", tests=tests)}
            lines.append({"target": model, "perturbation": label, **with_bounds(values), **p})
    for line, p_holm in zip(lines, adjusted(lines), strict=True):
        line["p_holm"] = p_holm
    numbers = bounded("attacked", "noise", "extra_drop_points")
    return frame(lines, "target", "perturbation", *numbers, "p", "p_holm")


def _pair(first: Network, second: Network, tests: int) -> Line:
    results, panel = first.results, first.results.panel
    same_run = results is second.results
    sources = results.common_sources(first.model, second.model) if same_run else None
    attacked, other_attacked = first.attacked(sources), second.attacked(sources)
    own = {each.results.architecture(each.model) for each in (first, second)}
    neutral = [
        source
        for source in results.sources
        if source in second.results.sources and results.architecture(source) not in own
    ]
    drop, other_drop = (
        None if scores is None else panel.lost(each.clean, scores)
        for each, scores in ((first, attacked), (second, other_attacked))
    )
    values = {
        "difference": panel.difference(attacked, other_attacked),
        "drop_difference": panel.difference(drop, other_drop, limit=2.0).scaled(100),
        "neutral_difference": panel.difference(first.attacked(neutral), second.attacked(neutral)),
        "clean_difference": panel.difference(first.clean, second.clean),
    }
    spread = None
    if attacked is not None and other_attacked is not None:
        # The error of the mean times the root of n is the spread between patients of average size.
        spread = panel.paired_ratio(attacked, other_attacked).error * math.sqrt(len(panel.patients))
    ahead = results.score.sign * values["difference"].value
    lost = values["drop_difference"].value
    return {
        "first": first.name,
        "second": second.name,
        **with_bounds(values),
        "p": sign_flip(results, attacked, other_attacked, first.model, second.model, tests=tests),
        "false_claim": panel.false_claim(attacked, other_attacked),
        "clean_false_claim": panel.false_claim(first.clean, second.clean),
        "drops_agree": None if math.isnan(ahead) else ahead * lost <= 0,
        "n_neutral_sources": len(neutral),
        "p_equal": equivalence_test(
            panel.paired_ratio(first.clean, second.clean), results.relevant_difference
        ),
        "patients_needed": _needed(results, spread, results.relevant_difference, tests),
        "patients_for_claim": _needed(results, spread, abs(values["difference"].value), tests),
    }


def sign_flip(results: Results, first: Scores | None, second: Scores | None, *key: str, tests: int) -> float:
    """Two-sided p value of a paired difference (`Panel.swap_test`); NaN where either is missing or undefined.

    `key` names the random draws; `tests` is the size of the family, or more.
    """
    if first is None or second is None:
        return math.nan
    if np.isnan(first.totals - second.totals).any():
        return math.nan
    rng = generator(results.settings.seed, "sign flips", *key)
    return results.panel.swap_test(first, second, _resamples(results, tests), rng)


def _resamples(results: Results, tests: int) -> int:
    """Patterns of signs to draw: enough for p values that can be significant in a family of tests."""
    return max(results.settings.resamples, math.ceil(10 * tests / results.settings.alpha))


def adjusted(lines: Sequence[Line], name: str = "p") -> list[float]:
    """Holm's p values of a family of lines; NaN for all where one is undefined."""
    p_values = np.array([line[name] for line in lines], dtype=np.float64)
    if np.isnan(p_values).any():
        return [math.nan] * len(lines)
    return [float(p) for p in holm(p_values)]


def _needed(results: Results, spread: float | None, difference: float, tests: int) -> int | None:
    if spread is None:
        return None
    return patients_needed(spread, difference, results.settings.alpha / tests)


def plane(results: Results) -> pl.DataFrame:
    """Clean and mean adversarial score of every network, with their joint confidence region.

    The region is the ellipse of all points p with `(p - m)' C^-1 (p - m) <= scale`, m the two scores and C
    their covariance matrix over patients (linearised, as the standard errors of single scores are).

    Returns:
        `model, clean, adversarial`; `var_clean, var_adversarial, covariance` of the two scores; `scale`, from
        Hotelling's T2, null below three patients and where a score does not vary; `on_front`: no other
        network is at least as good in both and better in one.
    """
    lines: list[Line] = []
    for model in results.models:
        attacked = results.panel.mean(results.judged_cells(model))
        lines.append({"model": model, **_place(results, results.clean(model), attacked)})
    scores = np.array([[line["clean"], line["adversarial"]] for line in lines], dtype=np.float64)
    for line, front in zip(lines, on_front(results.score.sign * scores), strict=True):
        line["on_front"] = bool(front)
    spread = ("var_clean", "var_adversarial", "covariance", "scale")
    return frame(lines, "model", "clean", "adversarial", *spread, "on_front")


def on_front(scores: Float64[np.ndarray, "networks 2"]) -> Bool[np.ndarray, "networks"]:
    """Which networks are on the Pareto front; those with an undefined score are not, and beat none."""
    at_least = (scores[:, None] >= scores[None]).all(-1)
    better = (scores[:, None] > scores[None]).any(-1)
    beaten = (at_least & better).any(0)
    return np.asarray(~beaten & ~np.isnan(scores).any(1))


def _place(results: Results, clean: Scores, attacked: Scores | None) -> dict[str, float]:
    sizes = results.panel.sizes
    one = ratio(clean.totals, sizes)
    if attacked is None:
        return {"clean": one.value, "adversarial": math.nan}
    other = ratio(attacked.totals, sizes)
    radius = _hotelling(sizes.size, results.settings.confidence)
    return {
        "clean": one.value,
        "adversarial": other.value,
        "var_clean": one.error**2,
        "var_adversarial": other.error**2,
        "covariance": _covariance(clean.totals, attacked.totals, sizes),
        "scale": radius if one.varies and other.varies else math.nan,
    }


def _covariance(x: Totals, z: Totals, sizes: Totals) -> float:
    """Covariance of two scores over patients; of a score with itself, the squared error of its `ratio`."""
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

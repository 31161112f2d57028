"""Which networks differ: pairs of networks (family 1), and attack against its own noise (family 2).

Tests are exact sign flips over patients, adjusted by Holm within the family, as those of equality on clean
images are; intervals are not adjusted.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from medrobust.analysis import estimates
from medrobust.analysis.patients import Scores
from medrobust.analysis.results import Results
from medrobust.analysis.tables import bounded, frame, with_bounds
from medrobust.core import Task
from medrobust.rng import generator
from medrobust.stats.significance import (
    equivalence_test,
    holm,
    patients_for_equivalence,
    patients_for_significance,
    patients_needed,
    sign_flip_test,
    smallest_p,
)
from medrobust.storage.schemas import Schema

RANKED = "ranked"
TIED = "not distinguishable"
TOO_FEW = "too few patients"
UNRANKED = "not ranked"

Line = dict[str, Any]
"""A row of a table before it becomes one."""


class Network(NamedTuple):
    """A network as it is compared: in the results of its run, and by a name that no other one has."""

    results: Results
    model: str
    name: str

    @property
    def clean(self) -> Scores:
        """Scores of its patients on clean images."""
        return self.results.panel.cells[self.results.clean_cell(self.model)]

    def attacked(self, sources: Sequence[str] | None = None) -> Scores | None:
        """Scores of its patients under the attacks that a verdict rests on; None without any."""
        return self.results.panel.mean(self.results.judged_cells(self.model, sources))


_PAIR: Schema = {
    "first": pl.String,
    "second": pl.String,
    **bounded("difference"),
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "verdict": pl.String,
    "better": pl.String,
    **bounded("drop_difference"),
    "drops_agree": pl.Boolean,
    **bounded("neutral_difference"),
    "n_neutral_sources": pl.Int64,
    **bounded("clean_difference"),
    "p_equal": pl.Float64,
    "p_equal_holm": pl.Float64,
    "equally_good": pl.Boolean,
    "patients_needed": pl.Int64,
}


def pairs(results: Results) -> pl.DataFrame:
    """Family 1: all pairs of networks on the mean adversarial score, and what belongs beside it.

    Attacks that failed their self-tests on a source take no part.

    Returns:
        A row per pair: `difference` (first - second, in scores, paired over patients), `p`, `p_holm`,
        `verdict`, `better` (null unless ranked); `drop_difference` (drop in points of first - second) and
        `drops_agree` (drops put the same network ahead); `neutral_difference` from sources of neither
        architecture; `clean_difference`, `p_equal`, `p_equal_holm` and `equally_good`
        (`equivalence_test` within the relevant difference; null with too few patients to say);
        `patients_needed` for 80 % power at the relevant difference, null where nothing varies.
    """
    return duels(list(combinations([Network(results, model, model) for model in results.models], 2)))


def duels(networks: Sequence[tuple[Network, Network]]) -> pl.DataFrame:
    """A family of pairs in the columns of `pairs`; both of a pair have the same patients and settings."""
    lines = [_pair(first, second, len(networks)) for first, second in networks]
    sound = {each.name: above_majority(each.results)[each.model] for pair in networks for each in pair}
    of_family = zip(lines, adjusted(lines), adjusted(lines, "p_equal"), networks, strict=True)
    for line, p_holm, p_equal_holm, (first, _) in of_family:
        line["p_holm"] = p_holm
        line["p_equal_holm"] = p_equal_holm
        if not too_few_for_equality(first.results, len(networks)):
            line["equally_good"] = p_equal_holm <= first.results.settings.alpha
        line["verdict"] = _verdict(first.results, line, sound, len(networks))
        ahead = line["first"] if line["difference"] > 0 else line["second"]
        line["better"] = ahead if line["verdict"] == RANKED else None
    return frame(lines, _PAIR)


def above_majority(results: Results) -> dict[str, bool]:
    """Whether each network does better on clean images than one that always answers with the majority.

    In classification the majority class of the study's cases; in segmentation background everywhere, whose
    Dice is 0.
    """
    floor = 0.0
    if results.task is Task.CLASSIFICATION:
        cases = results.rows.unique("case_id")
        floor = float(cases["label"].value_counts()["count"].to_numpy().max()) / cases.height
    total = results.panel.sizes.sum()
    clean = {model: results.panel.cells[results.clean_cell(model)].totals for model in results.models}
    return {model: bool(totals.sum() / total > floor) for model, totals in clean.items()}


def too_few_patients(results: Results, tests: int) -> bool:
    """Whether no outcome at all could be significant after adjustment for `tests` tests."""
    tests, patients = max(tests, 1), len(results.panel.patients)
    return smallest_p(patients, _resamples(results, tests)) > results.settings.alpha / tests


def too_few_for_equality(results: Results, tests: int) -> bool:
    """Whether a failure of one in ten may well have spared all patients, so that nothing is called equal."""
    return len(results.panel.patients) < patients_for_equivalence(results.settings.alpha, tests)


def patients_to_rank(results: Results) -> int:
    """Fewest patients with which a ranking of these networks could be significant."""
    return patients_for_significance(results.settings.alpha, max(math.comb(len(results.models), 2), 1))


def noise_control(results: Results) -> pl.DataFrame:
    """Family 2: does an attack do more harm than noise of the same SSIM?

    Returns:
        A row per target and attack that enters averages, averaged over the sources that all targets face:
        `attacked`, `noise`, `extra_drop_points` (drop under the attack minus drop under its own noise,
        paired; above 0: the attack is harder), `p`, `p_holm`.
    """
    lines: list[Line] = []
    tests = len(results.models) * len(results.averaged)
    for model in results.models:
        for label in results.averaged:
            attacked = results.panel.mean(results.cells(model, [label]))
            noise = results.panel.mean(results.matched_cells(model, [label]))
            if attacked is None or noise is None:
                continue
            key = (model, label, "noise control")
            scores = {"attacked": attacked, "noise": noise}
            values = {name: estimates.score(results, each) for name, each in scores.items()}
            values["extra_drop_points"] = estimates.difference(results, noise, attacked).scaled(100)
            p = {"p": sign_flip(results, noise, attacked, *key, tests=tests)}
            lines.append({"target": model, "perturbation": label, **with_bounds(values), **p})
    for line, p_holm in zip(lines, adjusted(lines), strict=True):
        line["p_holm"] = p_holm
    names = {"target": pl.String, "perturbation": pl.String}
    p_values = {"p": pl.Float64, "p_holm": pl.Float64}
    return frame(lines, names | bounded("attacked", "noise", "extra_drop_points") | p_values)


def _pair(first: Network, second: Network, tests: int) -> Line:
    results = first.results
    attacked, other_attacked = first.attacked(), second.attacked()
    neutral = _neutral_sources(first, second)
    drop, other_drop = _drop(first.clean, attacked), _drop(second.clean, other_attacked)
    values = {
        "difference": estimates.difference(results, attacked, other_attacked),
        "drop_difference": estimates.difference(results, drop, other_drop, limit=2.0).scaled(100),
        "neutral_difference": estimates.difference(
            results, first.attacked(neutral), second.attacked(neutral)
        ),
        "clean_difference": estimates.difference(results, first.clean, second.clean),
    }
    ahead, lost = values["difference"].value, values["drop_difference"].value
    return {
        "first": first.name,
        "second": second.name,
        **with_bounds(values),
        "p": sign_flip(results, attacked, other_attacked, first.model, second.model, tests=tests),
        "drops_agree": None if math.isnan(ahead) else ahead * lost <= 0,
        "n_neutral_sources": len(neutral),
        "p_equal": _p_equal(results, first.clean, second.clean),
        "patients_needed": _needed(results, attacked, other_attacked, tests),
    }


def _neutral_sources(*networks: Network) -> list[str]:
    own = {each.results.architecture(each.model) for each in networks}
    first, second = (each.results for each in networks)
    shared = [source for source in first.sources if source in second.sources]
    return [source for source in shared if first.architecture(source) not in own]


def _drop(clean: Scores, attacked: Scores | None) -> Scores | None:
    return None if attacked is None else clean.minus(attacked)


def sign_flip(results: Results, first: Scores | None, second: Scores | None, *key: str, tests: int) -> float:
    """Two-sided p value of a paired difference; NaN where either is missing.

    Args:
        results: The study.
        first: Scores of one.
        second: Scores of the other.
        key: Names the random draws.
        tests: Size of the family, or more.
    """
    if first is None or second is None:
        return math.nan
    rng = generator(results.settings.seed, "sign flips", *key)
    return sign_flip_test(first.totals - second.totals, _resamples(results, tests), rng)


def _resamples(results: Results, tests: int) -> int:
    """Patterns of signs that are drawn: enough for p values that are significant in a family of tests."""
    return max(results.settings.resamples, math.ceil(10 * tests / results.settings.alpha))


def adjusted(lines: Sequence[Line], name: str = "p") -> list[float]:
    """Holm's p values of a family of lines with a p value; NaN for all where one is undefined."""
    p_values = np.array([line[name] for line in lines], dtype=np.float64)
    if np.isnan(p_values).any():
        return [math.nan] * len(lines)
    return [float(p) for p in holm(p_values)]


def _verdict(results: Results, line: Line, sound: Mapping[str, bool], tests: int) -> str:
    if not (sound[line["first"]] and sound[line["second"]]) or math.isnan(line["p"]):
        return UNRANKED
    if too_few_patients(results, tests):
        return TOO_FEW
    return RANKED if line["p_holm"] <= results.settings.alpha else TIED


def _p_equal(results: Results, first: Scores, second: Scores) -> float:
    difference = estimates.paired_ratio(results, first.totals - second.totals, results.panel.sizes)
    return equivalence_test(difference, results.relevant_difference)


def _needed(results: Results, first: Scores | None, second: Scores | None, tests: int) -> int | None:
    if first is None or second is None:
        return None
    difference = estimates.paired_ratio(results, first.totals - second.totals, results.panel.sizes)
    # The error of the mean times the root of n is the spread between patients of average size.
    sd = difference.error * math.sqrt(len(results.panel.patients))
    return patients_needed(sd, results.relevant_difference, results.settings.alpha / tests)

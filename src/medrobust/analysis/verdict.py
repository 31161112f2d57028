"""What a study allows to be said, in words."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from medrobust.analysis import comparisons
from medrobust.analysis.comparisons import RANKED, TIED, TOO_FEW, UNRANKED
from medrobust.analysis.conditions import shared_between_folds
from medrobust.analysis.orders import (
    clean_sentence,
    drop_sentence,
    kendall_tau,
    led,
    led_over,
    noise_sentences,
    tau_sentences,
)
from medrobust.analysis.results import Results
from medrobust.analysis.seeds import (
    FEWEST_SURROGATE_SEEDS,
    FEWEST_TARGET_SEEDS,
    architectures,
    enough_seeds,
)
from medrobust.analysis.tables import frame
from medrobust.stats.resampling import share_first
from medrobust.stats.significance import patients_for_equivalence, ranks_interval

FEWEST_FOR_SHARES = 20


@dataclass(frozen=True)
class Verdict:
    """What may be concluded.

    Attributes:
        outcome: "ranked" (at least one pair), "not distinguishable", "too few patients" or "not ranked".
        best: The network that is significantly better than every other; None where there is none.
        sentences: The conclusion, its evidence and its limits.
        ranking: From `ranking`.
        pairs: From `comparisons.pairs`.
        kendall_tau: Agreement of the orders by clean and adversarial score, from 5 networks on.
    """

    outcome: str
    best: str | None
    sentences: tuple[str, ...]
    ranking: pl.DataFrame
    pairs: pl.DataFrame
    kendall_tau: float | None


def verdict(results: Results) -> Verdict:
    """The conclusion of a study, worded as its protocol allows."""
    pairs = comparisons.pairs(results)
    found = set(pairs["verdict"])
    outcome = next((each for each in (RANKED, TOO_FEW, TIED) if each in found), UNRANKED)
    order = ranking(results, pairs)
    wins = pairs["better"].drop_nulls().to_list()
    best = next((model for model in results.models if wins.count(model) == len(results.models) - 1 > 0), None)
    tau = _kendall_tau(results)
    sentences = (
        *_conclusions(results, pairs, outcome),
        *_left_out(results),
        *noise_sentences(_sound_control(results), results.settings.alpha),
        *tau_sentences(tau),
        *_limits(results),
    )
    return Verdict(outcome, best, sentences, order, pairs, tau)


def ranking(results: Results, pairs: pl.DataFrame) -> pl.DataFrame:
    """Networks by adversarial score, best first, with the ranks that the tests leave open.

    Returns:
        `model, adversarial, rank_low, rank_high, share_first, above_majority`. Ranks are null for networks
        not ranked; `share_first` (share of resamples of the patients in which the network comes first) also
        below 20 patients.
    """
    sound = comparisons.above_majority(results)
    means = _adversarial(results)
    models = [model for model in results.models if sound[model] and not math.isnan(means[model])]
    place = {model: index for index, model in enumerate(models)}
    better = np.zeros((len(models), len(models)), dtype=bool)
    for row in pairs.filter(pl.col("better").is_not_null()).iter_rows(named=True):
        loser = row["second"] if row["better"] == row["first"] else row["first"]
        better[place[row["better"]], place[loser]] = True
    ranks = dict(zip(models, ranks_interval(better), strict=True))
    shares = _shares_first(results, models)
    lines = []
    for model in results.models:
        low, high = ranks.get(model, (None, None))
        names = {"model": model, "adversarial": means[model], "rank_low": low, "rank_high": high}
        lines.append(names | {"share_first": shares.get(model), "above_majority": sound[model]})
    columns = {"model": pl.String, "adversarial": pl.Float64, "rank_low": pl.Int64, "rank_high": pl.Int64}
    table = frame(lines, columns | {"share_first": pl.Float64, "above_majority": pl.Boolean})
    return table.sort("adversarial", descending=True, nulls_last=True, maintain_order=True)


def _adversarial(results: Results) -> dict[str, float]:
    scores = {model: results.panel.mean(results.judged_cells(model)) for model in results.models}
    total = results.panel.sizes.sum()
    return {
        model: math.nan if each is None else float(each.totals.sum() / total)
        for model, each in scores.items()
    }


def _shares_first(results: Results, models: list[str]) -> dict[str, float]:
    scores = [results.panel.mean(results.judged_cells(model)) for model in models]
    totals = [each.totals for each in scores if each is not None]
    if len(results.panel.patients) < FEWEST_FOR_SHARES or len(totals) < max(len(models), 2):
        return {}
    shares = share_first(results.resampled(np.stack(totals)))
    return dict(zip(models, map(float, shares), strict=True))


def _kendall_tau(results: Results) -> float | None:
    clean = [results.panel.cells[results.clean_cell(model)].totals.sum() for model in results.models]
    return kendall_tau(clean, list(_adversarial(results).values()))


def _conclusions(results: Results, pairs: pl.DataFrame, outcome: str) -> list[str]:
    relevant = results.relevant_difference
    sentences = [_ranked(row) for row in pairs.filter(verdict=RANKED).iter_rows(named=True)]
    sentences += [
        _tied(row, relevant, results.unit) for row in pairs.filter(verdict=TIED).iter_rows(named=True)
    ]
    if outcome == TOO_FEW:
        sentences.append(
            f"Too few {results.unit}s to rank these networks: with {_count(results)} no outcome of the exact"
            f" test could be significant; at least {comparisons.patients_to_rank(results)} are needed."
        )
    unsound = [model for model, sound in comparisons.above_majority(results).items() if not sound]
    if unsound:
        sentences.append(
            "Not ranked, because the clean score is not above that of always answering with the majority"
            f" class: {', '.join(unsound)}."
        )
    for row in pairs.filter(equally_good=True).iter_rows(named=True):
        both = f"{row['first']} and {row['second']}"
        p = p_value(row["p_equal_holm"])
        sentences.append(f"{both} are equally good on clean images (TOST within {relevant:g}, {p}, Holm).")
    return [*sentences, *_left_open(results, pairs)]


def _left_open(results: Results, pairs: pl.DataFrame) -> list[str]:
    """Differences of clean scores that too few patients show for any of them to be called none."""
    known = pairs.filter(pl.col("clean_difference_low").is_not_null())
    if known.is_empty() or not comparisons.too_few_for_equality(results, pairs.height):
        return []
    fewest = patients_for_equivalence(results.settings.alpha, pairs.height)
    differences = "; ".join(
        f"{row['first']} - {row['second']} {row['clean_difference']:+.3f}"
        f" [{row['clean_difference_low']:+.3f}, {row['clean_difference_high']:+.3f}]"
        for row in known.iter_rows(named=True)
    )
    return [
        f"Differences on clean images: {differences}. None is called equal: that takes at least"
        f" {fewest} {results.unit}s, since with fewer a failure that strikes one in ten could go unseen."
    ]


def _ranked(row: dict[str, Any]) -> str:
    value, low, high = led(row, "difference")
    return (
        f"{row['better']} is more robust than {led_over(row)} against these transferred attacks, for these"
        f" trained weights: mean adversarial score {value:+.3f} [{low:+.3f}, {high:+.3f}],"
        f" {p_value(row['p_holm'])} (Holm).{clean_sentence(row)}{drop_sentence(row)}"
    )


def _tied(row: dict[str, Any], relevant: float, unit: str) -> str:
    both = f"{row['first']} and {row['second']}"
    text = f"{both} cannot be told apart under attack ({p_value(row['p_holm'])}, Holm)."
    if row["patients_needed"] is None:
        return text
    needed = f"about {row['patients_needed']} {unit}s"
    return f"{text} To see a difference of {relevant:g} with 80 % power takes {needed}."


def _limits(results: Results) -> list[str]:
    sentences = [
        f"Intervals and tests are over {_count(results)}; intervals are not adjusted for their number. A"
        f" failure that strikes fewer than {100 * _unseen(results):.2g} % of all {results.unit}s may be"
        " absent from this sample, and no interval accounts for it.",
        "The tests flip the signs of differences: they ask whether differences are symmetric about 0, and"
        " reject more often than their level says where the mean is 0 but the distribution is skewed.",
    ]
    if results.unit != "patient":
        sentences.append(
            f"The data name no patients, the unit is the {results.unit}: intervals may be too narrow."
        )
    return [*sentences, *_folds(results), *_architectures(results)]


def _unseen(results: Results) -> float:
    """The share of all patients that so many as there are here miss in 5 % of the studies."""
    return 1.0 - math.exp(math.log(results.settings.alpha) / len(results.panel.patients))


def _folds(results: Results) -> list[str]:
    if not results.folds:
        return []
    shared = shared_between_folds(results)
    known = (
        "" if shared is None else f", which share {shared:.0%} of their training {results.unit}s on average"
    )
    return [
        f"Every {results.unit} was tested once, by networks of its own fold. Scores of different folds come"
        f" from different networks{known}: they are not quite independent, and intervals may be too narrow."
    ]


def _sound_control(results: Results) -> pl.DataFrame:
    """Attacks against noise, without those that failed their self-tests on every source."""
    sound = {cell.perturbation for model in results.models for cell in results.judged_cells(model)}
    return comparisons.noise_control(results).filter(pl.col("perturbation").is_in(sorted(sound)))


def _left_out(results: Results) -> list[str]:
    """The columns of Table 2 that the verdict does without."""
    columns = [
        f"{label} from {source}"
        for label in results.averaged
        for source in results.sources
        if (label, source) in results.failed_columns
    ]
    if not columns:
        return []
    every = len(columns) == len(results.averaged) * len(results.sources)
    return [
        f"Left out of this verdict, since the attack failed its self-tests there: {', '.join(columns)}."
        f" Tables 1 and 2 hold all columns.{' None is left, so nothing is ranked.' if every else ''}"
    ]


def _architectures(results: Results) -> list[str]:
    if not enough_seeds(results):
        return [
            "Nothing follows for architectures in general: that needs at least"
            f" {FEWEST_TARGET_SEEDS} target and {FEWEST_SURROGATE_SEEDS} surrogate seeds of each."
        ]
    sentences = []
    for first, second, value, low, high in architectures(results).iter_rows():
        if low is not None and low * high > 0:
            better, other = (first, second) if value > 0 else (second, first)
            nearest, farthest = sorted((abs(low), abs(high)))
            sentences.append(
                f"Over trainings as well as patients {better} stays ahead of {other}: mean adversarial scores"
                f" differ by {abs(value):.3f} [{nearest:.3f}, {farthest:.3f}]."
            )
    return sentences or ["Over trainings as well as patients no architecture stays ahead of another."]


def _count(results: Results) -> str:
    number = len(results.panel.patients)
    return f"{number} {results.unit}{'' if number == 1 else 's'}"


def p_value(value: float) -> str:
    """A p value in words, e.g. "p = 0.031"."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"

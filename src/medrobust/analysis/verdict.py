"""What a study allows to be said, in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from medrobust.analysis import comparisons
from medrobust.analysis.comparisons import (
    RANKED,
    TIED,
    TOO_FEW,
    UNRANKED,
    Pair,
    led,
    other_of,
    p_value,
)
from medrobust.analysis.corruptions import corruption_sentences, corruption_tables
from medrobust.analysis.crafting import shared_between_folds
from medrobust.analysis.defences import price, price_sentences, twins_of
from medrobust.analysis.fewer import fewer_sentences
from medrobust.analysis.results import Results
from medrobust.analysis.seeds import (
    architectures,
    enough_seeds,
    seeds_needed,
)
from medrobust.analysis.selective import confidence_sentences
from medrobust.analysis.stability import FEWEST_FOR_FRACTIONS
from medrobust.analysis.table import frame
from medrobust.analysis.threats import threat_sentences
from medrobust.analysis.transforms import transform_sentences, transforms
from medrobust.stats.resampling import rank_frequencies
from medrobust.stats.significance import patients_for_significance, ranks_interval
from medrobust.text import counted

FEWEST_FOR_TAU = 5

LIKELY_FALSE = 0.05
"""A claim that is false with a higher probability is called unsupported (Christodoulou et al. 2025)."""
_SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """What may be concluded.

    Attributes:
        outcome: "ranked" (at least one pair), "not distinguishable", "too few patients" or "not ranked".
        best: The network that is significantly better than every other; None where there is none.
        sentences: The conclusion, its evidence and its limits.
        ranking: From `ranking`.
        pairs: From `comparisons.pairs`.
        kendall_tau: From `kendall_tau`.
        aside: Tables that stand apart from those of attacks: from `corruption_tables`, `transforms`, `price`.
    """

    outcome: str
    best: str | None
    sentences: tuple[str, ...]
    ranking: pl.DataFrame
    pairs: pl.DataFrame
    kendall_tau: float | None
    aside: Mapping[str, pl.DataFrame]


def verdict(results: Results) -> Verdict:
    """The conclusion of a study, worded as its protocol allows."""
    pairs = comparisons.pairs(results)
    found = set(pairs["verdict"])
    outcome = next((each for each in (RANKED, TOO_FEW, TIED) if each in found), UNRANKED)
    best = comparisons.best_of(results.models, pairs)
    adversarial = _adversarial(results)
    tau = kendall_tau([results.clean(model).totals.sum() for model in adversarial], [*adversarial.values()])
    # Not of attacks that failed their self-tests on every source.
    judged = {cell.perturbation for model in results.models for cell in results.judged_cells(model)}
    control = comparisons.noise_control(results).filter(pl.col("perturbation").is_in(sorted(judged)))
    networks = [comparisons.Network(results, model, model) for model in results.models]
    aside = corruption_tables(results) | {
        "transforms": transforms(results),
        "price": price(twins_of(networks)),
    }
    sentences = (
        *_conclusions(results, pairs, outcome),
        *_left_out(results),
        *fewer_sentences(results),
        *noise_sentences(control, results.settings.alpha),
        *corruption_sentences(results, aside, best),
        *transform_sentences(aside["transforms"]),
        *threat_sentences(results),
        *confidence_sentences(results),
        *price_sentences(aside["price"], results.score.heading),
        *tau_sentences(tau),
        *_limits(results),
    )
    return Verdict(outcome, best, sentences, ranking(results, pairs), pairs, tau, aside)


def ranking(results: Results, pairs: pl.DataFrame) -> pl.DataFrame:
    """Networks by adversarial score, best first, with the ranks that the tests leave open.

    Returns:
        `model, adversarial, rank_low, rank_high, share_first, above_majority`. Ranks are null for networks
        that are not ranked; so is `share_first` (fraction of resamples of the patients in which the network
        comes first), also below 20 patients.
    """
    sound, means = comparisons.above_majority(results), _adversarial(results)
    tested = pairs.filter(pl.col("p").is_not_null())
    compared = {*tested["first"], *tested["second"]} if pairs.height else set(results.models)
    models = [model for model in results.models if sound[model] and model in compared]
    place = {model: index for index, model in enumerate(models)}
    better = np.zeros((len(models), len(models)), dtype=bool)
    for row in pairs.filter(pl.col("better").is_not_null()).iter_rows(named=True):
        better[place[row["better"]], place[other_of(row)]] = True
    ranks = dict(zip(models, ranks_interval(better), strict=True))
    fractions = _fractions_first(results, models)
    lines = []
    for model in results.models:
        low, high = ranks.get(model, (None, None))
        line = {"model": model, "adversarial": means[model], "rank_low": low, "rank_high": high}
        lines.append(line | {"share_first": fractions.get(model), "above_majority": sound[model]})
    table = frame(lines, "model", "adversarial", "rank_low", "rank_high", "share_first", "above_majority")
    descending = results.score.higher_is_better
    return table.sort("adversarial", descending=descending, nulls_last=True, maintain_order=True)


def _adversarial(results: Results) -> dict[str, float]:
    panel = results.panel
    return {model: panel.value(panel.mean(results.judged_cells(model))) for model in results.models}


def _fractions_first(results: Results, models: list[str]) -> dict[str, float]:
    panel = results.panel
    scores = [panel.mean(results.judged_cells(model)) for model in models]
    totals = [results.score.sign * each.totals for each in scores if each is not None]
    if len(panel.patients) < FEWEST_FOR_FRACTIONS or len(totals) < max(len(models), 2):
        return {}
    firsts = rank_frequencies(panel.resampled(np.stack(totals)))[:, 0]
    return dict(zip(models, map(float, firsts), strict=True))


def kendall_tau(clean: Sequence[float], adversarial: Sequence[float]) -> float | None:
    """Agreement of the orders by clean and adversarial score, in [-1, 1]; None below 5 networks."""
    if len(clean) < FEWEST_FOR_TAU:
        return None
    tau = float(stats.kendalltau(clean, adversarial).statistic)
    return None if math.isnan(tau) else tau


def tau_sentences(tau: float | None) -> list[str]:
    """How far the two orders of all networks agree."""
    if tau is None:
        return []
    return [
        f"Kendall's tau between the orders of all networks by clean and by adversarial score is {tau:+.2f}"
        " (1: the same order, 0: unrelated, -1: reversed)."
    ]


def _conclusions(results: Results, pairs: pl.DataFrame, outcome: str) -> list[str]:
    sentences = [_ranked(row, results) for row in pairs.filter(verdict=RANKED).iter_rows(named=True)]
    sentences += [_tied(row, results) for row in pairs.filter(verdict=TIED).iter_rows(named=True)]
    if outcome == TOO_FEW:
        needed = patients_for_significance(results.settings.alpha, pairs.height)
        sentences.append(
            f"Too few {results.unit}s to rank these networks: with {_all_patients(results)} no outcome of the"
            f" exact test could be significant; at least {needed} are needed."
        )
    unsound = [model for model, sound in comparisons.above_majority(results).items() if not sound]
    if unsound:
        sentences.append(
            "Not ranked, because they do no better on clean images than always answering with the majority"
            f" class: {', '.join(unsound)}."
        )
    if results.attacks and not any(results.faced(model) for model in results.models):
        sentences.append(
            "No attack was transferred from one network to another, so nothing is ranked: white-box scores"
            " describe each network under attacks crafted on itself."
        )
    elif (
        results.attacks
        and pairs.height
        and not any(
            results.faced(row["first"]) & results.faced(row["second"]) for row in pairs.iter_rows(named=True)
        )
    ):
        sentences.append(
            "No two networks face the same attack, because each faces only those crafted on the other, so"
            " nothing is ranked. Add a third network, or surrogates trained apart."
        )
    for row in pairs.filter(equally_good=True).iter_rows(named=True):
        sentences.append(
            f"{row['first']} and {row['second']} are equally good on clean images (TOST within"
            f" {results.relevant_difference:g}, {p_value(row['p_equal_holm'])}, Holm)."
        )
    return [*sentences, *_left_open(results, pairs), *_unsupported(results, pairs)]


def _ranked(row: Pair, results: Results) -> str:
    value, low, high = led(row, "difference")
    return (
        f"{row['better']} is more robust than {other_of(row)} against these transferred attacks, for these"
        f" trained weights: mean adversarial {results.score.heading} {value:+.3f} [{low:+.3f}, {high:+.3f}],"
        f" {p_value(row['p_holm'])} (Holm).{clean_sentence(row, results.score.sign)}{drop_sentence(row)}"
    )


def _tied(row: Pair, results: Results) -> str:
    text = (
        f"{row['first']} and {row['second']} cannot be distinguished under attack"
        f" ({p_value(row['p_holm'])}, Holm)."
    )
    if row["patients_needed"] is None:
        return text
    return (
        f"{text} Seeing a difference of {results.relevant_difference:g} with 80 % power takes about"
        f" {row['patients_needed']} {results.unit}s."
    )


def clean_sentence(row: Pair, sign: int = 1) -> str:
    """Of a ranked pair: that the other network is better on clean images; "" where it is not.

    `sign` is 1 where higher scores are better, else -1.
    """
    value, low, high = led(row, "clean_difference")
    if not (high if sign > 0 else -low) < 0:
        return ""
    return (
        f" On clean images {other_of(row)} does better, by {-value:+.3f} [{-high:+.3f}, {-low:+.3f}]: the"
        " orders by clean and by adversarial score differ."
    )


def drop_sentence(row: Pair) -> str:
    """Of a ranked pair: that the drop from the clean score does not clearly favour the same network.

    Without it a lead on clean images alone would pass for robustness.
    """
    value, low, high = led(row, "drop_difference")
    better, other, unclear = row["better"], other_of(row), low <= 0 <= high
    if value > 0:
        hedge = ", though not clearly" if unclear else ""
        return f" By the drop from the clean score, {other} comes first{hedge}: the two orders differ."
    if unclear:
        return (
            f" But their drops from the clean score do not differ clearly ({better} - {other}:"
            f" {value:+.1f} points [{low:+.1f}, {high:+.1f}])."
        )
    return ""


def _left_open(results: Results, pairs: pl.DataFrame) -> list[str]:
    """Differences of clean scores where patients are too few for any to be called equal."""
    known = pairs.filter(pl.col("clean_difference_low").is_not_null())
    if known.is_empty():
        return []
    fewest = results.fewest_for_equality(pairs.height)
    if len(results.panel.patients) >= fewest:
        return []
    differences = "; ".join(
        f"{row['first']} - {row['second']} {row['clean_difference']:+.3f}"
        f" [{row['clean_difference_low']:+.3f}, {row['clean_difference_high']:+.3f}]"
        for row in known.iter_rows(named=True)
    )
    return [
        f"Differences on clean images: {differences}. No pair is called equal: that takes at least {fewest}"
        f" {results.unit}s, because with fewer a failure that strikes one in ten could go unseen."
    ]


def _unsupported(results: Results, pairs: pl.DataFrame) -> list[str]:
    """Pairs whose mean scores alone would make a claim that is false too often."""
    known = pairs.filter(pl.col("verdict") != UNRANKED, pl.col("false_claim").is_not_null())
    likely = known.filter(pl.col("false_claim") > LIKELY_FALSE).sort("false_claim", maintain_order=True)
    if likely.is_empty():
        return []
    named = []
    for row in likely.head(_SHOWN).iter_rows(named=True):
        ahead = results.score.sign * row["difference"] >= 0
        first, second = (row["first"], row["second"]) if ahead else (row["second"], row["first"])
        named.append(f"{first} over {second} {100 * row['false_claim']:.0f} %")
    more = f" and {likely.height - _SHOWN} more" if likely.height > _SHOWN else ""
    return [
        "Claimed from the mean scores under attack alone, superiority would be false with a probability above"
        f" {100 * LIKELY_FALSE:g} % in {likely.height} of {counted(known.height, 'pair')}:"
        f" {', '.join(named)}{more}."
    ]


def _left_out(results: Results) -> list[str]:
    """The columns of Table 2 that the verdict does without."""
    columns = results.failed(results.sources)
    if not columns:
        return []
    every = len(columns) == len(results.averaged) * len(results.sources)
    return [
        f"Left out of this verdict because the attack failed its self-tests: {', '.join(columns)}. Tables 1"
        f" and 2 include them.{' None is left, so nothing is ranked.' if every else ''}"
    ]


def noise_sentences(control: pl.DataFrame, alpha: float) -> list[str]:
    """Whether attacks do more harm than noise of the same similarity, and by how much.

    `control` is from `comparisons.noise_control`, whose adjusted p values are tested at `alpha`.
    """
    known = control.filter(pl.col("p_holm").is_not_null())
    if known.is_empty():
        return []
    sure = known.filter(pl.col("p_holm") <= alpha)
    worse, milder = (sure.filter(pl.col("extra_drop_points") * sign > 0) for sign in (1, -1))
    text = (
        f"Attacks do more harm than noise of the same similarity in {worse.height} of {known.height} pairs of"
        " network and attack"
    )
    if worse.height:
        text += f", by {_span(worse['extra_drop_points'])} points"
    if milder.height:
        text += f"; noise does more harm in {milder.height}, by {_span(-milder['extra_drop_points'])} points"
    rest = known.height - worse.height - milder.height
    if rest:
        text += f"; {rest} cannot be distinguished from noise"
    return [f"{text} (Holm)."]


def _span(values: pl.Series) -> str:
    low, high = (f"{value:.1f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _limits(results: Results) -> list[str]:
    unseen = 1.0 - math.exp(math.log(results.settings.alpha) / len(results.panel.patients))
    sentences = [
        f"Intervals and tests are over {_all_patients(results)}; intervals are not adjusted for multiple "
        f"comparisons. A failure that affects fewer than {100 * unseen:.2g} % of all {results.unit}s may be "
        "absent from this sample, and no interval accounts for it.",
        "The tests flip the signs of differences: they ask whether differences are symmetric about 0, and"
        " where the mean is 0 but the distribution is skewed they reject more often than their level.",
    ]
    if results.panel.undefined:
        sentences.append(
            f"Left out of every number, because their {results.score.heading} is undefined:"
            f" {results.panel.undefined} of the {results.unit}s."
        )
    if results.unit != "patient":
        sentences.append(
            f"The data do not identify patients; the unit is the {results.unit}, so intervals may be too"
            " narrow."
        )
    if seen := results.record.get("control_trained_on"):
        sentences.append(
            f"{', '.join(seen)} {'was' if len(seen) == 1 else 'were'} trained on noise of the kind that is"
            " matched to the attacks: scores under it are not those of a change that is new to the network."
        )
    return [*sentences, *_folds(results), *_architectures(results)]


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


def _architectures(results: Results) -> list[str]:
    if not enough_seeds(results):
        targets, surrogates = seeds_needed(results)
        return [
            "Nothing follows for architectures in general: that takes at least"
            f" {targets} target and {surrogates} surrogate seeds of each network."
        ]
    sentences = []
    for first, second, value, low, high in architectures(results).iter_rows():
        if low is not None and low * high > 0:
            is_ahead = results.score.sign * value > 0
            better, other = (first, second) if is_ahead else (second, first)
            nearest, farthest = sorted((abs(low), abs(high)))
            sentences.append(
                f"Across trainings as well as patients {better} stays ahead of {other}: mean adversarial"
                f" {results.score.heading} differs by {abs(value):.3f} [{nearest:.3f}, {farthest:.3f}]."
            )
    return sentences or ["Across trainings as well as patients no architecture stays ahead of another."]


def _all_patients(results: Results) -> str:
    number = len(results.panel.patients)
    return f"{number} {results.unit}{'' if number == 1 else 's'}"

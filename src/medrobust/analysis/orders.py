"""Sentences of the verdict beyond pairs: do the orders agree, and is an attack worse than noise?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from scipy import stats

FEWEST_FOR_TAU = 5


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
        f"The orders of all networks by clean and by adversarial score agree with Kendall's tau {tau:+.2f}"
        " (1: the same order, 0: unrelated, -1: reversed)."
    ]


def clean_sentence(row: Mapping[str, Any]) -> str:
    """Of a ranked pair: that the other network is the better one on clean images; "" where it is not.

    Args:
        row: A row of `comparisons.pairs`.
    """
    value, low, high = (row[f"clean_difference{end}"] for end in ("", "_low", "_high"))
    sure = low is not None and high is not None and low * high > 0
    if not sure or (value > 0) == (row["better"] == row["first"]):
        return ""
    other = row["second"] if row["better"] == row["first"] else row["first"]
    nearest, farthest = sorted((abs(low), abs(high)))
    return (
        f" On clean images {other} has the higher score, {abs(value):+.3f} [{nearest:+.3f}, {farthest:+.3f}]:"
        " the orders by clean and by adversarial score differ."
    )


def noise_sentences(control: pl.DataFrame, alpha: float) -> list[str]:
    """Whether attacks do more harm than noise of the same similarity, and by how much.

    Args:
        control: From `comparisons.noise_control`.
        alpha: Level of its tests, which are adjusted already.
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
        text += f"; {rest} cannot be told apart from noise"
    return [f"{text} (Holm)."]


def _span(values: pl.Series) -> str:
    low, high = (f"{value:.1f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"

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


def led(row: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    """A difference of a ranked pair with its bounds, NaN where unknown: the better network minus the other.

    Args:
        row: A row of `comparisons.pairs`.
        name: Its column.
    """
    value, low, high = (
        math.nan if row[column] is None else row[column] for column in (name, f"{name}_low", f"{name}_high")
    )
    return (value, low, high) if row["better"] == row["first"] else (-value, -high, -low)


def led_over(row: Mapping[str, Any]) -> str:
    """The network of a ranked pair that is not the better one."""
    return str(row["second"] if row["better"] == row["first"] else row["first"])


def clean_sentence(row: Mapping[str, Any]) -> str:
    """Of a ranked pair: that the other network is the better one on clean images; "" where it is not.

    Args:
        row: A row of `comparisons.pairs`.
    """
    value, low, high = led(row, "clean_difference")
    if not high < 0:
        return ""
    return (
        f" On clean images {led_over(row)} has the higher score, {-value:+.3f} [{-high:+.3f}, {-low:+.3f}]:"
        " the orders by clean and by adversarial score differ."
    )


def drop_sentence(row: Mapping[str, Any]) -> str:
    """Of a ranked pair: that the drop from the clean score does not clearly put the same network ahead.

    Without it a lead on clean images alone would pass for robustness.

    Args:
        row: A row of `comparisons.pairs`.
    """
    value, low, high = led(row, "drop_difference")
    better, other, unclear = row["better"], led_over(row), low <= 0 <= high
    if value > 0:
        hedge = ", though not clearly" if unclear else ""
        return f" By the drop from the clean score, {other} comes first{hedge}: the two orders differ."
    if unclear:
        return (
            f" But their drops from the clean score do not differ clearly ({better} - {other}:"
            f" {value:+.1f} points [{low:+.1f}, {high:+.1f}])."
        )
    return ""


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

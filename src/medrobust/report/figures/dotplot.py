"""Table 1 as a dot plot: clean, noise and adversarial score of every network with their intervals."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medrobust.report.figures import style


class Series(NamedTuple):
    """One of the three scores of a network and how it is drawn."""

    column: str
    name: str
    marker: str
    colour: str
    face: str


SERIES = (
    Series("clean", "clean", "o", style.INK, style.INK),
    Series("noise", "noise", "o", style.BLUE, "white"),
    Series(
        "adversarial", "adversarial, mean over attacks and sources", "D", style.VERMILION, style.VERMILION
    ),
)
LANE = 0.22
"""Distance between the three scores of one network, where the distance between networks is 1."""


def dot_plot(table1: pl.DataFrame, *, score: str) -> Figure:
    """Draw Table 1.

    Args:
        table1: A row per network: `model`; `clean`, `noise`, `adversarial`, `drop_points`, each with `_low`
            and `_high`. A null or NaN is not drawn.
        score: Name of the score, e.g. "Dice", for the axis.

    Returns:
        The figure: networks from top to bottom in the order of the table, drop in points at the right.
    """
    with style.look():
        figure = Figure(figsize=(8.2, 1.25 + 0.82 * table1.height), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(table1.fill_nan(None).iter_rows(named=True)):
            _draw_network(axes, place, row)
        _draw_frame(axes, table1, score)
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, handletextpad=0.3
        )
    return figure


def _draw_network(axes: Axes, place: int, row: Mapping[str, Any]) -> None:
    for lane, series in enumerate(SERIES):
        value, low, high = (row[f"{series.column}{end}"] for end in ("", "_low", "_high"))
        if value is None:
            continue
        height = place + (lane - 1) * LANE
        if low is not None and high is not None:
            axes.hlines(height, low, high, color=series.colour, linewidth=1.8, zorder=2)
        axes.plot(
            [value],
            [height],
            linestyle="none",
            marker=series.marker,
            markersize=7.5 if series.marker == "o" else 6.5,
            markeredgewidth=1.6,
            markeredgecolor=series.colour,
            markerfacecolor=series.face,
            label=series.name if place == 0 else None,
            zorder=3,
        )
    axes.text(1.03, place, _drop(row), transform=axes.get_yaxis_transform(), va="center", linespacing=1.35)


def _drop(row: Mapping[str, Any]) -> str:
    value, low, high = row["drop_points"], row["drop_points_low"], row["drop_points_high"]
    if value is None:
        return "\u2013"
    interval = "" if low is None or high is None else f"\n[{low:.1f}, {high:.1f}]"
    return f"{value:.1f}{interval}".replace("-", "\u2212")


def _draw_frame(axes: Axes, table1: pl.DataFrame, score: str) -> None:
    axes.set_ylim(table1.height - 0.45, -0.55)
    axes.set_yticks(range(table1.height), table1["model"].to_list(), fontsize=10)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.set_xlabel(score)
    axes.grid(axis="x", color=style.HAIRLINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    for boundary in range(1, table1.height):
        axes.axhline(boundary - 0.5, color=style.HAIRLINE, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.text(
        1.03, -0.5, "drop in points", transform=axes.get_yaxis_transform(), va="bottom", color=style.MUTED
    )

"""Score against the budget of an attack: one panel per attack, one line per network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medrobust.report.display import fraction
from medrobust.report.figures import style

PANELS_PER_ROW = 2
MARKERS = ("o", "s", "^", "D", "v")
"""One fewer than colours, so that both repeat together only after 30 networks."""
CLOSE = 0.16
"""Share of the axis below which the names of two budgets would touch; they are tilted then."""
NOISE: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.2}


def curve_plot(curve: pl.DataFrame, *, score: str) -> Figure:
    """Draw the curves of a study.

    Args:
        curve: A row per `curve`, `target` and `budget`, sorted by budget: `score` with `low` and `high`, and
            `noise`. Panels and lines stand in the order of first appearance. A null is not drawn.
        score: Name of the score, e.g. "Dice", for the axis.

    Returns:
        The figure: attack as a line within the band of its intervals, matched noise dashed. All panels have
        one scale of scores; each has its own of budgets.
    """
    curve = curve.fill_nan(None)
    names, targets = (curve[column].unique(maintain_order=True).to_list() for column in ("curve", "target"))
    columns = min(len(names), PANELS_PER_ROW)
    rows = -(-len(names) // columns)
    with style.look():
        figure = Figure(figsize=(1.2 + 3.9 * columns, 0.9 + 2.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for place, axes in enumerate(grid.flat):
            axes.set_visible(place < len(names))
            if place < len(names):
                _draw_panel(axes, curve.filter(pl.col("curve") == names[place]), targets)
                axes.set_title(names[place], fontsize=10.5, fontweight="bold", pad=6)
        for axes in grid[:, 0]:
            axes.set_ylabel(score)
        handles = _legend(targets, noise=curve["noise"].null_count() < curve.height)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), 4), columnspacing=2.2
        )
    return figure


def _draw_panel(axes: Axes, curve: pl.DataFrame, targets: Sequence[str]) -> None:
    for place, target in enumerate(targets):
        rows = curve.filter(pl.col("target") == target)
        budget, colour = rows["budget"].to_numpy(), style.CATEGORIES[place % len(style.CATEGORIES)]
        low, high = (rows[end].cast(pl.Float64).to_numpy() for end in ("low", "high"))
        # Where bands overlap their edges still tell them apart.
        axes.fill_between(
            budget, low, high, facecolor=(colour, 0.13), edgecolor=(colour, 0.55), linewidth=0.7
        )
        axes.plot(budget, rows["noise"].cast(pl.Float64).to_numpy(), color=colour, **NOISE)
        axes.plot(budget, rows["score"].to_numpy(), color=colour, **_line(place))
    budgets = np.unique(curve["budget"].to_numpy())
    tilted = bool(np.diff(budgets).min() < CLOSE * budgets.max())
    axes.set_xticks(
        budgets,
        ["clean" if value == 0 else fraction(value) for value in budgets],
        rotation=45 if tilted else 0,
        ha="right" if tilted else "center",
        rotation_mode="anchor",
    )
    axes.set_xlabel("budget")
    axes.grid(axis="y", color=style.HAIRLINE, linewidth=0.8)
    axes.set_axisbelow(True)


def _line(place: int) -> dict[str, Any]:
    return {
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "linewidth": 1.8,
    }


def _legend(targets: Sequence[str], *, noise: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=style.CATEGORIES[place % len(style.CATEGORIES)], label=target, **_line(place))
        for place, target in enumerate(targets)
    ]
    if noise:
        handles.append(Line2D([], [], color=style.MUTED, label="matched noise", **NOISE))
    return handles

"""The plane of clean and adversarial scores, with the region of every network and the Pareto front."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medrobust.report.figures import style
from medrobust.report.figures.curves import MARKERS

POINTS = 200
"""Points of an ellipse."""


def plane_plot(plane: pl.DataFrame, *, score: str) -> Figure:
    """Draw every network at its clean score (to the right) and its mean adversarial score (upwards).

    Args:
        plane: From `analysis.plane.plane`; networks without an adversarial score are not drawn, nor are
            regions without a scale.
        score: Name of the score, for the axes.
    """
    with style.look():
        figure = Figure(figsize=(5.6, 5.2), layout="constrained")
        axes = figure.add_subplot()
        rows = [row for row in plane.fill_nan(None).iter_rows(named=True) if row["adversarial"] is not None]
        for place, row in enumerate(rows):
            _draw_network(axes, place, row)
        _draw_front(axes, [row for row in rows if row["on_front"]])
        axes.set_xlabel(f"{score}, clean")
        axes.set_ylabel(f"{score}, mean under attack")
        axes.grid(color=style.HAIRLINE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlim(max(axes.get_xlim()[0], 0), min(axes.get_xlim()[1], 1))
        axes.set_ylim(max(axes.get_ylim()[0], 0), min(axes.get_ylim()[1], 1))
        figure.legend(loc="outside upper center", ncols=3, handletextpad=0.3)
    return figure


def ellipse(row: Mapping[str, Any]) -> Float64[np.ndarray, "2 points"]:
    """The edge of a network's region: the points at which its squared distance is `scale`."""
    covariance = np.array(
        [[row["var_clean"], row["covariance"]], [row["covariance"], row["var_adversarial"]]]
    )
    sizes, axes = np.linalg.eigh(covariance)
    angles = np.linspace(0, 2 * np.pi, POINTS)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    lengths = np.sqrt(row["scale"] * np.clip(sizes, 0, None))
    centre = np.array([[row["clean"]], [row["adversarial"]]])
    return np.asarray(centre + axes @ (lengths[:, None] * circle))


def _draw_network(axes: Axes, place: int, row: Mapping[str, Any]) -> None:
    colour = style.CATEGORIES[place % len(style.CATEGORIES)]
    if row["scale"] is not None:
        axes.fill(*ellipse(row), facecolor=(colour, 0.13), edgecolor=(colour, 0.7), linewidth=0.9)
    axes.plot(
        [row["clean"]],
        [row["adversarial"]],
        linestyle="none",
        marker=MARKERS[place % len(MARKERS)],
        markersize=8,
        markeredgecolor="white",
        markeredgewidth=0.8,
        color=colour,
        label=row["model"],
        zorder=3,
    )


def _draw_front(axes: Axes, front: list[dict[str, Any]]) -> None:
    """A stair through the networks that no other beats in both scores; nothing for a single one."""
    if len(front) < 2:
        return
    ordered = sorted(front, key=lambda row: float(row["clean"]))
    axes.step(
        [row["clean"] for row in ordered],
        [row["adversarial"] for row in ordered],
        where="pre",
        color=style.MUTED,
        linewidth=1,
        linestyle=(0, (4, 2)),
        label="Pareto front",
        zorder=1,
    )

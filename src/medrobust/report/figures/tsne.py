"""The t-SNE of the paper's Fig. 3: clean and noisy images at the left, clean and adversarial at the right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from medrobust.report.figures import style

MARKERS: Mapping[str, Mapping[str, Any]] = {
    "clean": {"marker": "o", "markersize": 4.2, "markeredgewidth": 0, "alpha": 0.75},
    "noise": {"marker": "o", "markersize": 6.2, "markeredgewidth": 1.1, "markerfacecolor": "none"},
    "attack": {"marker": "P", "markersize": 6.0, "markeredgewidth": 0.5, "markeredgecolor": "white"},
}


def tsne_plot(points: pl.DataFrame, *, classes: Sequence[str], noise: str, attack: str) -> Figure:
    """Draw one embedding in two panels with the same limits.

    Args:
        points: `label` (index into `classes`), `perturbation` ("clean", `noise` or `attack`), `x`, `y`; one
            embedding of all.
        classes: Names of all classes; only those among the labels are drawn.
        noise: Perturbation in the left panel.
        attack: Perturbation in the right panel.

    Returns:
        The figure. Class is colour; clean is a dot, noise a ring, attack a plus.
    """
    labels = sorted(points["label"].unique().to_list())
    colours = {label: style.CATEGORIES[place % len(style.CATEGORIES)] for place, label in enumerate(labels)}
    with style.look():
        figure = Figure(figsize=(9.0, 4.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, kind, shown in ((left, "noise", noise), (right, "attack", attack)):
            _draw_points(axes, points.filter(pl.col("perturbation") == "clean"), "clean", colours)
            _draw_points(axes, points.filter(pl.col("perturbation") == shown), kind, colours)
            axes.set_title(f"clean and {shown}", fontsize=10.5, pad=7)
        _frame(left, points)
        _frame(right, points)
        figure.legend(
            handles=_legend(colours, classes, noise, attack),
            loc="outside lower center",
            ncols=3,
            columnspacing=2.2,
        )
    return figure


def _draw_points(axes: Axes, points: pl.DataFrame, kind: str, colours: Mapping[int, str]) -> None:
    for label, colour in colours.items():
        of_class = points.filter(pl.col("label") == label)
        axes.plot(
            of_class["x"].to_numpy(),
            of_class["y"].to_numpy(),
            linestyle="none",
            color=colour,
            **MARKERS[kind],
        )


def _frame(axes: Axes, points: pl.DataFrame) -> None:
    """A square frame around all points, the same in both panels; the coordinates of a t-SNE mean nothing."""
    place = points.select("x", "y").to_numpy()
    centre = (place.max(0) + place.min(0)) / 2
    half = 0.54 * float(np.ptp(place, axis=0).max()) or 1.0
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_box_aspect(1)
    axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(style.HAIRLINE)


def _legend(colours: Mapping[int, str], classes: Sequence[str], noise: str, attack: str) -> list[Line2D]:
    """Handles for a legend of three columns, filled column by column: a class beside a kind of image."""
    of_classes = [
        Line2D([], [], linestyle="none", marker="s", color=colour, label=classes[label])
        for label, colour in colours.items()
    ]
    names = {"clean": "clean", "noise": noise, "attack": attack}
    of_kinds = [
        Line2D([], [], linestyle="none", color=style.MUTED, label=name, **MARKERS[kind])
        for kind, name in names.items()
    ]
    if len(of_classes) != len(of_kinds):
        return of_classes + of_kinds
    return [handle for pair in zip(of_classes, of_kinds, strict=True) for handle in pair]

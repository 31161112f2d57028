"""Table 2 as a heat map in the paper's layout: targets in rows, sources in columns, one panel per attack."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from medrobust.report.figures import style

COLOURS = LinearSegmentedColormap.from_list("score", ["#7a1f0c", "#c8500a", "#f0a35e", "#fbe3c8", "#fffaf2"])
"""Low scores dark, high scores light: the order survives in grey."""
CELLS_PER_ROW = 12
CELL = (0.86, 0.62)
"""Width and height of a cell in inches."""
LONGEST = 11
"""Characters of a source that fit below a cell; longer names are tilted."""


def heat_map(table2: pl.DataFrame, *, score: str) -> Figure:
    """Draw Table 2.

    Args:
        table2: Long: `target`, `perturbation`, `source`, `score`, `low`, `high`. Rows, panels and columns
            stand in the order of first appearance.
        score: Name of the score, e.g. "Dice", for the colour bar.

    Returns:
        The figure. Cells hold the score over its interval; the diagonal (the target's own surrogate)
        is outlined.
    """
    table2 = table2.fill_nan(None)
    attacks, targets, sources = (
        table2[column].unique(maintain_order=True).to_list()
        for column in ("perturbation", "target", "source")
    )
    panels = max(1, min(len(attacks), CELLS_PER_ROW // len(sources)))
    rows = -(-len(attacks) // panels)
    width = 1.9 + panels * (CELL[0] * len(sources) + 0.15)
    height = 0.6 + rows * (CELL[1] * len(targets) + 0.75)
    cells = {(row["perturbation"], row["target"], row["source"]): row for row in table2.iter_rows(named=True)}
    with style.look():
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, panels, sharey=True, squeeze=False)
        norm = _limits(table2["score"])
        for place, axes in enumerate(grid.flat):
            if place >= len(attacks):
                axes.set_visible(False)
                continue
            _draw_panel(axes, attacks[place], targets, sources, cells, norm)
        for axes in grid[:, 0]:
            axes.set_ylabel("target", color=style.MUTED, fontsize=8.5)
        bar = figure.colorbar(
            ScalarMappable(norm, COLOURS), ax=grid, label=score, pad=0.02, fraction=0.03, aspect=22
        )
        bar.outline.set_visible(False)
        outline = Patch(facecolor="none", edgecolor=style.INK, linewidth=1.8)
        figure.legend(
            [outline],
            ["the target's own surrogate: same architecture, trained apart"],
            loc="outside lower center",
            fontsize=8.5,
        )
    return figure


def _limits(scores: pl.Series) -> Normalize:
    """Colour limits at the tenths that enclose all scores."""
    known = scores.drop_nulls().to_numpy()
    if not known.size:
        return Normalize(0.0, 1.0)
    low, high = np.floor(known.min() * 10) / 10, np.ceil(known.max() * 10) / 10
    return Normalize(low, max(high, low + 0.1))


def _draw_panel(
    axes: Axes,
    attack: str,
    targets: Sequence[str],
    sources: Sequence[str],
    cells: Mapping[tuple[str, str, str], Mapping[str, Any]],
    norm: Normalize,
) -> None:
    axes.set_xlim(0, len(sources))
    axes.set_ylim(len(targets), 0)
    axes.set_title(attack, fontsize=10.5, fontweight="bold", pad=6)
    tilted = max(map(len, sources)) > LONGEST
    axes.set_xticks(
        np.arange(len(sources)) + 0.5,
        sources,
        rotation=30 if tilted else 0,
        ha="right" if tilted else "center",
        rotation_mode="anchor",
    )
    axes.set_yticks(np.arange(len(targets)) + 0.5, targets, fontsize=10)
    axes.tick_params(length=0, pad=5)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("source", color=style.MUTED, fontsize=8.5)
    for y, target in enumerate(targets):
        for x, source in enumerate(sources):
            _draw_cell(axes, x, y, cells.get((attack, target, source)), norm)
            if source == target:
                inset = Rectangle(
                    (x + 0.035, y + 0.045), 0.93, 0.91, fill=False, edgecolor=style.INK, linewidth=1.8
                )
                axes.add_patch(inset)


def _draw_cell(axes: Axes, x: int, y: int, cell: Mapping[str, Any] | None, norm: Normalize) -> None:
    box: dict[str, Any] = {"xy": (x + 0.02, y + 0.025), "width": 0.96, "height": 0.95, "linewidth": 0}
    if cell is None or cell["score"] is None:
        axes.add_patch(Rectangle(**box, facecolor="white", edgecolor=style.HAIRLINE, hatch="////"))
        return
    colour = COLOURS(norm(cell["score"]))
    axes.add_patch(Rectangle(**box, facecolor=colour))
    ink = "white" if luminance(colour) < 0.3 else style.INK
    bounded = cell["low"] is not None and cell["high"] is not None
    axes.text(
        x + 0.5,
        y + (0.4 if bounded else 0.5),
        f"{cell['score']:.3f}",
        color=ink,
        fontsize=10,
        ha="center",
        va="center",
    )
    if bounded:
        interval = f"[{cell['low']:.2f}, {cell['high']:.2f}]"
        axes.text(x + 0.5, y + 0.72, interval, color=ink, fontsize=6.8, ha="center", va="center")


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance in [0, 1] of an sRGB colour (WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

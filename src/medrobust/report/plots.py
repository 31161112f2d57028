"""Every plot of a report, with its caption."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from medrobust.analysis.results import Results
from medrobust.analysis.smallest import SIZES
from medrobust.analysis.table import ABSENT, shown
from medrobust.analysis.threats import RUNGS
from medrobust.analysis.transforms import named
from medrobust.report import style

MARKERS = ("o", "s", "^", "D", "v")
"""Of networks; one fewer than colours, so that both repeat together only after 30 networks."""


class Projection(NamedTuple):
    """A joint t-SNE of clean, noisy and attacked images, as `target` sees them."""

    points: pl.DataFrame
    target: str
    attack: str
    noise: str
    classes: tuple[str, ...]


class Drawn(NamedTuple):
    """A figure, what it shows for those who cannot see it, and its caption."""

    figure: Figure
    alt: str
    caption: str


class Words(NamedTuple):
    """The terms that figures use.

    Attributes:
        score: Name of the score.
        percent: Confidence of the intervals, such as "95 %".
        units: What intervals are taken over, in the plural.
        structures: Whether scores are means over structures.
    """

    score: str
    percent: str
    units: str
    structures: bool = False

    @classmethod
    def of(cls, results: Results) -> "Words":
        """The terms of a run."""
        percent = f"{100 * results.settings.confidence:g}\u00a0%"
        is_segmentation = results.task.has_maps
        return cls(results.score.heading, percent, f"{results.unit}s", is_segmentation)

    @property
    def axis(self) -> str:
        """Label of an axis of scores."""
        return f"mean {self.score} over structures" if self.structures else self.score

    @property
    def intervals(self) -> str:
        """What bars and brackets show."""
        return f"{self.percent} intervals over {self.units}"


def draw(
    tables: Mapping[str, pl.DataFrame], words: Words, projection: Projection | None
) -> dict[str, Callable[[], Drawn]]:
    """A function for each plot that has something to show.

    Args:
        tables: Tables of the study by name, at least `table1` and `table2`.
        words: Terms of its captions.
        projection: Points for the t-SNE.
    """
    tables = {name: table.fill_nan(None) for name, table in tables.items()}
    drawn: dict[str, Callable[[], Drawn]] = {"dotplot": partial(_table1, tables["table1"], words)}
    curve = tables.get("curve", pl.DataFrame(schema={"perturbation": pl.String}))
    cells = tables["table2"].filter(~pl.col("perturbation").is_in(curve["perturbation"].to_list()))
    if cells.height:
        drawn["heatmap"] = partial(_table2, cells, words, left_out=cells.height < tables["table2"].height)
    plots = {
        "noise_control": _noise_control,
        "pairs": _pairs,
        "rank_stability": _ranks,
        "curve": _curve,
        "certificates": _certificates,
        "risk_coverage": _risks,
        "corruption_levels": _levels,
        "threats": ladder_picture,
        "transforms": _transforms,
        "price": _price,
    }
    by_norm = tables.get("smallest_curve", pl.DataFrame(schema={"norm": pl.String}))
    for (norm,), rows in by_norm.group_by("norm", maintain_order=True):
        drawn[f"smallest_{SIZES[str(norm)]}"] = partial(_smallest, rows, words)
    for name, plot in plots.items():
        if name in tables and tables[name].height:
            drawn[name] = partial(plot, tables[name], words)
    if "plane" in tables and tables["plane"]["adversarial"].count() > 1:
        drawn["plane"] = partial(_plane, tables["plane"], words)
    if projection is not None:
        drawn["tsne"] = partial(_tsne, projection)
    return drawn


# ---- dots with intervals ----


class Series(NamedTuple):
    """One number of every line, and how it is drawn."""

    column: str
    name: str
    marker: str
    colour: str
    face: str


CLEAN = Series("clean", "clean", "o", style.INK, style.INK)
NOISE = Series("noise", "matched noise", "o", style.BLUE, "white")
ATTACK = Series("adversarial", "attack", "D", style.VERMILION, style.VERMILION)
TABLE1 = (CLEAN, NOISE._replace(name="noise"), ATTACK._replace(name="attack (mean)"))
LANE = 0.22
"""Distance between the numbers of one line, where the distance between lines is 1."""


class Line(NamedTuple):
    """A line of a dot plot: its name, the row with its numbers, and the text at its right."""

    name: str
    row: Mapping[str, Any]
    text: str
    group: str = ""


def dot_plot(
    lines: Sequence[Line], series: Sequence[Series], *, axis: str, heading: str, zero: bool = False
) -> Figure:
    """Numbers with their intervals, line below line.

    Args:
        lines: From top to bottom; the name of a group stands above its first line.
        series: Columns of each row, with bounds in `_low` and `_high`. A null is not drawn.
        axis: Label of the axis.
        heading: Heading of the text at the right.
        zero: Whether to mark 0.
    """
    places: list[float] = []
    heads: list[tuple[float, str]] = []
    height = 0.0
    for line in lines:
        if line.group and line.group not in [name for _, name in heads]:
            heads.append((height, line.group))
            height += 0.75
        places.append(height)
        height += 1.0
    spacing = 0.28 + 0.12 * len(series)
    with style.look():
        figure = Figure(figsize=(5.2, 1.0 + spacing * height), layout="constrained")
        axes = figure.add_subplot()
        right: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "linespacing": 1.35}
        for place, line in zip(places, lines, strict=True):
            _draw_line(axes, place, line, series)
            axes.text(1.03, place, line.text, va="center", fontsize=8.5, **right)
            if place and place not in [top + 0.75 for top, _ in heads]:
                axes.axhline(place - 0.5, color=style.HAIRLINE, linewidth=0.8, linestyle=(0, (1, 2)))
        for place, name in heads:
            axes.text(0, place, name, va="center", fontweight="bold", **right)
        if zero:
            axes.axvline(0, color=style.MUTED, linewidth=1, zorder=1)
        axes.text(1.03, -0.55, heading, va="bottom", color=style.MUTED, fontsize=8.5, **right)
        axes.set_ylim(height - 0.45, -0.55)
        axes.set_yticks(places, [line.name for line in lines], fontsize=9.5)
        axes.tick_params(axis="y", length=0, pad=8)
        axes.set_xlabel(axis)
        axes.grid(visible=True, axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        if len(series) > 1:
            handles = [Line2D([], [], label=each.name, **_marker(each)) for each in series]
            figure.legend(handles=handles, loc="outside upper center", ncols=len(series), handletextpad=0.3)
    return figure


def _draw_line(axes: Axes, place: float, line: Line, series: Sequence[Series]) -> None:
    for lane, each in enumerate(series):
        value, low, high = (line.row[each.column + end] for end in ("", "_low", "_high"))
        if value is None:
            continue
        height = place + (lane - (len(series) - 1) / 2) * LANE
        if low is not None and high is not None:
            axes.hlines(height, low, high, color=each.colour, linewidth=1.8, zorder=2)
        axes.plot([value], [height], zorder=3, **_marker(each))


def _marker(series: Series) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": series.marker,
        "markersize": 7 if series.marker == "o" else 6,
        "markeredgewidth": 1.5,
        "markeredgecolor": series.colour,
        "markerfacecolor": series.face,
    }


def _points(row: Mapping[str, Any], column: str, between: str = "\n", digits: int = 1) -> str:
    """A number and its interval, as the text beside a line."""
    value, low, high = (row[column + end] for end in ("", "_low", "_high"))
    if value is None:
        return ABSENT
    bounded = low is not None and high is not None
    interval = f"{between}[{low:.{digits}f}, {high:.{digits}f}]" if bounded else ""
    return f"{value:.{digits}f}{interval}".replace("-", "\u2212")


def _table1(table: pl.DataFrame, words: Words) -> Drawn:
    lines = [Line(row["model"], row, _points(row, "drop_points")) for row in table.iter_rows(named=True)]
    return Drawn(
        dot_plot(lines, TABLE1, axis=words.axis, heading="drop in points"),
        f"Dot plot of Table 1: clean, noise and adversarial {words.score} of each network with intervals.",
        f"Table 1 as a picture. Bars are {words.intervals}; the drop is from clean to attack.",
    )


def comparison_picture(scores: pl.DataFrame, words: Words) -> Drawn:
    """Table 1 of several runs: `model`, `run` and its other columns."""
    named = scores.fill_nan(None).with_columns(model=pl.format("{} of {}", "model", "run"))
    return _table1(named, words)._replace(
        alt=f"Dot plot of the clean, noise and adversarial {words.score} of each network of each run.",
        caption="Every network of every run, the same network together. Bars are "
        f"{words.intervals}. Two bars may overlap although the paired difference is clear: see the tables.",
    )


def _noise_control(table: pl.DataFrame, words: Words) -> Drawn:
    lines = [
        Line(
            row["perturbation"],
            row,
            f"{_points(row, 'extra_drop_points', ' ')}\n{_p(row['p_holm'])}",
            row["target"],
        )
        for row in table.iter_rows(named=True)
    ]
    series = (NOISE, ATTACK._replace(column="attacked"))
    return Drawn(
        dot_plot(lines, series, axis=words.axis, heading="extra drop\nin points"),
        f"Dot plot of the {words.score} of each network under each attack and under noise of the same SSIM, "
        "with intervals.",
        "Each attack beside noise that changes the images as much. The extra drop is what the attack takes "
        f"beyond its noise; p by sign flips, Holm-adjusted. Bars are {words.intervals}.",
    )


def _pairs(table: pl.DataFrame, words: Words) -> Drawn:
    lines = [
        Line(
            f"{row['first']}\n\u2212 {row['second']}",
            row,
            f"{_points(row, 'difference', ' ', 3)}\n{_p(row['p_holm'])}",
        )
        for row in table.iter_rows(named=True)
    ]
    series = (ATTACK._replace(column="difference"),)
    return Drawn(
        dot_plot(lines, series, axis=f"difference in {words.axis}", heading="difference", zero=True),
        f"Dot plot of the difference in mean adversarial {words.score} between each pair of networks, with "
        "intervals.",
        "Each pair of networks under attack: right of 0 the first is better. Bars are unadjusted "
        f"{words.intervals}; p is Holm-adjusted, and the verdict goes by p.",
    )


def _price(table: pl.DataFrame, words: Words) -> Drawn:
    lines = [
        Line(row["condition"], row, _points(row, "gain_points", " "), f"{row['model']} \u2212 {row['twin']}")
        for row in table.iter_rows(named=True)
    ]
    series = (CLEAN._replace(column="gain_points", name="gain"),)
    return Drawn(
        dot_plot(lines, series, axis=f"gain in points of {words.axis}", heading="points", zero=True),
        f"Dot plot of the gain in points of {words.score} of each defended network over its twin, on clean "
        "images and under all that both faced, with intervals.",
        "Each defended network minus its twin: right of 0 the defence brings something, left of 0 it costs. "
        f"Bars are {words.intervals}.",
    )


BLOB = 420
"""Area of the dot of a rank that is held in every resample, in square points."""


def blob_plot(frequencies: pl.DataFrame) -> Figure:
    """How often each network has each rank: the larger a dot, the more often; a panel per condition.

    Args:
        frequencies: `condition`, `model`, `place` and `frequency`; networks in their order.
    """
    panels = frequencies.partition_by("condition", as_dict=True, maintain_order=True)
    number = int(frequencies["place"].max())  # type: ignore[arg-type]
    with style.look():
        side = 0.7 + 0.42 * number
        figure = Figure(figsize=(1.2 + (side + 1.3) * len(panels), 0.8 + side), layout="constrained")
        for ((condition,), rows), axes in zip(
            panels.items(), figure.subplots(1, len(panels), squeeze=False).flat, strict=True
        ):
            models = rows["model"].unique(maintain_order=True).to_list()
            colour = CLEAN.colour if condition == "clean" else ATTACK.colour
            places, areas = rows["place"].to_list(), (BLOB * rows["frequency"]).to_list()
            axes.scatter(places, [models.index(name) for name in rows["model"]], areas, colour, linewidths=0)
            axes.set_title(condition, fontsize=10.5, fontweight="bold", pad=6)
            axes.set_yticks(range(len(models)), models)
            axes.set_xticks(range(1, number + 1))
            axes.set(xlim=(0.4, number + 0.6), ylim=(len(models) - 0.4, -0.6), xlabel="rank")
            axes.grid(visible=True)
            axes.set_axisbelow(True)
    return figure


def _ranks(table: pl.DataFrame, words: Words) -> Drawn:
    return Drawn(
        blob_plot(table),
        "Dots for the ranks of each network, clean and under attack; the area is the fraction of resamples.",
        f"How stable the order is when the {words.units} are drawn anew: the area of a dot is the fraction "
        "of resamples in which the network has the rank. Networks from top to bottom by the "
        f"{words.score} of all {words.units}.",
    )


def risk_plot(curves: pl.DataFrame) -> Figure:
    """Risk against coverage: a panel per network, a line per condition.

    Args:
        curves: `condition`, `model`, `coverage` and `risk`; its order is that of panels.
    """
    models = curves["model"].unique(maintain_order=True).to_list()
    columns = min(len(models), 3)
    rows = -(-len(models) // columns)
    with style.look():
        figure = Figure(figsize=(0.9 + 2.5 * columns, 0.9 + 2.3 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for place, axes in enumerate(grid.flat):
            axes.set_visible(place < len(models))
            if place >= len(models):
                continue
            for series in (CLEAN, NOISE, ATTACK):
                line = curves.filter(model=models[place], condition=series.column)
                axes.plot(
                    line["coverage"].to_list(), line["risk"].to_list(), color=series.colour, linewidth=1.8
                )
            axes.set_title(models[place], fontsize=10.5, fontweight="bold", pad=6)
            axes.set_xlabel("coverage" if place >= len(models) - columns else "")
            axes.grid(visible=True)
            axes.set_axisbelow(True)
        grid[0, 0].set(xlim=(0, 1), ylim=(0, None))
        for axes in grid[:, 0]:
            axes.set_ylabel("risk")
        shown = [each for each in (CLEAN, NOISE, ATTACK) if each.column in curves["condition"].to_list()]
        handles = [Line2D([], [], label=each.name, color=each.colour, linewidth=1.8) for each in shown]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=2.2)
    return figure


def _risks(table: pl.DataFrame, words: Words) -> Drawn:
    return Drawn(
        risk_plot(table),
        "Line plot of risk against coverage, a panel for each network: clean, with noise and under attack.",
        "What is gained by answering only where the network is confident: the fraction of wrong answers "
        "(risk) among the most confident ones, against the fraction of images answered (coverage). Where a "
        "line falls to the left, confidence warns of mistakes. Means over attacks and sources, without "
        "intervals.",
    )


def _p(value: float | None) -> str:
    if value is None:
        return "no test"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


# ---- Table 2 as a map ----

CELLS_PER_ROW = 12
CELL = (0.86, 0.62)
"""Width and height of a cell in inches."""


def heat_map(table2: pl.DataFrame, *, score: str) -> Figure:
    """Table 2 in the paper's layout: targets in rows, sources in columns, a panel per attack.

    Args:
        table2: Its order is that of rows, columns and panels.
        score: Label of the colour bar.
    """
    attacks, targets, sources = (
        table2[column].unique(maintain_order=True).to_list()
        for column in ("perturbation", "target", "source")
    )
    sources = in_order_of(targets, sources)
    panels = max(1, min(len(attacks), CELLS_PER_ROW // len(sources)))
    rows = -(-len(attacks) // panels)
    width, height = (
        1.9 + panels * (CELL[0] * len(sources) + 0.15),
        0.6 + rows * (CELL[1] * len(targets) + 0.9),
    )
    cells = {(row["perturbation"], row["target"], row["source"]): row for row in table2.iter_rows(named=True)}
    norm = style.limits(table2["score"])
    with style.look():
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, panels, sharex=True, sharey=True, squeeze=False)
        for attack, axes in zip_longest(attacks, grid.flat):
            axes.set_axis_off() if attack is None else axes.set_title(attack, fontweight="bold", pad=6)
            for y, target in enumerate(targets if attack else ()):
                for x, source in enumerate(sources):
                    _draw_cell(axes, x, y, cells.get((attack, target, source)), norm)
        axes = grid[0, 0]
        axes.set(xlim=(0, len(sources)), ylim=(len(targets), 0))
        axes.set_xticks(
            np.arange(len(sources)) + 0.5, sources, rotation=30, ha="right", rotation_mode="anchor"
        )
        axes.set_yticks(np.arange(len(targets)) + 0.5, targets)
        for axes in grid.flat:
            axes.tick_params(length=0, pad=5, labelbottom=True)
            axes.spines[:].set_visible(False)
        figure.supylabel("target", color=style.MUTED, fontsize=8.5)
        own = "; framed: the target's own surrogate, of the same architecture, trained apart"
        figure.supxlabel(
            "source" + (own if any(target == source for _, target, source in cells) else ""),
            color=style.MUTED,
            fontsize=8.5,
        )
        bar = figure.colorbar(
            ScalarMappable(norm, style.COLOURS), ax=grid, label=score, pad=0.02, fraction=0.03, aspect=22
        )
        bar.outline.set_visible(False)
    return figure


def in_order_of(rows: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Columns of a map in the order of its rows, if they have the same names."""
    return sorted(columns, key=rows.index) if set(columns) <= set(rows) else list(columns)


def _draw_cell(axes: Axes, x: int, y: int, cell: Mapping[str, Any] | None, norm: Normalize) -> None:
    if cell is not None and cell["source"] == cell["target"]:
        axes.add_patch(Rectangle((x + 0.035, y + 0.045), 0.93, 0.91, fill=False, edgecolor=style.INK, lw=1.8))
    box: dict[str, Any] = {"xy": (x + 0.02, y + 0.025), "width": 0.96, "height": 0.95, "linewidth": 0}
    if cell is None or cell["score"] is None:
        axes.add_patch(Rectangle(**box, facecolor="white", edgecolor=style.HAIRLINE, hatch="////"))
        return
    colour, ink = style.shades(cell["score"], norm)
    axes.add_patch(Rectangle(**box, facecolor=colour))
    bounded = cell["low"] is not None and cell["high"] is not None
    centred: dict[str, Any] = {"color": ink, "ha": "center", "va": "center"}
    axes.text(x + 0.5, y + (0.4 if bounded else 0.5), f"{cell['score']:.3f}", fontsize=10, **centred)
    if bounded:
        axes.text(x + 0.5, y + 0.72, f"[{cell['low']:.2f}, {cell['high']:.2f}]", fontsize=6.8, **centred)


def _table2(table: pl.DataFrame, words: Words, *, left_out: bool) -> Drawn:
    curves = " Points of curves have a picture of their own." if left_out else ""
    return Drawn(
        heat_map(table, score=words.axis),
        f"Heat map of Table 2: {words.score} of each target under each attack, by source.",
        f"Table 2 as a picture: the darker, the lower the score. In brackets: {words.intervals}.{curves}",
    )


# ---- score against budget ----

PANELS_PER_ROW = 2
CLOSE = 0.16
"""Fraction of the axis below which the names of two budgets would touch and are tilted."""
DASHED: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.2}


def curve_plot(curve: pl.DataFrame, *, score: str, axis: str = "budget", per_row: int = 0) -> Figure:
    """Score against budget: a panel per attack, a line within its band per network, matched noise dashed.

    Args:
        curve: A row per `curve`, `target` and `budget`, sorted by budget; its order is that of panels and
            lines. A null is not drawn.
        score: Label of the axis, which all panels share; each has budgets of its own.
        axis: Label of the other axis.
        per_row: Panels in a row, smaller the more there are; 0: as many as fit at full size.
    """
    names, targets = (curve[column].unique(maintain_order=True).to_list() for column in ("curve", "target"))
    columns = min(len(names), per_row or PANELS_PER_ROW)
    width, height = (3.9, 2.9) if columns <= PANELS_PER_ROW else (2.5, 1.95)
    rows = -(-len(names) // columns)
    with style.look():
        figure = Figure(figsize=(1.2 + width * columns, 0.9 + height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for place, axes in enumerate(grid.flat):
            axes.set_visible(place < len(names))
            if place < len(names):
                _draw_curves(axes, curve.filter(pl.col("curve") == names[place]), targets)
                axes.set_xlabel(axis if place >= len(names) - columns else "")
                axes.set_title(names[place], fontsize=10.5, fontweight="bold", pad=6)
        for axes in grid[:, 0]:
            axes.set_ylabel(score)
        handles = [Line2D([], [], label=target, **_of_network(n)) for n, target in enumerate(targets)]
        if curve["noise"].null_count() < curve.height:
            handles.append(Line2D([], [], color=style.MUTED, label="matched noise", **DASHED))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), 4), columnspacing=2.2
        )
    return figure


def _draw_curves(axes: Axes, curve: pl.DataFrame, targets: Sequence[str]) -> None:
    for place, target in enumerate(targets):
        rows = curve.filter(pl.col("target") == target)
        budget, drawn = rows["budget"].to_numpy(), _of_network(place)
        colour = drawn["color"]
        low, high = (rows[end].cast(pl.Float64).to_numpy() for end in ("low", "high"))
        # The edges tell overlapping bands apart.
        axes.fill_between(
            budget, low, high, facecolor=(colour, 0.13), edgecolor=(colour, 0.55), linewidth=0.7
        )
        axes.plot(budget, rows["noise"].cast(pl.Float64).to_numpy(), color=colour, **DASHED)
        axes.plot(budget, rows["score"].to_numpy(), **drawn)
    budgets = np.unique(curve["budget"].to_numpy())
    tilted = bool(np.diff(budgets).min() < CLOSE * budgets.max())
    axes.set_xticks(
        budgets,
        ["clean" if value == 0 else shown(value, "setting") for value in budgets],
        rotation=45 if tilted else 0,
        ha="right" if tilted else "center",
        rotation_mode="anchor",
    )
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)


def _of_network(place: int) -> dict[str, Any]:
    return {
        "color": style.CATEGORIES[place % len(style.CATEGORIES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "linewidth": 1.8,
    }


def _curve(table: pl.DataFrame, words: Words) -> Drawn:
    noise = table["noise"].null_count() < table.height
    dashed = " Dashed: noise matched to the attack at each budget." if noise else ""
    return Drawn(
        curve_plot(table, score=words.axis),
        f"Line plot of the {words.score} of each network against the budget, a panel for each attack that "
        "has several budgets.",
        f"The {words.score} against the budget, the largest change that an attack may make: means "
        f"over the sources that all networks face, starting from clean images. Bands are {words.intervals}."
        f"{dashed} Points of a curve enter no average, comparison or verdict if the study has other attacks.",
    )


def _levels(table: pl.DataFrame, words: Words) -> Drawn:
    """Corruptions as curves that begin at the clean score; wrong orientations have no severities."""
    table = table.filter(pl.col("level").is_not_null())
    keys, ends = ("family", "target"), ("score", "low", "high")
    clean = table.group_by(keys, maintain_order=True).agg(
        pl.lit(0.0).alias("level"),
        *(
            pl.col(f"reference{end}").mean().alias(name)
            for end, name in zip(("", "_low", "_high"), ends, strict=True)
        ),
    )
    columns = [*keys, "level", *ends]
    points = pl.concat([clean, table.select(columns)]).sort("level", maintain_order=True)
    order = {name: place for place, name in enumerate(table["family"].unique(maintain_order=True))}
    points = points.sort(pl.col("family").replace_strict(order), maintain_order=True).rename(
        {"family": "curve", "level": "budget"}
    )
    axis = "severity" if (table["level"] >= 1).all() else "severity, or 1 \u2212 SSIM"
    return Drawn(
        curve_plot(points.with_columns(noise=None), score=words.axis, axis=axis, per_row=5),
        f"Line plot of the {words.score} of each network against severity, a panel for each corruption.",
        f"The {words.score} against the severity of each corruption, from the clean images at the left. "
        f"Bands are {words.intervals}.",
    )


NORMS = {
    "inf": "largest change of an entry (L∞)",
    "2": "Euclidean norm (L2)",
    "0": "entries that change (L0)",
}


def _smallest(table: pl.DataFrame, words: Words) -> Drawn:
    """A panel per network, a line per attack; beside the networks judged stand those attacks were made on."""
    whitebox = table.filter(pl.col("role") == "whitebox")
    rows = whitebox if whitebox.height else table
    axis = NORMS[str(rows["norm"][0])]
    curve = rows.select(
        pl.col("source").alias("curve"),
        pl.col("perturbation").alias("target"),
        pl.col("size").alias("budget"),
        pl.col("fooled").alias("score"),
        pl.col("fooled_low").alias("low"),
        pl.col("fooled_high").alias("high"),
        pl.lit(None, pl.Float64).alias("noise"),
    )
    on = "the network itself" if whitebox.height else "the surrogate"
    return Drawn(
        curve_plot(curve, score="share of images fooled", axis=axis),
        f"Line plot of the share of images fooled against the size of the change, {axis}, a panel for each "
        "network and a line for each attack.",
        f"Images fooled by changes of at most some size, {axis}, crafted on {on}: the higher the line, the "
        f"less it takes. At the left, images that are wrong without any change. Bands are {words.intervals}.",
    )


def _certificates(table: pl.DataFrame, words: Words) -> Drawn:
    """A panel per network: what is certain, and what the attack leaves; at 0, of the images as they are."""
    parts = [
        table.select(
            pl.col("model").alias("curve"),
            pl.lit(condition).alias("target"),
            pl.col("radius").alias("budget"),
            *(
                pl.coalesce(pl.col(f"{condition}{end}"), pl.col(f"{at_zero}{end}")).alias(name)
                for end, name in (("", "score"), ("_low", "low"), ("_high", "high"))
            ),
            pl.lit(None, pl.Float64).alias("noise"),
        )
        for condition, at_zero in (("certified", "certified"), ("attacked", "smoothed"))
    ]
    curve = pl.concat(parts).drop_nulls("score")
    order = {name: place for place, name in enumerate(table["model"].unique(maintain_order=True))}
    curve = curve.sort(pl.col("curve").replace_strict(order), maintain_order=True)
    score = table["measure"][0]
    return Drawn(
        curve_plot(curve, score=f"{words._replace(score=score).axis}, smoothed", axis="radius (L2)"),
        f"Line plot of the certified {score} of each smoothed network against the radius, beside its {score} "
        "under attack at that radius, a panel for each network.",
        f"The {score} of each smoothed network that no change up to a radius can undercut, and what an "
        "attack at that radius leaves; the truth lies between the two lines. At the left, images as they "
        "are: what is certain of them, and the smoothed network's score. Bands are "
        f"{words.intervals}.",
    )


SEARCHES = (
    CLEAN,
    NOISE._replace(column="random", name="random"),
    Series("worst", "worst of the draws", "s", style.BLUE, style.BLUE),
    ATTACK._replace(column="optimised", name="optimised"),
)


def _transforms(table: pl.DataFrame, words: Words) -> Drawn:
    """The searches of each transform and network in a line, the clean score at the pixels of the last."""
    lines, ends = [], ("", "_low", "_high")
    order = {name: place for place, name in enumerate(table["family"].unique(maintain_order=True))}
    table = table.sort(pl.col("family").replace_strict(order), maintain_order=True)
    for (family, model), rows in table.group_by("family", "target", maintain_order=True):
        line: dict[str, Any] = {each.column + end: None for each in SEARCHES for end in ends}
        for row in rows.iter_rows(named=True):
            line |= {
                row["search"] + end: row[name]
                for end, name in zip(ends, ("score", "low", "high"), strict=True)
            }
            line |= {f"clean{end}": row[f"reference{end}"] for end in ends}
        lost = rows.sort("drop_points", nulls_last=False).row(-1, named=True)
        lines.append(Line(str(model), line, _points(lost, "drop_points"), named(str(family))))
    return Drawn(
        dot_plot(lines, SEARCHES, axis=words.axis, heading="largest drop\nin points"),
        f"Dot plot of the {words.score} of each network under each transform: clean, drawn at random, worst "
        "of the draws and optimised, with intervals.",
        "The average case beside the worst: each transform drawn at random, the worst of several draws, and "
        f"the worst that a gradient finds in as many passes, image by image. Bars are {words.intervals}.",
    )


# ---- the threat-model ladder ----

RUNG_WIDTH = 1.0
"""Inches between two rungs."""
DODGE = 0.09
"""Distance between the networks on a rung, where that between rungs is 1."""
APART = 0.35
"""Room before the rungs apart."""


def ladder_plot(table: pl.DataFrame, *, score: str) -> Figure:
    """Score against rung, a line for each network with its intervals; rungs apart as lone, hollow marks.

    Args:
        table: From `analysis.threats`; its order is that of networks.
        score: Label of the axis.
    """
    shown_rungs = table["rung"].unique(maintain_order=True).to_list()
    rungs = [
        *(each for each in RUNGS if each in shown_rungs),
        *(each for each in shown_rungs if each not in RUNGS),
    ]
    at = {rung: place + APART * (rung not in RUNGS) for place, rung in enumerate(rungs)}
    targets = table["target"].unique(maintain_order=True).to_list()
    with style.look():
        figure = Figure(figsize=(1.4 + RUNG_WIDTH * len(rungs), 4.1), layout="constrained")
        axes = figure.add_subplot()
        for place, target in enumerate(targets):
            drawn, shift = _of_network(place), DODGE * (place - (len(targets) - 1) / 2)
            rows = [
                row for row in table.filter(target=target).iter_rows(named=True) if row["score"] is not None
            ]
            climbed = sorted((row for row in rows if row["rung"] in RUNGS), key=lambda row: at[row["rung"]])
            axes.plot(
                [at[row["rung"]] + shift for row in climbed], [row["score"] for row in climbed], **drawn
            )
            for row in rows:
                x = at[row["rung"]] + shift
                if row["low"] is not None and row["high"] is not None:
                    axes.vlines(x, row["low"], row["high"], color=drawn["color"], linewidth=1.4, zorder=1)
                if row["rung"] not in RUNGS:
                    hollow = {"linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 1.4}
                    axes.plot([x], [row["score"]], **(drawn | hollow | {"markeredgecolor": drawn["color"]}))
        apart = [at[rung] for rung in rungs if rung not in RUNGS]
        if apart:
            axes.axvline(min(apart) - (1 + APART) / 2, color=style.MUTED, linewidth=1, linestyle=(0, (4, 2)))
        axes.set_xticks(list(at.values()), [_stacked(rung) for rung in rungs], fontsize=9)
        axes.set_xlim(-0.5, max(at.values()) + 0.5)
        axes.set_ylabel(score)
        axes.grid(visible=True, axis="y")
        axes.set_axisbelow(True)
        handles = [Line2D([], [], label=target, **_of_network(n)) for n, target in enumerate(targets)]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4))
    return figure


def _stacked(name: str) -> str:
    """A name with its words below each other."""
    return name.replace(" ", "\n")


def ladder_picture(table: pl.DataFrame, words: Words) -> Drawn:
    """The table `threats` of a study, or of several runs whose networks name their run."""
    table = table.fill_nan(None)
    budget = table.filter(pl.col("rung").is_in(RUNGS[1:]))["bound"].item(0)
    apart = (
        " Right of the dashed line, hollow: what has a measure of its own and does not share the budget."
        if not table["rung"].is_in(RUNGS).all()
        else ""
    )
    return Drawn(
        ladder_plot(table, score=words.axis),
        f"Line plot of the {words.score} of each network on every rung of the threat-model ladder, with "
        "intervals.",
        f"The {words.score} against what the attacker knows, every change within {budget}. Bars are "
        f"{words.intervals}; lines only join what belongs to a network.{apart}",
    )


# ---- clean against adversarial ----

EDGE = 200
"""Points of an ellipse."""


def plane_plot(plane: pl.DataFrame, *, score: str) -> Figure:
    """Every network at its clean score (to the right) and its mean adversarial score (upwards).

    Args:
        plane: From `analysis.plane`. A network without an adversarial score is not drawn, nor is a region
            without a scale.
        score: Name of the score, for both axes.
    """
    rows = plane.drop_nulls("adversarial").rows(named=True)
    with style.look():
        figure = Figure(figsize=(5.6, 5.2), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            drawn = _of_network(place) | {"linestyle": "none", "markersize": 8, "markeredgewidth": 0.8}
            if row["scale"] is not None:
                colour = drawn["color"]
                axes.fill(*ellipse(row), facecolor=(colour, 0.13), edgecolor=(colour, 0.7), linewidth=0.9)
            axes.plot([row["clean"]], [row["adversarial"]], label=row["model"], zorder=3, **drawn)
        _draw_front(axes, (row for row in rows if row["on_front"]))
        axes.set_xlabel(f"{score}, clean")
        axes.set_ylabel(f"{score}, mean under attack")
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        axes.set_xlim(max(axes.get_xlim()[0], 0), min(axes.get_xlim()[1], 1))
        axes.set_ylim(max(axes.get_ylim()[0], 0), min(axes.get_ylim()[1], 1))
        figure.legend(loc="outside upper center", ncols=3, handletextpad=0.3)
    return figure


def ellipse(row: Mapping[str, Any]) -> Float64[np.ndarray, "2 points"]:
    """The edge of a network's region: the points at squared distance `scale`."""
    covariance = np.array(
        [[row["var_clean"], row["covariance"]], [row["covariance"], row["var_adversarial"]]]
    )
    sizes, axes = np.linalg.eigh(covariance)
    angles = np.linspace(0, 2 * np.pi, EDGE)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    lengths = np.sqrt(row["scale"] * np.clip(sizes, 0, None))
    centre = np.array([[row["clean"]], [row["adversarial"]]])
    return np.asarray(centre + axes @ (lengths[:, None] * circle))


def _draw_front(axes: Axes, rows: Iterable[Mapping[str, Any]]) -> None:
    """A stair through the networks that no other beats in both scores, if there are several."""
    front = sorted(rows, key=lambda row: float(row["clean"]))
    if len(front) > 1:
        axes.step(
            [row["clean"] for row in front],
            [row["adversarial"] for row in front],
            where="pre",
            color=style.MUTED,
            linewidth=1,
            linestyle=(0, (4, 2)),
            label="Pareto front",
            zorder=1,
        )


def _plane(table: pl.DataFrame, words: Words) -> Drawn:
    return Drawn(
        plane_plot(table, score=words.axis),
        f"Scatter plot of the clean {words.score} of each network against its mean {words.score} under "
        "attack, each with the region that holds both.",
        "Generalizability to the right, robustness upwards. A region holds both scores of its network with "
        f"{words.percent} confidence over {words.units}, not adjusted for the number of networks. No other "
        "network beats one on the Pareto front in both scores.",
    )


# ---- feature space ----

KINDS: Mapping[str, Mapping[str, Any]] = {
    "clean": {"marker": "o", "markersize": 4.2, "markeredgewidth": 0, "alpha": 0.75},
    "noise": {"marker": "o", "markersize": 6.2, "markeredgewidth": 1.1, "markerfacecolor": "none"},
    "attack": {"marker": "P", "markersize": 6.0, "markeredgewidth": 0.5, "markeredgecolor": "white"},
}


def tsne_plot(projection: Projection) -> Figure:
    """The paper's Fig. 3: clean and noisy images at the left, clean and attacked ones at the right.

    Class is colour; clean is a dot, noise a ring, attack a plus. Both panels have the same limits.
    """
    points, names = projection.points, {"noise": projection.noise, "attack": projection.attack}
    labels = sorted(points["label"].unique().to_list())
    colours = {label: style.CATEGORIES[place % len(style.CATEGORIES)] for place, label in enumerate(labels)}
    with style.look():
        figure = Figure(figsize=(9.0, 4.9), layout="constrained")
        for axes, (kind, name) in zip(figure.subplots(1, 2), names.items(), strict=True):
            for each, shown in (("clean", "clean"), (kind, name)):
                of_kind = points.filter(pl.col("perturbation") == shown)
                for label, colour in colours.items():
                    at = of_kind.filter(pl.col("label") == label).select("x", "y").to_numpy().T
                    axes.plot(*at, linestyle="none", color=colour, **KINDS[each])
            axes.set_title(f"clean and {name}", fontsize=10.5, pad=7)
            _frame_projection(axes, points)
        of_classes = [
            Line2D([], [], linestyle="none", marker="s", color=colour, label=projection.classes[label])
            for label, colour in colours.items()
        ]
        of_kinds = [
            Line2D([], [], linestyle="none", color=style.MUTED, label=name, **KINDS[kind])
            for kind, name in {"clean": "clean", **names}.items()
        ]
        figure.legend(handles=of_classes + of_kinds, loc="outside lower center", ncols=3, columnspacing=2.2)
    return figure


def _frame_projection(axes: Axes, points: pl.DataFrame) -> None:
    """A square around all points, without coordinates, which mean nothing in a t-SNE."""
    place = points.select("x", "y").to_numpy()
    centre = (place.max(0) + place.min(0)) / 2
    half = 0.54 * float(np.ptp(place, axis=0).max()) or 1.0
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_box_aspect(1)
    axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(style.HAIRLINE)


def _tsne(projection: Projection) -> Drawn:
    return Drawn(
        tsne_plot(projection),
        f"Two scatter plots of one t-SNE of {projection.target}'s features, coloured by class: clean and "
        "noisy images at the left, clean and attacked ones at the right.",
        f"t-SNE of {projection.target}'s features of its most frequent classes: one embedding of all images, "
        f"the same cases and limits in both panels. {projection.attack} was crafted on the surrogate of the "
        "same architecture. Distances in a t-SNE mean nothing by themselves; the table has numbers from the "
        "feature space.",
    )

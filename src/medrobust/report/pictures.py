"""The figures of a report with their words: what each shows, and how to read it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import polars as pl
from matplotlib.figure import Figure

from medrobust.report.context import Picture
from medrobust.report.display import capitalised
from medrobust.report.figures import style
from medrobust.report.figures.curves import curve_plot
from medrobust.report.figures.dotplot import dot_plot
from medrobust.report.figures.examples import Examples, examples_figure
from medrobust.report.figures.heatmap import heat_map
from medrobust.report.figures.plane import plane_plot
from medrobust.report.figures.tsne import tsne_plot

NO_CURVE = pl.DataFrame(schema={"perturbation": pl.String})
MEDIA = {"png": "image/png", "svg": "image/svg+xml"}


class Plane(NamedTuple):
    """A joint t-SNE of clean, noisy and attacked images."""

    points: pl.DataFrame
    target: str
    attack: str
    noise: str
    classes: tuple[str, ...]


class Drawn(NamedTuple):
    """A figure and its words. Plots stand in the report as SVG, sharp at every size; photographs as PNG."""

    figure: Figure
    alt: str
    caption: str
    kind: Literal["svg", "png"] = "svg"

    def files(self) -> dict[str, bytes]:
        """The figure as files, by their ending."""
        return {"png": style.png(self.figure), "svg": style.svg(self.figure)}

    def picture(self, files: Mapping[str, bytes]) -> Picture:
        """The one of its `files` that the report shows, with its words."""
        return Picture(files[self.kind], MEDIA[self.kind], self.alt, self.caption)


def draw(
    tables: Mapping[str, pl.DataFrame],
    *,
    score: str,
    percent: str,
    units: str,
    examples: Examples | None,
    plane: Plane | None,
) -> dict[str, Callable[[], Drawn]]:
    """What draws each of the figures for which there is something to draw.

    Args:
        tables: `table1`, `table2` and, where the study has them, `curve` and `plane`.
        score: Name of the score.
        percent: Confidence of the intervals, e.g. "95 %".
        units: What intervals are made over, in the plural.
        examples: Images for the examples figure.
        plane: Points for the t-SNE.
    """
    intervals = f"{percent} intervals over {units}"
    drawn: dict[str, Callable[[], Drawn]] = {"dotplot": partial(_table1, tables["table1"], score, intervals)}
    curve = tables.get("curve", NO_CURVE)
    cells = tables["table2"].filter(~pl.col("perturbation").is_in(curve["perturbation"].to_list()))
    if cells.height:
        left_out = cells.height < tables["table2"].height
        drawn["heatmap"] = partial(_table2, cells, score, intervals, left_out=left_out)
    if curve.height:
        drawn["curve"] = partial(_curve, curve, score, intervals)
    if "plane" in tables and tables["plane"]["adversarial"].count() > 1:
        drawn["plane"] = partial(_plane, tables["plane"], score, percent, units)
    if examples is not None:
        drawn["examples"] = partial(_examples, examples)
    if plane is not None:
        drawn["tsne"] = partial(_tsne, plane)
    return drawn


def _axis(score: str) -> str:
    return "mean Dice over structures" if score == "Dice" else score


def _table1(table: pl.DataFrame, score: str, intervals: str) -> Drawn:
    return Drawn(
        dot_plot(table, score=_axis(score)),
        f"Dot plot of Table 1: clean, noise and adversarial {score} of each network with intervals.",
        f"Table 1 as a picture. Lines are {intervals}.",
    )


def comparison_picture(scores: pl.DataFrame, score: str, intervals: str) -> Drawn:
    """The scores of networks of several runs (`model`, `run` and the columns of Table 1)."""
    named = scores.with_columns(pl.col("model") + " of " + pl.col("run"))
    return Drawn(
        dot_plot(named, score=_axis(score)),
        f"Dot plot of clean, noise and adversarial {score} of each network of each run with intervals.",
        f"The scores of every network in every run, the same network together. Lines are {intervals}; where "
        "two of them overlap, the paired difference may still be clear: it stands in the tables.",
    )


def _table2(table: pl.DataFrame, score: str, intervals: str, *, left_out: bool) -> Drawn:
    points = " Points of curves have a picture of their own." if left_out else ""
    return Drawn(
        heat_map(table, score=_axis(score)),
        f"Heat map of Table 2: {score} of each target under each attack, by source.",
        f"Table 2 as a picture: the darker a cell, the lower the score. In brackets: {intervals}.{points}",
    )


def _curve(table: pl.DataFrame, score: str, intervals: str) -> Drawn:
    noise = table["noise"].null_count() < table.height
    dashed = " Dashed: noise matched to the attack at each budget." if noise else ""
    return Drawn(
        curve_plot(table, score=_axis(score)),
        f"Line plot of the {score} of each network against the budget, a panel for each attack that has "
        "several budgets.",
        f"{capitalised(score)} against the budget, the largest change that an attack may make: means over "
        f"the sources that all networks face, from the clean images on. Bands are {intervals}.{dashed} "
        "Points of a curve enter no average, comparison or verdict where the study has other attacks.",
    )


def _plane(table: pl.DataFrame, score: str, percent: str, units: str) -> Drawn:
    return Drawn(
        plane_plot(table, score=_axis(score)),
        f"Scatter plot of the clean {score} of each network against its mean {score} under attack, each with "
        "the region that holds both.",
        "Generalizability to the right, robustness upwards. A region holds both scores of its network with "
        f"{percent} confidence over {units}, not adjusted for the number of networks. No other network beats "
        "one on the Pareto front in both scores.",
    )


def _examples(examples: Examples) -> Drawn:
    shown = "label map" if examples.segmentation else "class and its probability"
    signs = "" if examples.segmentation else "; ✓ right, ✗ wrong"
    chosen = "most labelled slice of a patient" if examples.segmentation else "first case of a class"
    return Drawn(
        examples_figure(examples),
        "Test images clean, with noise and under each attack, the scaled difference to the clean image, and "
        f"the {shown} that {examples.target} predicts.",
        f"What {examples.target} sees, attacked through the surrogate of {examples.source}. Differences are "
        f"multiplied by the factor below them and drawn around middle grey{signs}. Where few pixels changed, "
        "rings mark them. "
        f"Each is the {chosen}, not chosen by what came out; no change: the attack kept the clean image.",
        "png",
    )


def _tsne(plane: Plane) -> Drawn:
    return Drawn(
        tsne_plot(plane.points, classes=plane.classes, noise=plane.noise, attack=plane.attack),
        f"Two scatter plots of one t-SNE of {plane.target}'s features, coloured by class: clean and noisy "
        "images at the left, clean and adversarial ones at the right.",
        f"t-SNE of {plane.target}'s features of its most frequent classes: one embedding of all images, the "
        f"same cases and limits in both panels. {plane.attack} was crafted on the surrogate of the same "
        "architecture. Distances in a t-SNE mean nothing by themselves; the table gives numbers from the "
        "feature space.",
    )

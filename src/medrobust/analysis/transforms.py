"""The average case beside the worst: transforms that were drawn at random, and searched for on each network.

A transform is one family of plausible changes. Its searches take the same number of passes, so what `worst`
and `optimised` take beyond `random` is what an average over random changes does not show. Networks are not
compared here: each faces the worst image of its own.
"""

from collections.abc import Iterable, Mapping

import polars as pl

from medrobust.analysis.corruptions import outside_percent
from medrobust.analysis.results import Results, reference_of
from medrobust.analysis.scores import CLEAN, Cell, Scores
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.errors import Remark
from medrobust.study.analysis import Transform

RANDOM, WORST, OPTIMISED = "random", "worst", "optimised"

TRANSFORMS = (
    *("target", "family", "search", "perturbation", "value", "unit", "score", "low", "high"),
    *bounded("reference", "drop_points", "beyond_random_points"),
    *("ssim", "outside_percent", "n_cases", "n_patients"),
)


def transforms(results: Results) -> pl.DataFrame:
    """Every network under every transform, by how that was searched.

    Returns:
        `target, family, search, perturbation`; `value` and `unit` of the strength, the budget of all
        searches; `score` with `low` and `high`; `reference`, the clean score at the same pixels;
        `drop_points` from it, and `beyond_random_points`, by how much more is lost than from a random draw,
        both paired and with bounds; means over the images of `ssim` (null where pixels move) and
        `outside_percent`, the pixels that show nothing of the image (null where they do not); `n_cases,
        n_patients`. Empty without transforms.
    """
    if not results.transforms:
        return frame([], *TRANSFORMS)
    panel, measured = results.transformed_panel, _measured(results)
    lines: list[Line] = []
    for model in results.models:
        for each in results.transforms:
            cell = Cell(model, each.label, model)
            if cell not in panel.cells:  # a network without a gradient
                continue
            scores, reference = panel.cells[cell], _reference(results, model, each)
            lost = panel.lost(reference, scores)
            values = {
                "score": panel.estimate(scores),
                "reference": panel.estimate(reference),
                "drop_points": panel.drop(reference, scores).scaled(100),
            }
            drawn = _random(results, model, each)
            if drawn is not None:
                values["beyond_random_points"] = panel.difference(lost, drawn, limit=2.0).scaled(100)
            lines.append(
                {"target": model, "family": each.family, "search": each.search, "perturbation": each.label}
                | {"unit": each.unit or None, **with_bounds(values)}
                | measured.get((model, each.label), {})
                | {"n_cases": results.n_cases, "n_patients": len(panel.patients)}
            )
    return frame(lines, *TRANSFORMS)


def transform_sentences(rows: pl.DataFrame) -> list[str]:
    """Of each network the transform whose worst case takes most, beside what a random one takes.

    Args:
        rows: From `transforms`.
    """
    models = rows["target"].unique(maintain_order=True)
    rows = rows.sort("drop_points", descending=True, nulls_last=True, maintain_order=True)
    said = []
    for model in models:
        searched = rows.filter(pl.col("target") == model, pl.col("search") != RANDOM)
        if searched.is_empty() or searched["drop_points"][0] is None:
            continue
        worst = searched.row(0, named=True)
        drawn = rows.filter(
            pl.col("target") == model, pl.col("family") == worst["family"], pl.col("search") == RANDOM
        )["drop_points"].to_list()
        beside = f" ({drawn[0]:.1f} drawn at random)" if drawn and drawn[0] is not None else ""
        said.append(f"{named(worst['family'])} {worst['drop_points']:.1f} points of {model}{beside}")
    if not said:
        return []
    return [f"Of the transforms these take most in the worst plausible case: {'; '.join(said)}."]


def weak_searches(rows: pl.DataFrame) -> Iterable[Remark]:
    """Where a gradient found less than as many draws: the network's gradient may say little.

    Args:
        rows: From `transforms`.
    """
    for (model, family), found in rows.group_by("target", "family", maintain_order=True):
        lost = dict(found.select("search", "drop_points").iter_rows())
        drawn, climbed = lost.get(WORST), lost.get(OPTIMISED)
        if drawn is not None and climbed is not None and climbed < drawn:
            yield Remark(
                "transforms",
                f"{family}: on {model} the optimised search takes {climbed:.1f} points, less than the worst "
                f"of as many draws ({drawn:.1f}). Go by the larger. If it is not chance, the network's "
                "gradient is masked.",
            )


def named(family: str) -> str:
    """A family of the catalogue in words."""
    return family.removesuffix("_search").replace("_", " ")


def _reference(results: Results, model: str, transform: Transform) -> Scores:
    """Scores on clean images, at the pixels that a transform leaves."""
    cells, own = results.transformed_panel.cells, Cell(model, reference_of(transform.label), model)
    return cells[own if own in cells else Cell(model, CLEAN)]


def _random(results: Results, model: str, transform: Transform) -> Scores | None:
    """What a random draw of the same transform takes of each patient; None where that was not asked for."""
    if transform.search == RANDOM:
        return None
    panel = results.transformed_panel
    for each in results.transforms:
        cell = Cell(model, each.label, model)
        if (each.family, each.search) == (transform.family, RANDOM) and cell in panel.cells:
            return panel.lost(_reference(results, model, each), panel.cells[cell])
    return None


def _measured(results: Results) -> Mapping[tuple[str, str], Line]:
    """What was measured of the images of each network and transform."""
    moving = {each.label for each in results.transforms if each.moves}
    rows = (
        results.crafted.filter(pl.col("role") == "transform")
        .group_by("source", "perturbation")
        .agg(
            value=pl.col("strength").first(),
            ssim=pl.col("ssim").mean(),
        )
    )
    found: dict[tuple[str, str], Line] = {}
    for row in rows.to_dicts():
        key = (row.pop("source"), row.pop("perturbation"))
        if key[1] in moving:
            row |= {"ssim": None, "outside_percent": outside_percent(results, *key)}
        found[key] = row
    return found

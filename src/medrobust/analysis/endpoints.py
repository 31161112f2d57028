"""Rates of the mistakes that a study names, and what mistakes cost: clean, with noise and under attack."""

import math
from collections.abc import Iterator
from itertools import combinations

import polars as pl

from medrobust.analysis.comparisons import adjusted, sign_flip
from medrobust.analysis.results import CONDITIONS, Results
from medrobust.analysis.scores import Panel, Scores, panel_of
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.core import Task
from medrobust.stats.intervals import Estimate, Totals, extremes_interval
from medrobust.study.endpoints import COST, Endpoint, endpoints


def endpoint_rates(results: Results) -> pl.DataFrame:
    """How often every network makes each mistake.

    Returns:
        A row per endpoint and network: `endpoint, model`; `clean, noise, adversarial`, fractions of what the
        mistake may happen to (images of its true classes, scans with the structure, averaged within the
        patient), or mean costs of an image, with intervals over patients; `extra_points`, by how many points
        the rate is higher under attack than clean, paired; `n_cases, n_patients`.
    """
    lines: list[Line] = []
    for endpoint, rows, panel in _panels(results):
        item = "scan_id" if results.task.has_maps else "case_id"
        inside = rows.filter(pl.col("patient_id").is_in(list(panel.patients)))
        counts = {"n_cases": inside[item].n_unique(), "n_patients": len(panel.patients)}
        for model in results.models:
            found = _conditions(results, panel, model)
            values = {name: _rate(endpoint, panel, scores) for name, scores in found.items()}
            extra = _difference(endpoint, panel, found["adversarial"], found["clean"])
            values["extra_points"] = extra.scaled(100)
            lines.append({"endpoint": endpoint.name, "model": model, **with_bounds(values), **counts})
    numbers = bounded(*CONDITIONS, "extra_points")
    return frame(lines, "endpoint", "model", *numbers, "n_cases", "n_patients")


def endpoint_pairs(results: Results) -> pl.DataFrame:
    """Paired tests of all pairs of networks on every endpoint, a family of its own for each condition.

    Returns:
        `endpoint, condition, first, second, difference` (first - second, so that the second is better above
        0) with interval, `p` by sign flips over patients, and `p_holm`, adjusted over endpoints and pairs.
    """
    panels = list(_panels(results))
    duels = list(combinations(results.models, 2))
    tests = len(panels) * len(duels)
    lines: list[Line] = []
    for condition in CONDITIONS:
        family: list[Line] = []
        for endpoint, _, panel in panels:
            for first, second in duels:
                one, other = (
                    _conditions(results, panel, model, first, second)[condition] for model in (first, second)
                )
                if one is not None and other is not None:
                    difference = _difference(endpoint, panel, one, other)
                    keys = (endpoint.name, condition, first, second)
                    p = sign_flip(results, one, other, *keys, tests=tests)
                    names = dict(zip(("endpoint", "condition", "first", "second"), keys, strict=True))
                    family.append({**names, **with_bounds({"difference": difference}), "p": p})
        lines += [{**line, "p_holm": p} for line, p in zip(family, adjusted(family), strict=True)]
    return frame(lines, "endpoint", "condition", "first", "second", *bounded("difference"), "p", "p_holm")


def _rate(endpoint: Endpoint, panel: Panel, scores: Scores | None) -> Estimate:
    found = panel.estimate(scores)
    if scores is not None and endpoint.name == COST:
        found = _with_what_is_rare(found, scores.totals, panel).clipped(0.0, 1.0)
    return found.scaled(endpoint.scale)


def _difference(endpoint: Endpoint, panel: Panel, first: Scores | None, second: Scores | None) -> Estimate:
    found = panel.difference(first, second)
    if first is not None and second is not None and endpoint.name == COST:
        found = _with_what_is_rare(found, first.totals - second.totals, panel).clipped(-1.0, 1.0)
    return found.scaled(endpoint.scale)


def _with_what_is_rare(found: Estimate, costs: Totals, panel: Panel) -> Estimate:
    """The interval, at least as wide as one that supposes nothing but the largest cost.

    A sample in which the costliest mistake was not made does not show how often it is: without this,
    intervals of mean costs hold the truth in as few as .65 of the studies with 12 patients.
    """
    if not panel.sizes.size or math.isnan(found.low):
        return found
    rare = extremes_interval(costs, panel.settings.confidence, 1.0)
    return Estimate(found.value, min(found.low, rare.low), max(found.high, rare.high))


def _panels(results: Results) -> Iterator[tuple[Endpoint, pl.DataFrame, Panel]]:
    """Endpoints that can happen in these data, with the rows that they are about."""
    settings = results.settings
    asked = endpoints(settings.endpoints, settings.costs, results.task, results.structures)
    for endpoint in asked:
        rows = results.rows.filter(_about(results, endpoint))
        if results.task.has_maps:
            present = rows.group_by("scan_id").agg(present=pl.col("n_true").max() > 0).filter("present")
            rows = rows.filter(pl.col("scan_id").is_in(present["scan_id"].to_list()))
        if not rows.is_empty():
            yield endpoint, rows, panel_of(endpoint.score, settings, rows, results.classes[0])


def _about(results: Results, endpoint: Endpoint) -> pl.Expr:
    if results.task.has_maps:
        return pl.col("structure") == endpoint.about[0]
    if results.task is Task.MULTILABEL:
        return (pl.col("finding") == endpoint.about[0]) & (pl.col("label") == 1)
    about = [results.classes.index(name) for name in endpoint.about or results.classes]
    return pl.col("label").is_in(about)


def _conditions(results: Results, panel: Panel, model: str, *compared: str) -> dict[str, Scores | None]:
    """Scores of a network's patients; those `compared` under attack from sources that all of them face."""
    cells = results.condition_cells(model)
    if compared:
        cells["adversarial"] = results.judged_cells(model, results.common_sources(*compared))
    return {name: panel.mean(each for each in of if each in panel.cells) for name, of in cells.items()}

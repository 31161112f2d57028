"""The tables of scores: Table 1, Table 2, and those that stand beside them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import polars as pl

from medrobust.analysis.results import CONDITIONS, Results
from medrobust.analysis.scores import CLEAN, Cell, Scores
from medrobust.analysis.table import Line, bounded, frame, with_bounds
from medrobust.study.analysis import Attack

TABLE1 = ("model", *bounded(*CONDITIONS, "drop_points", "drop_percent"))
TABLE2 = ("target", "perturbation", "source", "score", "low", "high", "n_cases", "n_patients")


def table1(results: Results, rounding: str = "") -> pl.DataFrame:
    """Table 1: a row per target with clean, noise and adversarial score, and drops.

    `rounding` is the suffix of the images used for noise and attacks, e.g. "~8bit"; clean ones have none.
    """
    panel, lines = results.panel, []
    for model in results.models:
        conditions = results.conditions(model, rounding)
        clean, attacked = conditions["clean"], conditions["adversarial"]
        values = {
            **{name: panel.estimate(scores) for name, scores in conditions.items()},
            "drop_points": panel.drop(clean, attacked).scaled(100),
            "drop_percent": panel.relative_drop(clean, attacked).scaled(100),
        }
        lines.append({"model": model, **with_bounds(values)})
    return frame(lines, *TABLE1)


def table2(results: Results) -> pl.DataFrame:
    """Table 2: attack x source x target, for sources that all targets face."""
    return _cells(results, _every(results, results.attack_labels, results.sources))


def noise_table(results: Results) -> pl.DataFrame:
    """Noise matched to every attack of Table 2; without a source, noise of a fixed strength."""
    matched = _every(results, results.matched(results.attack_labels), results.sources)
    return _cells(results, matched + _every(results, results.fixed, sources=[""]))


def whitebox_table(results: Results) -> pl.DataFrame:
    """Attacks crafted on the target itself, and the noise matched to them; they enter no other table."""
    labels = [*results.attack_labels, *results.matched(results.attack_labels)]
    grid = [Cell(model, label, model, whitebox=True) for model in results.models for label in labels]
    return _cells(results, [cell for cell in grid if cell in results.panel.cells])


def other_sources_table(results: Results) -> pl.DataFrame:
    """Attack cells of sources that only some targets face; they enter no average."""
    return _cells(results, _every(results, results.attack_labels, results.other_sources))


def _every(results: Results, perturbations: Sequence[str], sources: Sequence[str]) -> list[Cell]:
    return [cell for model in results.models for cell in results.cells(model, perturbations, sources)]


def _cells(results: Results, cells: Iterable[Cell]) -> pl.DataFrame:
    """A row per cell, in the columns of Table 2."""
    panel = results.panel
    counts = {"n_cases": results.n_cases, "n_patients": len(panel.patients)}
    lines = [
        cell.names | with_bounds({"score": panel.estimate(panel.cells[cell])}) | counts for cell in cells
    ]
    return frame(lines, *TABLE2)


def rounded(results: Results) -> pl.DataFrame:
    """Table 1 on images rounded as they would be saved: `rounding`, then the columns of Table 1."""
    of_each = [
        table1(results, rounding).select(pl.lit(rounding.removeprefix("~")).alias("rounding"), pl.all())
        for rounding in results.roundings
    ]
    return pl.concat(of_each) if of_each else frame([], "rounding", *TABLE1)


def conditional_table(results: Results) -> pl.DataFrame:
    """Table 2 on the scans of which no attack and source dropped a case; empty where nothing was dropped.

    It is conditional on what the attacks achieved, so it may not be compared with Tables 1 and 2, which never
    leave out a case.
    """
    dropped = results.crafted.filter(
        pl.col("outcome") == "dropped",
        pl.col("perturbation").is_in(results.attack_labels),
        pl.col("role") != "whitebox",
    )["scan_id"].unique()
    kept = ~pl.col("scan_id").is_in(dropped.implode())
    if dropped.is_empty() or results.rows.filter(kept).is_empty():
        return frame([], *TABLE2)
    return table2(replace(results.restricted(kept), crafted=results.crafted.filter(kept)))


def off_diagonal(results: Results) -> pl.DataFrame:
    """Mean over sources of other architectures; each target has others, and so other images."""
    lines = []
    for model in results.models:
        own = results.architecture(model)
        others = [source for source in results.sources if results.architecture(source) != own]
        scores = results.panel.mean(results.attack_cells(model, sources=others))
        note = {"sources": ", ".join(others), "note": "not on identical images"}
        lines.append({"model": model, **note, **with_bounds({"adversarial": results.panel.estimate(scores)})})
    return frame(lines, "model", "sources", "note", *bounded("adversarial"))


def by_patient(results: Results) -> pl.DataFrame:
    """Clean, noise and adversarial score of every patient: what the intervals are computed from."""
    panel, columns = results.panel, []
    for model in results.models:
        values = {
            name: None if scores is None else scores.totals / panel.sizes
            for name, scores in results.conditions(model).items()
        }
        shared = {"model": [model] * panel.sizes.size, "patient_id": panel.patients, "images": panel.sizes}
        columns.append(pl.DataFrame(shared | values, schema_overrides=dict.fromkeys(values, pl.Float64)))
    return pl.concat(columns)


def whole_test_table(results: Results) -> pl.DataFrame:
    """Clean score of each network on the whole test set; no other table depends on it.

    Returns:
        `model, clean`, of whole images `balanced_accuracy`, both with `_low` and `_high`, `n_cases,
        n_patients`; empty if the study evaluates all test cases, or the score needs boundaries, which are
        measured on evaluated cases only.

    Raises:
        RunError: The networks did not see the same cases.
    """
    classifies = not results.task.has_maps
    names = ("clean", "balanced_accuracy") if classifies else ("clean",)
    columns = ("model", *bounded(*names), "n_cases", "n_patients")
    rows = results.whole_test
    if rows is None or rows.is_empty() or results.score.needs_surfaces:
        return frame([], *columns)
    whole = replace(
        results, attacks=(), predictions=rows if classifies else None, overlaps=None if classifies else rows
    )
    panels = {"clean": whole.panel} | ({"balanced_accuracy": whole.balanced_panel} if classifies else {})
    counts = {"n_cases": results.record["cases"]["test"], "n_patients": len(whole.panel.patients)}
    lines = []
    for model in results.models:
        values = {name: panel.estimate(panel.cells[Cell(model, CLEAN)]) for name, panel in panels.items()}
        lines.append({"model": model, **with_bounds(values), **counts})
    return frame(lines, *columns)


CURVE = (
    *("curve", "target", "perturbation", "budget", "score", "low", "high"),
    *(*bounded("noise"), "n_cases", "n_patients"),
)


def curve_table(results: Results) -> pl.DataFrame:
    """Score of every target against the budget of every attack that the study gives a list of budgets.

    Returns:
        `curve, target, perturbation, budget`; `score` with `low` and `high`, and `noise` (matched to the
        attack; null without) with `noise_low` and `noise_high`: means over the sources that all targets face.
        Sorted by budget; 0 is the clean image, which is also what noise of strength 0 leaves. Empty if the
        study has no list of budgets.
    """
    lines: list[Line] = []
    for curve in dict.fromkeys(attack.curve for attack in results.attacks if attack.curve):
        points = [attack for attack in results.attacks if attack.curve == curve]
        for model in results.models:
            lines += [{"curve": curve, "target": model, **line} for line in _points(results, model, points)]
    return frame(lines, *CURVE)


def _points(results: Results, model: str, points: Sequence[Attack]) -> Iterable[Line]:
    panel, clean = results.panel, results.clean(model)
    noisy = any(results.matched_cells(model, [point.label]) for point in points)
    scored: list[tuple[str, float, Scores | None, Scores | None]] = [
        (CLEAN, 0.0, clean, clean if noisy else None)
    ]
    for point in sorted(points, key=lambda point: point.value or 0.0):
        attacked = panel.mean(results.cells(model, [point.label]))
        noise = panel.mean(results.matched_cells(model, [point.label]))
        scored.append((point.label, point.value or 0.0, attacked, noise))
    counts = {"n_cases": results.n_cases, "n_patients": len(panel.patients)}
    for name, budget, attacked, noise in scored:
        values = with_bounds({"score": panel.estimate(attacked), "noise": panel.estimate(noise)})
        yield {"perturbation": name, "budget": budget, **values, **counts}

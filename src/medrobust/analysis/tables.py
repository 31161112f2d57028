"""The tables of scores: from the results of a run to frames whose undefined numbers are null."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from medrobust.analysis import estimates
from medrobust.analysis.patients import Cell, Scores
from medrobust.analysis.results import Results
from medrobust.stats.intervals import Estimate
from medrobust.storage.schemas import Schema

TABLE1 = ("clean", "noise", "adversarial", "drop_points", "drop_percent")
TABLE2 = {
    "target": pl.String,
    "perturbation": pl.String,
    "source": pl.String,
    "score": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_cases": pl.Int64,
    "n_patients": pl.Int64,
}


def with_bounds(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Estimates as the columns `name`, `name_low`, `name_high`."""
    ends = ("", "_low", "_high")
    return {
        name + end: number
        for name, three in estimates.items()
        for end, number in zip(ends, three, strict=True)
    }


def frame(rows: Iterable[Mapping[str, object]], schema: Schema) -> pl.DataFrame:
    """A frame of rows whose undefined numbers are null."""
    return pl.DataFrame([dict(row) for row in rows], schema=schema).fill_nan(None)


def bounded(*names: str) -> Schema:
    """Schema of numbers with intervals."""
    return {f"{name}{end}": pl.Float64 for name in names for end in ("", "_low", "_high")}


def table1(results: Results, rounding: str = "") -> pl.DataFrame:
    """Table 1: a row per target with clean, noise and adversarial score, and drops.

    Args:
        results: The study.
        rounding: Suffix of the stored images that noise and attacks are read from, e.g. "~8bit"; clean ones
            are not rounded.
    """
    rows: list[dict[str, object]] = []
    for model in results.models:
        clean, noise, attacked = conditions(results, model, rounding)
        values = {
            "clean": estimates.score(results, clean),
            "noise": estimates.score(results, noise),
            "adversarial": estimates.score(results, attacked),
            "drop_points": estimates.difference(results, clean, attacked).scaled(100),
            "drop_percent": estimates.relative_drop(results, clean, attacked).scaled(100),
        }
        rows.append({"model": model, **with_bounds(values)})
    return frame(rows, {"model": pl.String} | bounded(*TABLE1))


def conditions(
    results: Results, model: str, rounding: str = ""
) -> tuple[Scores | None, Scores | None, Scores | None]:
    """Scores of a target's patients on clean images, on noise, and under attack."""
    panel = results.panel
    return (
        panel.mean([results.clean_cell(model)]),
        panel.mean(results.noise_cells(model, results.averaged, rounding)),
        panel.mean(results.attack_cells(model, rounding)),
    )


def table2(results: Results) -> pl.DataFrame:
    """Table 2: attack x source x target, for sources that all targets face."""
    return cell_table(results, _every(results, [attack.label for attack in results.attacks], results.sources))


def noise_table(results: Results) -> pl.DataFrame:
    """Noise matched to every attack of Table 2, and noise of fixed strength (without a source)."""
    matched = [f"{noise}@{attack.label}" for attack in results.attacks for noise in results.noise]
    return cell_table(
        results, _every(results, matched, results.sources) + _every(results, results.noise, sources=[""])
    )


def whitebox_table(results: Results) -> pl.DataFrame:
    """Attacks crafted on the target itself, and the noise matched to them; they enter no other table."""
    labels = [attack.label for attack in results.attacks]
    labels += [f"{noise}@{label}" for label in labels for noise in results.noise]
    grid = [Cell(model, label, model, whitebox=True) for model in results.models for label in labels]
    return cell_table(results, [cell for cell in grid if cell in results.panel.cells])


def other_sources_table(results: Results) -> pl.DataFrame:
    """Attack cells of sources that only some targets face; they enter no average."""
    return cell_table(
        results, _every(results, [attack.label for attack in results.attacks], results.other_sources)
    )


def _every(results: Results, perturbations: Sequence[str], sources: Sequence[str]) -> list[Cell]:
    return [cell for model in results.models for cell in results.cells(model, perturbations, sources)]


def cell_table(results: Results, cells: Iterable[Cell]) -> pl.DataFrame:
    """A row per cell, in the columns of Table 2."""
    rows = []
    for cell in cells:
        value, low, high = estimates.score(results, results.panel.cells[cell])
        counts = {"n_cases": results.n_cases, "n_patients": len(results.panel.patients)}
        names = {"target": cell.target, "perturbation": cell.perturbation, "source": cell.source}
        rows.append(names | {"score": value, "low": low, "high": high} | counts)
    return frame(rows, TABLE2)


def rounded(results: Results) -> pl.DataFrame:
    """Table 1 on images rounded as they would be saved: column `rounding`, then those of Table 1."""
    tables = [
        table1(results, rounding).select(pl.lit(rounding.removeprefix("~")).alias("rounding"), pl.all())
        for rounding in results.roundings
    ]
    return (
        pl.concat(tables)
        if tables
        else table1(results).clear().select(pl.lit("").alias("rounding"), pl.all())
    )


def conditional_table(results: Results) -> pl.DataFrame:
    """Table 2 on the scans of which no attack and source dropped a case; empty where nothing was dropped.

    Conditional on what the attacks reached: it may not be compared with Tables 1 and 2, which never leave out
    a case.
    """
    labels = [attack.label for attack in results.attacks]
    dropped = results.crafted.filter(
        pl.col("outcome") == "dropped", pl.col("perturbation").is_in(labels), pl.col("role") != "whitebox"
    )["scan_id"].unique()
    kept = ~pl.col("scan_id").is_in(dropped.implode())
    if dropped.is_empty() or results.rows.filter(kept).is_empty():
        return frame([], TABLE2)
    return table2(replace(results.restricted(kept), crafted=results.crafted.filter(kept)))


def off_diagonal(results: Results) -> pl.DataFrame:
    """Mean over sources of other architectures; not on identical images, as each target has others."""
    rows = []
    for model in results.models:
        own = results.architecture(model)
        others = [source for source in results.sources if results.architecture(source) != own]
        scores = results.panel.mean(results.attack_cells(model, sources=others))
        value = {"adversarial": estimates.score(results, scores)}
        note = {"sources": ", ".join(others), "note": "not on identical images"}
        rows.append({"model": model, **note, **with_bounds(value)})
    return frame(rows, {"model": pl.String, "sources": pl.String, "note": pl.String} | bounded("adversarial"))


def by_patient(results: Results) -> pl.DataFrame:
    """Clean, noise and adversarial score of every patient: what the intervals are made over."""
    sizes = results.panel.sizes
    columns = []
    for model in results.models:
        scores = dict(zip(("clean", "noise", "adversarial"), conditions(results, model), strict=True))
        values = {name: None if each is None else each.totals / sizes for name, each in scores.items()}
        columns.append(
            pl.DataFrame(
                {"model": [model] * len(sizes), "patient_id": results.panel.patients, "images": sizes}
                | values,
                schema_overrides=dict.fromkeys(values, pl.Float64),
            )
        )
    return pl.concat(columns)

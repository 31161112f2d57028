"""The tables of a comparison."""

from collections.abc import Callable, Sequence

import polars as pl

from medrobust.analysis import crafting, tables
from medrobust.analysis.across.conclusion import Conclusion
from medrobust.analysis.across.runs import ComparedRun
from medrobust.analysis.results import Results
from medrobust.analysis.table import Table


def comparison_tables(runs: Sequence[ComparedRun], conclusion: Conclusion) -> dict[str, Table]:
    """Every table of a comparison by the name of its file; budgets only where some were solved.

    Networks of the same name stand together, in the order of the runs.
    """
    found = {
        "scores": _together(runs, tables.table1, "model").select("model", "run", pl.exclude("model", "run")),
        "pairs": conclusion.pairs,
        "differences": conclusion.differences,
        "table2": _named(_together(runs, tables.table2, "target")),
        "whitebox": _named(_together(runs, tables.whitebox_table, "target")),
        "budgets": of_all(runs, crafting.budgets),
    }
    unit = runs[0].results.unit
    return {name: Table.of(name, rows, unit) for name, rows in found.items() if rows.height}


def of_all(runs: Sequence[ComparedRun], table: Callable[[Results], pl.DataFrame]) -> pl.DataFrame:
    """A table of every run, one below the other, with the name of the run in front."""
    each = [table(run.results).select(pl.lit(run.name).alias("run"), pl.all()) for run in runs]
    return pl.concat(each, how="diagonal")  # only runs with folds have a column for them


def _together(
    runs: Sequence[ComparedRun], table: Callable[[Results], pl.DataFrame], column: str
) -> pl.DataFrame:
    """A table of every run, networks of the same name one below the other."""
    order = dict.fromkeys(model for run in runs for model in run.results.models)
    places = {model: place for place, model in enumerate(order)}
    return of_all(runs, table).sort(pl.col(column).replace_strict(places), maintain_order=True)


def _named(cells: pl.DataFrame) -> pl.DataFrame:
    """Cells whose target names its run, as they are laid out in a cross table."""
    return cells.with_columns(pl.col("target") + " of " + pl.col("run")).drop("run")

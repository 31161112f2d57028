"""The tables of a comparison."""

from collections.abc import Callable, Sequence

import polars as pl

from medrobust.analysis import crafting, tables
from medrobust.analysis.across.conclusion import Conclusion
from medrobust.analysis.across.runs import ComparedRun
from medrobust.analysis.results import Results

_NAME = pl.col("target") + " of " + pl.col("run")


def comparison_tables(runs: Sequence[ComparedRun], conclusion: Conclusion) -> dict[str, pl.DataFrame]:
    """Every table of a comparison by the name of its file; budgets only where some were solved.

    Networks of the same name stand together, in the order of the runs.
    """
    found = {
        "scores": _together(runs, of_all(runs, tables.table1)),
        "pairs": conclusion.pairs,
        "differences": conclusion.differences,
        "table2": of_all(runs, tables.table2).with_columns(_NAME.alias("target")).drop("run"),
        "whitebox": of_all(runs, tables.whitebox_table).with_columns(_NAME.alias("target")).drop("run"),
        "budgets": of_all(runs, crafting.budgets),
    }
    return {name: table for name, table in found.items() if table.height}


def of_all(runs: Sequence[ComparedRun], table: Callable[[Results], pl.DataFrame]) -> pl.DataFrame:
    """A table of every run, one below the other, with the name of the run in front."""
    each = [table(run.results).select(pl.lit(run.name).alias("run"), pl.all()) for run in runs]
    return pl.concat(each, how="diagonal")  # only runs with folds have a column for them


def _together(runs: Sequence[ComparedRun], table1: pl.DataFrame) -> pl.DataFrame:
    order = dict.fromkeys(model for run in runs for model in run.results.models)
    places = {model: place for place, model in enumerate(order)}
    ordered = table1.sort(pl.col("model").replace_strict(places), maintain_order=True)
    return ordered.select("model", "run", pl.exclude("model", "run"))

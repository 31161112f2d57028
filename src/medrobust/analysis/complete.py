"""The check that every number of a study comes from the same cases."""

from collections.abc import Sequence

import polars as pl

from medrobust.analysis.patients import CLEAN, SEEDS
from medrobust.core import Task
from medrobust.errors import RunError

_ORIGIN = ("perturbation", "role", "source", "source_seed")
_CELL = ("target", "target_seed", *_ORIGIN)
_SHOWN = 3
_AGAIN = "Run the study again on the same folder: what is missing is evaluated, what is there is kept."


def check_complete(rows: pl.DataFrame, task: Task, models: Sequence[str], attacks: Sequence[str]) -> None:
    """Refuse rows that do not hold every cell on exactly the same cases.

    Args:
        rows: Predictions or overlaps.
        task: What the networks do.
        models: Targets of the study.
        attacks: Labels of its attacks.

    Raises:
        RunError: A network without clean predictions, a missing cell, or a cell with missing, additional or
        repeated cases.
    """
    cells = rows.lazy().select(_CELL).unique().collect(engine="streaming")
    _check_models(cells, models)
    _check_cells(cells, attacks)
    if task is Task.CLASSIFICATION:
        _check_cases(rows, ("case_id",))
    else:
        _check_cases(rows, ("scan_id", "structure"))
        _check_truth(rows)


def _check_models(cells: pl.DataFrame, models: Sequence[str]) -> None:
    trained = cells.select("target", "target_seed").unique()
    clean = cells.filter(pl.col("perturbation") == CLEAN).select("target", "target_seed").unique()
    incomplete = {*trained.join(clean, on=["target", "target_seed"], how="anti")["target"]}
    missing = [model for model in models if model in incomplete or model not in trained["target"]]
    if missing:
        raise RunError(
            f"Every network needs a score on clean images; missing: {', '.join(missing)}. {_AGAIN}"
        )


def _check_cells(cells: pl.DataFrame, attacks: Sequence[str]) -> None:
    """Every source that a target faces, with all its seeds, under every perturbation made from sources."""
    crafted = cells.filter(pl.col("source") != "", pl.col("role") != "whitebox")
    rounded = pl.col("perturbation").str.contains("~", literal=True)
    perturbations = crafted.filter(~rounded)["perturbation"].unique().to_list()
    faced = crafted.select("target", "target_seed", "source", "source_seed").unique()
    asked = pl.DataFrame(
        {"perturbation": sorted({*perturbations, *attacks})}, schema={"perturbation": pl.String}
    )
    keys = ("target", "target_seed", "perturbation", "source", "source_seed")
    missing = (
        faced.join(asked, how="cross").join(crafted.select(keys).unique(), on=keys, how="anti").sort(keys)
    )
    if attacks and faced.is_empty():
        raise RunError(f"No images of {', '.join(attacks)} were evaluated. {_AGAIN}")
    if not missing.is_empty():
        names = "; ".join(_name(cell) for cell in missing.head(_SHOWN).iter_rows(named=True))
        raise RunError(f"Every cell must be evaluated; missing: {names}{_more(missing.height)}. {_AGAIN}")


def _check_cases(rows: pl.DataFrame, item: tuple[str, ...]) -> None:
    of_cells = rows.lazy().group_by(_CELL).agg(pl.len(), distinct=pl.struct(item).n_unique())
    counts = of_cells.collect(engine="streaming")  # in pieces: there may be millions of rows
    if (counts["distinct"] < counts["len"]).any():
        row = rows.filter(rows.select(*_CELL, *item).is_duplicated()).row(0, named=True)
        raise RunError(
            f"{_name(row)}: {item[0]} {row[item[0]]!r} was evaluated more than once. Delete the folder"
            " `results` of the run and evaluate again."
        )
    every = rows.select(item).unique()
    short = counts.filter(pl.col("len") < every.height).sort(_CELL)
    if short.is_empty():
        return
    cell = short.row(0, named=True)
    inside = pl.all_horizontal(*(pl.col(key) == cell[key] for key in _CELL))
    missing = every.join(rows.filter(inside), on=item, how="anti").sort(item)
    names = [str(name) for name in missing[item[0]].unique(maintain_order=True).head(_SHOWN)]
    others = f" (so do {short.height - 1} other cells)" if short.height > 1 else ""
    raise RunError(
        f"Every score must come from the same cases; {_name(cell)} lacks {missing.height} of {every.height}"
        f" rows: {item[0]} {', '.join(names)}{_more(missing[item[0]].n_unique())}{others}. {_AGAIN}"
    )


def _check_truth(rows: pl.DataFrame) -> None:
    """A scan's counts are sums over its evaluated slices: its true pixels tell if these were the same."""
    truth = rows.group_by("scan_id", "structure").agg(
        least=pl.col("n_true").min(), most=pl.col("n_true").max()
    )
    different = truth.filter(pl.col("least") < pl.col("most")).sort("scan_id", "structure")
    if not different.is_empty():
        row = different.row(0, named=True)
        raise RunError(
            f"Every score must come from the same cases; scan {row['scan_id']!r} has {row['least']} to"
            f" {row['most']} pixels of {row['structure']!r} in the truth, so cells used different slices."
            " Delete the folder `results` of the run and evaluate again."
        )


def _name(cell: dict[str, object]) -> str:
    source = f" from {cell['source']}" if cell["source"] else ""
    seeds = ", ".join(f"{seed} {cell[seed]}" for seed in SEEDS)
    return f"{cell['perturbation']}{source} on {cell['target']} ({seeds})"


def _more(number: int) -> str:
    return f" and {number - _SHOWN} more" if number > _SHOWN else ""

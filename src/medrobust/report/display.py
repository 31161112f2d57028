"""Numbers, settings and frames as they are read: numbers with intervals, columns with names in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from medrobust.report.names import column_name

MISSING = "\u2013"
BOUNDS = ("_low", "_high")
P_VALUES = ("p", "p_holm", "p_equal", "p_equal_holm")
ONE_DECIMAL = ("points", "percent", "drop_difference", "hd95", "psnr")


class Cell(NamedTuple):
    """What stands in a cell: the number or word, its interval below or beside it, and a remark on it."""

    text: str
    interval: str = ""
    mark: str = ""


class Column(NamedTuple):
    """A column as it is shown."""

    name: str
    numeric: bool


class Head(NamedTuple):
    """A column of a cross table."""

    source: str
    opens_group: bool


@dataclass(frozen=True)
class ShownTable:
    """A table with one line of heads; the first column heads the rows."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class CrossTable:
    """Targets in rows, sources below attacks in columns, or whatever else needs two lines of heads.

    `first` heads the rows.
    """

    groups: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    first: str = "target"

    def headed(self, cells: tuple[Cell, ...]) -> list[tuple[Head, Cell]]:
        """The cells of a row, each with the head of its column."""
        heads = [
            Head(source, place == 0) for _, sources in self.groups for place, source in enumerate(sources)
        ]
        return list(zip(heads, cells, strict=True))


def shown_table(frame: pl.DataFrame, unit: str) -> ShownTable:
    """Any frame as a table.

    `x_low` and `x_high` (or `low` and `high` after `x`) become the interval of `x`; columns without any value
    are left out.
    """
    frame = frame.fill_nan(None)
    bounds = {name: interval_columns(frame.columns, name) for name in frame.columns}
    hidden = {bound for pair in bounds.values() if pair for bound in pair}
    shown = [name for name in frame.columns if name not in hidden and frame[name].null_count() < frame.height]
    columns = tuple(Column(column_name(name, unit), frame.schema[name].is_numeric()) for name in shown)
    rows = tuple(
        tuple(_cell(row, name, bounds[name]) for name in shown) for row in frame.iter_rows(named=True)
    )
    return ShownTable(columns, rows)


def cross_table(frame: pl.DataFrame) -> CrossTable:
    """Cells (`target, perturbation, source, score, low, high`) in the layout of the paper's Table 2."""
    cells = {
        (row["target"], row["perturbation"], row["source"]): _cell(row, "score", ("low", "high"))
        for row in frame.fill_nan(None).iter_rows(named=True)
    }
    groups = tuple(
        (attack, tuple(frame.filter(pl.col("perturbation") == attack)["source"].unique(maintain_order=True)))
        for attack in frame["perturbation"].unique(maintain_order=True)
    )
    heads = [(attack, source) for attack, sources in groups for source in sources]
    rows = tuple(
        (target, tuple(cells.get((target, *head), Cell(MISSING)) for head in heads))
        for target in frame["target"].unique(maintain_order=True)
    )
    return CrossTable(groups, rows)


def measures_table(frame: pl.DataFrame, rows: str, columns: str, measures: Sequence[str]) -> CrossTable:
    """A long table of several numbers: each, where there is any, above the values of one of its columns."""
    names = [name for name in measures if frame[name].null_count() < frame.height]
    bounds = {name: interval_columns(frame.columns, name) for name in names}
    lines = {(line[rows], line[columns]): line for line in frame.fill_nan(None).iter_rows(named=True)}
    heads = tuple(frame[columns].unique(maintain_order=True))
    shown = [(name, head) for name in names for head in heads]
    return CrossTable(
        tuple((column_name(name, name), heads) for name in names),
        tuple(
            (row, tuple(_cell(lines[row, head], name, bounds[name]) for name, head in shown))
            for row in frame[rows].unique(maintain_order=True)
        ),
        column_name(rows, rows),
    )


def spread_table(frame: pl.DataFrame, rows: str, columns: str) -> ShownTable:
    """A long table of scores (`score, low, high`) with the values of one of its columns as heads."""
    heads = frame[columns].unique(maintain_order=True).to_list()
    cells = {
        (row[rows], row[columns]): _cell(row, "score", ("low", "high"))
        for row in frame.fill_nan(None).iter_rows(named=True)
    }
    return ShownTable(
        (Column(column_name(rows, rows), False), *(Column(head, True) for head in heads)),
        tuple(
            (Cell(name), *(cells.get((name, head), Cell(MISSING)) for head in heads))
            for name in frame[rows].unique(maintain_order=True)
        ),
    )


def interval_columns(columns: Sequence[str], name: str) -> tuple[str, str] | None:
    """The columns that hold the interval of a column."""
    low, high = (name + end for end in BOUNDS)
    if low in columns and high in columns:
        return low, high
    place = list(columns).index(name)
    if tuple(columns[place + 1 : place + 3]) == ("low", "high"):
        return "low", "high"
    return None


def number(value: Any, name: str = "", *, bounded: bool = False) -> str:
    """A value in words: scores with three decimals, points with one, tiny numbers with two digits.

    Args:
        value: What is shown.
        name: Name of its column.
        bounded: Whether it has an interval, or is an end of one: then a tiny one is as good as 0.
    """
    if value is None or value != value:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(number(item) for item in value) or MISSING
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return _real(value, name, bounded) if isinstance(value, float) else str(value)


def _real(value: float, name: str, bounded: bool) -> str:
    if name in P_VALUES:
        return f"{value:.3f}" if value >= 0.001 else "< 0.001"
    if name == "steps":
        return f"{value:g}"
    if name in SETTINGS and not bounded:
        return SETTINGS[name](value)
    if name.endswith(ONE_DECIMAL):
        text = f"{value:.1f}"
    elif 0 < abs(value) < 0.001 and not bounded:
        return f"{value:.1e}"
    else:
        text = f"{value:.3f}" if abs(value) < 100 else _large(value)
    return text.replace("-", "\u2212" if float(text.replace(",", "")) else "")


def _large(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _cell(row: dict[str, Any], name: str, bounds: tuple[str, str] | None) -> Cell:
    text = number(row[name], name, bounded=bounds is not None)
    if bounds is None or row[bounds[0]] is None or row[bounds[1]] is None:
        return Cell(text)
    low, high = (number(row[bound], name, bounded=True) for bound in bounds)
    return Cell(text, f"[{low}, {high}]")


def flattened(content: Mapping[str, Any], parents: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Nested mappings as lines of a dotted name and a value."""
    lines: list[tuple[str, str]] = []
    for key, value in content.items():
        path = (*parents, str(key))
        if isinstance(value, Mapping):
            lines += flattened(value, path)
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            lines += flattened({_item_name(item, place): item for place, item in enumerate(value)}, path)
        else:
            lines.append((".".join(path), setting(value)))
    return lines


def setting(value: Any) -> str:
    """A setting in words; unlike a result it is never rounded to three decimals."""
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return MISSING if value is None else str(value)


def fraction(value: float) -> str:
    """A budget as people write it: with 4 digits, or as so many 255ths where that is shorter.

    >>> fraction(0.5 / 255), fraction(0.01), fraction(0.0)
    ('0.5/255', '0.01', '0')
    """
    return min(f"{value:.4g}", f"{255 * value:.4g}/255", key=len)


SETTINGS: Mapping[str, Callable[[float], str]] = {"budget": fraction, "value": setting}
"""Columns of what was set, not measured."""


def capitalised(text: str) -> str:
    """The text with a capital letter at its beginning; the others stay, as in "Dice" or "SSIM"."""
    return text[:1].upper() + text[1:]


def _item_name(item: Any, place: int) -> str:
    """List items that have a label or name go by it, as in `--set`."""
    named = item.get("label") or item.get("name") if isinstance(item, Mapping) else None
    return str(named or place)

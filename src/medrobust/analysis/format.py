"""Tables for people: numbers with their intervals as text, and in Markdown."""

import math
from collections.abc import Sequence

import polars as pl

ABSENT = "—"
SETTINGS = ("budget", "value")
"""Columns of what was set, not measured: budgets such as 0.5/255 need more digits than a score."""
KEYS = ("target", "perturbation", "source")
_MARKDOWN = {"|": r"\|", "~": r"\~", "_": r"\_", "*": r"\*", "<": "&lt;"}


def number(value: float | None, digits: int) -> str:
    """A number with `digits` decimals; a dash where it is undefined.

    >>> number(0.71349, 3), number(None, 3), number(-0.0001, 2)
    ('0.713', '—', '0.00')
    """
    if value is None or math.isnan(value):
        return ABSENT
    # Adding 0.0 after rounding turns -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:.{digits}f}"


def with_interval(value: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    """A number with its interval, the bounds with one decimal less where there is more than one.

    Bounds that would read alike have as many decimals as tell them apart.

    >>> with_interval(0.7128, 0.681, 0.7449), with_interval(0.5, None, None)
    ('0.713 [0.68, 0.74]', '0.500')
    >>> with_interval(0.8, 0.7996, 0.8003)
    '0.800 [0.7996, 0.8003]'
    >>> with_interval(6.9, 3.21, 10.5, digits=1)
    '6.9 [3.2, 10.5]'
    """
    text = number(value, digits)
    if value is None or low is None or high is None:
        return text
    fewer = max(digits - 1, 1)
    while low < high and number(low, fewer) == number(high, fewer):
        fewer += 1
    return f"{text} [{number(low, fewer)}, {number(high, fewer)}]"


def readable(table: pl.DataFrame) -> pl.DataFrame:
    """The table as text: every number with bounds beside it becomes one column `0.713 [0.68, 0.74]`.

    Points and percent have one decimal, other numbers three, small ones three significant digits, budgets
    four; counts stay as they are.
    """
    columns = {}
    for name in table.columns:
        if _is_bound(name, table.columns):
            continue
        low, high = ("low", "high") if name == "score" else (f"{name}_low", f"{name}_high")
        if low in table.columns and high in table.columns:
            bounds = zip(table[name], table[low], table[high], strict=True)
            columns[name] = [with_interval(*three, digits=_digits(name)) for three in bounds]
        else:
            columns[name] = [_text(value, name) for value in table[name]]
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def paper_layout(cells: pl.DataFrame) -> pl.DataFrame:
    """Table 2 as it is printed: a row per target, a column per perturbation and source, as text."""
    heads, rows = crossed(cells)
    names = [
        "target",
        *(f"{perturbation} / {source}" if source else perturbation for perturbation, source in heads),
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def crossed(cells: pl.DataFrame) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Perturbation and source of each column, and the rows, each with its target first."""
    scores = zip(*(cells[name] for name in KEYS), readable(cells)["score"], strict=True)
    text = {(target, perturbation, source): score for target, perturbation, source, score in scores}
    heads = list(dict.fromkeys((perturbation, source) for _, perturbation, source in text))
    targets = dict.fromkeys(target for target, _, _ in text)
    return heads, [[target, *(text.get((target, *head), ABSENT) for head in heads)] for target in targets]


def to_markdown(table: pl.DataFrame) -> str:
    """A Markdown table with the numbers as text."""
    text = readable(table)
    rows = (text.columns, ["---"] * text.width, *text.rows())
    return "".join(f"| {' | '.join(_escaped(row, _MARKDOWN))} |\n" for row in rows)


def _is_bound(name: str, columns: Sequence[str]) -> bool:
    if name in ("low", "high"):
        return "score" in columns
    return name.endswith(("_low", "_high")) and name.rpartition("_")[0] in columns


def _digits(name: str) -> int:
    return 1 if "points" in name or "percent" in name or name.endswith("hd95") else 3


def _text(value: object, name: str) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if name in SETTINGS:
        return f"{value:.4g}"
    digits = _digits(name)
    return f"{value:.3g}" if 0 < abs(value) < 10**-digits else number(value, digits)


def _escaped(cells: Sequence[str], characters: dict[str, str]) -> list[str]:
    return ["".join(characters.get(character, character) for character in cell) for cell in cells]

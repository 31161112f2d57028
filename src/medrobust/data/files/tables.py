"""CSV tables that come with data, read with an eye on what people's files really hold."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from medrobust.data.findings import quoted
from medrobust.errors import DataError

MOST_BYTES = 2**26
"""Size of the largest table or list that is read."""

MOST_CELLS = 10**7
"""Cells of the largest table that is read: as Python's texts they take 1 GB."""

LONGEST_LINE = 2**17
"""Characters of the longest line that is read."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table.

    Attributes:
        where: File and line, for messages.
        cells: Text by column, without white space around it; "" where the line was cut short.
    """

    where: str
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """The cell of a column."""
        return self.cells[column]


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read a CSV table in UTF-8, with or without a byte order mark.

    Args:
        path: The file; one that ends with .tsv has tabs between its cells.
        columns: Columns that it must have.

    Raises:
        DataError: The file cannot be read as such a table, or lacks a column.
    """
    _require_size(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(_short_lines(file), restval="", delimiter=delimiter)
            header = list(reader.fieldnames or [])
            lines = list(islice(reader, MOST_CELLS // max(len(header), 1) + 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV table in UTF-8 ({error}).") from error
    if len(lines) * len(header) > MOST_CELLS:
        raise DataError(f"{path}: has over {MOST_CELLS:,} cells. Is it a table of images?")
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(
            f"{path}: column {quoted(missing)} is missing; found {quoted(header, 20)}. "
            f"Needed: {', '.join(columns)}."
        )
    return list(_rows(path, lines))


def read_lines(path: Path) -> list[str]:
    """Lines of a text in UTF-8.

    Raises:
        DataError: The file cannot be read as such.
    """
    _require_size(path)
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a text in UTF-8 ({error}).") from error


def _short_lines(file: Iterable[str]) -> Iterator[str]:
    """Lines, of which none may hold millions of cells."""
    for line in file:
        if len(line) > LONGEST_LINE:
            raise csv.Error(f"a line is longer than {LONGEST_LINE:,} characters")
        yield line


def _require_size(path: Path) -> None:
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: is larger than {MOST_BYTES:,} bytes. Is it a table?")


def _rows(path: Path, lines: list[dict[str, str]]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=2):
        cells = {column: cell.strip() for column, cell in line.items() if isinstance(cell, str)}
        yield Row(f"{path}, row {number}", cells)

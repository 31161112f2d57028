"""CSV tables that come with data, read with an eye on what people's files really hold."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrobust.data.findings import quoted
from medrobust.errors import DataError


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
        path: The file.
        columns: Columns that it must have.

    Raises:
        DataError: The file cannot be read as such a table, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            lines, header = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV table in UTF-8 ({error}).") from error
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(
            f"{path}: column {quoted(missing)} is missing; found {quoted(header, 20)}. "
            f"Needed: {', '.join(columns)}."
        )
    return list(_rows(path, lines))


def _rows(path: Path, lines: list[dict[str, str]]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=2):
        cells = {column: cell.strip() for column, cell in line.items() if isinstance(cell, str)}
        yield Row(f"{path}, row {number}", cells)

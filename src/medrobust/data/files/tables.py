"""Tables that come with data, read with an eye on what people's files really hold."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrobust.data.findings import quoted
from medrobust.errors import DataError
from medrobust.text import read_text

SEPARATORS = ",;\t|"
"""What may stand between cells; the header tells which of them does."""

MOST_CELLS = 10**7
"""Cells of the largest table that is read: as Python's texts they take 1 GB."""

LONGEST_LINE = 2**17
"""Characters of the longest line that is read."""

EXCEL = re.compile(r"sep=(?P<separator>.)\s*[\r\n]", re.IGNORECASE)
"""A first line with which spreadsheets tell each other the separator."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        table: File that it stands in.
        number: Of the row, as spreadsheets count: the first is 1.
        cells: Text by column, of those that were asked for and are there, without white space around it; ""
            where the row was cut short.
    """

    table: str
    number: int
    cells: dict[str, str]

    @property
    def where(self) -> str:
        """File and row, for messages."""
        return f"{self.table}, row {self.number}"

    def __getitem__(self, column: str) -> str:
        """The cell of a column."""
        return self.cells[column]


def read_table(path: Path, columns: Sequence[str], optional: Iterable[str] = ()) -> list[Row]:
    """Read a table of cells between commas, semicolons, tabs or bars; see `rows_of`.

    Args:
        path: A text in UTF-8, or in UTF-16 with a byte order mark.
        columns: Columns that it must have.
        optional: Columns that are read where there are any.

    Raises:
        DataError: The file cannot be read as such a table, or lacks a column.
    """
    return rows_of(_text(path, "a table"), str(path), columns, optional)


def rows_of(text: str, where: str, columns: Sequence[str], optional: Iterable[str] = ()) -> list[Row]:
    """The rows of a table but for empty ones, numbered as spreadsheets number them.

    Args:
        text: All of it.
        where: What it is called in messages.
        columns: Columns that it must have, in any case of letters where none is named exactly so.
        optional: Columns that are read where there are any.

    Raises:
        DataError: It is no table, lacks a column, names one twice with different cells, or has a row that is
            longer than the header.
    """
    if "\0" in text:
        raise DataError(f"{where}: holds NUL characters, as UTF-16 without its mark does. Save it in UTF-8.")
    wanted = dict.fromkeys((*columns, *optional))
    told = EXCEL.match(text)
    separator = told["separator"] if told else _separator(text, wanted)
    try:
        reader = csv.reader(
            _short_lines(io.StringIO(text, newline="")),
            delimiter=separator,
            skipinitialspace=True,
            strict=True,
        )
        numbered = ((number, [cell.strip() for cell in cells]) for number, cells in enumerate(reader, 1))
        filled = ((number, cells) for number, cells in numbered if any(cells) and (number > 1 or not told))
        _, header = next(filled, (0, []))
        places = {column: _places(header, column) for column in wanted}
        missing = [column for column in columns if not places[column]]
        if missing:
            raise DataError(
                f"{where}: column {quoted(missing)} is missing; found {quoted(header, 20) or 'none'}. "
                f"Needed: {', '.join(columns)}."
            )
        rows: list[Row] = []
        for number, cells in filled:
            if len(rows) * len(header) > MOST_CELLS:
                raise DataError(f"{where}: has over {MOST_CELLS:,} cells. Is it a table of images?")
            rows.append(_row(where, number, cells, header, places, separator))
    except (csv.Error, TypeError) as error:  # TypeError: of a separator that cannot be one
        raise DataError(f"{where}: cannot be read as a table ({error}). Correct the file.") from None
    return rows


def read_lines(path: Path) -> list[str]:
    """Lines of a text in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        DataError: The file cannot be read as such.
    """
    return _text(path, "a text").splitlines()


def _text(path: Path, what: str) -> str:
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: cannot be read as {what} in UTF-8 (line {line}: {error}). Save it in UTF-8; "
            'spreadsheets call that "CSV UTF-8".'
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read as {what} in UTF-8 ({error}).") from error


def _separator(text: str, wanted: Iterable[str]) -> str:
    """The one with which the first line names most of the wanted columns, then most columns at all."""
    line = text.lstrip().partition("\n")[0].casefold()
    headers = {one: {cell.strip(' \t\r"') for cell in line.split(one)} for one in SEPARATORS}
    names = {name.casefold() for name in wanted}
    return max(SEPARATORS, key=lambda one: (len(headers[one] & names), len(headers[one])))


def _places(header: Sequence[str], column: str) -> list[int]:
    """Where a column stands: under its exact name, or else under one that differs in the case of letters."""
    exact = [place for place, name in enumerate(header) if name == column]
    return exact or [place for place, name in enumerate(header) if name.casefold() == column.casefold()]


def _row(
    table: str,
    number: int,
    cells: Sequence[str],
    header: Sequence[str],
    places: dict[str, list[int]],
    separator: str,
) -> Row:
    if any(cells[len(header) :]):
        raise DataError(
            f"{table}, row {number}: has {len(cells)} cells, and the header {len(header)}. Put cells that "
            f"hold '{separator}' in quotation marks."
        )
    found = {}
    for column, own in places.items():
        texts = [cells[place] if place < len(cells) else "" for place in own]
        if len(set(texts)) > 1:
            raise DataError(
                f"{table}, row {number}: {len(own)} columns are called '{column}', and differ: "
                f"{quoted(texts)}. Keep one of them, or rename the others."
            )
        if texts:
            found[column] = texts[0]
    return Row(table, number, found)


def _short_lines(lines: Iterable[str]) -> Iterator[str]:
    """Lines, of which none may hold millions of cells."""
    for line in lines:
        if len(line) > LONGEST_LINE:
            raise csv.Error(f"a line is longer than {LONGEST_LINE:,} characters")
        yield line

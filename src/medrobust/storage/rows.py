"""Rows: small Parquet parts, written whole, and one sorted table made of them.

Parts are sealed (`<number>.parquet.gz`); the SHA-256 of tables, which other programs may open, is in
`results/checksums.json`. Reading raises a `RunError` where a file is missing or has other columns than its
table, and a `DamagedError` where it is not as it was written.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from medrobust.errors import DamagedError, RunError
from medrobust.storage.folder import RunFolder
from medrobust.storage.schemas import Table

CHECKSUMS = ("results", "checksums.json")

ROW_GROUP = 100_000
"""Rows of a table that are compressed together."""

Cell = Sequence[tuple[str, ...]]
"""Paths of the parts of a cell."""


def frame_of(table: Table, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as a frame with the columns and types of a table; no rows give an empty one.

    Raises:
        ValueError: A row has other columns than the table.
    """
    rows = list(rows)
    for row in rows:
        if row.keys() != table.schema.keys():
            wrong = sorted(row.keys() ^ table.schema.keys())
            raise ValueError(
                f"rows of {table.name!r} need exactly its columns; too many or missing: {wrong}."
            )
    return pl.DataFrame(rows, schema=table.schema, orient="row")


def write_rows(folder: RunFolder, frame: pl.DataFrame, *parts: str) -> None:
    """Write a frame as a sealed Parquet part at once."""
    folder.write_sealed(_packed(frame), *parts)


def read_rows(folder: RunFolder, table: Table, *parts: str) -> pl.DataFrame:
    """Read a sealed part of a table."""
    return _unpacked(folder.read_sealed(*parts), table, folder.path(*parts))


def compact(folder: RunFolder, table: Table, parts: Iterable[tuple[str, ...]]) -> None:
    """Join parts to `results/<table>.parquet`, sorted by the table's keys.

    The parts of a folder, which follow each other, are the rows of one cell: no rows of other folders lie
    between them. Only one folder's rows are in memory at a time, so that memory does not grow with the number
    of cells. Without parts the table is empty, with all its columns.

    Raises:
        RunError: A part is missing or damaged, or two rows have the same keys.
    """
    cells = [list(of_folder) for _, of_folder in groupby(parts, key=lambda part: part[:-1])]

    def batches(*_: object) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame(schema=table.schema)
        last = pl.DataFrame(schema=table.schema)
        for cell in _in_order(folder, table, cells):
            frame = pl.concat(read_rows(folder, table, *part) for part in cell).sort(table.keys)
            _refuse_twins(table, frame, last)
            last = frame.tail(1)
            yield frame

    content = io.BytesIO()
    rows = register_io_source(batches, schema=table.schema)
    rows.sink_parquet(content, compression="zstd", row_group_size=ROW_GROUP)
    _write_table(folder, table, content.getvalue())


def _in_order(folder: RunFolder, table: Table, cells: Sequence[Cell]) -> list[Cell]:
    """Cells in the order of their rows."""
    firsts = [read_rows(folder, table, *cell[0]).select(table.keys).head(1) for cell in cells]
    places = pl.concat([pl.DataFrame(schema=table.schema).select(table.keys), *firsts]).with_row_index("cell")
    return [cells[place] for place in places.sort(table.keys)["cell"]]


def _refuse_twins(table: Table, frame: pl.DataFrame, last: pl.DataFrame) -> None:
    """See that no two sorted rows have the same keys, and that all come after the last row before them."""
    twice = frame.filter(frame.select(table.keys).is_duplicated())
    border = pl.concat([last, frame.head(1)]).select(table.keys)
    if border.is_duplicated().any() or not border.equals(border.sort(table.keys)):
        twice = frame
    if twice.height:
        raise RunError(
            f"results/{table.name}.parquet would hold the same row twice: {twice.row(0, named=True)}."
        )


def write_results(folder: RunFolder, table: Table, frame: pl.DataFrame) -> None:
    """Write `results/<table>.parquet`, and its SHA-256 unless it holds times."""
    _write_table(folder, table, _packed(frame))


def _write_table(folder: RunFolder, table: Table, content: bytes) -> None:
    folder.write_bytes(content, *_place(table))
    if not table.is_measured:
        folder.write_json(_checksums(folder) | {table.name: _sha256(content)}, *CHECKSUMS)


def read_results(folder: RunFolder, table: Table) -> pl.DataFrame:
    """Read `results/<table>.parquet`."""
    content = folder.read_bytes(*_place(table))
    if _checksums(folder).get(table.name, _sha256(content)) != _sha256(content):
        raise DamagedError(
            f"{folder.path(*_place(table))} is damaged: it does not have the SHA-256 of "
            f"{'/'.join(CHECKSUMS)}. Run the study again: the table is joined again."
        )
    return _unpacked(content, table, folder.path(*_place(table)))


def _place(table: Table) -> tuple[str, str]:
    return ("results", f"{table.name}.parquet")


def _checksums(folder: RunFolder) -> dict[str, str]:
    return dict(folder.read_json(*CHECKSUMS)) if folder.exists(*CHECKSUMS) else {}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _packed(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _unpacked(content: bytes, table: Table, path: str) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except pl.exceptions.PolarsError as error:
        raise DamagedError(
            f"{path} is damaged ({error}). Run the study again: only this part is made again."
        ) from None
    if frame.schema != pl.Schema(table.schema):
        raise RunError(
            f"{path} does not have the columns of {table.name!r}; it was written by another version. Use "
            "another run folder, or delete the file and run again."
        )
    return frame

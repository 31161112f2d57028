"""Rows: small Parquet parts that are put in place whole, and one sorted table made of them."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from medrobust.errors import RunError
from medrobust.storage.folder import RunFolder
from medrobust.storage.schemas import Table


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
    """Write a frame to a Parquet file at once."""
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd")
    folder.write_bytes(buffer.getvalue(), *parts)


def read_rows(folder: RunFolder, table: Table, *parts: str) -> pl.DataFrame:
    """Read a Parquet file of a table.

    Raises:
        RunError: It is missing or damaged, or has other columns than the table.
    """
    content = folder.read_bytes(*parts)
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except pl.exceptions.PolarsError as error:
        raise RunError(f"{folder.path(*parts)} is damaged ({error}). Delete it and run again.") from None
    if frame.schema != pl.Schema(table.schema):
        raise RunError(
            f"{folder.path(*parts)} does not have the columns of {table.name!r}; it was written by another "
            "version. Use another run folder, or delete the file and run again."
        )
    return frame


def compact(folder: RunFolder, table: Table, parts: Iterable[tuple[str, ...]]) -> pl.DataFrame:
    """Join parts to `results/<table>.parquet`, sorted by the table's keys.

    Args:
        folder: The run folder.
        table: What the parts are rows of.
        parts: Path of each part; without any the table is empty and has its columns all the same.

    Returns:
        What was written.

    Raises:
        RunError: A part is missing or damaged, or two rows have the same keys.
    """
    frames = [read_rows(folder, table, *part) for part in parts]
    frame = pl.concat([pl.DataFrame(schema=table.schema), *frames]).sort(table.keys, nulls_last=False)
    twice = frame.filter(frame.select(table.keys).is_duplicated())
    if twice.height:
        raise RunError(
            f"results/{table.name}.parquet would hold the same row twice: {twice.row(0, named=True)}."
        )
    write_rows(folder, frame, "results", f"{table.name}.parquet")
    return frame


def read_results(folder: RunFolder, table: Table) -> pl.DataFrame:
    """Read `results/<table>.parquet`.

    Raises:
        RunError: It is missing, damaged or has other columns.
    """
    return read_rows(folder, table, "results", f"{table.name}.parquet")

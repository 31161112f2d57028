"""Decoded arrays on disk, in the run's own folder, opened as memory maps."""

import math
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np


def cached_array(cache: Path | None, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that `make` returns; with a cache folder, it is made once and a read-only map of its file.

    The file appears whole or not at all, even if the run is interrupted or two processes make the same array.
    `key`, its path without ending, says what the array depends on.
    """
    if cache is None:
        return make()
    path = cache / f"{key}.npy"
    with suppress(FileNotFoundError, ValueError, EOFError):  # not there, or cut short by a failing disk
        return _opened(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, make(), allow_pickle=False)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return _opened(path)


def _opened(path: Path) -> np.ndarray:
    stored: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored


MARK = np.dtype("<u8")


@dataclass(frozen=True, slots=True)
class CachedRows:
    """Arrays of one shape and type in one file, each made once by any thread or process.

    The checksum of each row, plus one, is its mark in a second file. A row without its mark is made again: it
    is missing, or spoilt by a killed run or a failing disk.
    """

    path: Path  # of the file, without its ending; names what the rows depend on
    count: int  # of rows
    shape: tuple[int, ...]  # of a row
    dtype: str  # of its values

    def get(self, number: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """A row; if it is not there, what `make` returns, which is then stored."""
        rows, marks = _mapped(self)
        stored: np.ndarray = rows[number]
        if marks[number] == zlib.crc32(stored.data) + 1:
            return stored
        row = np.ascontiguousarray(make(), dtype=self.dtype).reshape(self.shape)
        _put(self.path.with_suffix(".rows"), number * row.nbytes, row.tobytes())
        mark = MARK.type(zlib.crc32(row.data) + 1)
        _put(self.path.with_suffix(".marks"), number * MARK.itemsize, mark.tobytes())
        return row


@lru_cache(maxsize=8)
def _mapped(rows: CachedRows) -> tuple[np.ndarray, np.ndarray]:
    """Rows and their marks, mapped read-only; rows never written take no room on disk."""
    rows.path.parent.mkdir(parents=True, exist_ok=True)
    return (
        _map(rows.path.with_suffix(".rows"), np.dtype(rows.dtype), (rows.count, *rows.shape)),
        _map(rows.path.with_suffix(".marks"), MARK, (rows.count,)),
    )


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    with path.open("ab") as file:
        file.truncate(dtype.itemsize * math.prod(shape))
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)


def _put(path: Path, place: int, content: bytes) -> None:
    """Write to the file, not the map, so that a full disk is an error, not the end of the process."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)

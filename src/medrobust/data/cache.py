"""Decoded arrays on disk, in the run's own folder, opened as memory maps."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def cached_array(cache: Path | None, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that `make` gives, made at most once per cache folder.

    The file appears whole or not at all: an interrupted run leaves nothing half-written, and two processes
    may make the same array.

    Args:
        cache: Folder of the cache; None makes the array without storing it.
        key: What the array depends on, as a file name without its ending; may hold "/" for subfolders.
        make: Gives the array.

    Returns:
        The array; where there is a cache, a read-only memory map of its file.
    """
    if cache is None:
        return make()
    path = cache / f"{key}.npy"
    stored = _open(path)
    if stored is not None:
        return stored
    _write(path, make())
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _open(path: Path) -> np.ndarray | None:
    """The stored array; None where there is none, or a file that a failing disk cut short."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (FileNotFoundError, ValueError, EOFError):
        return None


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array, allow_pickle=False)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

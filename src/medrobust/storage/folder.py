"""The run folder, opened by an fsspec URL; its files are put in place whole or not at all."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from medrobust.errors import RunError


@contextmanager
def clear_disk_errors(where: str) -> Iterator[None]:
    """Turn what a disk can refuse into a `RunError` that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"The disk is full: {where} could not be written. Everything finished before it is kept; "
                "free some space and run the same command again."
            ) from error
        raise RunError(
            f"{where}: a file cannot be read or written: {error}. Everything finished before it is kept."
        ) from error


class RunFolder:
    """A run folder on this disk or behind any URL that fsspec knows.

    Paths inside of it are given as parts: `folder.read_json("models", name, "card.json")`.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        self._fs, self._root = url_to_fs(self.url)  # type: ignore[no-untyped-call]
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def __repr__(self) -> str:
        return f"RunFolder({self.url!r})"

    def path(self, *parts: str) -> str:
        """Path of a file in the file system of the URL."""
        return "/".join((self._root.rstrip("/"), *parts))

    def local(self, *parts: str) -> Path:
        """Path on this disk, for libraries that read and write by themselves.

        Raises:
            RunError: The run folder is behind a URL.
        """
        if not self.is_local:
            raise RunError(
                f"This step needs a run folder on this disk; got {self.url!r}. Give a path instead."
            )
        return Path(self.path(*parts))

    def exists(self, *parts: str) -> bool:
        """True if there is a file or folder of this name."""
        return bool(self._fs.exists(self.path(*parts)))

    def is_file(self) -> bool:
        """True if there is a file in its place."""
        return bool(self._fs.isfile(self._root))

    def names(self, *parts: str) -> list[str]:
        """Sorted names in a folder; empty where there is none."""
        try:
            found = self._fs.ls(self.path(*parts), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = (name.rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(name for name in names if not name.startswith("."))  # hidden: left by a killed write

    def read_bytes(self, *parts: str) -> bytes:
        """The content of a file.

        Raises:
            RunError: There is no such file.
        """
        try:
            return bytes(self._fs.cat_file(self.path(*parts)))
        except FileNotFoundError:
            raise RunError(
                f"{'/'.join(parts)} is missing in the run folder {self.url}. Run the study again: "
                "what is finished is kept."
            ) from None

    def write_bytes(self, content: bytes, *parts: str) -> None:
        """Write a file at once: a reader sees the old file or the new one, also after a kill.

        Raises:
            RunError: The disk is full.
        """
        path = self.path(*parts)
        with clear_disk_errors("/".join(parts)):
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            if self.is_local:
                _replace(Path(path), content)
            else:  # object stores put a whole object or none
                self._fs.pipe_file(path, content)

    def read_json(self, *parts: str) -> Any:
        """The content of a JSON file.

        Raises:
            RunError: There is no such file, or it is not JSON.
        """
        content = self.read_bytes(*parts)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RunError(
                f"{self.path(*parts)} is not valid JSON ({error}). Delete it and run again."
            ) from None

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file at once, keys sorted. Non-finite numbers are refused: JSON has none."""
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        self.write_bytes(text.encode() + b"\n", *parts)

    def zarr_store(self, *parts: str) -> Store:
        """The Zarr store at a folder."""
        path = self.path(*parts)
        return LocalStore(path) if self.is_local else FsspecStore.from_url(self._fs.unstrip_protocol(path))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

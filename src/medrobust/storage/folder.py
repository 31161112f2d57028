"""The run folder, opened by an fsspec URL; its files are put in place whole or not at all."""

import gzip
import hashlib
import json
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Set
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from medrobust.errors import DamagedError, RunError
from medrobust.storage.disk import clear_disk_errors, replace_file, sync
from medrobust.storage.remote import open_file_system, reached

Parts = tuple[str, ...]
"""Path in a run folder, part by part."""


def digest(data: Any) -> str:
    """Short hash of JSON-able data: equal for equal data, whatever the order of keys."""
    text = json.dumps(data, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class RunFolder:
    """A run folder on this disk or behind any URL that fsspec knows.

    Paths inside it are given as parts: `folder.read_json("models", name, "card.json")`. Reading raises a
    `RunError` where there is no such file, and a `DamagedError` where the file is not as it was written;
    writing raises a `RunError` where the disk is full.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        """Open a folder, which need not be there yet.

        Raises:
            RunError: The protocol of the URL is unknown, or its package is missing.
        """
        self.url = os.fspath(url)
        self._fs, self._root = open_file_system(self.url)
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def __repr__(self) -> str:
        return f"RunFolder({self.url!r})"

    @property
    def absolute(self) -> str:
        """Its URL, or its path from the root, as another process finds it."""
        return os.path.abspath(self._root) if self.is_local else self.url  # noqa: PTH100

    def within(self, *parts: str) -> "RunFolder":
        """A folder inside it, as a `RunFolder` of its own."""
        return RunFolder("/".join((self.url.rstrip("/"), *parts)))

    def path(self, *parts: str) -> str:
        """Path of a file in the file system of the URL."""
        return "/".join((self._root.rstrip("/"), *parts))

    def address(self, *parts: str) -> Path | str:
        """Where a person finds a file: a path on this disk, or a URL."""
        return Path(self.path(*parts)) if self.is_local else "/".join((self.url.rstrip("/"), *parts))

    def local(self, *parts: str) -> Path:
        """A folder on this disk for what can be made again at any time, such as decoded data.

        It is in the run folder or, if that is behind a URL, in a temporary folder of this process.
        """
        if self.is_local:
            return Path(self.path(*parts))
        return Path(self._temporary, *parts)

    @cached_property
    def _temporary(self) -> str:
        """A folder that is removed with this object, or at the end of the process."""
        path = tempfile.mkdtemp(prefix="medrobust-")
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return path

    def free(self) -> int | None:
        """Bytes that can still be written; None if unknown."""
        if not self.is_local:
            return None
        path = Path(self._root)
        while not path.exists():
            path = path.parent
        return shutil.disk_usage(path).free

    def exists(self, *parts: str) -> bool:
        """True if there is a file or folder of this name."""
        return bool(self._fs.exists(self.path(*parts)))

    def is_file(self) -> bool:
        """True if it is a file itself."""
        return bool(self._fs.isfile(self._root))

    def names(self, *parts: str) -> list[str]:
        """Sorted names in a folder; empty where there is none."""
        try:
            found = self._fs.ls(self.path(*parts), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = (name.rstrip("/").rsplit("/", 1)[-1] for name in found)
        return sorted(name for name in names if not name.startswith("."))  # hidden: left by a killed write

    def numbers(self, *parts: str) -> Set[int]:
        """The numbers that names in a folder begin with, as in `00012.json`."""
        stems = (name.partition(".")[0] for name in self.names(*parts))
        return {int(stem) for stem in stems if stem.isdecimal()}

    def all_numbers(self, folders: Iterable[Parts]) -> Set[int]:
        """The numbers that names in each of some folders begin with."""
        found = [set(self.numbers(*parts)) for parts in folders]
        return set.intersection(*found) if found else set()

    def files(self, *parts: str) -> Iterator[Parts]:
        """All files below a folder, hidden ones too, as parts."""
        base = self._root.rstrip("/")
        for path in sorted(self._fs.find(self.path(*parts))):
            yield tuple(path[len(base) :].strip("/").split("/"))

    def remove(self, *parts: str) -> None:
        """Remove a file, or a folder with all its content, if it exists."""
        path = self.path(*parts)
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def move(self, source: Parts, goal: Parts) -> None:
        """Give a folder another name."""
        self._fs.makedirs(self.path(*goal[:-1]), exist_ok=True)
        self._fs.mv(self.path(*source), self.path(*goal), recursive=True)

    def size(self, *parts: str) -> int:
        """Bytes of a file, or of all files in a folder."""
        return int(self._fs.du(self.path(*parts)))

    def read_bytes(self, *parts: str) -> bytes:
        """The content of a file."""
        try:
            return bytes(self._fs.cat_file(self.path(*parts)))
        except FileNotFoundError:
            raise RunError(
                f"{'/'.join(parts)} is missing in the run folder {self.url}. Run the study again; finished "
                "work is kept."
            ) from None

    def write_bytes(self, content: bytes, *parts: str) -> None:
        """Write a file at once: readers see the old file or the new one, even after a kill or a power cut."""
        path = self.path(*parts)
        with clear_disk_errors("/".join(parts)):
            if self.is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                replace_file(Path(path), content)
            else:  # object stores put a whole object or none
                self._put(content, path, "overwrite")

    def _put(self, content: bytes, path: str, mode: str) -> None:
        """Write a file behind a URL; its folder is created only where it must be."""
        try:
            self._fs.pipe_file(path, content, mode=mode)
        except FileNotFoundError:
            top = path[: path.index("/", 1)]
            if not self._fs.exists(top):
                raise RunError(
                    f"'{self.url}': there is no '{top}'. Create it first (medrobust never creates a bucket)."
                ) from None
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._fs.pipe_file(path, content, mode=mode)

    def read_sealed(self, *parts: str) -> bytes:
        """The content that `write_sealed` wrote."""
        try:
            return gzip.decompress(self.read_bytes(*parts))
        except (OSError, EOFError, zlib.error) as error:
            raise DamagedError(
                f"{self.path(*parts)} is damaged ({error}). Run the study again: only this file is "
                "made again."
            ) from None

    def write_sealed(self, content: bytes, *parts: str) -> None:
        """Write a file at once, as gzip without compression: its CRC-32 finds any bit that flips later."""
        self.write_bytes(gzip.compress(content, 0, mtime=0), *parts)

    def read_json(self, *parts: str) -> Any:
        """The content of a JSON file."""
        content = self.read_bytes(*parts)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DamagedError(
                f"{self.path(*parts)} is not valid JSON ({error}). Delete it and run again."
            ) from None

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file at once, keys sorted. Non-finite numbers are refused: JSON has none."""
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        self.write_bytes(text.encode() + b"\n", *parts)

    def create_json(self, value: Any, *parts: str) -> bool:
        """Write a JSON file unless it exists; False if it does. Of several who try at once, one succeeds."""
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
        try:
            self._put(text.encode(), self.path(*parts), "create")
        except FileExistsError:
            return False
        except RunError:  # a failed condition; stores have different names for it
            if self.exists(*parts):
                return False
            raise
        return True

    def reached(self, *passing: type[Exception]) -> AbstractContextManager[None]:
        """Around what a library does in a folder behind a URL: errors but for `passing` are a `RunError`."""
        return nullcontext() if self.is_local else reached(self.url, *passing)

    def zarr_store(self, *parts: str) -> Store:
        """The Zarr store at a folder."""
        path = self.path(*parts)
        return LocalStore(path) if self.is_local else FsspecStore.from_url(self._fs.unstrip_protocol(path))

    def sync(self, *parts: str) -> None:
        """Make sure that a file written by a library is on the disk, and not only on its way there."""
        if self.is_local:
            path = Path(self.path(*parts))
            sync(path)
            sync(path.parent)

"""Text in and out: files that people write, and tables that they read in a terminal."""

import codecs
import errno
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

LARGEST = 64 * 2**20
"""Bytes of the largest text file that is read: a table of a million rows."""

WIDE = 10_000
"""Characters of a line where the output is no terminal: in a file, names and sentences stay in one piece."""


def read_text(path: Path, largest: int = LARGEST) -> str:
    """The content of a text file in UTF-8, without a byte order mark; with one it may be in UTF-16.

    Args:
        path: The file.
        largest: Most bytes that it may hold.

    Raises:
        OSError: It cannot be read, is no regular file (a pipe would never end), or is larger.
        UnicodeDecodeError: It is in another encoding.
    """
    if path.exists() and not path.is_file():
        raise _refused(errno.EINVAL, "it is not a regular file", path)
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise _refused(errno.EFBIG, f"it is larger than {largest / 2**20:g} MB", path)
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def text_table(*headers: str, **options: Any) -> Table:
    """An empty table whose cells are folded where a terminal is too narrow, and never cut.

    Args:
        headers: Of its columns.
        options: Of `rich.table.Table`.
    """
    return Table(*(Column(header, overflow="fold") for header in headers), **options)


def counted(number: int, what: str) -> str:
    """How many there are of what has a regular plural, e.g. "1 case", "2 cases"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def output() -> Console:
    """The standard output; where it is no terminal, no line is broken."""
    console = Console()
    return console if console.is_jupyter or console.file.isatty() else Console(width=WIDE)


def _refused(number: int, why: str, path: Path) -> OSError:
    return OSError(number, why, os.fspath(path))

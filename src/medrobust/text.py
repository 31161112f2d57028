"""Text files of the user's: read whole, and never without a limit."""

import codecs
import errno
import os
from pathlib import Path

LARGEST = 64 * 2**20
"""Bytes of the largest text file that is read: a table of a million rows."""


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
        raise _refused(errno.EINVAL, "it is no regular file", path)
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise _refused(errno.EFBIG, f"it is larger than {largest / 2**20:g} MB", path)
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def _refused(number: int, why: str, path: Path) -> OSError:
    return OSError(number, why, os.fspath(path))

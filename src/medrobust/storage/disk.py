"""Files on a disk: put in place whole, and errors that say what is safe and what to do."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from medrobust.errors import RunError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, over a quota, or over the largest file that is allowed."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")


@contextmanager
def clear_disk_errors(where: str) -> Iterator[None]:
    """Turn what a disk can refuse into a `RunError` that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise RunError(
                f"The disk is full, or a quota is used up: {where} could not be written. Finished work is "
                "kept; free some space and run the same command again."
            ) from error
        raise RunError(
            f"{where}: a file cannot be read or written: {error}. Finished work is kept."
        ) from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, even if the power is cut."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        temporary.write_bytes(content)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_temporary(name: str) -> bool:
    """Whether this is a name of the temporary files of `replace_file`, which a killed process leaves."""
    return bool(_TEMPORARY.fullmatch(name))


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

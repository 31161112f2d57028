"""Only one process at a time works on a run folder.

On a disk the operating system holds the lock, and releases it when the process ends, however it ends. Behind
a URL a conditional write claims the folder and is renewed; a claim not renewed for five minutes is lost.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from medrobust.errors import RunError
from medrobust.storage.folder import RunFolder

OWNER = "lock.json"
"""Says who works on a folder, for people and for the error message of another process."""

RENEWED, STALE = 60.0, 300.0
"""Seconds after which a claim behind a URL is renewed, and after which it is stale."""


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Claim a run folder for this process until the block ends.

    Raises:
        RunError: Another process works on it; the message names its host and process.
    """
    with _on_disk(folder) if folder.is_local else _behind_url(folder):
        yield


@contextmanager
def _on_disk(folder: RunFolder) -> Iterator[None]:
    path = folder.local(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _taken(folder) from None
    try:
        folder.write_json(_owner(), OWNER)
        yield
    finally:
        folder.remove(OWNER)
        lock.release()


@contextmanager
def _behind_url(folder: RunFolder) -> Iterator[None]:
    _claim(folder, OWNER)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(RENEWED):
            folder.write_json(_owner(), OWNER)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        folder.remove(OWNER)


def _claim(folder: RunFolder, name: str) -> None:
    """Write a claim where there is none, or a stale one; of several who try at once, one succeeds.

    Replacing a stale claim itself needs a claim, so that only one does it.
    """
    if folder.create_json(_owner(), name):
        return
    stale = _holder(folder, name)
    if time.time() - stale.get("renewed", 0) < STALE:
        raise _taken(folder)
    ticket = f"{name}.{hashlib.sha256(repr(stale).encode()).hexdigest()[:12]}"
    _claim(folder, ticket)
    try:
        if _holder(folder, name) != stale:  # another was faster, and is through
            raise _taken(folder)
        folder.write_json(_owner(), name)
    finally:
        folder.remove(ticket)


def _owner() -> dict[str, Any]:
    now = time.time()
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "renewed": now,
        "at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
    }


def _holder(folder: RunFolder, name: str = OWNER) -> dict[str, Any]:
    """Who claims a folder; empty if the file is gone by now, or incomplete."""
    try:
        holder = folder.read_json(name)
    except RunError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _taken(folder: RunFolder) -> RunError:
    holder = _holder(folder)
    who = f"process {holder.get('process', '?')} on {holder.get('host', 'an unknown host')}"
    return RunError(
        f"Another medrobust process is working on the run folder '{folder.url}': {who}, since "
        f"{holder.get('at', '?')}. Wait until it has finished, stop it, or give another folder with --out."
    )

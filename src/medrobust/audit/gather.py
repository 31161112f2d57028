"""Look at every file once, several at a time."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medrobust.audit.photo_look import look_at_photo
from medrobust.audit.records import PhotoRecord, ScanRecord
from medrobust.audit.scan_look import look_at_scan
from medrobust.data.listing import Photos, Scans

Item = TypeVar("Item")
Record = TypeVar("Record")


def look_at_photos(listing: Photos, console: Console) -> tuple[PhotoRecord, ...]:
    """A record of every photograph, in the listing's order."""
    return tuple(_looked_at(partial(look_at_photo, files=listing.format), listing.items, console))


def look_at_scans(listing: Scans, console: Console) -> tuple[ScanRecord, ...]:
    """A record of every scan, in the listing's order."""
    look = partial(look_at_scan, classes_of=listing.classes_of, classes=len(listing.classes))
    return tuple(_looked_at(look, listing.items, console))


def _looked_at(look: Callable[[Item], Record], items: Sequence[Item], console: Console) -> Iterator[Record]:
    """Records as they come, under a progress bar; threads suffice, since decoders let others work."""
    with (
        Progress(
            TextColumn("reading"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        yield from bar.track(pool.map(look, items), total=len(items))

"""Work on many files in parallel, so that every file is decoded before hours of work depend on it."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import TypeVar

from medrobust.core import Case, Dataset, OnProgress, silent

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads() -> int:
    """Threads that decode together: two are 1.5 times as fast as one (docs/performance.md)."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def read_all(dataset: Dataset, cases: Sequence[Case], progress: OnProgress = silent) -> None:
    """Read every case once, so that it is decoded into the cache; the first damaged case is an error."""

    def read(case: Case) -> None:
        dataset.read(case)

    in_threads(read, cases, progress, "image")


def in_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    progress: OnProgress = silent,
    what: str = "item",
    most: int | None = None,
) -> list[Result]:
    """The result of `work` for every item, in their order; several are done at a time.

    `progress` is told how far it is, in notes that call an item `what`; `most` limits how many are done at a
    time, by default to `threads()`.

    Raises:
        Exception: That of the first item that fails; items not begun by then are skipped.
    """
    results: list[Result] = []
    with ThreadPoolExecutor(most or threads()) as pool:
        try:
            for number, result in enumerate(pool.map(work, items), start=1):
                results.append(result)
                progress(number / len(items), f"{what} {number} of {len(items)}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def part_of(progress: OnProgress, begin: float, end: float) -> OnProgress:
    """The progress of a part of some work, which extends from one fraction of the whole to another."""
    return lambda done, note: progress(begin + done * (end - begin), note)


class Room:
    """A limit on what all threads together hold at a time; one thread alone may exceed it."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._left = most, 0, Condition()

    @contextmanager
    def holding(self, amount: int) -> Iterator[None]:
        """Wait until there is room for an amount, and hold it."""
        with self._left:
            self._left.wait_for(lambda: not self._held or self._held + amount <= self._most)
            self._held += amount
        try:
            yield
        finally:
            with self._left:
                self._held -= amount
                self._left.notify_all()

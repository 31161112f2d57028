"""Reading many cases in parallel, so that all are decoded before hours of work depend on them."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import TypeVar

from medrobust.core import Case, Dataset, OnProgress, Sample, silent

AHEAD = 4
"""Cases per thread that may be read before they are needed: memory does not grow with their number."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads() -> int:
    """Threads that decode together: two are 1.5 times as fast as one (docs/performance.md)."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def read_all(dataset: Dataset, cases: Sequence[Case], progress: OnProgress = silent) -> None:
    """Read every case once: what can be decoded goes into the cache, what is damaged is found.

    Args:
        dataset: What the cases are of.
        cases: Which ones.
        progress: Told how far it is.

    Raises:
        DataError: A case cannot be read.
    """
    with ThreadPoolExecutor(threads()) as pool:
        waiting: deque[Future[Sample]] = deque()
        try:
            for number, case in enumerate(cases):
                waiting.append(pool.submit(dataset.read, case))
                if len(waiting) > AHEAD * threads():
                    waiting.popleft().result()
                    progress(number / len(cases), f"image {number} of {len(cases)}")
            while waiting:
                waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def in_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    progress: OnProgress = silent,
    what: str = "item",
    most: int | None = None,
) -> list[Result]:
    """What `work` gives for every item, in their order; several are done at a time.

    Args:
        work: Done for each item, in any thread.
        items: All of them.
        progress: Told how far it is.
        what: What an item is called in its notes.
        most: How many may be done at once; None takes `threads()`.

    Raises:
        Exception: Of the first item whose work fails; what has not begun by then is not done.
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


def share_of(progress: OnProgress, begin: float, end: float) -> OnProgress:
    """The ticks of a part of some work, which goes from one share of the whole to another."""
    return lambda done, note: progress(begin + done * (end - begin), note)


class Room:
    """Lets threads go on as long as what they hold together stays below a limit; one alone may always.

    Args:
        most: The limit.
    """

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

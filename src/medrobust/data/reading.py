"""Reading many cases in parallel, so that all are decoded before hours of work depend on them."""

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from medrobust.core import Case, Dataset, Sample, Tick, silent

AHEAD = 4
"""Cases per thread that may be read before they are needed: memory does not grow with their number."""


def threads() -> int:
    """Threads that decode together: two are 1.5 times as fast as one (docs/performance.md)."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def read_all(dataset: Dataset, cases: Sequence[Case], tick: Tick = silent) -> None:
    """Read every case once: what can be decoded goes into the cache, what is damaged is found.

    Args:
        dataset: What the cases are of.
        cases: Which ones.
        tick: Told how far it is.

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
                    tick(number / len(cases), f"image {number} of {len(cases)}")
            while waiting:
                waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise

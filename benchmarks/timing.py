"""Seconds as multiples of a unit that is measured in the same moments, since machines are never quiet."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from medrobust.perturbations.gradients import cross_entropy_gradient
from subjects import Subject

UNITS_AROUND = 3
"""Units measured before and after everything that is timed."""

SLOW = 60.0
"""What takes more seconds than this is not repeated."""


class Timed(NamedTuple):
    """What was made, and the units that it took: the median of all repetitions."""

    images: Tensor
    units: float
    repetitions: int


def one_unit(subject: Subject) -> None:
    """One forward pass and input gradient of the plain network, by the shortest code there is."""
    cross_entropy_gradient(subject.plain, subject.images, subject.labels)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timed(subject: Subject, candidates: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, Timed]:
    """Run all candidates in turn, `repeats` times over, each between units of its own.

    Args:
        subject: Whose plain network gives the unit.
        candidates: What is to be timed, by name; each gives images.
        repeats: Number of rounds.
    """
    ratios: dict[str, list[float]] = {name: [] for name in candidates}
    made: dict[str, Tensor] = {}
    slow: set[str] = set()
    one_unit(subject)
    for _ in range(repeats):
        for name, work in candidates.items():
            if name in slow:
                continue
            around = [seconds(lambda: one_unit(subject)) for _ in range(UNITS_AROUND)]
            start = time.perf_counter()
            made[name] = work()
            taken = time.perf_counter() - start
            around += [seconds(lambda: one_unit(subject)) for _ in range(UNITS_AROUND)]
            ratios[name].append(taken / statistics.median(around))
            if taken > SLOW:
                slow.add(name)
    return {
        name: Timed(made[name], statistics.median(values), len(values)) for name, values in ratios.items()
    }

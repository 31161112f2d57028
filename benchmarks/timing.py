"""Time as multiples of a unit that is measured in the same moments, since machines are never quiet."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from subjects import Subject

UNITS_AROUND = 3
"""Units measured before and after everything that is timed."""

SLOW = 60.0
"""What takes more seconds than this is not repeated."""


class Timed(NamedTuple):
    """What was made, and what it took.

    Attributes:
        images: What was made.
        units: Median over the repetitions of the time by the clock.
        processor_units: The same of the time that processors worked, which others on the machine lengthen
            less.
        repetitions: Their number.
    """

    images: Tensor
    units: float
    processor_units: float
    repetitions: int


def one_unit(subject: Subject) -> None:
    """One forward pass and input gradient of the plain network, as anybody would write it."""
    images = subject.images.clone().requires_grad_(True)
    loss = functional.cross_entropy(subject.plain(images), subject.labels, reduction="sum")
    torch.autograd.grad(loss, images)


def keep(made: dict[str, Tensor], name: str, work: Callable[[], Tensor]) -> None:
    """Do the work and keep what it makes."""
    made[name] = work()


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the processors."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def timed(subject: Subject, candidates: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, Timed]:
    """Run all candidates in turn, `repeats` times over, each between units of its own.

    Args:
        subject: Whose plain network gives the unit.
        candidates: What is to be timed, by name; each gives images.
        repeats: Number of rounds.
    """
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    made: dict[str, Tensor] = {}
    slow: set[str] = set()
    one_unit(subject)
    for _ in range(repeats):
        for name, work in candidates.items():
            if name in slow:
                continue
            around = [spent(partial(one_unit, subject)) for _ in range(UNITS_AROUND)]
            clock, processor = spent(partial(keep, made, name, work))
            around += [spent(partial(one_unit, subject)) for _ in range(UNITS_AROUND)]
            unit_clock, unit_processor = (statistics.median(values) for values in zip(*around, strict=True))
            ratios[name].append((clock / unit_clock, processor / unit_processor))
            if clock > SLOW:
                slow.add(name)
    return {
        name: Timed(made[name], *map(statistics.median, zip(*values, strict=True)), len(values))
        for name, values in ratios.items()
    }

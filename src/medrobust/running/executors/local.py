"""Pieces of work one after the other, in this process."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch

from medrobust.core import OnProgress
from medrobust.errors import RunError
from medrobust.running.jobs import Job, Kind
from medrobust.running.plan import Plan
from medrobust.running.progress import Display


@runtime_checkable
class Executor(Protocol):
    """Does all pieces that are left, kind after kind."""

    def __call__(self, plan: Plan, jobs: Sequence[Job], shown: Display) -> None:
        """Do the jobs of a plan in their order; pieces of some may be finished.

        Raises:
            RunError: Memory does not suffice for a single image, or a worker is lost for good.
            MedrobustError: Anything else that a person can mend.
        """


def run_here(plan: Plan, jobs: Sequence[Job], shown: Display) -> None:
    """An `Executor` that needs nothing."""
    waiting = [job for job in jobs if job.n_finished < job.pieces]
    for number, job in enumerate(waiting, 1):
        shown.advance(job, 0, title=f"[{number}/{len(waiting)}] {job.title}")
        with clear_memory_errors(job):
            do = job.open()
            for done, piece in enumerate(job.left()):
                do(piece, _within(shown, job, done))
                shown.advance(job, done + 1)
                if plan.setup.limit.shrunk:
                    shown.say_once(SHRUNK)


AT_ONCE: Mapping[Kind, str] = {"train": "training.batch_size", "certify": "certificates.attack_draws"}
"""What says how many images a step has in memory; for others `crafting.batch_size`."""

SHRUNK = "There is not enough memory for crafting.batch_size images at once: the study continues with fewer."


def _within(shown: Display, job: Job, done: int) -> OnProgress:
    return lambda fraction, note: shown.advance(job, done + fraction, note=note)


@contextmanager
def clear_memory_errors(job: Job) -> Iterator[None]:
    """Say which step ran out of memory, and what to do about it."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        at_once = AT_ONCE.get(job.kind, "crafting.batch_size")
        raise RunError(
            f"Out of memory: {job.title}. Finished work is kept; lower {at_once}, or use smaller images."
        ) from error

"""Pieces of work one after the other, in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from medrobust.core import OnProgress
from medrobust.errors import RunError
from medrobust.running.jobs import Job
from medrobust.running.plan import Plan
from medrobust.running.progress import Display


def run_here(plan: Plan, jobs: Sequence[Job], shown: Display) -> None:
    """An `Executor` that needs nothing."""
    over, waiting = 0.0, [job for job in jobs if job.n_finished < job.pieces]
    for number, job in enumerate(waiting, 1):
        shown.show(over, title=f"[{number}/{len(waiting)}] {job.title}")
        with clear_memory_errors(job):
            do = job.open()
            for piece in job.left():
                do(piece, _within(shown, over, job))
                over += job.seconds / job.pieces
                if plan.setup.limit.shrunk:
                    shown.say_once(SHRUNK)
    shown.show(over, title="done")


SHRUNK = "Memory did not suffice for crafting.batch_size images at once: the study goes on with fewer."


def _within(shown: Display, over: float, job: Job) -> OnProgress:
    """Progress within a piece."""
    return lambda done, note: shown.show(over + done * job.seconds / job.pieces, note=note)


@contextmanager
def clear_memory_errors(job: Job) -> Iterator[None]:
    """Say which step ran out of memory, and what to do about it."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        block = "training" if job.kind == "train" else "crafting"
        raise RunError(
            f"Out of memory: {job.title}. What is finished is kept; lower {block}.batch_size, or take "
            "smaller images."
        ) from error

"""One progress display for a whole run; silent where the output is no terminal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from medrobust.core import Tick
from medrobust.errors import RunError
from medrobust.study.jobs import Job

ESTIMATE_OVER = 300.0
"""Seconds of work that the remaining time is extrapolated from.

Jobs differ in speed from what was planned.
"""


def execute(jobs: Sequence[Job], console: Console) -> None:
    """Do the jobs that are not done, in their order, under one progress bar in expected seconds.

    Raises:
        RunError: The memory does not suffice.
    """
    remaining = [job for job in jobs if not job.done]
    with _bar(console) as bar:
        whole = bar.add_task("", total=sum(job.seconds for job in remaining), note="")
        before = 0.0
        for number, job in enumerate(remaining, 1):
            bar.update(
                whole, completed=before, description=f"[{number}/{len(remaining)}] {job.title}", note=""
            )

            def tick(done: float, note: str, start: float = before, job: Job = job) -> None:
                bar.update(whole, completed=start + done * job.seconds, note=note)

            with _clear_memory_errors(job):
                job.run(tick)
            before += job.seconds
        bar.update(whole, completed=before, description="done", note="")


@contextmanager
def reading(console: Console) -> Iterator[Tick]:
    """A progress bar for opening and reading data; it is gone when that is done."""
    with _bar(console, transient=True) as bar:
        whole = bar.add_task("reading the data", total=1, note="")
        yield lambda done, note: bar.update(whole, completed=done, note=note)


@contextmanager
def _clear_memory_errors(job: Job) -> Iterator[None]:
    """Say which step ran out of memory, and what to do about it."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        block = "training" if job.kind == "train" else "crafting"
        raise RunError(
            f"Out of memory: {job.title}. What is finished is kept; lower {block}.batch_size "
            "(of a training: in another run folder)."
        ) from error


@contextmanager
def _bar(console: Console, *, transient: bool = False) -> Iterator[Progress]:
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=transient,
        speed_estimate_period=ESTIMATE_OVER,
    ) as bar:
        yield bar

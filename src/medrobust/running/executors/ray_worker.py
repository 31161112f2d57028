"""What a process of a Ray cluster does: it opens the study by itself, and keeps it for the next task."""

import json
import os
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, see docs/performance.md

import torch

from medrobust.core import Dataset
from medrobust.running.devices import choose_device
from medrobust.running.estimate import Speed
from medrobust.running.executors.local import clear_memory_errors
from medrobust.running.jobs import Job
from medrobust.running.opening import set_up
from medrobust.running.pieces import Step
from medrobust.running.plan import Plan, make_plan
from medrobust.running.work import jobs_of
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study


@dataclass(frozen=True)
class Context:
    """What a process needs to open a study.

    Attributes:
        study: The resolved study, as JSON.
        url: The run folder, as every node reaches it.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks run, by name.
        paths: Folders that modules are imported from.
        dataset: The data, where they are given in Python.
    """

    study: str
    url: str
    data_dir: str | None
    device: str
    paths: tuple[str, ...]
    dataset: Dataset | None = field(default=None, compare=False)


def do_piece(context: Context, kind: str, name: str, piece: int | None) -> bool:
    """Do a piece, or only open its job; True where memory did not suffice for whole batches."""
    plan, jobs = _opened(context)
    with clear_memory_errors(jobs[kind, name]):
        step = _step(context, kind, name)
        if piece is not None:
            step.do(piece)
    return plan.setup.limit.shrunk


@lru_cache(maxsize=1)
def _opened(context: Context) -> tuple[Plan, dict[tuple[str, str], Job]]:
    """The study, opened once in a process."""
    sys.path += [path for path in context.paths if path not in sys.path]
    study = read_study(json.loads(context.study), given=None)
    torch.set_num_threads(max(1, round(study.ray.cpus)))
    plan = make_plan(
        set_up(
            study,
            RunFolder(context.url),
            data_dir=None if context.data_dir is None else Path(context.data_dir),
            device=choose_device(context.device),
            dataset=context.dataset,
        )
    )
    unknown = {spec.name: Speed(0.0, 0.0, 0) for spec in study.specs}
    return plan, {(job.kind, job.name): job for job in jobs_of(plan, unknown)}


@lru_cache(maxsize=1)
def _step(context: Context, kind: str, name: str) -> Step:
    """A job, opened for all pieces of it that this process does one after the other."""
    return _opened(context)[1][kind, name].open()

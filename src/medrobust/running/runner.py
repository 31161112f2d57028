"""Run a study: claim the folder, plan, announce, work, and join the rows."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console

from medrobust.core import Dataset
from medrobust.data.reading import part_of
from medrobust.running.announcing import announce
from medrobust.running.changes import adopt, change_since, refuse_other_task
from medrobust.running.estimate import Speed
from medrobust.running.executors.local import Executor, run_here
from medrobust.running.healing import heal
from medrobust.running.jobs import Job, Kind
from medrobust.running.joining import join_rows, join_selftests
from medrobust.running.opening import check_networks, decode, set_up
from medrobust.running.pictures import try_again
from medrobust.running.plan import Plan, make_plan
from medrobust.running.processes import global_rank, meet, require_launcher
from medrobust.running.progress import display, reading, sayer
from medrobust.running.recorded import record_of, write_record
from medrobust.running.work import jobs_of
from medrobust.storage import RunFolder
from medrobust.storage.disk import clear_disk_errors
from medrobust.storage.lock import locked
from medrobust.study.config import Study

OPENING = 0.3
"""Share of the progress that opening the data takes, before every case is read."""


def run_study(
    study: Study,
    folder: RunFolder,
    *,
    data_dir: Path | None,
    device: torch.device,
    console: Console,
    only: Collection[Kind] = (),
    first: Sequence[Job] = (),
    dataset: Dataset | None = None,
    executor: Executor = run_here,
) -> None:
    """Train, craft, evaluate and embed all that a study asks for and the folder does not hold yet.

    Args:
        study: What is asked for.
        folder: The run folder; new, or one that holds a part of this study or of a former state of it.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks run.
        console: Where the plan and the progress are shown.
        only: Kinds of jobs that are done; empty: all. Rows of the self-tests are joined in any case, all
            others where all jobs are done.
        first: Further jobs, done before all others.
        dataset: The data, where they are given in Python and not opened as the study says.
        executor: Who does the work.

    Raises:
        RunError: The folder belongs to other data, another process works on it, or it cannot be written.
        MedrobustError: Anything else that a person can mend.
    """
    refuse_other_task(study, folder)
    for config in study.trainings.values():
        require_launcher(config)
    if study.training.nodes > 1 and global_rank() > 0:
        _help(study, folder, data_dir=data_dir, device=device, dataset=dataset)
    with clear_disk_errors(folder.url), locked(folder):
        with reading(console) as progress:
            opening, rest = part_of(progress, 0, OPENING), part_of(progress, OPENING, 1)
            setup = set_up(study, folder, data_dir=data_dir, device=device, dataset=dataset, progress=opening)
            check_networks(setup, sayer(console))
            decode(setup, rest)
        plan = make_plan(setup)
        record = record_of(setup)
        change, say = change_since(plan, record), sayer(console)
        for sentence in change.sentences:
            say(sentence)
        adopt(plan, record, change)
        with reading(console, "comparing with checksums") as progress:
            heal(folder, say, progress)
        try_again(folder)
        jobs = [job for job in (*first, *jobs_of(plan, setup.speeds())) if not only or job.kind in only]
        announce(setup, jobs, console)
        write_record(plan, record)
        if study.training.nodes > 1:
            meet(device, study.training)
        _execute(plan, jobs, executor, console)
        join_selftests(plan)
        if not only:
            join_rows(plan)


def _help(
    study: Study, folder: RunFolder, *, data_dir: Path | None, device: torch.device, dataset: Dataset | None
) -> NoReturn:
    """Take part in trainings that another process leads; all else is done by that one, so this one ends."""
    setup = set_up(study, folder, data_dir=data_dir, device=device, dataset=dataset)
    plan = make_plan(setup)
    meet(device, study.training)
    unknown = {spec.name: Speed(0.0, 0.0, 0) for spec in study.specs}
    for job in jobs_of(plan, unknown):
        if job.kind == "train" and not job.n_finished:
            job.open().do(0)
    raise SystemExit(0)


def _execute(plan: Plan, jobs: Sequence[Job], executor: Executor, console: Console) -> None:
    """Do the jobs, and where that is interrupted say what is kept."""
    try:
        with display(console, jobs) as shown:
            executor(plan, jobs, shown)
            shown.end()
    except KeyboardInterrupt:
        done, every = sum(len(job.finished()) for job in jobs), sum(job.pieces for job in jobs)
        sayer(console)(
            f"{done} of {every} pieces of work are finished and kept in '{plan.setup.folder.url}'."
        )
        raise

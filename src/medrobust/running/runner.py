"""Run a study: lock the folder, plan, say what is to be done, do it, and join the rows."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from medrobust.core import Dataset, silent
from medrobust.data.reading import part_of, read_all
from medrobust.running.adversarial import overfitting
from medrobust.running.announcing import announce, job_table
from medrobust.running.certify import certification_jobs
from medrobust.running.check import check_networks
from medrobust.running.craft import crafting_job
from medrobust.running.embed import embedding_jobs
from medrobust.running.estimate import Speeds, measured_speeds, unknown_speeds
from medrobust.running.evaluate import evaluation_job, whole_test_job
from medrobust.running.executors.local import Executor, run_here
from medrobust.running.explorer import examples_jobs, explorer_job
from medrobust.running.folder import (
    Change,
    adopt,
    aside,
    change_since,
    heal,
    join_rows,
    join_selftests,
    record_of,
    refuse_other_task,
    write_record,
)
from medrobust.running.jobs import KINDS, LEFT_OUT, Job, Kind
from medrobust.running.noise import noise_job
from medrobust.running.plan import Plan, make_plan
from medrobust.running.processes import global_rank, meet, require_launcher
from medrobust.running.progress import display, reading, sayer
from medrobust.running.search import search_job
from medrobust.running.selftest import selftest_job
from medrobust.running.setup import Setup, set_up
from medrobust.running.train import training_job
from medrobust.storage import RunFolder
from medrobust.storage.disk import clear_disk_errors
from medrobust.storage.lock import locked
from medrobust.study.config import Study

OPENING = 0.3
"""Fraction of the progress that opening the data takes, before every case is read."""


def run_study(
    study: Study,
    folder: RunFolder,
    *,
    data_dir: Path | None,
    device: torch.device,
    console: Console,
    only: Collection[Kind] = (),
    extra: Callable[[Plan, Speeds], Iterable[Job]] = lambda plan, speeds: (),
    dataset: Dataset | None = None,
    executor: Executor = run_here,
) -> None:
    """Train, craft, evaluate and embed everything that a study asks for and its folder does not hold yet.

    Args:
        study: What is asked for.
        folder: The run folder: new, or with a part of this study or of a former state of it.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks run.
        console: Where the plan and the progress are shown.
        only: Kinds of jobs that are done; empty: all. Rows of the self-tests are joined in any case, all
            others only where all jobs are done.
        extra: Further jobs of a plan; each is done with those of its kind.
        dataset: The data, where they are given in Python and not opened as the study says.
        executor: Does the work.

    Raises:
        RunError: The folder belongs to other data, another process works on it, or it cannot be written.
        MedrobustError: Anything else that a person can mend.
    """
    refuse_other_task(study, folder)
    for config in study.trainings.values():
        require_launcher(config)
    if study.training.nodes > 1 and global_rank() > 0:
        _help_training(set_up(study, folder, data_dir=data_dir, device=device, dataset=dataset))
        raise SystemExit(0)
    with clear_disk_errors(folder.url), locked(folder):
        say = sayer(console)
        with reading(console) as progress:
            opening, rest = part_of(progress, 0, OPENING), part_of(progress, OPENING, 1)
            setup = set_up(study, folder, data_dir=data_dir, device=device, dataset=dataset, progress=opening)
            check_networks(setup, say)
            # A damaged file is found before hours of training.
            read_all(setup.dataset, setup.all_cases, rest)
        plan, record = make_plan(setup), record_of(setup)
        change = change_since(plan, record)
        for sentence in change.sentences:
            say(sentence)
        adopt(plan, record, change)
        with reading(console, "comparing with checksums") as progress:
            heal(folder, say, progress)
        folder.remove(*LEFT_OUT)  # the networks, or the machine, may be others now
        speeds = measured_speeds(setup)
        every = in_order([*extra(plan, speeds), *jobs_of(plan, speeds)])
        jobs = [job for job in every if not only or job.kind in only]
        announce(setup, jobs, console)
        write_record(plan, record)
        if study.training.nodes > 1:
            meet(device, study.training)
        _execute(plan, jobs, executor, console)
        for sentence in overfitted_networks(setup):
            say(sentence)
        join_selftests(plan)
        if not only:
            join_rows(plan)


def overfitted_networks(setup: Setup) -> Iterator[str]:
    """A sentence for each network whose adversarial training has overfitted to single steps."""
    for network in setup.trained_here:
        config = setup.study.trainings[network.id.role, network.id.name].adversarial
        card = ("models", network.id.folder, "card.json")
        if config is not None and setup.folder.exists(*card):
            known = setup.folder.read_json(*card)
            if says := overfitting(config.method, known.get("one_step"), known.get("several_steps")):
                yield f"{network.id.title} {says}"


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Jobs step by step."""
    return sorted(jobs, key=lambda job: KINDS.index(job.kind))


def jobs_of(plan: Plan, speeds: Speeds) -> list[Job]:
    """All jobs of a plan, each with what it is expected to cost on this machine."""
    setup = plan.setup
    return [
        *(training_job(setup, network, speeds) for network in setup.trained_here),
        *(selftest_job(setup, images, speeds) for images in plan.tested),
        *(crafting_job(setup, images, speeds) for images in plan.attacks),
        *(on_validation(crafting_job(setup, images, speeds)) for images in plan.candidates),
        *(search_job(setup, images, speeds) for images in plan.transforms),
        *(noise_job(setup, images) for images in (*plan.noise, *plan.corruptions)),
        *(evaluation_job(setup, images, speeds) for images in plan.evaluated),
        *(whole_test_job(setup, images, speeds) for images in plan.whole_test),
        *(
            on_validation(evaluation_job(setup, images, speeds, boundaries=False, rounded=False))
            for images in plan.candidates
        ),
        *certification_jobs(setup, speeds),
        *embedding_jobs(plan, speeds),
        *examples_jobs(plan),
        explorer_job(plan, speeds),
    ]


def on_validation(job: Job) -> Job:
    """A job on validation cases, and its title says so."""
    return replace(job, title=f"{job.title} (validation cases)")


def _help_training(setup: Setup) -> None:
    """Take part in trainings that another process leads, which does all else."""
    meet(setup.device, setup.study.training)
    for network in setup.trained_here:
        job = training_job(setup, network, unknown_speeds(setup.study))
        if not job.n_finished:
            job.open()(0, silent)


def _execute(plan: Plan, jobs: Sequence[Job], executor: Executor, console: Console) -> None:
    """Do the jobs; if that is interrupted, say what is kept."""
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


def show_plan(
    study: Study,
    folder: RunFolder,
    *,
    data_dir: Path | None,
    device: torch.device,
    console: Console,
    extra: Callable[[Plan, Speeds], Iterable[Job]] = lambda plan, speeds: (),
    dataset: Dataset | None = None,
) -> None:
    """Say which jobs a run has, what is done and left of each, and what the rest takes; nothing is written.

    Arguments as `run_study`; the run folder need not exist. A few images are timed on the device.

    Raises:
        RunError: The folder belongs to other data.
        MedrobustError: Anything else that a person can mend.
    """
    refuse_other_task(study, folder)
    with TemporaryDirectory(prefix="medrobust-") as temporary:
        known = folder.local("cache")
        cache = known if known.exists() else Path(temporary)
        setup = set_up(study, folder, data_dir=data_dir, device=device, dataset=dataset, cache=cache)
        say = sayer(console)
        check_networks(setup, say)
        plan = make_plan(setup)
        change = change_since(plan, record_of(setup))
        for sentence in change.sentences:
            say(sentence)
        speeds = measured_speeds(setup)
        every = in_order([*extra(plan, speeds), *jobs_of(plan, speeds)])
        jobs = _as_adopted(every, setup, change)
        announce(setup, jobs, console)
    console.print(job_table(jobs))


def _as_adopted(jobs: Sequence[Job], setup: Setup, change: Change) -> list[Job]:
    """The jobs as they will be once networks that no longer hold are put aside, or brought back."""
    digests = {network.id.folder: network.digest for network in setup.networks}

    def adopted(job: Job) -> Job:
        if job.kind != "train" or job.name not in change.outdated:
            return job
        is_kept = setup.folder.exists(*aside(job.name, digests[job.name]), "card.json")
        return replace(job, finished=lambda: {0} if is_kept else set())

    return [adopted(job) for job in jobs]

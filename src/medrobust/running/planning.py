"""What a run would do, without doing any of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from medrobust.core import Dataset
from medrobust.running.announcing import announce, job_table
from medrobust.running.changes import Change, aside, change_since, refuse_other_task
from medrobust.running.jobs import Job
from medrobust.running.opening import check_networks, set_up
from medrobust.running.plan import make_plan
from medrobust.running.progress import sayer
from medrobust.running.recorded import record_of
from medrobust.running.setup import Setup, Trained
from medrobust.running.work import jobs_of
from medrobust.storage import RunFolder
from medrobust.study.config import Study


def show_plan(
    study: Study,
    folder: RunFolder,
    *,
    data_dir: Path | None,
    device: torch.device,
    console: Console,
    first: Sequence[Job] = (),
    dataset: Dataset | None = None,
) -> None:
    """Say which jobs a run has, what is done and left of each, and what that takes; nothing is written.

    Args:
        study: What is asked for.
        folder: The run folder; need not exist.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks would run; a few images are timed there.
        console: Where the plan is shown.
        first: Jobs that are done before all others.
        dataset: The data, where they are given in Python and not opened as the study says.

    Raises:
        RunError: The folder belongs to other data.
        MedrobustError: Anything else that a person can mend.
    """
    refuse_other_task(study, folder)
    with TemporaryDirectory(prefix="medrobust-") as temporary:
        known = folder.local("cache")
        setup = set_up(
            study,
            folder,
            data_dir=data_dir,
            device=device,
            dataset=dataset,
            cache=known if known.exists() else Path(temporary),
        )
        say = sayer(console)
        check_networks(setup, say)
        plan = make_plan(setup)
        change = change_since(plan, record_of(setup))
        for sentence in change.sentences:
            say(sentence)
        jobs = [*first, *_as_adopted(jobs_of(plan, setup.speeds()), setup, change)]
        announce(setup, jobs, console)
    console.print(job_table(jobs))


def _as_adopted(jobs: Sequence[Job], setup: Setup, change: Change) -> list[Job]:
    """The jobs as they are once networks that no longer hold are put aside, or brought back."""
    trained = [each for each in (*setup.targets, *setup.surrogates) if each.is_trained_here]
    return [  # trainings come first
        *(
            _afresh(job, network, setup) if network.id.folder in change.outdated else job
            for job, network in zip(jobs, trained, strict=False)
        ),
        *jobs[len(trained) :],
    ]


def _afresh(job: Job, network: Trained, setup: Setup) -> Job:
    """A training whose network is another now: put aside before, or still to do."""
    kept = setup.folder.exists(*aside(network.id.folder, setup.digest(network)), "card.json")
    return replace(job, finished=lambda: {0} if kept else set())

"""Self-tests: is an attack on a source as strong as it should be? Asked before anything is made of it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from medrobust.core import Case, Dataset, Task, Tick, silent
from medrobust.perturbations import support_of
from medrobust.perturbations.selftest import selftest
from medrobust.perturbations.support import SupportMode
from medrobust.steps.batches import evenly_spaced, stack
from medrobust.steps.craft import begin
from medrobust.steps.image_sets import CraftJob, ImageSet, Part
from medrobust.steps.predict import generators
from medrobust.storage import RunFolder, frame_of, write_rows
from medrobust.storage.schemas import SELFTEST

IMAGES = 8


class Tried(NamedTuple):
    """The cases that attacks are tested on, and the part of the split that they are from."""

    cases: tuple[Case, ...]
    part: str


def selftest_attack(
    job: CraftJob,
    network: nn.Module,
    dataset: Dataset,
    cases: Iterable[Case],
    folder: RunFolder,
    *,
    seed: int,
    support_mode: SupportMode = "auto",
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    validation: Iterable[Case] = (),
    tick: Tick = silent,
) -> None:
    """Test an attack on a source with a few validation cases, and keep what was seen.

    Args:
        job: Attack and source.
        network: The source, prepared for being attacked, on `device`.
        dataset: Where the cases come from.
        cases: The cases that the study attacks; tested on where there are no validation cases.
        folder: The run folder.
        seed: Seed of the study.
        support_mode: Where the attack may act.
        device: Where the network is.
        batch_size: Images attacked together where a budget is solved.
        validation: Cases to test on, and to solve a budget on.
        tick: Told the progress.

    Raises:
        ModelError: The network's outputs cannot be attacked.
        RunError: The disk is full, or finished images were made with other weights of the source.
        StudyError: The budget is given as an SSIM, and there are no validation cases.
    """
    cases, validation = tuple(cases), tuple(validation)
    begun = begin(
        job,
        network,
        dataset,
        cases,
        folder,
        seed=seed,
        support_mode=support_mode,
        device=device,
        batch_size=batch_size,
        validation=validation,
    )
    tried = tried_cases(dataset.task, validation, cases)
    batch = stack(dataset, tried.cases, begun.source.device)
    with torch.autocast(begun.source.device.type, enabled=job.autocast):
        checks = selftest(
            begun.request,
            network,
            batch.images,
            batch.labels,
            support=support_of(batch.images, support_mode),
            rngs=generators(seed, job.request.name, tried.cases),
            spacing=dataset.spacing,
        )
    shared = {name: value for name, value in begun.image_set.origin.items() if name in SELFTEST.schema}
    rows = [
        {
            **shared,
            "check": check.name,
            "passed": check.passed,
            "value": check.value,
            "seen": check.seen,
            "cases": tried.part,
            "n_images": len(tried.cases),
        }
        for check in checks
    ]
    write_rows(folder, frame_of(SELFTEST, rows), *selftest_part(begun.image_set))
    tick(1.0, "")


def selftest_part(image_set: ImageSet) -> Part:
    """Path of the rows that the self-tests of an attack on a source leave."""
    return (*image_set.folder, "selftest.parquet")


def tried_cases(task: Task, validation: Sequence[Case], test: Sequence[Case]) -> Tried:
    """At most 8 cases: of as many classes as there are, or slices that show something.

    Validation cases where there are any, else test cases: no choice is made by what is seen on them, but
    columns may be left out of the verdict.
    """
    every, part = (validation, "validation") if validation else (test, "test")
    if task is Task.SEGMENTATION:
        every = [case for case in every if case.foreground] or every
    ordered = sorted(every, key=lambda case: (case.label or 0, case.case_id))
    return Tried(evenly_spaced(ordered, IMAGES), part)

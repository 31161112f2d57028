"""Self-tests: is an attack on a source as strong as it should be? Asked before anything is made of it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from medrobust.core import Case, Dataset, OnProgress, Task, silent
from medrobust.perturbations import support_of
from medrobust.perturbations.selftest import selftest
from medrobust.running.batches import evenly_spaced, stack
from medrobust.running.craft import open_crafting
from medrobust.running.image_sets import ImageSet, Part
from medrobust.running.memory import Limit
from medrobust.running.predict import generators
from medrobust.storage import RunFolder, frame_of, write_rows
from medrobust.storage.schemas import SELFTEST

IMAGES = 8


class Tried(NamedTuple):
    """The cases that attacks are tested on, and the part of the split that they are from."""

    cases: tuple[Case, ...]
    part: str


def selftest_attack(
    image_set: ImageSet,
    network: nn.Module,
    dataset: Dataset,
    folder: RunFolder,
    *,
    device: torch.device | str = "cpu",
    limit: Limit | None = None,
    validation: Iterable[Case] = (),
    progress: OnProgress = silent,
) -> None:
    """Test an attack on a source with a few validation cases, and keep what was seen.

    Args:
        image_set: The images that the study makes by it; tested on where there are no validation cases.
        network: The source, prepared for being attacked, on `device`.
        dataset: Where the cases come from.
        folder: The run folder.
        device: Where the network is.
        limit: Images attacked together where a budget is solved.
        validation: Cases to test on, and to solve a budget on.
        progress: Told the progress.

    Raises:
        ModelError: The network's outputs cannot be attacked.
        RunError: The disk is full, or finished images were made with other weights of the source.
        StudyError: The budget is given as an SSIM, and there are no validation cases.
    """
    validation = tuple(validation)
    opened = open_crafting(
        image_set, network, dataset, folder, device=device, limit=limit, validation=validation
    )
    source, request = opened.source, opened.request
    cases = [case for chunk in image_set.chunks for case in chunk]
    tried = tried_cases(dataset.task, validation, cases)
    batch = stack(dataset, tried.cases, source.device)
    with torch.autocast(source.device.type, enabled=source.autocast):
        checks = selftest(
            request,
            network,
            batch.images,
            batch.labels,
            support=support_of(batch.images, source.support_mode),
            rngs=generators(source.seed, request.name, tried.cases),
            spacing=dataset.spacing,
        )
    shared = {name: value for name, value in image_set.origin.items() if name in SELFTEST.schema}
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
    write_rows(folder, frame_of(SELFTEST, rows), *selftest_part(image_set))
    progress(1.0, "")


def selftest_part(image_set: ImageSet) -> Part:
    """Path of the rows that the self-tests of an attack on a source leave."""
    return (*image_set.folder, "selftest.parquet.gz")


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

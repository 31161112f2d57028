"""Self-tests: is an attack on a source as strong as it should be? Asked before it crafts anything."""

from collections.abc import Sequence

import polars as pl
import torch
from rich.markup import escape
from rich.table import Table

from medrobust.core import Case, OnProgress, Task
from medrobust.perturbations import aimed, support_of
from medrobust.perturbations.selftest import CHECKS, passes, selftest
from medrobust.running.batches import at_once, evenly_spaced, stack
from medrobust.running.craft import asked, open_store
from medrobust.running.estimate import Speeds
from medrobust.running.jobs import Job
from medrobust.running.plan import ImageSet
from medrobust.running.predict import generators
from medrobust.running.setup import Setup
from medrobust.storage import Parts, frame_of, write_rows
from medrobust.storage.schemas import SELFTEST
from medrobust.text import text_table

IMAGES = 8


def selftest_job(setup: Setup, images: ImageSet, speeds: Speeds) -> Job:
    """Test an attack on a source with a few cases, and keep what was seen."""
    request, source = asked(images)
    looks = len(_tried(setup, images)[0]) * passes(request, setup.study.task)

    def test(piece: int, progress: OnProgress) -> None:
        _selftest(setup, images)

    return Job(
        kind="selftest",
        name=images.name,
        title=f"test {request.label} on {source.id.title}",
        seconds=looks * speeds[source.id.name].gradient,
        disk=0,
        finished=lambda: {0} if setup.folder.exists(*selftest_part(images)) else set(),
        open=lambda: test,
    )


def _selftest(setup: Setup, images: ImageSet) -> None:
    """Test on validation cases or, without any, on the cases of the images."""
    source, (_, request) = asked(images)[1], open_store(setup, images)
    cases, part = _tried(setup, images)
    batch = stack(setup.dataset, cases, setup.device)
    with torch.autocast(setup.device.type, enabled=setup.study.crafting.autocast):
        checks = selftest(
            request,
            setup.told(source, cases),
            batch.images,
            aimed(request, batch.labels, setup.dataset.classes),
            support=support_of(batch.images, setup.study.support),
            rngs=generators(setup.study.seed, request.name, cases),
            spacing=setup.dataset.spacing,
        )
    shared = {name: value for name, value in images.origin.items() if name in SELFTEST.schema}
    rows = [
        {
            **shared,
            "check": check.name,
            "passed": check.passed,
            "value": check.value,
            "seen": check.seen,
            "cases": part,
            "n_images": len(cases),
        }
        for check in checks
    ]
    write_rows(setup.folder, frame_of(SELFTEST, rows), *selftest_part(images))


def _tried(setup: Setup, images: ImageSet) -> tuple[tuple[Case, ...], str]:
    validation = setup.fold(asked(images)[1]).validation_cases
    most = at_once(IMAGES, setup.dataset.shape)
    return tried_cases(setup.study.task, validation, list(images.cases), most)


def selftest_part(images: ImageSet) -> Parts:
    """Path of the rows that the self-tests of an attack on a source leave."""
    return (*images.folder, "selftest.parquet.gz")


def tried_cases(
    task: Task, validation: Sequence[Case], test: Sequence[Case], most: int
) -> tuple[tuple[Case, ...], str]:
    """At most so many cases, and the part of the split that they are from.

    They are of as many classes as possible, or slices that show something. Validation cases if there are any,
    else test cases: nothing is chosen by what they show, but columns may be left out of the verdict.
    """
    every, part = (validation, "validation") if validation else (test, "test")
    if task.has_maps:
        every = [case for case in every if case.foreground] or every
    ordered = sorted(every, key=lambda case: (case.label or 0, case.case_id))
    return evenly_spaced(ordered, most), part


def selftest_table(rows: pl.DataFrame) -> Table:
    """The rows of `results/selftest.parquet` as a table, failures in red."""
    part = " and ".join(rows["cases"].unique().sort())
    table = text_table("source", "attack", "check", "passed", "what was seen")
    table.title = f"Attack self-tests on {rows['n_images'].max()!s} {part} cases"
    words, order = {True: "yes", False: "no", None: "-"}, list(CHECKS)
    by_source = sorted(
        rows.iter_rows(named=True),
        key=lambda row: (row["source"], row["source_seed"], row["perturbation"], order.index(row["check"])),
    )
    for row in by_source:
        cells = (row["source"], row["perturbation"], row["check"], words[row["passed"]], row["seen"])
        table.add_row(*map(escape, cells), style="red" if row["passed"] is False else None)
    return table

"""The jobs that test attacks before they are made use of, and what they saw as a table."""

import polars as pl
from rich.markup import escape
from rich.table import Table

from medrobust.core import OnProgress
from medrobust.perturbations.selftest import CHECKS, passes
from medrobust.running.estimate import Speeds
from medrobust.running.jobs import Job, Once
from medrobust.running.plan import Attack, Plan
from medrobust.running.selftest import IMAGES, selftest_attack, selftest_part
from medrobust.text import text_table


def selftest_jobs(plan: Plan, speeds: Speeds) -> list[Job]:
    """A job for every attack and surrogate that are to be tested."""
    return [_selftest(plan, attack, speeds) for attack in plan.tested]


def _selftest(plan: Plan, attack: Attack, speeds: Speeds) -> Job:
    setup, request = plan.setup, attack.request

    def test(progress: OnProgress) -> None:
        selftest_attack(
            attack.images,
            setup.network(attack.source),
            setup.dataset,
            setup.folder,
            device=setup.device,
            limit=setup.limit,
            validation=setup.fold(attack.source).validation_cases,
            progress=progress,
        )

    return Job(
        kind="selftest",
        name=attack.images.name,
        title=f"test {request.label} on {attack.source.id.title}",
        seconds=IMAGES * passes(request, setup.study.task) * speeds[attack.source.id.name].gradient,
        disk=0,
        pieces=1,
        finished=lambda: {0} if setup.folder.exists(*selftest_part(attack.images)) else set(),
        open=lambda: Once(test),
    )


def selftest_table(rows: pl.DataFrame) -> Table:
    """The rows of `results/selftest.parquet` for people, failures in red."""
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

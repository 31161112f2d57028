"""What networks are known to reach on clean images: checked before anything is attacked.

Preprocessing that differs from that of the training gives scores that look fine and are wrong.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from medrobust.analysis.scores import CLEAN, Cell, panel_of
from medrobust.core import OnProgress, silent
from medrobust.errors import ModelError
from medrobust.metrics.catalogue import Score
from medrobust.running.batches import work_chunks
from medrobust.running.estimate import Speeds
from medrobust.running.evaluate import evaluation_parts, open_evaluation
from medrobust.running.jobs import Job
from medrobust.running.plan import Cell as Seen
from medrobust.running.plan import ImageSet, Plan, clean_set
from medrobust.running.selftest import tried_cases
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.storage import read_rows
from medrobust.storage.schemas import SCORED
from medrobust.study.analysis import PRIMARY, Settings, primary_score

FEW = 20
"""Cases that `medrobust check` scores a network on."""


def expectation_jobs(plan: Plan, speeds: Speeds) -> list[Job]:
    """Score each network that says what it reaches on the whole clean test set, and compare."""
    return [_job(plan, target, speeds) for target in plan.setup.targets if target.spec.expect is not None]


def _job(plan: Plan, target: StudyNetwork, speeds: Speeds) -> Job:
    setup, expect = plan.setup, target.spec.expect
    assert expect is not None
    sets = [each for each in plan.whole_test or plan.clean if each.is_faced_by(target)]
    n_cases = sum(images.chunks.n_cases for images in sets)
    place = ("results", "expected", f"{target.key}.json")
    score = score_expected(setup)
    asked = expect.model_dump() | {"score": score.name, "cases": [each.name for each in sets]}

    def is_met() -> bool:
        return setup.folder.exists(*place) and asked.items() <= setup.folder.read_json(*place).items()

    def compare(piece: int, progress: OnProgress) -> None:
        seen = clean_score(setup, sets, target, progress)
        if not abs(seen - expect.clean) <= expect.tolerance:
            raise ModelError(
                f"models.{target.id.name}.expect: its clean {score.heading} on {n_cases} test cases is "
                f"{seen:.4f}, not {expect.clean:g} (tolerance {expect.tolerance:g}). Look at `input` (mean, "
                "std, size) and at the order of its channels and classes. Nothing was trained or attacked."
            )
        setup.folder.write_json(asked | {"seen": seen}, *place)

    return Job(
        kind="expect",
        name=target.key,
        title=f"compare the clean score of {target.id.title} with what it should be",
        seconds=n_cases * speeds[target.id.name].forward,
        disk=0,
        finished=lambda: {0} if is_met() else set(),
        open=lambda: compare,
    )


def score_expected(setup: Setup) -> Score:
    """The primary score, or that of the task where it is measured at boundaries."""
    task = setup.study.task
    score = primary_score(setup.study.analysis.score, task)
    return primary_score(PRIMARY[task], task) if score.needs_surfaces else score


def clean_score(
    setup: Setup, sets: Sequence[ImageSet], target: StudyNetwork, progress: OnProgress = silent
) -> float:
    """The score of a target on sets of clean images; its rows are kept for the evaluation."""
    for number, images in enumerate(sets):
        show = open_evaluation(setup, [Seen(images, target)], boundaries=False)
        for piece in range(len(images.chunks)):
            show(piece, silent)
            progress((number + (piece + 1) / len(images.chunks)) / len(sets), "")
    table = SCORED[setup.study.task]
    parts = evaluation_parts(setup, sets, [target], table)
    rows = pl.concat([read_rows(setup.folder, table, *part) for part in parts])
    settings = Settings(**setup.study.analysis.model_dump(), seed=setup.study.seed)
    panel = panel_of(score_expected(setup), settings, rows, setup.dataset.classes[0])
    return panel.value(panel.cells[Cell(target.id.name, CLEAN)])


def few_clean_scores(setup: Setup) -> Iterator[tuple[StudyNetwork, float, int]]:
    """The score of each network that is not trained here on a few test cases, with their number."""
    cases, _ = tried_cases(setup.study.task, (), setup.folds[0].test_cases, FEW)
    images = clean_set(setup, work_chunks(setup.dataset, cases))
    for target in setup.targets:
        if not target.is_trained_here and not target.id.fold:
            yield target, clean_score(setup, [images], target), images.chunks.n_cases

"""The job that keeps the hardest and some typical scans for the explorer of the report."""

import polars as pl

from medrobust.core import OnProgress
from medrobust.running.estimate import Speeds
from medrobust.running.evaluate import row_table
from medrobust.running.examples import made_of
from medrobust.running.explorer import Wanted, explore, is_explored
from medrobust.running.hardest import Chosen, chosen_scans, scan_scores
from medrobust.running.jobs import Job, Once
from medrobust.running.plan import Plan
from medrobust.running.targets import cells_of, parts_of
from medrobust.storage import read_rows


def explorer_job(plan: Plan, speeds: Speeds) -> Job:
    """Keep scans for the explorer; after all cells are evaluated, since it shows where networks do worst."""
    setup, wanted = plan.setup, Wanted(**plan.setup.study.report.model_dump())
    scans = wanted.hardest + wanted.typical
    looks = min(scans * wanted.slices, len(setup.cases)) * len(plan.explored)
    of = made_of(plan.explored, plan.targets)

    def keep(progress: OnProgress) -> None:
        explore(
            _chosen(plan, wanted),
            plan.explored,
            plan.targets,
            plan.judges.networks,
            setup.dataset,
            setup.folder,
            wanted=wanted,
            device=setup.device,
            progress=progress,
        )
        progress(1.0, "")

    return Job(
        kind="examples",
        name="explorer",
        title="keep hardest and typical cases",
        seconds=looks * sum(speeds[target.id.name].forward for target in setup.targets),
        disk=0,
        pieces=1,
        finished=lambda: {0} if is_explored(setup.folder, wanted, of) else set(),
        open=lambda: Once(keep),
    )


def _chosen(plan: Plan, wanted: Wanted) -> list[Chosen]:
    """The scans to show, by the rows of the attacks that are shown."""
    setup, table = plan.setup, row_table(plan.setup.study.task)
    attacked = [images for images in plan.explored if images.kind == "stored"]
    parts = parts_of(cells_of(attacked, plan.targets, None), table)
    rows = pl.concat(read_rows(setup.folder, table, *part) for part in parts)
    scores = scan_scores(rows, setup.study.task, setup.dataset.classes[0])
    return chosen_scans(scores, wanted.hardest, wanted.typical)

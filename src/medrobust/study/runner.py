"""Run a study: claim the folder, plan, announce, work, and join the rows."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table

from medrobust.core import Dataset, Part, Task
from medrobust.data.splitting.split_file import split_csv
from medrobust.errors import RunError
from medrobust.record import environment
from medrobust.steps.evaluate import row_table, whole_test_table
from medrobust.storage import RunFolder, compact
from medrobust.storage.folder import clear_disk_errors
from medrobust.storage.schemas import CRAFTED, EMBEDDINGS, SELFTEST, SURFACES, TIMING
from medrobust.study.attributes import write_attributes
from medrobust.study.config import Study, resolved
from medrobust.study.folds import Fold
from medrobust.study.jobs import Job, Kind
from medrobust.study.opening import set_up
from medrobust.study.plan import Plan, make_plan
from medrobust.study.progress import execute, reading
from medrobust.study.reading import STORED, read_stored_study
from medrobust.study.setup import Setup
from medrobust.study.work import jobs_of

REMEDY = "Give another folder with --out, or undo the change."


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
) -> None:
    """Train, craft, evaluate and embed all that a study asks for and the folder does not hold yet.

    Args:
        study: What is asked for.
        folder: The run folder; new, or one that holds a part of the same study.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks run.
        console: Where the plan and the progress are shown.
        only: Kinds of jobs that are done; empty: all. Rows of the self-tests are joined in any case, all
            others where all jobs are done.
        first: Further jobs, done before all others.
        dataset: The data, where they are given in Python and not opened as the study says.

    Raises:
        RunError: The folder belongs to another study or other data, or cannot be written.
        MedrobustError: Anything else that a person can mend.
    """
    with clear_disk_errors(folder.url):
        _refuse_other_study(study, folder)
        with reading(console) as tick:
            setup = set_up(study, folder, data_dir=data_dir, device=device, dataset=dataset, tick=tick)
        plan = make_plan(setup)
        timed = setup.targets[: len(study.specs)]  # those of further folds are as fast
        jobs = [*first, *jobs_of(plan, {target.id.name: setup.speed(target) for target in timed})]
        jobs = [job for job in jobs if not only or job.kind in only]
        record = record_of(setup)
        refuse_other_inputs(record, folder)
        _announce(setup, jobs, console)
        _write_record(setup, record)
        execute(jobs, console)
        compact(folder, SELFTEST, plan.selftest_parts())
        if not only:
            _join_rows(plan)


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        RunError: There is no such device here.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" holds no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"--device: '{name}' cannot be used here ({reason}). Take auto or cpu.") from None
    return device


def _refuse_other_study(study: Study, folder: RunFolder) -> None:
    if folder.is_file():
        raise RunError(f"--out: '{folder.url}' is a file. Give a folder, or a name that is free.")
    if not folder.exists(STORED):
        return
    former, wanted = _fixed(read_stored_study(folder)), _fixed(study)
    changed = [key for key in wanted if former.get(key) != wanted[key]]
    if changed:
        raise RunError(
            f"The run folder '{folder.url}' belongs to another study: {', '.join(changed)} differ from its "
            f"study.yaml. {REMEDY}"
        )


def _fixed(study: Study) -> dict[str, Any]:
    """What of a study must stay as it is in a run folder.

    Its analysis and report may change, and the groups that scores are shown for; whether data are audited and
    attacks self-tested, and how many images are attacked together (memory may have run out).
    """
    content = resolved(study)
    del content["analysis"], content["report"], content["audit"]
    content["data"].pop("attributes", None)
    del content["crafting"]["batch_size"], content["crafting"]["selftest"]
    return content


def refuse_other_inputs(record: Mapping[str, Any], folder: RunFolder) -> None:
    """The study may be the same while a file that it names, or the program, has changed since.

    Raises:
        RunError: The data or networks are others than those that the run folder was made with.
    """
    if not folder.exists("record.json"):
        return
    former = folder.read_json("record.json")
    if former["data"]["fingerprint"] != record["data"]["fingerprint"]:
        raise RunError(f"The run folder '{folder.url}' was made with other data. {REMEDY}")
    networks = record["networks"]
    changed = [name for name in networks if former["networks"].get(name) != networks[name]]
    if changed:
        raise RunError(
            f"The run folder '{folder.url}' belongs to other networks: what {', '.join(changed)} is made "
            f"from (weights, code, split) differs from its record.json. {REMEDY}"
        )


def _announce(setup: Setup, jobs: list[Job], console: Console) -> None:
    """Say what will be done, how long it takes and how much disk it needs."""
    study, dataset = setup.study, setup.dataset
    counts = "; ".join(dict.fromkeys(_counts(fold) for fold in setup.folds))
    several = f"; {len(setup.folds)} folds, every {dataset.unit} is tested once" if setup.folds[1:] else ""
    console.print(
        f"{study.task} on {dataset.name}: {len(study.specs)} networks, {len(study.attacks)} attacks, "
        f"{len(setup.cases)} cases; {dataset.unit}s: {counts}{several}"
    )
    table = Table("step", "jobs", "done", "time left", "disk")
    for kind in dict.fromkeys(job.kind for job in jobs):
        table.add_row(kind, *_summary([job for job in jobs if job.kind == kind]))
    table.add_section()
    table.add_row("all", *_summary(jobs))
    console.print(table)


def _counts(fold: Fold) -> str:
    parts = Counter(fold.split.values())
    return ", ".join(f"{parts[part]} {part}" for part in Part if part != Part.UNUSED)


def _summary(jobs: list[Job]) -> tuple[str, str, str, str]:
    left = [job for job in jobs if not job.done]
    megabytes = sum(job.disk for job in left) / 1e6
    return (
        str(len(jobs)),
        str(len(jobs) - len(left)),
        duration(sum(job.seconds for job in left)),
        f"{megabytes:.0f} MB",
    )


def duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def record_of(setup: Setup) -> dict[str, Any]:
    """The data, networks, versions and machine behind a run folder, as JSON-able data."""
    dataset = setup.dataset
    data = {
        "name": dataset.name,
        "phantom": dataset.phantom,
        "unit": dataset.unit,
        "classes": list(dataset.classes),
        "fingerprint": dataset.fingerprint,
        "facts": dict(dataset.facts or {}),
    }
    networks = {
        network.id.folder: asdict(network.id) | setup.recipe(network)
        for network in (*setup.targets, *setup.surrogates)
    }
    return environment(str(setup.device), torch.get_num_threads()) | {
        "data": data,
        "cases": {"attacked": len(setup.cases), "test": sum(len(fold.test_cases) for fold in setup.folds)},
        "networks": networks,
    }


def _write_record(setup: Setup, record: Mapping[str, Any]) -> None:
    """What the folder is of: the resolved study, its split, and what is behind it."""
    folder = setup.folder
    text = yaml.safe_dump(resolved(setup.study), sort_keys=False, allow_unicode=True)
    folder.write_json(record, "record.json")
    folder.write_bytes(split_csv([fold.split for fold in setup.folds]).encode(), "split.csv")
    folder.write_bytes(text.encode(), STORED)


def _join_rows(plan: Plan) -> None:
    """Join the parts that the jobs left to one sorted table each."""
    folder = plan.setup.folder
    task = plan.setup.study.task
    compact(folder, CRAFTED, plan.crafted_parts())
    compact(folder, whole_test_table(task), plan.whole_test_parts())
    compact(folder, EMBEDDINGS, plan.embedding_parts())
    write_attributes(plan.setup)
    if task is Task.SEGMENTATION:
        compact(folder, SURFACES, plan.surface_parts())
    compact(folder, TIMING, plan.timing_parts())
    compact(folder, row_table(task), plan.evaluation_parts())  # last: a run with these rows is finished

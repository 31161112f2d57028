"""Run a study, say what a run would do, or test its attacks."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl
from rich.console import Console

from medrobust.api.auditing import audit_jobs
from medrobust.api.runs import Run
from medrobust.core import Dataset
from medrobust.errors import StudyError
from medrobust.running.executors.local import Executor, run_here
from medrobust.running.executors.ray_cluster import on_ray
from medrobust.running.runner import run_study, show_plan
from medrobust.running.setup import choose_device
from medrobust.storage import RunFolder, read_results
from medrobust.storage.schemas import SELFTEST
from medrobust.study.config import Study
from medrobust.study.reading import read_study
from medrobust.text import output


def run(
    study: str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
    dataset: Dataset | None = None,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> Run:
    """Run a study, or go on where it stopped, and write its report.

    Args:
        study: A YAML file, or its content.
        out: The run folder.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        changes: `key.path=value` assignments on top of the study.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes the best there is.
        console: Where the plan and the progress are shown; None: nowhere.
        dataset: The data, of a study without `data`; see docs/data.md, "Own data in Python".
        executor: Who does the work: this process, or the workers of a Ray cluster; see docs/scale.md.
        address: Of the Ray cluster; None starts one on this machine.

    Raises:
        MedrobustError: Something that a person can mend; the message says what. What is finished is kept.
    """
    asked, folder, data_dir = _asked(study, out, data, changes, dataset)
    console = console or Console(quiet=True)
    run_study(
        asked,
        folder,
        data_dir=data_dir,
        device=choose_device(device),
        console=console,
        first=audit_jobs(asked, folder, data_dir),
        dataset=dataset,
        executor=_executor(executor, address, data_dir, device, dataset),
    )
    finished = Run.open(out)
    finished.write_report()
    for warning in finished.warnings:
        console.print(f"Warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    return finished


def plan(
    study: str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
    dataset: Dataset | None = None,
) -> None:
    """Say what `run` with the same arguments would do; nothing is run or written.

    Args:
        study: A YAML file, or its content.
        out: The run folder; need not exist.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        changes: `key.path=value` assignments on top of the study.
        device: Where networks would run.
        console: Where the plan is shown.
        dataset: The data, of a study without `data`.

    Raises:
        MedrobustError: Something that a person can mend; the message says what.
    """
    asked, folder, data_dir = _asked(study, out, data, changes, dataset)
    show_plan(
        asked,
        folder,
        data_dir=data_dir,
        device=choose_device(device),
        console=console or output(),
        first=audit_jobs(asked, folder, data_dir),
        dataset=dataset,
    )


def selftest(
    study: str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    device: str = "auto",
    console: Console | None = None,
    dataset: Dataset | None = None,
) -> pl.DataFrame:
    """Train the networks of a study and self-test its attacks on every source; `run` goes on from there.

    Args:
        study: A YAML file, or its content.
        out: The run folder; what it holds is not done again.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        changes: `key.path=value` assignments on top of the study.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes the best there is.
        console: Where the plan and the progress are shown; None: nowhere.
        dataset: The data, of a study without `data`.

    Returns:
        The rows of `results/selftest.parquet`: one per attack, source and check.

    Raises:
        MedrobustError: Something that a person can mend; the message says what.
    """
    wanted = [*changes, "crafting.selftest=true"]
    asked, folder, data_dir = _asked(study, out, data, wanted, dataset)
    run_study(
        asked,
        folder,
        data_dir=data_dir,
        device=choose_device(device),
        console=console or Console(quiet=True),
        only=("train", "selftest"),
        dataset=dataset,
    )
    return read_results(folder, SELFTEST)


def _asked(
    study: str | os.PathLike[str] | Mapping[str, Any],
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None,
    changes: Iterable[str],
    dataset: Dataset | None,
) -> tuple[Study, RunFolder, Path | None]:
    """The study with its changes, its run folder, and the folder of its data."""
    source = study if isinstance(study, Mapping) else Path(study)
    asked = read_study(source, changes, given=None if dataset is None else dataset.name)
    return asked, RunFolder(out), None if data is None else Path(data)


def _executor(
    name: str, address: str | None, data_dir: Path | None, device: str, dataset: Dataset | None
) -> Executor:
    if name == "ray":
        return on_ray(address, data_dir=data_dir, device=device, dataset=dataset)
    if address is not None:
        raise StudyError("--address: is of a Ray cluster. Add --executor ray.")
    return run_here

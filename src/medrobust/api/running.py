"""Run a study, or test its attacks."""

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
from medrobust.storage import RunFolder, read_results
from medrobust.storage.schemas import SELFTEST
from medrobust.study.devices import choose_device
from medrobust.study.executors import Executor
from medrobust.study.executors.local import run_here
from medrobust.study.executors.ray_cluster import on_ray
from medrobust.study.reading import read_study
from medrobust.study.runner import run_study


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
    source = study if isinstance(study, Mapping) else Path(study)
    folder, console = RunFolder(out), console or Console(quiet=True)
    asked = read_study(source, changes, given=None if dataset is None else dataset.name)
    data_dir = None if data is None else Path(data)
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
    source = study if isinstance(study, Mapping) else Path(study)
    folder = RunFolder(out)
    run_study(
        read_study(
            source, [*changes, "crafting.selftest=true"], given=None if dataset is None else dataset.name
        ),
        folder,
        data_dir=None if data is None else Path(data),
        device=choose_device(device),
        console=console or Console(quiet=True),
        only=("train", "selftest"),
        dataset=dataset,
    )
    return read_results(folder, SELFTEST)


def _executor(
    name: str, address: str | None, data_dir: Path | None, device: str, dataset: Dataset | None
) -> Executor:
    if name == "ray":
        return on_ray(address, data_dir=data_dir, device=device, dataset=dataset)
    if address is not None:
        raise StudyError("--address: is of a Ray cluster. Add --executor ray.")
    return run_here

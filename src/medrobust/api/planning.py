"""What a run would do, and what it left over."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from medrobust.api.auditing import audit_jobs
from medrobust.core import Dataset
from medrobust.storage import RunFolder
from medrobust.study.devices import choose_device
from medrobust.study.planning import show_plan
from medrobust.study.reading import read_study


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
    source = study if isinstance(study, Mapping) else Path(study)
    folder, data_dir = RunFolder(out), None if data is None else Path(data)
    asked = read_study(source, changes, given=None if dataset is None else dataset.name)
    show_plan(
        asked,
        folder,
        data_dir=data_dir,
        device=choose_device(device),
        console=console or Console(),
        first=audit_jobs(asked, folder, data_dir),
        dataset=dataset,
    )

"""Audit the data of a study."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from medrobust.audit.audit import Audit, audit_data
from medrobust.audit.document import as_document
from medrobust.audit.table import summary
from medrobust.audit.thumbnails import thumbnails
from medrobust.catalogue import module_file
from medrobust.core import OnProgress
from medrobust.report.audit_page import audit_page
from medrobust.running.jobs import Job
from medrobust.storage import RunFolder
from medrobust.study.checks import check_named_data, require_split
from medrobust.study.config import Study
from medrobust.study.reading import read_study

STORED = "audit.json"
"""Name of the audit in a run folder."""

AUDIT_SECONDS = 5.0
"""Of some thousand photographs, or of thirty scans."""


def audit(
    study: str | os.PathLike[str] | Mapping[str, Any],
    *,
    data: str | os.PathLike[str] | None = None,
    changes: Iterable[str] = (),
    console: Console | None = None,
) -> Audit:
    """Read the data of a study as a run would, change nothing, and say what is wrong.

    Args:
        study: A YAML file, or its content.
        data: Folder that the `root` of the study's data is relative to; the working directory by default.
        changes: `key.path=value` assignments on top of the study.
        console: Where the progress is shown; None: nowhere.

    Raises:
        StudyError: The study asks for something that cannot be.
        DataError: There are no data at all.
    """
    asked = read_study(study if isinstance(study, Mapping) else Path(study), changes)
    return _audited(asked, None if data is None else Path(data), console or Console(quiet=True))


def audit_jobs(study: Study, folder: RunFolder, data_dir: Path | None) -> list[Job]:
    """The audit as a job of a run, which leaves `audit.json`; none for data that are not files of a folder.

    Whatever it finds, the run goes on: what it must not go on with stops it when the data are opened.
    """
    if not study.audit or "root" not in study.data:
        return []

    def work(piece: int, progress: OnProgress) -> None:
        folder.write_json(as_document(_audited(study, data_dir, Console(quiet=True))), STORED)
        progress(1.0, "")

    return [
        Job(
            kind="audit",
            name="audit",
            title="audit the data",
            seconds=AUDIT_SECONDS,
            disk=0,
            finished=lambda: {0} if folder.exists(STORED) else set(),
            open=lambda: work,
        )
    ]


def _audited(asked: Study, data_dir: Path | None, console: Console) -> Audit:
    require_split(asked)
    check_named_data(asked)
    loads = {f"models.{spec.name}.load": spec.load for spec in asked.specs if spec.load}
    if "load" in asked.data:
        loads["data.load"] = str(asked.data["load"])
    code = {key: module_file(reference) for key, reference in loads.items()}
    return audit_data(
        asked.data,
        asked.split,
        asked.seed,
        data_dir=data_dir,
        code={key: file for key, file in code.items() if file},
        console=console,
    )


def write_audit(finished: Audit, file: Path) -> None:
    """Write what an audit found as JSON; docs/audit.md describes it."""
    file.write_text(json.dumps(as_document(finished), indent=2), encoding="utf-8")


def write_audit_page(finished: Audit, file: Path) -> None:
    """Write what an audit found as one HTML file with thumbnails, which opens offline."""
    page = audit_page(finished.name, summary(finished), finished.findings, thumbnails(finished.findings))
    file.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")

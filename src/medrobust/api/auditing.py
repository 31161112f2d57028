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
from medrobust.load import module_file
from medrobust.report.audit_page import audit_page
from medrobust.study.checks import require_split, require_task
from medrobust.study.reading import read_study


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
    require_split(asked)
    require_task(asked)
    loads = {f"models.{spec.name}.load": spec.load for spec in asked.specs if spec.load}
    if "load" in asked.data:
        loads["data.load"] = str(asked.data["load"])
    code = {key: module_file(reference) for key, reference in loads.items()}
    return audit_data(
        asked.data,
        asked.split,
        asked.seed,
        data_dir=None if data is None else Path(data),
        code={key: file for key, file in code.items() if file},
        console=console or Console(quiet=True),
    )


def write_audit(finished: Audit, file: Path) -> None:
    """Write what an audit found as JSON; docs/audit.md describes it."""
    file.write_text(json.dumps(as_document(finished), indent=2), encoding="utf-8")


def write_audit_page(finished: Audit, file: Path) -> None:
    """Write what an audit found as one HTML file with thumbnails, which opens offline."""
    page = audit_page(finished.name, summary(finished), finished.findings, thumbnails(finished.findings))
    file.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")

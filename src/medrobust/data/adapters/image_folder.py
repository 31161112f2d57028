"""Any photographs in a folder: one folder per class, or a table of paths, labels and patients."""

import re
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from pydantic import AfterValidator

from medrobust.data.adapters.labelled import Grouping, group_by
from medrobust.data.adapters.labelled_files import (
    Classes,
    Columns,
    LabelledFile,
    Name,
    labelled_files,
    photos_of,
)
from medrobust.data.findings import Finding
from medrobust.data.listing import Photos
from medrobust.data.photographs.image_files import SUFFIXES


def _with_one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    if groups != 1:
        raise ValueError("must have one group in round brackets, which is the patient")
    return pattern


Pattern = Annotated[str, MinLen(1), AfterValidator(_with_one_group)]


def list_image_folder(
    root: Path,
    *,
    table: Name | None = None,
    path_column: Name = "path",
    label_column: Name = "label",
    patient_column: Name | None = None,
    part_column: Name | None = None,
    patient_pattern: Pattern | None = None,
    classes: Classes | None = None,
) -> Photos:
    """PNG, JPEG, TIFF and BMP files of two classes or more.

    Args:
        root: Folder of the class folders, or of the table.
        table: CSV table below the root with a row per file; None takes the class of a file from its folder:
            `<class>/...`, or `<train|validation|test>/<class>/...`, which is an official split.
        path_column: Column of the paths, relative to the root; see `ListedFiles` for what else is found.
        label_column: Column of the classes.
        patient_column: Column of the patients; None: not known, or by `patient_pattern`.
        part_column: Column that says train, validation or test: an official split.
        patient_pattern: Regular expression that is searched in a file's path below the root and whose one
            group is the patient, e.g. "(P[0-9]+)_" where names begin with the patient.
        classes: All classes, in their order; None: those that there are, sorted. A word for what is not
            known, such as "unknown" or "none", is a class of a table only where it is listed here.

    Raises:
        StudyError: Columns without a table.
        DataError: The table is missing or lacks a column, or there are fewer than two classes. Rows and files
            that cannot be used, and patients in several parts, are findings.
    """
    findings: list[Finding] = []
    columns = Columns(path_column, label_column, patient_column, part_column)
    files = labelled_files(root, SUFFIXES, table, columns, classes, findings)
    where = root / table if table else root
    grouping = _grouping(files, patient_column, patient_pattern, where, findings)
    return photos_of(files, grouping, classes, where, findings)


def _grouping(
    files: tuple[LabelledFile, ...],
    column: str | None,
    pattern: str | None,
    where: Path,
    findings: list[Finding],
) -> Grouping:
    """Patients by a column, or by what the names of files say."""
    if pattern is None or column is not None:
        patients = {file.name: file.patient for file in files}
        return group_by(patients, "patient", column or "patient", where, findings, asked=bool(column))
    search = re.compile(pattern).search
    matches = {file.name: search(file.name) for file in files}
    patients = {name: (match[1] or "") if match else "" for name, match in matches.items()}
    grouping = group_by(patients, "patient", "patient", where, findings, asked=True)
    return grouping._replace(fact=f"{grouping.fact}, inferred from the names of files by {pattern}")

"""DICOM pictures such as X-rays and mammograms: one folder per class, or a table of paths and labels.

Patients are those of the headers (PatientID).
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt

from medrobust.data.adapters.labelled import group_by
from medrobust.data.adapters.labelled_files import (
    Classes,
    Columns,
    LabelledFile,
    Name,
    labelled_files,
    photos_of,
)
from medrobust.data.dicom import is_dicom
from medrobust.data.files import naming
from medrobust.data.findings import Finding, refused
from medrobust.data.listing import Photos
from medrobust.data.photographs.dicom_pictures import DicomFiles, read_dicom
from medrobust.errors import DataError

SUFFIXES = (".dcm", ".dicom", ".ima")
"""Endings of files that must be DICOM, in lower case; others are found by their content."""

DIRECTORY = "DICOMDIR"
"""How the file is called that lists the others of a medium; it is DICOM, and no picture."""

Window = tuple[Annotated[float, Gt(float("-inf"))], Annotated[float, Gt(0)]]


def list_dicom_images(
    root: Path,
    *,
    table: Name | None = None,
    path_column: Name = "path",
    label_column: Name = "label",
    part_column: Name | None = None,
    window: Literal["file"] | Window = "file",
    classes: Classes | None = None,
) -> Photos:
    """DICOM files of two classes or more, one picture each; the unit is the patient of their headers.

    They are found by their content, so that they may be called by their UID, or lack the preamble.

    Args:
        root: Folder of the class folders, or of the table.
        table: CSV table below the root with a row per file; None takes the class of a file from its folder:
            `<class>/...`, or `<train|validation|test>/<class>/...`, which is an official split.
        path_column: Column of the paths, relative to the root.
        label_column: Column of the classes.
        part_column: Column that says train, validation or test: an official split.
        window: Which values become black and white: "file" takes the window of the file, or all that its bits
            can hold where it has none; [centre, width] is in the units of the rescaled values.
        classes: All classes, in their order; None: those that there are, sorted. A word for what is not
            known, such as "unknown" or "none", is a class of a table only where it is listed here.

    Raises:
        StudyError: A column without a table.
        DataError: The table is missing or lacks a column, or there are fewer than two classes. Rows and files
            that cannot be used, and patients in several parts, are findings.
    """
    findings: list[Finding] = []
    columns = Columns(path_column, label_column, part=part_column)
    files = labelled_files(root, SUFFIXES, table, columns, classes, findings, _is_dicom)
    patients = {file.name: patient for file in files if (patient := _patient(file, findings)) is not None}
    readable = [file for file in files if file.name in patients]
    grouping = group_by(patients, "patient", "PatientID", root, findings)
    files_format, where = DicomFiles(None if window == "file" else window), root / table if table else root
    photos = photos_of(readable, grouping, classes, where, findings, format=files_format)
    shown = "of each file" if window == "file" else f"centre {window[0]:g}, width {window[1]:g}"
    return replace(photos, facts={**photos.facts, "window": shown})


def _is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, whatever its name; one that cannot be read may be."""
    try:
        return path.name.upper() != DIRECTORY and is_dicom(path)
    except OSError:
        return True


def _patient(file: LabelledFile, findings: list[Finding]) -> str | None:
    """The patient of a file, "" where it names none; None, and a finding, where it cannot be read."""
    try:
        with naming(file.path, "a DICOM picture"):
            return str(read_dicom(file.path, pixels=False).get("PatientID") or "").strip()
    except DataError as error:
        findings.append(refused("unreadable", error, file.path))
        return None

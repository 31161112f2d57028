"""Any photographs, or DICOM pictures such as X-rays: one folder per class, or a table of paths and labels.

<class>/...    <train|validation|test>/<class>/..., which is an official split    or a table of any layout

A table may also name several findings of an image: `Effusion|Mass` in one column, or a column for each.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from annotated_types import Gt, MinLen
from pydantic import AfterValidator

from medrobust.core import UNKNOWN, Task
from medrobust.data.adapters.labelled import (
    Labelled,
    alike,
    files_below,
    group_by,
    is_split,
    left_out,
    listed_once,
    photos_of,
    rows_named,
)
from medrobust.data.dicom import is_dicom
from medrobust.data.files import ListedFiles, Row, existing_file, is_missing, naming, read_table
from medrobust.data.findings import Finding, error, is_sound, quoted, refused, warning
from medrobust.data.listing import Photos
from medrobust.data.photographs.dicom_pictures import DicomFiles, read_dicom
from medrobust.data.photographs.image_files import SUFFIXES, is_nameless_image
from medrobust.data.splitting.splits import PARTS
from medrobust.errors import DataError, StudyError, unknown

MOST_CLASSES = 1000
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Endings of files that must be DICOM, in lower case; others are found by their content."""


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("must be different names")
    return names


def _with_one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is not a valid regular expression ({error})") from None
    if groups != 1:
        raise ValueError("must have one group in round brackets, which is the patient")
    return pattern


Name = Annotated[str, MinLen(1)]
Classes = Annotated[list[Name], MinLen(2), AfterValidator(_different)]
Pattern = Annotated[str, MinLen(1), AfterValidator(_with_one_group)]
Window = tuple[Annotated[float, Gt(float("-inf"))], Annotated[float, Gt(0)]]


class Columns(NamedTuple):
    """Names of a table's columns, None for what is not known; and how findings are written."""

    path: str
    label: str
    findings: Sequence[str] | None
    separator: str
    no_finding: str
    patient: str | None = None
    part: str | None = None

    @property
    def of_labels(self) -> tuple[str, ...]:
        """Those that hold labels."""
        return (self.label,) if self.findings is None else tuple(self.findings)

    def named(self, row: Row) -> list[str]:
        """The findings that a cell names, one after the other."""
        names = [name.strip() for name in row[self.label].split(self.separator)]
        return [name for name in names if name.casefold() != self.no_finding.casefold()]

    def answers(self, row: Row, findings: Sequence[str]) -> tuple[int, ...]:
        """The findings of a row; a DataError if a cell says something else."""
        if self.findings is not None:
            return tuple(_answer(row, column) for column in self.findings)
        for name in self.named(row):
            if name not in findings:
                raise DataError(
                    f"{row.where}: {unknown('finding', name, findings)} Correct it, or data.classes."
                )
        return tuple(int(name in self.named(row)) for name in findings)


ANSWERS = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "0": 0, "0.0": 0, "false": 0, "no": 0}
"""What a column of a finding says, in lower case; -1 and an empty cell say that it is not known."""


def _answer(row: Row, column: str) -> int:
    word = row[column].casefold()
    if is_missing(word) or word in ("-1", "-1.0"):
        return UNKNOWN
    if word not in ANSWERS:
        raise DataError(
            f"{row.where}: {column} must be 1 (present), 0 (absent), or -1 or empty (not known); got "
            f"'{word}'."
        )
    return ANSWERS[word]


def list_image_folder(
    root: Path,
    task: Task = Task.CLASSIFICATION,
    *,
    table: Name | None = None,
    path_column: Name = "path",
    label_column: Name = "label",
    finding_columns: Classes | None = None,
    separator: Name = "|",
    no_finding: Name = "No Finding",
    patient_column: Name | None = None,
    part_column: Name | None = None,
    patient_pattern: Pattern | None = None,
    classes: Classes | None = None,
) -> Photos:
    """PNG, JPEG, TIFF and BMP files of two classes or more.

    Args:
        root: Folder of the class folders, or of the table.
        task: Whether an image has one class, or any number of findings, which only a table can name.
        table: CSV table below the root with a row per file; None takes the class of a file from its folder:
            `<class>/...`, or `<train|validation|test>/<class>/...`, which is an official split.
        path_column: Column of the paths, relative to the root; `ListedFiles` says what else is found.
        label_column: Column of the classes, or of all findings of an image.
        finding_columns: A column for each finding, in place of that: 1 (present), 0 (absent), and -1 or
            nothing where it is not known.
        separator: What stands between the findings of an image.
        no_finding: What `label_column` says of an image that shows none.
        patient_column: Column of the patients; None: not known, or by `patient_pattern`.
        part_column: Column that says train, validation or test: an official split.
        patient_pattern: Regular expression searched for in a file's path below the root, whose one group is
            the patient, e.g. "(P[0-9]+)_" if names begin with the patient.
        classes: All classes or findings, in order; None: those that occur, sorted. A word for what is not
            known, such as "unknown" or "none", is a class of a table only if it is listed here.

    Raises:
        StudyError: Columns without a table, or columns of findings in classification.
        DataError: The table is missing or lacks a column, there are fewer than two classes or findings, or
            labels look like several findings or like measured values. Unusable rows and files, and patients
            in several parts, are findings of the data.
    """
    findings: list[Finding] = []
    columns = Columns(
        path_column, label_column, finding_columns, separator, no_finding, patient_column, part_column
    )
    known = _findings_of(root, task, table, columns, classes)
    images = _labelled(root, SUFFIXES, is_nameless_image, task, table, columns, known, findings)
    where, by_name = root / table if table else root, patient_pattern and not patient_column
    if by_name:
        matches = {name: re.search(str(patient_pattern), name) for name in images}
        groups = {name: (match and match[1]) or "" for name, match in matches.items()}
        images = {name: image._replace(group=groups[name]) for name, image in images.items()}
    asked = bool(patient_column or by_name)
    grouping = group_by(images, "patient", patient_column or "patient", where, findings, asked=asked)
    if by_name:
        fact = f"{grouping.fact}, inferred from the names of files by {patient_pattern}"
        grouping = grouping._replace(fact=fact)
    names = _classes(images, known, where, findings)
    return photos_of(images, {name: root / name for name in images}, names, grouping, where, findings)


def list_dicom_images(
    root: Path,
    task: Task = Task.CLASSIFICATION,
    *,
    table: Name | None = None,
    path_column: Name = "path",
    label_column: Name = "label",
    finding_columns: Classes | None = None,
    separator: Name = "|",
    no_finding: Name = "No Finding",
    part_column: Name | None = None,
    window: Literal["file"] | Window = "file",
    classes: Classes | None = None,
) -> Photos:
    """DICOM files of two classes or more, one picture each; the unit is the patient of their headers.

    Files are recognised by their content, so they may be named by their UID, or lack the preamble. The rest,
    and what is refused, is as for `list_image_folder`.

    Args:
        root: Folder of the class folders, or of the table.
        task: See `list_image_folder`, as for the table, its columns and the classes.
        table: CSV table below the root.
        path_column: Column of the paths.
        label_column: Column of the classes, or of all findings of an image.
        finding_columns: A column for each finding.
        separator: What stands between the findings of an image.
        no_finding: What `label_column` says of an image that shows none.
        part_column: Column of the parts.
        window: Which values become black and white: "file" takes the file's own window, or if it has none all
            values that its bits can hold; [centre, width] is in the units of the rescaled values.
        classes: All classes.
    """
    findings: list[Finding] = []
    columns = Columns(path_column, label_column, finding_columns, separator, no_finding, part=part_column)
    known = _findings_of(root, task, table, columns, classes)
    listed = _labelled(root, DICOM_SUFFIXES, _is_dicom, task, table, columns, known, findings)
    images = {}
    for name, image in listed.items():
        path = root / name
        try:
            with naming(path, "a DICOM picture"):
                patient = str(read_dicom(path, pixels=False).get("PatientID") or "").strip()
        except DataError as unreadable:
            findings.append(refused("unreadable", unreadable, path))
        else:
            images[name] = image._replace(group=patient)
    grouping = group_by(images, "patient", "PatientID", root, findings)
    where = root / table if table else root
    shown = "of each file" if window == "file" else f"centre {window[0]:g}, width {window[1]:g}"
    return photos_of(
        images,
        {name: root / name for name in images},
        _classes(images, known, where, findings),
        grouping,
        where,
        findings,
        facts={"window": shown},
        format=DicomFiles(None if window == "file" else window),
    )


def _findings_of(
    root: Path, task: Task, table: str | None, columns: Columns, classes: Sequence[str] | None
) -> Sequence[str] | None:
    """The findings that a table names, in order; in classification the classes as they are given."""
    if task is not Task.MULTILABEL:
        if columns.findings is not None:
            raise StudyError(
                "data.finding_columns: are of a study with `task: multilabel`. Leave the key out, or change "
                "the task."
            )
        return classes
    if table is None:
        raise StudyError(
            "data.table: with `task: multilabel` a table names the findings of each image, since a file lies "
            "in one folder only. Give it."
        )
    if classes is not None or columns.findings is not None:
        return columns.findings or classes
    rows = read_table(existing_file(root, table, "data.table"), [columns.label])
    names = sorted(
        {name for row in rows if not is_missing(row[columns.label]) for name in columns.named(row)}
    )
    if not 2 <= len(names) <= MOST_CLASSES:
        raise DataError(
            f"{root / table}: 2 to {MOST_CLASSES} findings are needed; {columns.label} names {len(names)} "
            f"({quoted(names)}), separated by '{columns.separator}'. Correct data.label_column or "
            "data.separator, or give a column for each finding in data.finding_columns."
        )
    return names


def _is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content; if it cannot be read, it may be."""
    try:
        return path.name.upper() != "DICOMDIR" and is_dicom(path)  # that lists the others of a medium
    except OSError:
        return True


def _labelled(
    root: Path,
    suffixes: Collection[str],
    by_content: Callable[[Path], bool],
    task: Task,
    table: str | None,
    columns: Columns,
    classes: Sequence[str] | None,
    findings: list[Finding],
) -> dict[str, Labelled]:
    """Images by their path below the root; what cannot be used becomes findings."""
    if table is not None:
        return listed_once(_rows(root, suffixes, task, table, columns, classes, findings), findings)
    for name, column in (("patient_column", columns.patient), ("part_column", columns.part)):
        if column is not None:
            raise StudyError(
                f"data.{name}: is a column of `table`, which is not given. Give both, or neither."
            )
    return _of_folders(root, files_below(root, suffixes, by_content), classes, findings)


def _rows(
    root: Path,
    suffixes: Collection[str],
    task: Task,
    table: str,
    columns: Columns,
    classes: Sequence[str] | None,
    findings: list[Finding],
) -> Iterator[tuple[Row, str, Labelled]]:
    path = existing_file(root, table, "data.table")
    wanted = (columns.path, *columns.of_labels, columns.patient, columns.part)
    listed, rows = ListedFiles(root, suffixes), read_table(path, [column for column in wanted if column])
    if not rows:
        raise DataError(f"{path}: has no rows below its header. Give the table of the images.")
    known, several = classes or (), task is Task.MULTILABEL
    unlabelled = [row for row in rows if all(_says_nothing(row[name], known) for name in columns.of_labels)]
    if unlabelled:
        what = columns.label if columns.findings is None else "finding that is known"
        says = f"{path}: {len(unlabelled)} of {len(rows)} rows have no {what}: "
        says += f"{rows_named(unlabelled, columns.of_labels[0])}."
        advice = (
            "Fill it in, or remove the rows. If it is a class of its own, list all classes in data.classes."
        )
        findings.append(error("label missing", says, advice, path))
    skipped = {row.number for row in unlabelled}
    for row in (row for row in rows if row.number not in skipped):
        try:
            file = listed.find(row[columns.path], row.where)
            if several:
                label: str | tuple[int, ...] = columns.answers(row, known)
            else:
                label = _class_of(row, columns.label, classes)
            word = row[columns.part].lower() if columns.part else ""
            if columns.part and word not in PARTS:
                raise DataError(
                    f"{row.where}: {columns.part} must be train, validation or test; got '{word}'. Correct "
                    "the row."
                )
        except DataError as wrong:
            findings.append(refused("wrong row", wrong, path))
        else:
            name = file.relative_to(root).as_posix()
            yield row, name, Labelled(label, row[columns.patient] if columns.patient else "", PARTS.get(word))


def _class_of(row: Row, column: str, classes: Sequence[str] | None) -> str:
    if classes is not None and row[column] not in classes:
        raise DataError(f"{row.where}: {unknown('class', row[column], classes)} Correct it, or data.classes.")
    return row[column]


def _says_nothing(cell: str, known: Collection[str]) -> bool:
    return (is_missing(cell) or cell in ("-1", "-1.0")) and cell not in known


def _of_folders(
    root: Path, paths: Collection[Path], classes: Sequence[str] | None, findings: list[Finding]
) -> dict[str, Labelled]:
    """The images of class folders, or of those below the folders of a split."""
    images: dict[str, Labelled] = {}
    folders = {
        path.name.lower() for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    }
    has_parts = folders <= PARTS.keys() and is_split([PARTS[name] for name in folders])
    doubtful: dict[str, list[Path]] = {}
    for path in paths:
        *above, _ = path.relative_to(root).parts
        name = path.relative_to(root).as_posix()
        if len(above) < 1 + has_parts:
            findings.append(error("no class", f"{path} is not in a class folder.", "Move it into one.", path))
        elif not name.isprintable():  # such as bytes that are not UTF-8
            says = f"{name!a} in {root} contains unprintable characters."
            findings.append(error("strange name", says, "Rename the file.", path))
        elif classes is not None and above[has_parts] not in classes:
            says = f"{path}: {unknown('class', above[has_parts], classes)}"
            advice = "Name it in data.classes, or move the folder away."
            findings.append(error("unknown label", says, advice, path))
        else:
            label = above[has_parts]
            images[name] = Labelled(label, part=PARTS[above[0].lower()] if has_parts else None)
            if classes is None and is_missing(label):
                doubtful.setdefault(label, []).append(path)
    for label, own in doubtful.items():
        says = f"{len(own)} files lie in a folder called '{label}', as if their class were not known."
        advice = (
            "It counts as a class. Move the files away, or, if it is one, list all classes in data.classes."
        )
        findings.append(warning("doubtful class", says, advice, *own))
    findings += left_out(root, paths)
    return images


def _classes(
    images: dict[str, Labelled], classes: Sequence[str] | None, where: Path, findings: list[Finding]
) -> Sequence[str]:
    """The classes of the study, or those that occur; too few, or too many to be classes, are refused."""
    if classes is not None:
        return classes
    names = sorted({str(image.label) for image in images.values()})
    _refuse_other_tasks(names, len(images), where)
    if is_sound(findings) and not 2 <= len(names) <= MOST_CLASSES:  # else findings say why
        seen = f"{len(names)} ({quoted(names)})" if names else "none"
        also = "".join(f" {finding.says}" for finding in findings)
        raise DataError(
            f"data.root: 2 to {MOST_CLASSES} classes are needed; found {seen}.{also} Classes are the folders "
            "that files lie in, or a column of the table that `table` names."
        )
    findings += alike(names, "classes", where)
    return names


FEW_NUMBERS = 20
"""So many different numbers may still be classes, even if each is rare."""


def _refuse_other_tasks(names: Sequence[str], count: int, where: Path) -> None:
    """Labels that are lists or measurements must not silently become classes."""
    joined = [name for name in names if "|" in name.strip("|")]
    if joined:
        raise DataError(
            f"{where}: labels such as '{joined[0]}' look like several findings per image. Write `task: "
            "multilabel`, or list all classes in data.classes if each of them is a class."
        )
    try:
        values = [float(name) for name in names]
    except ValueError:
        return
    if len(values) > FEW_NUMBERS and (2 * len(values) > count or any(value % 1 for value in values)):
        raise DataError(
            f"{where}: the labels are {len(values)} different numbers for {count} images, which looks like "
            "regression. That is not supported: a measured value has no wrong answer to be fooled into. Cut "
            "it into classes, or list all classes in data.classes if each number is one."
        )

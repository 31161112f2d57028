"""Files in a folder with their classes, from the folders they lie in or from a table beside them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from medrobust.core import Part
from medrobust.data.adapters.labelled import Grouping, class_counts, files_below
from medrobust.data.files.paths import inside
from medrobust.data.files.tables import Row, read_table
from medrobust.data.findings import Finding, Severity, quoted, refused
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.photographs.pictures import PictureFormat
from medrobust.errors import DataError, StudyError

Name = Annotated[str, MinLen(1)]
"""Name of a file or of a column."""

PARTS = {
    "train": Part.TRAIN,
    "training": Part.TRAIN,
    "val": Part.VALIDATION,
    "valid": Part.VALIDATION,
    "validation": Part.VALIDATION,
    "test": Part.TEST,
    "testing": Part.TEST,
}
"""Words for the parts of a split, in lower case."""

MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a table's columns; of those that are None nothing is known."""

    path: str
    label: str
    patient: str | None = None
    part: str | None = None


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file with its class.

    Attributes:
        name: Its path below the root, with "/".
        path: Itself.
        label: Name of its class.
        patient: Whose it is, "" where that is not known.
        part: Its part in the split that comes with the data; None where there is none.
    """

    name: str
    path: Path
    label: str
    patient: str = ""
    part: Part | None = None


def labelled_files(
    root: Path, suffixes: Collection[str], table: str | None, columns: Columns, findings: list[Finding]
) -> tuple[LabelledFile, ...]:
    """The files of a folder, sorted; what cannot be used becomes findings.

    Args:
        root: Folder of the class folders, or of the table.
        suffixes: Endings of the files, in lower case.
        table: CSV table below the root with a row per file; None takes the class of a file from its folder:
            `<class>/...`, or `<train|validation|test>/<class>/...`.
        columns: Names of the columns of the table.
        findings: Get what is wrong.

    Raises:
        StudyError: A column without a table.
        DataError: There is no such table, it cannot be read, or it lacks a column.
    """
    if table is not None:
        return tuple(_of_table(root, table, columns, findings))
    given = {"patient_column": columns.patient, "part_column": columns.part}
    for name, column in given.items():
        if column is not None:
            raise StudyError(
                f"data.{name}: is a column of `table`, which is not given. Give both, or neither."
            )
    return tuple(_of_folders(root, suffixes, _has_parts(root), findings))


def photos_of(
    files: Collection[LabelledFile],
    grouping: Grouping,
    findings: list[Finding],
    *,
    format: PictureFormat = IMAGE_FILES,  # noqa: A002
) -> Photos:
    """Files as photographs, with the split that comes with them.

    Args:
        files: Sorted by name.
        grouping: Whose each is, by name.
        findings: What is wrong so far.
        format: How the files are read.

    Raises:
        DataError: There are fewer than two classes, or too many.
    """
    classes, groups = _classes_of(files), dict(grouping.groups)
    photos = tuple(
        Photo(file.name, groups[file.name], classes.index(file.label), file.path) for file in files
    )
    return Photos(
        classes=classes,
        unit=grouping.unit,
        items=photos,
        format=format,
        facts={**class_counts(photos, classes), "grouping": grouping.fact},
        findings=(*findings, *_on_both_sides(files, groups)),
        official=_official_split(files, groups),
    )


def _of_table(root: Path, table: str, columns: Columns, findings: list[Finding]) -> Iterator[LabelledFile]:
    """The files that a table names, sorted."""
    path = inside(root, table, "data.table")
    if not path.is_file():
        raise DataError(f"data.table: there is no file '{table}' in {root}. Give its path below the root.")
    wanted = [column for column in (columns.path, columns.label, columns.patient, columns.part) if column]
    found: dict[str, LabelledFile] = {}
    for row in read_table(path, wanted):
        try:
            file = _of_row(row, root, columns)
            if file.name in found:
                raise DataError(f"{row.where}: '{file.name}' is listed twice. Keep one of its rows.")
        except DataError as error:
            findings.append(refused("wrong row", error, path))
        else:
            found[file.name] = file
    yield from (found[name] for name in sorted(found))


def _official_split(files: Collection[LabelledFile], groups: dict[str, str]) -> dict[str, Part] | None:
    """Part of each group, where the data come with a split."""
    parts = {groups[file.name]: file.part for file in files if file.part is not None}
    is_split = {Part.TRAIN, Part.TEST} <= set(parts.values()) and all(file.part for file in files)
    return parts if is_split else None


def _on_both_sides(files: Collection[LabelledFile], groups: dict[str, str]) -> list[Finding]:
    """The groups that have files in several parts of the split that comes with the data."""
    first: dict[str, Part | None] = {}
    mixed = sorted({groups[f.name] for f in files if first.setdefault(groups[f.name], f.part) != f.part})
    if not mixed:
        return []
    says = f"{len(mixed)} patients have files in several parts of the data's split: {quoted(mixed)}."
    advice = "Move them to one part, or leave the parts out and let the study split by patient."
    return [Finding("patient on both sides", Severity.ERROR, says, advice)]


def _has_parts(root: Path) -> bool:
    """Whether the folders directly below a root are the parts of a split."""
    folders = {
        path.name.lower() for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    }
    parts = {PARTS[name] for name in folders if name in PARTS}
    return folders <= PARTS.keys() and {Part.TRAIN, Part.TEST} <= parts


def _of_folders(
    root: Path, suffixes: Collection[str], has_parts: bool, findings: list[Finding]
) -> Iterator[LabelledFile]:
    depth = 2 if has_parts else 1
    for path in files_below(root, suffixes):
        above = path.relative_to(root).parts[:-1]
        name = path.relative_to(root).as_posix()
        if len(above) < depth:
            says = f"{path} lies in no class folder."
            findings.append(Finding("no class", Severity.ERROR, says, "Move it.", (path,)))
        elif not name.isprintable():  # also what is no UTF-8
            says = f"{name!a} in {root} holds characters that cannot be shown."
            findings.append(Finding("strange name", Severity.ERROR, says, "Rename the file.", (path,)))
        else:
            part = PARTS[above[0].lower()] if has_parts else None
            yield LabelledFile(name, path, above[depth - 1], part=part)


def _of_row(row: Row, root: Path, columns: Columns) -> LabelledFile:
    """The file of a row; raises a DataError where there is none, or a cell cannot be."""
    path = inside(root, row[columns.path], row.where)
    if not path.is_file():
        raise DataError(f"{row.where}: there is no file '{row[columns.path]}' in {root}. Correct the row.")
    if not row[columns.label]:
        raise DataError(f"{row.where}: {columns.label} must not be empty. Fill it in, or take the row out.")
    word = row[columns.part].lower() if columns.part else ""
    if columns.part and word not in PARTS:
        raise DataError(
            f"{row.where}: {columns.part} must be train, validation or test; got '{word}'. Correct the row."
        )
    return LabelledFile(
        name=path.relative_to(root).as_posix(),
        path=path,
        label=row[columns.label],
        patient=row[columns.patient] if columns.patient else "",
        part=PARTS.get(word),
    )


def _classes_of(files: Collection[LabelledFile]) -> tuple[str, ...]:
    """The classes of files, sorted.

    Raises:
        DataError: There are fewer than two, or too many to be classes.
    """
    names = sorted({file.label for file in files})
    if not 2 <= len(names) <= MOST_CLASSES:
        seen = f"{len(names)} ({quoted(names)})" if names else "none"
        raise DataError(
            f"data.root: 2 to {MOST_CLASSES} classes are needed; found {seen}. Classes are the folders that "
            "files lie in, or a column of the table that `table` names."
        )
    return tuple(names)

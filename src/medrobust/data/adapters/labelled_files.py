"""Files in a folder with their classes, from the folders they lie in or from a table beside them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import MinLen
from pydantic import AfterValidator

from medrobust.core import Part
from medrobust.data.adapters.labelled import (
    Grouping,
    alike,
    class_counts,
    empty_classes,
    files_below,
    left_out,
    repeats,
    rows_named,
)
from medrobust.data.files import ListedFiles, Row, inside, is_missing, read_table
from medrobust.data.findings import Finding, Severity, is_sound, quoted, refused
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.image_files import IMAGE_FILES, is_nameless_image
from medrobust.data.photographs.pictures import PictureFormat
from medrobust.data.splitting.split_file import PARTS
from medrobust.errors import DataError, StudyError, unknown

Name = Annotated[str, MinLen(1)]
"""Name of a file, of a column or of a class."""


def all_different(names: list[str]) -> list[str]:
    """The names, where none stands there twice."""
    if len(set(names)) < len(names):
        raise ValueError("must be different names")
    return names


MOST_CLASSES = 1000

Classes = Annotated[list[Name], MinLen(2), AfterValidator(all_different)]
"""All classes, in their order."""


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
    root: Path,
    suffixes: Collection[str],
    table: str | None,
    columns: Columns,
    classes: Sequence[str] | None,
    findings: list[Finding],
    by_content: Callable[[Path], bool] = is_nameless_image,
) -> tuple[LabelledFile, ...]:
    """The files of a folder, sorted; what cannot be used becomes findings.

    Args:
        root: Folder of the class folders, or of the table.
        suffixes: Endings of the files, in lower case.
        table: CSV table below the root with a row per file; None takes the class of a file from its folder:
            `<class>/...`, or `<train|validation|test>/<class>/...`.
        columns: Names of the columns of the table.
        classes: All of them, where the study lists them; words for what is not known are among them only
            then.
        findings: Get what is wrong.
        by_content: Whether a file with another ending is one of them.

    Raises:
        StudyError: A column without a table.
        DataError: There is no such table, it cannot be read, or it lacks a column.
    """
    if table is not None:
        return tuple(_of_table(root, suffixes, table, columns, classes, findings))
    given = {"patient_column": columns.patient, "part_column": columns.part}
    for name, column in given.items():
        if column is not None:
            raise StudyError(
                f"data.{name}: is a column of `table`, which is not given. Give both, or neither."
            )
    return tuple(_of_folders(root, files_below(root, suffixes, by_content), classes, findings))


def photos_of(
    files: Collection[LabelledFile],
    grouping: Grouping,
    classes: Sequence[str] | None,
    where: Path,
    findings: list[Finding],
    *,
    format: PictureFormat = IMAGE_FILES,  # noqa: A002
) -> Photos:
    """Files as photographs, with the split that comes with them.

    Args:
        files: Sorted by name.
        grouping: Whose each is, by name.
        classes: All of them, in their order, where the study lists them; None: those that there are, sorted.
        where: Table or folder that says the classes.
        findings: What is wrong so far.
        format: How the files are read.

    Raises:
        DataError: There are fewer than two classes, or too many, and no finding says why.
    """
    labels, groups = sorted({file.label for file in files}), dict(grouping.groups)
    if classes is None:
        _require_classes(labels, findings)
        findings = [*findings, *alike(labels, "classes", where)]
    else:
        findings = [*findings, *empty_classes(classes, labels, where)]
    classes = tuple(classes or labels)
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


def _of_table(
    root: Path,
    suffixes: Collection[str],
    table: str,
    columns: Columns,
    classes: Sequence[str] | None,
    findings: list[Finding],
) -> Iterator[LabelledFile]:
    """The files that a table names, sorted; a row that repeats another is passed over."""
    path = inside(root, table, "data.table")
    if not path.is_file():
        raise DataError(f"data.table: there is no file '{table}' in {root}. Give its path below the root.")
    known = classes or ()
    wanted = [column for column in (columns.path, columns.label, columns.patient, columns.part) if column]
    found: dict[str, tuple[Row, LabelledFile]] = {}
    listed, rows = ListedFiles(root, suffixes), read_table(path, wanted)
    if not rows:
        raise DataError(f"{path}: has no rows below its header. Give the table of the images.")
    unlabelled = [row for row in rows if is_missing(row[columns.label]) and row[columns.label] not in known]
    if unlabelled:
        says = f"{path}: {len(unlabelled)} of {len(rows)} rows have no {columns.label}: "
        says += f"{rows_named(unlabelled, columns.label)}."
        advice = "Fill it in, or take the rows out. Where it is a class of its own, list all in data.classes."
        findings.append(Finding("label missing", Severity.ERROR, says, advice, (path,)))
    left_out, again = {row.number for row in unlabelled}, list[Row]()
    for row in (row for row in rows if row.number not in left_out):
        try:
            file = _of_row(row, listed, root, columns, classes)
            first, _ = found.setdefault(file.name, (row, file))
            again += [row] if first is not row and first.cells == row.cells else []
            if first.cells != row.cells:
                raise DataError(
                    f"{row.where}: '{file.name}' is listed twice, and row {first.number} differs. Find out "
                    "which is right, and keep that row: an image has one class, patient and part."
                )
        except DataError as error:
            findings.append(refused("wrong row", error, path))
    findings += repeats(again, path)
    yield from (found[name][1] for name in sorted(found))


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
    root: Path,
    all_paths: Collection[Path],
    classes: Sequence[str] | None,
    findings: list[Finding],
) -> Iterator[LabelledFile]:
    has_parts, doubtful = _has_parts(root), dict[str, list[Path]]()
    depth = 2 if has_parts else 1
    for path in all_paths:
        above = path.relative_to(root).parts[:-1]
        name = path.relative_to(root).as_posix()
        if len(above) < depth:
            says = f"{path} lies in no class folder."
            findings.append(Finding("no class", Severity.ERROR, says, "Move it.", (path,)))
        elif not name.isprintable():  # also what is no UTF-8
            says = f"{name!a} in {root} holds characters that cannot be shown."
            findings.append(Finding("strange name", Severity.ERROR, says, "Rename the file.", (path,)))
        elif classes is not None and above[depth - 1] not in classes:
            says = f"{path}: {unknown('class', above[depth - 1], classes)}"
            advice = "Name it in data.classes, or move the folder away."
            findings.append(Finding("unknown label", Severity.ERROR, says, advice, (path,)))
        else:
            part, label = PARTS[above[0].lower()] if has_parts else None, above[depth - 1]
            if classes is None and is_missing(label):
                doubtful.setdefault(label, []).append(path)
            yield LabelledFile(name, path, label, part=part)
    for label, paths in doubtful.items():
        says = f"{len(paths)} files lie in a folder called '{label}', as if their class were not known."
        advice = "It counts as a class: move them away if it is none, or list all classes in data.classes."
        findings.append(Finding("doubtful class", Severity.WARNING, says, advice, tuple(paths)))
    findings += left_out(root, all_paths)


def _of_row(
    row: Row, listed: ListedFiles, root: Path, columns: Columns, classes: Sequence[str] | None
) -> LabelledFile:
    """The file of a row; raises a DataError where there is none, or a cell cannot be."""
    path, label = listed.find(row[columns.path], row.where), row[columns.label]
    if classes is not None and label not in classes:
        raise DataError(f"{row.where}: {unknown('class', label, classes)} Correct it, or data.classes.")
    word = row[columns.part].lower() if columns.part else ""
    part = PARTS.get(word)
    if columns.part and part is None:
        raise DataError(
            f"{row.where}: {columns.part} must be train, validation or test; got '{word}'. Correct the row."
        )
    return LabelledFile(
        name=path.relative_to(root).as_posix(),
        path=path,
        label=label,
        patient=row[columns.patient] if columns.patient else "",
        part=part,
    )


def _require_classes(names: Sequence[str], findings: Sequence[Finding]) -> None:
    """Refuse too few classes, or too many to be classes; where findings are errors, those say why."""
    if is_sound(findings) and not 2 <= len(names) <= MOST_CLASSES:
        seen = f"{len(names)} ({quoted(names)})" if names else "none"
        also = "".join(f" {finding.says}" for finding in findings)
        raise DataError(
            f"data.root: 2 to {MOST_CLASSES} classes are needed; found {seen}.{also} Classes are the folders "
            "that files lie in, or a column of the table that `table` names."
        )

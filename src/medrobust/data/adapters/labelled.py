"""What adapters of photographs share: finding files by name, and what can be wrong with them as a whole."""

import mimetypes
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medrobust.core import Unit
from medrobust.data.files import Row, is_missing
from medrobust.data.findings import Finding, Severity, quoted
from medrobust.data.listing import Photo
from medrobust.data.photographs.image_files import SUFFIXES, is_nameless_image


class Grouping(NamedTuple):
    """Which photographs belong together.

    Attributes:
        groups: Group of each photograph.
        unit: What a group is.
        fact: How it is known, for the report.
    """

    groups: Mapping[str, str]
    unit: Unit
    fact: str


def files_below(
    folder: Path, suffixes: Collection[str] = SUFFIXES, by_content: Callable[[Path], bool] = is_nameless_image
) -> list[Path]:
    """All files below a folder that have one of these endings, or are wanted by their content, sorted.

    Hidden files are left out.
    """
    return [path for path in _visible(folder) if path.suffix.lower() in suffixes or by_content(path)]


def left_out(folder: Path, taken: Collection[Path]) -> list[Finding]:
    """One finding for all other files below a folder; a warning where some are pictures by their ending."""
    known = set(taken)
    others = [path for path in _visible(folder) if path not in known]
    if not others:
        return []
    kinds = {path: mimetypes.guess_type(path.name)[0] or "" for path in others}
    pictures = [path for path in others if kinds[path].startswith("image/")]
    shown = quoted([path.relative_to(folder).as_posix() for path in (pictures or others)])
    what = (
        "pictures of formats that are not read here" if pictures else "none of the files that are read here"
    )
    return [
        Finding(
            "files left out",
            Severity.WARNING if pictures else Severity.NOTE,
            f"{len(pictures or others)} files in {folder} are {what}, and are left out: {shown}.",
            "Save those that should be cases in a format that is read; the others may stay.",
            tuple(pictures or others),
        )
    ]


def _visible(folder: Path) -> list[Path]:
    """All files below a folder that neither their name nor that of a folder hides, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
    )


def files_by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names without ending; of several with one name the first."""
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(path.stem, path)
    return found


def rows_named(rows: Sequence[Row], column: str | None = None) -> str:
    """The numbers of the first few rows, each with what a column says, and how many more there are."""
    shown = ", ".join(f"row {row.number}" + (f" ('{row[column]}')" if column else "") for row in rows[:5])
    return shown + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def repeats(rows: Sequence[Row], table: Path) -> list[Finding]:
    """The rows that say again, word for word, what another row of the same image says."""
    if not rows:
        return []
    says = f"{table}: {len(rows)} rows repeat others: {rows_named(rows)}."
    advice = "Each image counts once; nothing needs to be done."
    return [Finding("listed twice", Severity.NOTE, says, advice, (table,))]


def missing_images(images: Iterable[str], files: Collection[str], searched: Iterable[Path]) -> list[Finding]:
    """The images of a table that have no file."""
    missing = sorted(image for image in images if image not in files)
    if not missing:
        return []
    says = (
        f"{len(missing)} of the listed images have no file: {quoted(missing)}. "
        f"Searched: {', '.join(str(folder) for folder in searched)}."
    )
    advice = "Add the files, or take their rows out of the table."
    return [Finding("image missing", Severity.ERROR, says, advice)]


def empty_classes(classes: Sequence[str], labels: Collection[str], where: Path) -> list[Finding]:
    """The classes that nothing is of."""
    empty = [name for name in classes if name not in labels]
    if not empty:
        return []
    says, advice = f"{where}: no image of class {quoted(empty)}.", "Every class needs some in all parts."
    return [Finding("class without images", Severity.ERROR, says, advice, (where,))]


def group_by(
    column: Mapping[str, str],
    unit: Unit,
    key: str,
    where: Path,
    findings: list[Finding],
    *,
    asked: bool = False,
) -> Grouping:
    """Group photographs by an identifier that some, or all, may lack: those are groups of their own.

    Args:
        column: Identifier of each photograph; "", or a word such as "nan" (see `is_missing`), where there is
            none.
        unit: What it identifies.
        key: Its name in the data.
        where: The file that it stands in.
        findings: Get one where only some lack it, or where words stand in its place, and one where
            identifiers are nearly the same.
        asked: Whether the study names where it stands, so that it is a finding where all lack it, too.
    """
    lacking = {image: group for image, group in column.items() if is_missing(group)}
    words = sorted({group for group in lacking.values() if group})
    if words or (lacking and (asked or len(lacking) < len(column))):
        written = f" (it says {quoted(words)})" if words else ""
        says = f"{where}: {len(lacking)} photographs have no {key}{written}: {quoted(sorted(lacking))}."
        advice = "They count as groups of their own; two of one patient may be on both sides of a split."
        findings.append(Finding("group missing", Severity.WARNING, says, advice, (where,)))
    if len(lacking) == len(column):
        fact = f"none: the data give no {key}; photographs of one patient may be on both sides of a split"
        return Grouping({image: image for image in column}, "image", fact)
    groups = {image: f"image {image}" if image in lacking else group for image, group in column.items()}
    findings += alike(set(column.values()) - set(lacking.values()), f"{unit}s", where)
    fact = f"by {unit} ({key})"
    if lacking:
        fact += f"; {len(lacking)} photographs without one count as groups of their own"
    return Grouping(groups, unit, fact)


def alike(names: Iterable[str], what: str, where: Path) -> list[Finding]:
    """Names that are probably meant to be one: they differ in the case of letters, spaces, or 1 and 1.0."""
    same: dict[str, list[str]] = {}
    for name in sorted(names):
        plain = "".join(name.split()).casefold()
        same.setdefault(re.sub(r"(?<=^\d)(\d*)\.0+$", r"\1", plain), []).append(name)
    found = [name for group in same.values() if len(group) > 1 for name in group]
    if not found:
        return []
    says = f"{where}: {what} whose names are nearly the same: {quoted(found)}."
    advice = "They count as different; write them in one way if they are not."
    return [Finding("similar names", Severity.WARNING, says, advice, (where,))]


def group_labels(labels: Mapping[str, str], groups: Mapping[str, str], where: Path) -> list[Finding]:
    """The groups whose photographs have several classes; right for patients, doubtful for lesions."""
    first: dict[str, str] = {}
    mixed = sorted(
        {group for image, group in groups.items() if first.setdefault(group, labels[image]) != labels[image]}
    )
    if not mixed:
        return []
    says = f"{where}: {len(mixed)} lesions have images with different labels: {quoted(mixed)}."
    advice = "Check which label is right."
    return [Finding("two labels", Severity.WARNING, says, advice, (where,))]


def class_counts(photos: Sequence[Photo], classes: Sequence[str]) -> dict[str, str]:
    """How many photographs there are, for the report."""
    counts = Counter(photo.label for photo in photos)
    groups = len({photo.patient_id for photo in photos})
    return {
        "images": f"{len(photos)} in {groups} groups",
        "classes": ", ".join(f"{name} {counts[index]}" for index, name in enumerate(classes)),
    }

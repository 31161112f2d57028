"""How adapters of photographs are written: they say what each image is, and `photos_of` does the rest.

An adapter reads its table or folders into `Labelled` by name, finds the files, and declares classes, groups
and source. Images without a file, empty classes, groups, official splits, facts and attributes are handled
here for all. Functions add what is wrong to the list `findings`, and `where` is the file or folder to blame.
"""

import mimetypes
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medrobust.core import Part, Unit, names_in
from medrobust.data.files import Row, is_missing
from medrobust.data.findings import Finding, error, note, quoted, warning
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.image_files import IMAGE_FILES, SUFFIXES, is_nameless_image
from medrobust.data.photographs.pictures import PictureFormat


class Labelled(NamedTuple):
    """What the data say of an image."""

    label: str | tuple[int, ...]  # name of its class, or its findings, see `core.Case`
    # its patient or lesion; "", or a word such as "nan" (see `is_missing`), if it is not known
    group: str = ""
    part: Part | None = None  # its part in the split that comes with the data, if there is one
    attributes: tuple[tuple[str, str], ...] = ()  # what else is known, such as age


class Grouping(NamedTuple):
    """Which photographs belong together."""

    groups: Mapping[str, str]  # group of each photograph
    unit: Unit  # what a group is
    fact: str  # how it is known, for the report


def photos_of(
    images: Mapping[str, Labelled],
    files: Mapping[str, Path],
    classes: Sequence[str],
    grouping: Grouping,
    where: Path,
    findings: list[Finding],
    *,
    searched: Sequence[Path] = (),
    facts: Mapping[str, str] | None = None,
    format: PictureFormat = IMAGE_FILES,  # noqa: A002
) -> Photos:
    """A listing of all images that have a file; both are keyed by name, and other files are ignored.

    `searched` are the folders in which files were looked for; `facts` are what a report must state beside the
    number of images, their classes and grouping.
    """
    if missing := sorted(name for name in images if name not in files):
        says = f"{len(missing)} of the listed images have no file: {quoted(missing)}. "
        says += f"Searched: {', '.join(map(str, searched or [where]))}."
        findings.append(error("image missing", says, "Add the files, or remove their rows from the table."))
    shown = {name: _shown(image.label, classes) for name, image in images.items()}
    used = {each for found in shown.values() for each in found}
    if empty := [name for name in classes if name not in used]:
        says = f"{where}: no image of class {quoted(empty)}."
        findings.append(error("class without images", says, "Every class needs images in all parts.", where))
    names = [name for name in sorted(images) if name in files]
    items = tuple(
        Photo(name, grouping.groups[name], _numbered(images[name].label, classes), files[name])
        for name in names
    )
    parts: dict[str, set[Part | None]] = {}
    for name in names:
        parts.setdefault(grouping.groups[name], set()).add(images[name].part)
    if mixed := sorted(group for group, own in parts.items() if len(own) > 1):
        says = (
            f"{len(mixed)} {grouping.unit}s have files in several parts of the data's split: {quoted(mixed)}."
        )
        advice = "Move them to one part, or leave the parts out and let the study split by patient."
        findings.append(error("patient on both sides", says, advice))
    official = {grouping.groups[name]: part for name in names if (part := images[name].part)}
    attributes = {name: dict(images[name].attributes) for name in names}
    counts = Counter(each for name in names for each in shown[name])
    groups = "" if grouping.unit == "image" else f" of {len(parts)} {grouping.unit}s"
    return Photos(
        classes=tuple(classes),
        unit=grouping.unit,
        items=items,
        format=format,
        facts={
            "images": f"{len(items)}{groups}",
            "classes": ", ".join(f"{name} {counts[name]}" for name in classes),
            "grouping": grouping.fact,
            **(facts or {}),
        },
        findings=tuple(findings),
        official=official if is_split([images[name].part for name in names]) else None,
        attributes=attributes if any(attributes.values()) else {},
    )


def _numbered(label: str | tuple[int, ...], classes: Sequence[str]) -> int | tuple[int, ...]:
    return classes.index(label) if isinstance(label, str) else label


def _shown(label: str | tuple[int, ...], classes: Sequence[str]) -> list[str]:
    return names_in(_numbered(label, classes), classes)


def is_split(parts: Collection[Part | None]) -> bool:
    """Whether parts are those of an official split: all are known, some train and some test."""
    return {Part.TRAIN, Part.TEST} <= set(parts) and None not in parts


def listed_once(rows: Iterable[tuple[Row, str, Labelled]], findings: list[Finding]) -> dict[str, Labelled]:
    """Images by name; rows that repeat another are a note, rows that contradict another an error."""
    found: dict[str, tuple[Row, Labelled]] = {}
    again: dict[str, list[Row]] = {}
    for row, name, image in rows:
        first, known = found.setdefault(name, (row, image))
        if known != image:
            other = f"row {first.number}" if first.table == row.table else first.where
            says = f"{row.where}: image '{name}' is listed twice, and {other} differs."
            advice = "Find out which is right, and keep that row: an image has one class, group and part."
            findings.append(error("listed twice", says, advice, Path(row.table)))
        elif first is not row:
            again.setdefault(row.table, []).append(row)
    for table, repeats in again.items():
        says = f"{table}: {len(repeats)} rows repeat others: {rows_named(repeats)}."
        findings.append(
            note("listed twice", says, "Each image counts once; nothing needs to be done.", Path(table))
        )
    return {name: image for name, (_, image) in found.items()}


def rows_named(rows: Sequence[Row], column: str | None = None) -> str:
    """The numbers of the first few rows, each with its cell of a column, and how many more there are."""
    shown = ", ".join(f"row {row.number}" + (f" ('{row[column]}')" if column else "") for row in rows[:5])
    return shown + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")


def group_by(
    images: Mapping[str, Labelled],
    unit: Unit,
    key: str,
    where: Path,
    findings: list[Finding],
    *,
    asked: bool = False,
) -> Grouping:
    """Group photographs by an identifier of the `unit`, called `key` in the data.

    A photograph without one is a group of its own. That is a finding if only some lack it, if words such as
    "nan" stand in its place, or if the study has `asked` for it; so are identifiers that are nearly the same.
    """
    lacking = {name: image.group for name, image in images.items() if is_missing(image.group)}
    words = sorted({group for group in lacking.values() if group})
    if words or (lacking and (asked or len(lacking) < len(images))):
        written = f" (it says {quoted(words)})" if words else ""
        says = f"{where}: {len(lacking)} photographs have no {key}{written}: {quoted(sorted(lacking))}."
        advice = "Each counts as a group of its own, so one patient may be on both sides of the split."
        findings.append(warning("group missing", says, advice, where))
    if len(lacking) == len(images):
        fact = f"none: the data give no {key}; photographs of one patient may be on both sides of a split"
        return Grouping({name: name for name in images}, "image", fact)
    groups = {name: f"image {name}" if name in lacking else image.group for name, image in images.items()}
    findings += alike({groups[name] for name in images.keys() - lacking.keys()}, f"{unit}s", where)
    fact = f"by {unit} ({key})"
    if lacking:
        fact += f"; {len(lacking)} photographs without one each count as a group of their own"
    return Grouping(groups, unit, fact)


def alike(names: Iterable[str], what: str, where: Path) -> list[Finding]:
    """A finding for names that differ only in case, in spaces, or like 1 and 1.0: probably they are one."""
    same: dict[str, list[str]] = {}
    for name in sorted(names):
        plain = "".join(name.split()).casefold()
        same.setdefault(re.sub(r"(?<=^\d)(\d*)\.0+$", r"\1", plain), []).append(name)
    found = [name for group in same.values() if len(group) > 1 for name in group]
    if not found:
        return []
    says = f"{where}: {what} whose names are nearly the same: {quoted(found)}."
    return [warning("similar names", says, "They count as different. If they are not, unify them.", where)]


def files_below(
    folder: Path, suffixes: Collection[str] = SUFFIXES, by_content: Callable[[Path], bool] = is_nameless_image
) -> list[Path]:
    """All visible files below a folder that have one of these endings or are wanted by content, sorted."""
    return [path for path in visible(folder) if path.suffix.lower() in suffixes or by_content(path)]


def left_out(folder: Path, taken: Collection[Path]) -> list[Finding]:
    """One finding for all other files below a folder; a warning if some are pictures by their ending."""
    known = set(taken)
    others = [path for path in visible(folder) if path not in known]
    pictures = [path for path in others if (mimetypes.guess_type(path.name)[0] or "").startswith("image/")]
    if not others:
        return []
    kind, which = (warning, "pictures of formats that are not read") if pictures else (note, "of other kinds")
    shown = quoted([path.relative_to(folder).as_posix() for path in pictures or others])
    says = f"{len(pictures or others)} files in {folder} are {which}, and are left out: {shown}."
    advice = "Save those that should be cases in a format that is read; the others may stay."
    return [kind("files left out", says, advice, *(pictures or others))]


def visible(folder: Path) -> list[Path]:
    """All files below a folder that neither their name nor that of a folder hides, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
    )


def files_by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names without ending; the first if several have one name."""
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(path.stem, path)
    return found

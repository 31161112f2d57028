"""What the numbers in label files mean: classes with names and colours, from a study or from a file.

Several numbers may be one class; numbers listed as background are background; voxels with a number that is to
be ignored are not labelled; any other number is refused.
Files are read in the formats that come with scans:

.tsv    BIDS dseg.tsv: index, name, and perhaps color (#rrggbb)
.json   dataset.json of the Decathlon ({"0": "background"}) or of nnU-Net ({"background": 0}), with its
        regions ({"tumour": [1, 2], "core": 2}) and its `ignore`
.xml    MALC-2012's *_LabelMap.xml: Label with Name, Number, RGBColor
.csv    MALC-2012's label information: Label Number, Label Name
.txt    FreeSurferColorLUT.txt (number name R G B A), or ITK-SNAP (number R G B A visible mesh "name")
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple
from xml.etree import ElementTree

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, UInt8, UInt16

from medrobust.data.files import inside, read_json, read_lines, read_table
from medrobust.data.findings import quoted
from medrobust.errors import DataError, StudyError

Number = Annotated[int, Ge(0), Le(65535)]

Labels = dict[str, Number | list[Number]]
"""Numbers of each class, as a study gives them: `{liver: [1, 2], tumour: 3}`, and perhaps of `background`."""

Ignored = Number | list[Number]
"""Numbers of voxels that nobody labelled, as a study gives them: `255`."""

Colour = tuple[int, int, int]
"""Red, green and blue in 0 to 255."""

BACKGROUND = "background"

UNKNOWN = 255
"""Index that stands for numbers that mean nothing."""

IGNORED = 254
"""Index of voxels that are not labelled while label maps are bytes, so that there are at most 254 classes."""

NUMBERS = 2**16
"""Labels are whole numbers below this."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Classes by number; called with the numbers of a file it gives class indices."""

    names: tuple[str, ...]  # the first is the background
    numbers: tuple[tuple[int, ...], ...]  # of each class
    colours: tuple[Colour | None, ...] = ()  # of each class, None if unknown; empty if no class has one
    advice: str = "Name it in the labels, or list it under background."
    ignored: tuple[int, ...] = ()  # numbers of voxels that are not labelled
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()  # unions of classes that the file names

    def __call__(self, labels: UInt16[np.ndarray, "*space"], path: Path) -> UInt8[np.ndarray, "*space"]:
        """Class indices of the numbers in a file, `IGNORED` where they are to be ignored.

        A DataError that names the file if a number means nothing.
        """
        table, classes = self.table, np.empty_like(labels, np.uint8)
        for place in range(labels.shape[-1]):  # indexing all at once would copy the numbers in 64 bits
            classes[..., place] = table[labels[..., place]]
        if classes.max(initial=0) == UNKNOWN:
            unknown = ", ".join(map(str, self.unknown(labels)[:5]))
            raise DataError(
                f"{path} holds the label {unknown}, which is not among {quoted(self.names[1:])}. "
                f"{self.advice}"
            )
        return classes

    @property
    def table(self) -> UInt8[np.ndarray, "65536"]:
        """Class index of every number, `UNKNOWN` if it means nothing."""
        return _table(self.numbers, self.ignored)

    def ignoring(self, numbers: Ignored | None) -> "LabelMap":
        """The same without some numbers, whose voxels are not labelled; classes without numbers are left out.

        Raises:
            StudyError: No class is left.
        """
        more = [numbers] if isinstance(numbers, int) else numbers or []
        left = [tuple(number for number in own if number not in more) for own in self.numbers]
        kept = [place for place, own in enumerate(left) if own or place == 0]
        if len(kept) < 2:
            raise StudyError(f"data.ignore: {more} are the numbers of all classes. Leave one of them out.")
        places = {old: new for new, old in enumerate(kept)}
        return replace(
            self,
            names=tuple(self.names[place] for place in kept),
            numbers=tuple(left[place] for place in kept),
            colours=tuple(self.colours[place] for place in kept) if self.colours else (),
            ignored=(*self.ignored, *(number for number in more if number not in self.ignored)),
            regions=tuple(
                (name, left_over)
                for name, own in self.regions
                if (left_over := tuple(places[place] for place in own if place in places))
            ),
        )

    def unknown(self, labels: UInt16[np.ndarray, "*space"]) -> tuple[int, ...]:
        """Numbers that mean nothing, in rising order."""
        present = {int(number) for part in np.moveaxis(labels, -1, 0) for number in np.unique(part)}
        return tuple(number for number in sorted(present) if self.table[number] == UNKNOWN)


@lru_cache(maxsize=8)
def _table(numbers: tuple[tuple[int, ...], ...], ignored: tuple[int, ...]) -> UInt8[np.ndarray, "65536"]:
    table = np.full(NUMBERS, UNKNOWN, np.uint8)
    for index, own in enumerate(numbers):
        table[list(own)] = index
    table[list(ignored)] = IGNORED
    table.setflags(write=False)
    return table


def is_foreground(classes: UInt8[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    """Which voxels are known to be no background."""
    return np.asarray((classes != 0) & (classes != IGNORED))


def label_map(labels: Labels | str, root: Path, ignore: Ignored | None = None) -> LabelMap:
    """The classes that a study gives, or those of a file that it names below the data's root.

    Voxels with a number of `ignore` are not labelled, even where a file names it.
    """
    if isinstance(labels, str):
        return read_label_file(inside(root, labels)).ignoring(ignore)
    return map_of_study(labels, ignore)


def map_of_study(labels: Labels, ignore: Ignored | None = None) -> LabelMap:
    """The map that a study's `labels:` gives; a StudyError if it contradicts itself."""
    own = {name: [numbers] if isinstance(numbers, int) else numbers for name, numbers in labels.items()}
    for number in [ignore] if isinstance(ignore, int) else ignore or []:
        if name := next((name for name, numbers in own.items() if number in numbers), None):
            raise StudyError(
                f"data.ignore: the number {number} is that of '{name}' in data.labels. Name it once."
            )
    background = own.pop(BACKGROUND, [])
    try:
        return _map({BACKGROUND: sorted({0, *background}), **own}, {}).ignoring(ignore)
    except ValueError as error:
        raise StudyError(f"data.labels: {error}") from None


def read_label_file(path: Path) -> LabelMap:
    """The classes that a label file names; a DataError if its kind is unknown or it contradicts itself."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path}: label files end in {', '.join(READERS)}. Rename it, or give a mapping.")
    return map_of_file(read(path), path)


class Label(NamedTuple):
    """One line of a label file: the number in the voxels, what it means, and its colour if there is one."""

    number: int
    name: str
    colour: Colour | None = None
    regions: tuple[str, ...] = ()  # that it is part of, where there are any
    is_ignored: bool = False


def map_of_file(labels: list[Label], path: Path) -> LabelMap:
    """The map that the lines of a label file give; labels of one name are one class."""
    numbers: dict[str, list[int]] = {BACKGROUND: [0]}
    colours: dict[str, Colour | None] = {}
    for label in labels:
        if label.is_ignored:
            continue
        name = BACKGROUND if label.number == 0 else label.name
        numbers.setdefault(name, [])
        numbers[name] += [] if label.number == 0 else [label.number]
        colours.setdefault(name, label.colour)
    regions: dict[str, dict[int, None]] = {}
    for label in labels:
        for region in label.regions:
            regions.setdefault(region, {})[[*numbers].index(label.name)] = None
    try:
        found = _map(numbers, colours).ignoring([label.number for label in labels if label.is_ignored])
        return replace(found, regions=tuple((name, tuple(own)) for name, own in regions.items()))
    except ValueError as error:
        raise DataError(
            f"{path}: {error} Correct it, or give `labels` in the study, e.g. {{liver: [1, 2], tumour: 3}}."
        ) from None


def _map(numbers: Mapping[str, list[int]], colours: Mapping[str, Colour | None]) -> LabelMap:
    """Raises a ValueError that says what is wrong."""
    if len(numbers) < 2:
        raise ValueError("names no class.")
    if len(numbers) > IGNORED:
        raise ValueError(f"names {len(numbers) - 1} classes; at most {IGNORED - 1} are possible.")
    owner: dict[int, str] = {}
    for name, own in numbers.items():
        if not name.strip() or not own:
            raise ValueError(f"the class '{name}' needs a name and a number.")
        for number in own:
            if not 0 <= number < NUMBERS:
                raise ValueError(f"'{name}' has the number {number}; labels are from 0 to {NUMBERS - 1}.")
            if number in owner:
                raise ValueError(f"the number {number} means both '{owner[number]}' and '{name}'.")
            owner[number] = name
    kept = tuple(colours.get(name) for name in numbers) if any(colours.values()) else ()
    return LabelMap(tuple(numbers), tuple(tuple(own) for own in numbers.values()), kept)


def _rows(path: Path) -> list[Label]:
    number, name = ("index", "name") if path.suffix.lower() == ".tsv" else ("Label Number", "Label Name")
    found = []
    for row in read_table(path, (number, name), ["color"]):
        match = re.fullmatch("#" + "([0-9a-fA-F]{2})" * 3, row.cells.get("color", ""))
        colour = _colour([str(int(part, 16)) for part in match.groups()]) if match else None
        found.append(Label(_number(path, row[number]), row[name], colour))
    return found


def _json(path: Path) -> list[Label]:
    content = read_json(path)
    return labels_of_json(path, content.get("labels", content) if isinstance(content, dict) else None)


def labels_of_json(path: Path, labels: object) -> list[Label]:
    """The `labels` of a dataset.json, of the Decathlon or nnU-Net.

    Where some are lists of numbers, all are regions, as for nnU-Net. Regions may overlap, and a voxel has one
    class: numbers that are part of the same regions are a class, which is called after them.
    """
    if not isinstance(labels, dict) or not labels:
        raise DataError(f"{path}: `labels` must name the classes; got {str(labels)[:80]}.")
    numbers: dict[str, list[int]] = {}
    for key, value in labels.items():
        given, name = (key, value) if str(key).strip().isdigit() else (value, key)
        every = given if isinstance(given, list) else [given]
        is_number = [str(each).strip().isdigit() and not isinstance(each, bool) for each in every]
        if not every or not all(is_number) or not isinstance(name, str):
            raise DataError(f"{path}: the label '{key}': {value!r} is not a number with a name. Correct it.")
        numbers.setdefault(name, []).extend(map(int, every))
    ignored = numbers.pop(IGNORE, [])
    lines = [Label(number, IGNORE, is_ignored=True) for number in ignored]
    if not any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        return lines + [Label(number, name) for name, own in numbers.items() for number in own]
    regions = {name: own for name, own in numbers.items() if any(own)}
    for name, own in regions.items():
        if 0 in own or {*own} & {*ignored}:
            raise DataError(f"{path}: the region '{name}' {own} holds background or 'ignore'. Correct it.")
    for number in sorted({number for own in regions.values() for number in own}):
        of = tuple(name for name, own in regions.items() if number in own)
        lines.append(Label(number, called_after(of), regions=of))
    return lines


def called_after(regions: Iterable[str]) -> str:
    """The name of a class that is told from others by the regions that it is part of."""
    return " + ".join(regions)


IGNORE = "ignore"
"""nnU-Net's name for voxels that nobody labelled."""


def _xml(path: Path) -> list[Label]:
    text = "\n".join(read_lines(path))
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: declares entities, which no label file needs. Remove them.")
    try:
        nodes = list(ElementTree.fromstring(text).iter("Label"))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: cannot be read as XML ({error}). Correct the file.") from None
    found = []
    for node in nodes:
        numbers = re.findall(r"\d+", node.findtext("RGBColor", ""))
        colour = _colour(numbers) if len(numbers) == 3 else None
        number, name = (node.findtext(key, "") for key in ("Number", "Name"))
        found.append(Label(_number(path, number), name.strip(), colour))
    return found


SNAP = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.eE+-]+\s+[01]\s+[01]\s+"([^"]*)"\s*')
FREESURFER = re.compile(r"\s*(\d+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s+\d+\s*")


def _txt(path: Path) -> list[Label]:
    """Lines of FreeSurfer or ITK-SNAP; # begins a comment."""
    found = []
    for place, line in enumerate(read_lines(path), start=1):
        snap, freesurfer = SNAP.fullmatch(line), FREESURFER.fullmatch(line)
        if snap:
            number, *colour, name = snap.groups()
        elif freesurfer:
            number, name, *colour = freesurfer.groups()
        elif not line.strip() or line.lstrip().startswith("#"):
            continue
        else:
            raise DataError(
                f"{path}, line {place}: is neither FreeSurfer's `number name R G B A` nor ITK-SNAP's "
                f'`number R G B A visible mesh "name"`; got {line[:80]!r}. Correct it.'
            )
        found.append(Label(_number(path, number), name, _colour(colour)))
    return found


READERS: dict[str, Callable[[Path], list[Label]]] = {
    ".tsv": _rows,
    ".json": _json,
    ".xml": _xml,
    ".csv": _rows,
    ".txt": _txt,
}


def _number(path: Path, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise DataError(f"{path}: {text[:40]!r} is not a label number. Correct it.")
    return int(text)


def _colour(parts: list[str]) -> Colour:
    red, green, blue = (min(int(part[:4]), 255) for part in parts)
    return red, green, blue

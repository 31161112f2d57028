"""Files that say what label numbers mean, in the formats that come with scans.

.tsv    BIDS dseg.tsv: index, name, and perhaps color (#rrggbb)
.json   dataset.json of the Decathlon ({"0": "background"}) or of nnU-Net ({"background": 0})
.xml    MALC-2012's *_LabelMap.xml: Label with Name, Number, RGBColor
.csv    MALC-2012's label information: Label Number, Label Name
.txt    FreeSurferColorLUT.txt (number name R G B A), or ITK-SNAP (number R G B A visible mesh "name")
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from medrobust.data.files.json_files import read_json
from medrobust.data.files.paths import inside
from medrobust.data.scans.labels import BACKGROUND, Colour, Label, LabelMap, Labels, map_of_file, map_of_study
from medrobust.errors import DataError
from medrobust.text import read_text

SNAP = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.eE+-]+\s+[01]\s+[01]\s+"([^"]*)"\s*')
FREESURFER = re.compile(r"\s*(\d+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(\d+)\s+\d+\s*")
HEX = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
UNLABELLED = "ignore"
"""Name of nnU-Net for voxels that nobody labelled."""


def label_map(labels: Labels | str, root: Path) -> LabelMap:
    """The classes that a study gives, or those of a file that it names, relative to the data's root.

    Raises:
        StudyError: The mapping contradicts itself.
        DataError: The file cannot be used.
    """
    return read_label_file(inside(root, labels)) if isinstance(labels, str) else map_of_study(labels)


def read_label_file(path: Path) -> LabelMap:
    """The classes that a label file names; labels of one name are one class.

    Raises:
        DataError: The file cannot be read, is in no known format, or contradicts itself.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path}: label files end in {', '.join(READERS)}. Rename it, or give a mapping.")
    return map_of_file(read(path), path)


def labels_of_json(path: Path, labels: object) -> list[Label]:
    """The `labels` of a dataset.json, of the Decathlon or of nnU-Net.

    Raises:
        DataError: They are neither, or are nnU-Net's regions or its `ignore`.
    """
    if not isinstance(labels, dict) or not labels:
        raise DataError(f"{path}: `labels` must name the classes; got {str(labels)[:80]}.")
    found = []
    for key, value in labels.items():
        if isinstance(value, list):
            raise DataError(
                f"{path}: '{key}' is a region of several labels {value}. Regions overlap, and here a voxel "
                "has one class: give `labels` in the study, e.g. {edema: 2, core: [1, 3]}."
            )
        number, name = (key, value) if str(key).strip().isdigit() else (value, key)
        if isinstance(number, bool) or not str(number).strip().isdigit() or not isinstance(name, str):
            raise DataError(f"{path}: the label '{key}': {value!r} is not a number with a name. Correct it.")
        if name == UNLABELLED:
            raise DataError(
                f"{path}: voxels of '{UNLABELLED}' have no class, and scores here need one for every voxel. "
                "Label them, or give `labels` in the study that say what they count as."
            )
        found.append(Label(int(number), BACKGROUND if int(number) == 0 else name))
    return found


def _json(path: Path) -> list[Label]:
    content = read_json(path)
    return labels_of_json(path, content.get("labels", content) if isinstance(content, dict) else None)


def _tsv(path: Path) -> list[Label]:
    return [
        Label(_number(path, row["index"]), row["name"], _hex(row.get("color")))
        for row in _table(path, "\t", ("index", "name"))
    ]


def _csv(path: Path) -> list[Label]:
    columns = ("Label Number", "Label Name")
    return [Label(_number(path, row[columns[0]]), row[columns[1]]) for row in _table(path, ",", columns)]


def _xml(path: Path) -> list[Label]:
    text = _text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: declares entities, which no label file needs. Take them out.")
    try:
        nodes = ElementTree.fromstring(text).iter("Label")
        return [_xml_label(path, node) for node in nodes]
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: cannot be read as XML ({error}). Correct the file.") from None


def _xml_label(path: Path, node: ElementTree.Element) -> Label:
    numbers = re.findall(r"\d+", node.findtext("RGBColor", ""))
    return Label(
        _number(path, node.findtext("Number", "")),
        node.findtext("Name", "").strip(),
        _colour(numbers) if len(numbers) == 3 else None,
    )


def _txt(path: Path) -> list[Label]:
    """Lines of FreeSurfer or ITK-SNAP; # begins a comment."""
    found = []
    for place, line in enumerate(_text(path).splitlines(), start=1):
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
    ".tsv": _tsv,
    ".json": _json,
    ".xml": _xml,
    ".csv": _csv,
    ".txt": _txt,
}


def _table(path: Path, delimiter: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    reader = csv.DictReader(_text(path).splitlines(), delimiter=delimiter, restval="")
    try:
        rows = [{key: cell.strip() for key, cell in row.items() if isinstance(cell, str)} for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error}). Correct the file.") from None
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise DataError(f"{path}: the column '{missing[0]}' is missing. Needed: {', '.join(columns)}.")
    return rows


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text in UTF-8 ({error}). Give the file.") from None


def _number(path: Path, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise DataError(f"{path}: {text[:40]!r} is no label number. Correct it.")
    return int(text)


def _hex(text: str | None) -> Colour | None:
    match = HEX.fullmatch(text or "")
    return None if match is None else _colour([str(int(part, 16)) for part in match.groups()])


def _colour(parts: list[str]) -> Colour | None:
    red, green, blue = (min(int(part[:4]), 255) for part in parts)
    return red, green, blue

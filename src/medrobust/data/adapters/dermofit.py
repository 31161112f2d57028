"""Dermofit: photographs of skin lesions in ten classes, the classification data of the paper.

    lesionlist.txt                      lines of number, ID and class: 1  A102a  ML
    ML/A102a/A102a.png                  and its mask A102amask.png, which is not read

Ballerini et al., "A color and texture based hierarchical K-NN approach to the classification of non-melanoma
skin lesions", in Color Medical Image Analysis (2013); licensed by Edinburgh Innovations.

The library declares no patients. Its IDs are a session, e.g. A102, and a letter for each of several lesions:
the session is taken as the patient.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

from medrobust.data.adapters.labelled import (
    class_counts,
    empty_classes,
    files_below,
    files_by_stem,
    missing_images,
)
from medrobust.data.files import read_lines
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Photo, Photos
from medrobust.errors import DataError, unknown

DIAGNOSES = {
    "ak": "actinic keratosis",
    "bcc": "basal cell carcinoma",
    "df": "dermatofibroma",
    "iec": "intraepithelial carcinoma",
    "mel": "malignant melanoma",
    "ml": "melanocytic nevus",
    "pyo": "pyogenic granuloma",
    "scc": "squamous cell carcinoma",
    "sk": "seborrhoeic keratosis",
    "vasc": "haemangioma",
}
CLASSES = tuple(DIAGNOSES)
TABLE = "lesionlist.txt"
IDENTIFIER = re.compile(r"[A-Z]+\d+[a-z]?")


def list_dermofit(root: Path) -> Photos:
    """Dermofit, or a part of it, as it is delivered; the unit is the patient, inferred from the IDs.

    Args:
        root: Folder of `lesionlist.txt` and the class folders.

    Raises:
        DataError: The list is missing. Lines that cannot be, images without file and classes without any
            image are findings.
    """
    table = root / TABLE
    if not table.is_file():
        raise DataError(f"data.root: no '{TABLE}' in {root}. Give the folder that holds it.")
    findings: list[Finding] = []
    labels = dict(_sound_lines(table, findings))
    files = files_by_stem(path for path in files_below(root) if not path.stem.endswith("mask"))
    findings += missing_images(labels, files, [root])
    findings += empty_classes(CLASSES, set(labels.values()), table)
    photos = tuple(
        Photo(name, name.rstrip(ascii_lowercase), CLASSES.index(label), files[name])
        for name, label in sorted(labels.items())
        if name in files
    )
    return Photos(
        classes=CLASSES,
        unit="patient",
        items=photos,
        facts={
            **class_counts(photos, CLASSES),
            "grouping": "by patient, inferred: IDs that differ in their last letter only, as A102a and A102b",
            "source": "Dermofit Image Library, Edinburgh Innovations; Ballerini et al., 2013",
        },
        findings=tuple(findings),
    )


def _sound_lines(table: Path, findings: list[Finding]) -> Iterator[tuple[str, str]]:
    """ID and class of each line that can be used; what is wrong with the others becomes findings."""
    seen: set[str] = set()
    for number, line in enumerate(read_lines(table), start=1):
        cells = line.split()
        if not cells:
            continue
        finding = _wrong_with(cells, f"{table}, line {number}", seen)
        if finding:
            kind, says, advice = finding
            findings.append(Finding(kind, Severity.ERROR, says, advice, (table,)))
        else:
            seen.add(cells[1])
            yield cells[1], cells[2].lower()


def _wrong_with(cells: list[str], where: str, seen: set[str]) -> tuple[str, str, str] | None:
    """Kind, sentence and advice of what is wrong with a line."""
    if len(cells) != 3 or IDENTIFIER.fullmatch(cells[1]) is None:
        says = f"{where}: must be a number, an ID such as A102a, and a class; got '{' '.join(cells)[:80]}'."
        return "strange line", says, "Correct it, or take it out."
    _, name, label = cells
    if label.lower() not in CLASSES:
        says = f"{where} ({name}): {unknown('class', label.lower(), CLASSES)}"
        return "unknown label", says, "Correct the line, or take it out."
    if name in seen:
        return "listed twice", f"{where}: image '{name}' is listed twice.", "Keep one of its lines."
    return None

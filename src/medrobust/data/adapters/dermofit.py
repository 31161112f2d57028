"""Dermofit: photographs of skin lesions in ten classes, the classification data of the paper.

    lesionlist.txt                      lines of number, ID and class: 1  A102a  ML
    ML/A102a/A102a.png                  and its mask A102amask.png, which is not read

Ballerini et al., "A color and texture based hierarchical K-NN approach to the classification of non-melanoma
skin lesions", in Color Medical Image Analysis (2013); licensed by Edinburgh Innovations.

The library declares no patients. Its IDs are those of a session, e.g. A102, with a letter for each of
several lesions: the session is taken as the patient.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

from medrobust.data.adapters.labelled import (
    Grouping,
    Labelled,
    files_below,
    files_by_stem,
    listed_once,
    photos_of,
)
from medrobust.data.files import Row, read_lines
from medrobust.data.findings import Finding, error
from medrobust.data.listing import Photos
from medrobust.errors import DataError, unknown

CLASSES = ("ak", "bcc", "df", "iec", "mel", "ml", "pyo", "scc", "sk", "vasc")
"""Actinic keratosis, basal cell carcinoma, dermatofibroma, intraepithelial carcinoma, malignant melanoma,
melanocytic nevus, pyogenic granuloma, squamous cell carcinoma, seborrhoeic keratosis, haemangioma."""

TABLE = "lesionlist.txt"
IDENTIFIER = re.compile(r"[A-Z]+\d+[a-z]?")


def list_dermofit(root: Path) -> Photos:
    """Dermofit, or a part of it, as it is delivered; the unit is the patient, inferred from the IDs.

    Raises:
        DataError: The list is missing. Unusable lines, images without a file and classes without an image are
            findings.
    """
    table = root / TABLE
    if not table.is_file():
        raise DataError(f"data.root: no '{TABLE}' in {root}. Give the folder that holds it.")
    findings: list[Finding] = []
    images = listed_once(_lines(table, findings), findings)
    files = files_by_stem(path for path in files_below(root) if not path.stem.endswith("mask"))
    how = "by patient, inferred: IDs that differ only in their last letter, such as A102a and A102b"
    grouping = Grouping({name: image.group for name, image in images.items()}, "patient", how)
    source = "Dermofit Image Library, Edinburgh Innovations; Ballerini et al., 2013"
    return photos_of(
        images, files, CLASSES, grouping, table, findings, searched=[root], facts={"source": source}
    )


def _lines(table: Path, findings: list[Finding]) -> Iterator[tuple[Row, str, Labelled]]:
    for number, line in enumerate(read_lines(table), start=1):
        cells, row = line.split(), Row(str(table), number, {})
        if not cells:
            continue
        if len(cells) != 3 or IDENTIFIER.fullmatch(cells[1]) is None:
            shown = line.strip()[:80]
            says = f"{row.where}: must be a number, an ID such as A102a, and a class; got '{shown}'."
            findings.append(error("strange line", says, "Correct or remove it.", table))
            continue
        _, name, label = cells
        if label.lower() in CLASSES:
            yield row, name, Labelled(label.lower(), name.rstrip(ascii_lowercase))
        else:
            says = f"{row.where} ({name}): {unknown('class', label.lower(), CLASSES)}"
            findings.append(error("unknown label", says, "Correct or remove the line.", table))

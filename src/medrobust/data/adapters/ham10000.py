"""HAM10000: dermatoscopic photographs of pigmented skin lesions in seven classes, grouped by lesion.

Tschandl, Rosendahl & Kittler, "The HAM10000 dataset", Scientific Data 5, 180161 (2018).

The folder holds `HAM10000_metadata.csv` (`HAM10000_metadata` in the archive's own download) and the images,
in `images/`, in `HAM10000_images_part_1/` and `_part_2/`, or beside the table. The data declare lesions,
which may be pictured several times, but not patients: nothing says that several lesions belong to one
patient.
"""

from collections.abc import Iterator
from pathlib import Path

from medrobust.data.adapters.labelled import Grouping, Labelled, files_by_stem, listed_once, photos_of
from medrobust.data.attributes import known
from medrobust.data.files import Row, is_missing, read_table
from medrobust.data.findings import Finding, error
from medrobust.data.listing import Photos
from medrobust.errors import DataError, unknown

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
"""Actinic keratosis or intraepithelial carcinoma, basal cell carcinoma, benign keratosis, dermatofibroma,
melanoma, melanocytic nevus, vascular lesion."""

TABLES = ("HAM10000_metadata.csv", "HAM10000_metadata")
FOLDERS = ("images", "ham10000_images_part_1", "ham10000_images_part_2")
SUFFIXES = (".jpg", ".jpeg", ".png")
ATTRIBUTES = {name: name for name in ("age", "sex", "localization")}


def list_ham10000(root: Path) -> Photos:
    """HAM10000, or a part of it, in its original folder; the unit is the lesion.

    Raises:
        DataError: The table or a column is missing. Unknown diagnoses, images listed twice or missing,
            lesions with two diagnoses and classes without an image are findings.
    """
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if table is None:
        raise DataError(f"data.root: no '{TABLES[0]}' in {root}. Give the folder that holds it.")
    findings: list[Finding] = []
    images = listed_once(_rows(table, findings), findings)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in FOLDERS)
    searched = [*folders, root]  # a widely used download holds images twice: the first counts
    files = (path for folder in searched for path in sorted(folder.iterdir()))
    how = "by lesion (lesion_id); no patients declared: one may be on both sides of a split"
    return photos_of(
        images,
        files_by_stem(path for path in files if path.suffix.lower() in SUFFIXES),
        CLASSES,
        Grouping({name: image.group for name, image in images.items()}, "lesion", how),
        table,
        findings,
        searched=searched,
        facts={"source": "Tschandl et al., Scientific Data 2018; CC BY-NC 4.0"},
    )


def _rows(table: Path, findings: list[Finding]) -> Iterator[tuple[Row, str, Labelled]]:
    diagnosis_of: dict[str, str] = {}
    for row in read_table(table, ("lesion_id", "image_id", "dx"), ATTRIBUTES):
        lesion, image, diagnosis = row["lesion_id"], row["image_id"], row["dx"]
        if is_missing(lesion) or is_missing(image):
            says = f"{row.where}: lesion_id and image_id must be known; got '{lesion}', '{image}'."
            findings.append(error("identifier missing", says, "Fill them in, or remove the row.", table))
        elif diagnosis not in CLASSES:
            says = f"{row.where} ({image}): {unknown('diagnosis (dx)', diagnosis, CLASSES)}"
            findings.append(error("unknown label", says, "Correct or remove the row.", table))
        elif diagnosis_of.setdefault(lesion, diagnosis) != diagnosis:
            both = f"'{diagnosis_of[lesion]}' and '{diagnosis}'"
            says = f"{row.where}: lesion '{lesion}' has two diagnoses, {both}."
            findings.append(error("two labels", says, "Correct its rows, or remove them.", table))
        else:
            yield row, image, Labelled(diagnosis, lesion, None, tuple(known(row, ATTRIBUTES).items()))

"""HAM10000: dermatoscopic photographs of pigmented skin lesions in seven classes, grouped by lesion.

Tschandl, Rosendahl & Kittler, "The HAM10000 dataset", Scientific Data 5, 180161 (2018).

The folder holds `HAM10000_metadata.csv` (`HAM10000_metadata` in the archive's own download) and the images,
in `images/`, in `HAM10000_images_part_1/` and `_part_2/`, or beside the table. The data declare lesions, not
patients: one lesion may be pictured several times, and one patient may have several lesions without the data
saying so.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from medrobust.data.adapters.labelled import empty_classes, files_by_stem, missing_images, repeats
from medrobust.data.attributes import known
from medrobust.data.files import Row, is_missing, read_table
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Photo, Photos
from medrobust.errors import DataError, unknown

DIAGNOSES = {
    "akiec": "actinic keratosis or intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}
CLASSES = tuple(DIAGNOSES)
TABLES = ("HAM10000_metadata.csv", "HAM10000_metadata")
FOLDERS = ("images", "ham10000_images_part_1", "ham10000_images_part_2")
SUFFIXES = (".jpg", ".jpeg", ".png")
COLUMNS = ("lesion_id", "image_id", "dx")
ATTRIBUTES = {name: name for name in ("age", "sex", "localization")}


def list_ham10000(root: Path) -> Photos:
    """HAM10000, or a part of it, in its original folder; the unit is the lesion.

    Args:
        root: Folder of the metadata table and the images.

    Raises:
        DataError: Table or column missing. Unknown diagnoses, images listed twice or missing, lesions with
            two diagnoses and classes without any image are findings.
    """
    table = _find_table(root)
    findings: list[Finding] = []
    rows = _sound_rows(read_table(table, COLUMNS, ATTRIBUTES), table, findings)
    findings += empty_classes(CLASSES, {row["dx"] for row in rows.values()}, table)
    folders = _image_folders(root)
    files = files_by_stem(_images_in(folders))
    findings += missing_images(rows, files, folders)
    photos = tuple(
        Photo(image, row["lesion_id"], CLASSES.index(row["dx"]), files[image])
        for image, row in sorted(rows.items())
        if image in files
    )
    return Photos(
        classes=CLASSES,
        unit="lesion",
        items=photos,
        facts=_facts(photos),
        findings=tuple(findings),
        attributes={image: known(row, ATTRIBUTES) for image, row in rows.items()},
    )


def _find_table(root: Path) -> Path:
    for name in TABLES:
        if (root / name).is_file():
            return root / name
    raise DataError(f"data.root: no '{TABLES[0]}' in {root}. Give the folder that holds it.")


def _sound_rows(rows: Iterable[Row], table: Path, findings: list[Finding]) -> dict[str, Row]:
    """Rows by image; those that contradict themselves or others become findings."""
    diagnosis_of: dict[str, str] = {}
    sound: dict[str, Row] = {}
    again = []
    for row in rows:
        finding = _wrong_with(row, table, sound, diagnosis_of)
        if finding:
            findings.append(finding)
        elif row["image_id"] in sound:
            again.append(row)
        else:
            sound[row["image_id"]] = row
            diagnosis_of[row["lesion_id"]] = row["dx"]
    findings += repeats(again, table)
    return sound


def _wrong_with(
    row: Row, table: Path, sound: Mapping[str, Row], diagnosis_of: Mapping[str, str]
) -> Finding | None:
    """What is wrong with a row by itself, or together with those before it."""
    lesion, image, diagnosis = (row[column] for column in COLUMNS)
    first = diagnosis_of.get(lesion, diagnosis)
    if is_missing(lesion) or is_missing(image):
        kind, advice = "identifier missing", "Fill them in, or take the row out."
        says = f"{row.where}: lesion_id and image_id must be known; got '{lesion}', '{image}'."
    elif diagnosis not in CLASSES:
        kind, advice = "unknown label", "Correct the row, or take it out."
        says = f"{row.where} ({image}): {unknown('diagnosis (dx)', diagnosis, CLASSES)}"
    elif image in sound and sound[image].cells != row.cells:
        kind, advice = "listed twice", "Keep one of its rows."
        says = f"{row.where}: image '{image}' is listed twice, and row {sound[image].number} differs."
    elif first != diagnosis:
        kind, advice = "two labels", "Correct its rows or take them out."
        says = f"{row.where}: lesion '{lesion}' has two diagnoses, '{first}' and '{diagnosis}'."
    else:
        return None
    return Finding(kind, Severity.ERROR, says, advice, (table,))


def _image_folders(root: Path) -> list[Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in FOLDERS)
    return [*folders, root]


def _images_in(folders: Iterable[Path]) -> Iterator[Path]:
    """Images by folder: where several hold the same, as in a widely used download, the first one counts."""
    for folder in folders:
        yield from sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _facts(photos: tuple[Photo, ...]) -> dict[str, str]:
    counts = Counter(photo.label for photo in photos)
    lesions = len({photo.patient_id for photo in photos})
    return {
        "images": f"{len(photos)} of {lesions} lesions",
        "classes": ", ".join(f"{name} {counts[index]}" for index, name in enumerate(CLASSES)),
        "grouping": "by lesion (lesion_id); no patients declared: one may be on both sides of a split",
        "source": "Tschandl et al., Scientific Data 2018; CC BY-NC 4.0",
    }

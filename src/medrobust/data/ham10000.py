"""HAM10000: dermatoscopic photographs of pigmented skin lesions in seven classes, grouped by lesion.

Tschandl, Rosendahl & Kittler, "The HAM10000 dataset", Scientific Data 5, 180161 (2018).

The folder holds `HAM10000_metadata.csv` (`HAM10000_metadata` in the archive's own download) and the images,
in `images/`, in `HAM10000_images_part_1/` and `_part_2/`, or beside the table. The data declare lesions, not
patients: one lesion may be pictured several times, and one patient may have several lesions without the data
saying so.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import UInt8
from PIL import Image, ImageOps

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data.cache import cached_array
from medrobust.errors import DataError, unknown

NAME = "ham10000"
REVISION = 1
"""Raise with every change of how images are decoded: it is part of the fingerprint."""

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


def open_ham10000(
    root: Path | None, cache: Path | None, *, size: Annotated[int, Ge(32), Le(1024)] = 128
) -> Dataset:
    """Open HAM10000, or a part of it, from its original folder.

    Args:
        root: Folder of the metadata table and the images.
        cache: Folder that keeps decoded images; None decodes at every reading.
        size: Pixels along each side. The largest centred square of a photograph is resized to it (bicubic,
            with antialiasing): lesions keep their proportions, and these photographs are centred on them.

    Returns:
        The data set; the unit is the lesion.

    Raises:
        DataError: Folder, table, column or image missing; unknown diagnosis; an image listed twice; a lesion
            with two diagnoses; a class without any image. An image that cannot be decoded is reported
            when it is read.
    """
    if root is None or not root.is_dir():
        raise DataError(f"data.root: the folder of HAM10000 does not exist; got {root}. Give its path.")
    table = _find_table(root)
    cases = _cases(_rows(table), table)
    files = _image_files(root, cases)
    fingerprint = _fingerprint(table, files, size)
    return Dataset(
        name=NAME,
        task=Task.CLASSIFICATION,
        classes=CLASSES,
        unit="lesion",
        channels=3,
        shape=(size, size),
        spacing=None,
        cases=cases,
        read=partial(_read, files, size, cache, f"{NAME}-{fingerprint[:16]}"),
        fingerprint=fingerprint,
        facts=_facts(cases, size),
    )


def decode(path: Path, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """Decode a photograph upright and in RGB; resize its largest centred square to `size` pixels.

    Raises:
        DataError: The file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            square = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}). Download it again or take its row out."
        ) from error
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def _read(files: Mapping[str, Path], size: int, cache: Path | None, folder: str, case: Case) -> Sample:
    pixels = cached_array(cache, f"{folder}/{case.case_id}", lambda: decode(files[case.case_id], size))
    return Sample(np.asarray(pixels, np.float32) / 255, np.array(case.label, np.int64))


def _find_table(root: Path) -> Path:
    for name in TABLES:
        if (root / name).is_file():
            return root / name
    raise DataError(f"data.root: no '{TABLES[0]}' in {root}. Give the folder that holds it.")


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows, header = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a CSV table in UTF-8 ({error}).") from error
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise DataError(
            f"{table}: column {_listed(missing)} is missing; found {_listed(header, 20)}. "
            f"Needed: {', '.join(COLUMNS)}."
        )
    return rows


def _cases(rows: list[dict[str, str]], table: Path) -> tuple[Case, ...]:
    """Cases of the table's rows, sorted by image, after checking that they agree with each other."""
    diagnosis_of: dict[str, str] = {}
    cases: dict[str, Case] = {}
    for line, row in enumerate(rows, start=2):
        where = f"{table}, row {line}"
        lesion, image, diagnosis = (row[column].strip() for column in COLUMNS)
        if not lesion or not image:
            raise DataError(f"{where}: lesion_id and image_id must not be empty; got '{lesion}', '{image}'.")
        if diagnosis not in CLASSES:
            raise DataError(f"{where} ({image}): {unknown('diagnosis (dx)', diagnosis, CLASSES)}")
        if image in cases:
            raise DataError(f"{where}: image '{image}' is listed twice. Keep one of its rows.")
        if diagnosis_of.setdefault(lesion, diagnosis) != diagnosis:
            raise DataError(
                f"{where}: lesion '{lesion}' has two diagnoses, '{diagnosis_of[lesion]}' and '{diagnosis}'. "
                "Correct its rows or take them out."
            )
        cases[image] = Case(image, image, lesion, CLASSES.index(diagnosis))
    empty = [name for index, name in enumerate(CLASSES) if all(c.label != index for c in cases.values())]
    if empty:
        raise DataError(f"{table}: no image of class {_listed(empty)}. Every class needs some in all parts.")
    return tuple(cases[image] for image in sorted(cases))


def _image_files(root: Path, cases: Iterable[Case]) -> dict[str, Path]:
    """The file of each case; where several folders hold it, as in a widely used download, the first."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in FOLDERS)
    found: dict[str, Path] = {}
    for folder in (*folders, root):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in SUFFIXES:
                found.setdefault(path.stem, path)
    missing = [case.case_id for case in cases if case.case_id not in found]
    if missing:
        searched = ", ".join(str(folder) for folder in (*folders, root))
        raise DataError(
            f"{len(missing)} of the listed images have no file: {_listed(missing)}. Searched: {searched}. "
            "Download them or take their rows out of the table."
        )
    return {case.case_id: found[case.case_id] for case in cases}


def _fingerprint(table: Path, files: Mapping[str, Path], size: int) -> str:
    """SHA-256 over the table, every image's name and contents, and the parameters.

    Contents, not dates or sizes: cached images are found by this value, so that it must change with any
    pixel. Hashing 2,000 small images takes 0.1 s, the 10,015 originals (2.8 GB) as long as reading them once.
    """
    total = hashlib.sha256(f"{NAME} {REVISION} {size}".encode())
    total.update(hashlib.sha256(table.read_bytes()).digest())
    for image, path in files.items():
        try:
            with path.open("rb") as file:
                total.update(image.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error
    return total.hexdigest()


def _facts(cases: tuple[Case, ...], size: int) -> dict[str, str]:
    counts = Counter(case.label for case in cases)
    lesions = len({case.patient_id for case in cases})
    return {
        "images": f"{len(cases)} of {lesions} lesions",
        "classes": ", ".join(f"{name} {counts[index]}" for index, name in enumerate(CLASSES)),
        "grouping": "by lesion (lesion_id); no patients declared: one may be on both sides of a split",
        "geometry": f"largest centred square, resized to {size} x {size} pixels (bicubic, antialiased)",
        "intensity": "8-bit sRGB divided by 255",
        "source": "Tschandl et al., Scientific Data 2018; CC BY-NC 4.0",
    }


def _listed(names: Iterable[str], most: int = 5) -> str:
    """The first few of a list, quoted, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more

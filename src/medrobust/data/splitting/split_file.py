"""Splits as CSV files with the columns `patient_id,part`."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from medrobust.core import Part
from medrobust.data.files import rows_of
from medrobust.errors import DataError, nearest, unknown
from medrobust.text import read_text

COLUMNS = ("patient_id", "part")

PARTS = {
    "train": Part.TRAIN,
    "training": Part.TRAIN,
    "val": Part.VALIDATION,
    "valid": Part.VALIDATION,
    "validation": Part.VALIDATION,
    "test": Part.TEST,
    "testing": Part.TEST,
    "unused": Part.UNUSED,
}
"""Words for the parts of a split, in lower case."""


def split_csv(folds: Sequence[Mapping[str, Part]]) -> str:
    """The text of a split's CSV file, sorted by patient; of several folds with a column `fold` before."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = len(folds) > 1
    writer.writerow((*(("fold",) if several else ()), *COLUMNS))
    for number, split in enumerate(folds):
        fold = (number,) if several else ()
        writer.writerows((*fold, patient, str(split[patient])) for patient in sorted(split))
    return text.getvalue()


def read_split(path: Path, patients: Collection[str]) -> dict[str, Part]:
    """The split of a CSV file.

    Args:
        path: File with the columns `patient_id,part`; a part is train, validation, test or unused.
        patients: All patients of the data set; the file must name each of them.

    Raises:
        DataError: The file is missing or has other columns; it names an unknown patient or part, puts a
            patient in two parts, leaves patients out, or has no test patient.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Split file {path} cannot be read: {error}.") from None
    return parse_split(text, patients, str(path))


def parse_split(text: str, patients: Collection[str], where: str) -> dict[str, Part]:
    """The split that the text of a CSV file holds; as `read_split`, `where` names the file in errors."""
    patients, split = frozenset(patients), dict[str, Part]()
    for row in rows_of(text, where, COLUMNS):
        patient, word = row["patient_id"], row["part"]
        if patient not in patients:
            raise DataError(
                f"{row.where}: Unknown patient '{patient}'.{nearest(patient, patients)} The data set has "
                f"{len(patients)}, e.g. {_some(sorted(patients))}."
            )
        part = PARTS.get(word.lower())
        if part is None:
            raise DataError(f"{row.where}: {unknown('part', word, Part)}")
        if split.setdefault(patient, part) != part:
            raise DataError(
                f"{row.where}: patient '{patient}' is in both {split[patient]} and {part}. Keep one."
            )
    _check_complete(split, patients, where)
    return split


def _check_complete(split: Mapping[str, Part], patients: Collection[str], where: str) -> None:
    missing = sorted(set(patients) - set(split))
    if missing:
        raise DataError(
            f"{where}: {len(missing)} patients of the data set have no part: {_some(missing)}. "
            "Give each one of train, validation, test, unused."
        )
    if Part.TEST not in split.values():
        raise DataError(
            f"{where}: no patient has the part 'test'. Give it to those that the networks are judged on."
        )


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:5]) + (", ..." if len(first) > 5 else "")

"""Splits as CSV files with the columns `patient_id,part`."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from medrobust.core import Part
from medrobust.errors import DataError, unknown
from medrobust.text import read_text

COLUMNS = ("patient_id", "part")


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
    try:
        return _parsed(text, frozenset(patients), where)
    except csv.Error as error:
        raise DataError(f"{where}: is no CSV table ({error}). Write it again as patient_id,part.") from None


def _parsed(text: str, patients: Collection[str], where: str) -> dict[str, Part]:
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise DataError(
            f"{where}: needs the columns patient_id,part; got {','.join(rows.fieldnames or ()) or 'none'}."
        )
    split: dict[str, Part] = {}
    for row in rows:
        place = f"{where}, line {rows.line_num}"
        patient, part = _entry(row, patients, place)
        if split.setdefault(patient, part) != part:
            raise DataError(f"{place}: patient '{patient}' is in both {split[patient]} and {part}. Keep one.")
    _check_complete(split, patients, where)
    return split


def _entry(row: Mapping[str, str | None], patients: Collection[str], place: str) -> tuple[str, Part]:
    patient, part = ((row[column] or "").strip() for column in COLUMNS)
    if patient not in patients:
        raise DataError(f"{place}: {_unknown_patient(patient, patients)}")
    if part not in set(Part):
        raise DataError(f"{place}: {unknown('part', part, Part)}")
    return patient, Part(part)


def _unknown_patient(patient: str, patients: Collection[str]) -> str:
    """The nearest patient without the list of all, which may be thousands."""
    message, _, _ = unknown("patient", patient, patients).partition(" Known:")
    return f"{message} The data set has {len(patients)}, e.g. {_some(sorted(patients))}."


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

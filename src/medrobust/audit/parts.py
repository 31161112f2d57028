"""The split that a run would make, without opening a single image."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrobust.audit.records import Parts
from medrobust.core import Case, Dataset, Part, Sample, Task
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Listing, Photos, Scans
from medrobust.data.split_file import COLUMNS
from medrobust.data.splits import make_split
from medrobust.data.tables import read_table
from medrobust.errors import DataError, MedrobustError


def split_of(name: str, listing: Listing, rule: Mapping[str, Any], seed: int) -> tuple[Parts, list[Finding]]:
    """Part of each patient, and what is wrong with the split; no parts where it cannot be made.

    Args:
        name: Of the data set.
        listing: What there is.
        rule: The study's `split:` block.
        seed: Of the study.
    """
    findings = patients_on_both_sides(listing, rule["file"]) if "file" in rule else []
    try:
        return make_split(as_dataset(name, listing), rule, seed), findings
    except MedrobustError as error:
        if findings:  # it stops at the first of these
            return {}, findings
        advice = "A run would stop here: change `split:` of the study, or its file."
        return {}, [Finding("split impossible", Severity.ERROR, str(error), advice, _file(rule))]


def patients_on_both_sides(listing: Listing, file: Path | str) -> list[Finding]:
    """Patients that a split file puts in two parts, with the files of each."""
    try:
        rows = read_table(Path(file), COLUMNS)
    except DataError:
        return []  # making the split says so
    parts: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        parts[row["patient_id"]].add(row["part"])
    owned = files_by_patient(listing)
    return [
        Finding(
            "patient on both sides",
            Severity.ERROR,
            f"{file} puts {listing.unit} '{patient}' in {' and '.join(sorted(parts[patient]))}.",
            "Keep one of the rows: networks must not be tested on what they learned.",
            tuple(owned.get(patient, ())),
        )
        for patient in sorted(parts)
        if len(parts[patient]) > 1
    ]


def files_by_patient(listing: Listing) -> dict[str, list[Path]]:
    """The images of each patient."""
    owned: defaultdict[str, list[Path]] = defaultdict(list)
    match listing:
        case Photos():
            for photo in listing.items:
                owned[photo.patient_id].append(photo.path)
        case Scans():
            for scan in listing.items:
                owned[scan.patient_id].append(scan.image)
    return dict(owned)


def as_dataset(name: str, listing: Listing) -> Dataset:
    """As much of a data set as splits depend on: which patients there are, and their classes.

    Opening the data would stop at the first damaged file.
    """
    return Dataset(
        name=name,
        task=Task.CLASSIFICATION if isinstance(listing, Photos) else Task.SEGMENTATION,
        classes=listing.classes,
        unit=listing.unit,
        channels=0,
        shape=(),
        spacing=None,
        cases=_cases(listing),
        read=_refuse,
        fingerprint="",
        official=listing.official,
    )


def _cases(listing: Listing) -> tuple[Case, ...]:
    match listing:
        case Photos():
            return tuple(
                Case(photo.case_id, photo.case_id, photo.patient_id, photo.label) for photo in listing.items
            )
        case Scans():
            return tuple(Case(scan.scan_id, scan.scan_id, scan.patient_id) for scan in listing.items)
    raise TypeError(f"No cases are known of a {type(listing).__name__}.")


def _refuse(case: Case) -> Sample:
    raise NotImplementedError(f"Case {case.case_id} is listed, not opened.")


def _file(rule: Mapping[str, Any]) -> tuple[Path, ...]:
    return (Path(rule["file"]),) if "file" in rule else ()


def sides(patients: Sequence[str], parts: Parts) -> list[Part]:
    """The parts that some patients are in, in the order of a study; unused ones are on no side."""
    found = {parts[patient] for patient in patients if patient in parts}
    return [part for part in (Part.TRAIN, Part.VALIDATION, Part.TEST) if part in found]

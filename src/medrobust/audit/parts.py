"""The split that a run would make, without opening a single image."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrobust.audit.records import Splits
from medrobust.core import Case, Dataset, Part, Sample, Task
from medrobust.data.files import read_table
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Listing, Photos, Scans
from medrobust.data.splitting.split_file import COLUMNS, PARTS
from medrobust.data.splitting.splits import make_folds
from medrobust.errors import DataError, MedrobustError


def split_of(name: str, listing: Listing, rule: Mapping[str, Any], seed: int) -> tuple[Splits, list[Finding]]:
    """Part of each patient in each fold, and what is wrong with the split; none where it cannot be made.

    Args:
        name: Of the data set.
        listing: What there is.
        rule: The study's `split:` block.
        seed: Of the study.
    """
    written = _written(rule)
    findings = _on_both_sides(listing, written)
    try:
        return make_folds(as_dataset(name, listing), rule, seed), findings
    except MedrobustError as error:
        files = (Path(rule["file"]),) if "file" in rule else ()
        advice = "A run would stop here: change `split:` of the study, or its file."
        stopped = Finding("split impossible", Severity.ERROR, str(error), advice, files)
        known = {patient: next(iter(parts)) for patient, parts in written.items() if len(parts) == 1}
        return (known,) if known else (), findings or [stopped]  # it stops at the first patient on both sides


def _written(rule: Mapping[str, Any]) -> dict[str, set[Part]]:
    """The parts that a split file gives to each patient, whatever else is wrong with it."""
    if "file" not in rule:
        return {}
    try:
        rows = read_table(Path(rule["file"]), COLUMNS)
    except DataError:
        return {}  # making the split says so
    written: defaultdict[str, set[Part]] = defaultdict(set)
    for row in rows:
        if row["part"].lower() in PARTS:
            written[row["patient_id"]].add(PARTS[row["part"].lower()])
    return written


def _on_both_sides(listing: Listing, written: Mapping[str, set[Part]]) -> list[Finding]:
    """Patients that the split file puts in two parts, with the files of each."""
    owned = files_by_patient(listing)
    return [
        Finding(
            "patient on both sides",
            Severity.ERROR,
            f"The split file puts {listing.unit} '{patient}' in {' and '.join(sorted(written[patient]))}.",
            "Keep one of its rows: networks must not be tested on what they learned.",
            tuple(owned.get(patient, ())),
        )
        for patient in sorted(written)
        if len(written[patient]) > 1
    ]


def owners(listing: Listing) -> dict[str, str]:
    """The patient of each photograph or scan, by its id."""
    match listing:
        case Photos():
            return {photo.case_id: photo.patient_id for photo in listing.items}
        case Scans():
            return {scan.scan_id: scan.patient_id for scan in listing.items}
    raise TypeError(f"A {type(listing).__name__} cannot be audited.")


def files_by_patient(listing: Listing) -> dict[str, list[Path]]:
    """The images of each patient."""
    owned: defaultdict[str, list[Path]] = defaultdict(list)
    match listing:
        case Photos():
            for photo in listing.items:
                owned[photo.patient_id].append(photo.place)
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
        task=Task.CLASSIFICATION if _has_labels(listing) else Task.SEGMENTATION,
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


def _has_labels(listing: Listing) -> bool:
    """Whether items have a class each, rather than one for every pixel."""
    return isinstance(listing, Photos) and all(photo.label is not None for photo in listing.items)


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


def are_apart(patients: Sequence[str], splits: Splits) -> bool:
    """Whether some patients are on two sides, in any fold; unused ones are on none."""
    return any(
        len({split.get(patient) for patient in patients} - {None, Part.UNUSED}) > 1 for split in splits
    )


def part_of(patient: str, splits: Splits) -> Part | None:
    """The part of a patient; None where there are folds, in which it changes, or no split."""
    return splits[0].get(patient) if len(splits) == 1 else None


def is_tested(patient: str, splits: Splits) -> bool:
    """Whether a patient tests, in any fold."""
    return any(split.get(patient) is Part.TEST for split in splits)

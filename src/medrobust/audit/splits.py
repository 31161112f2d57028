"""The split that a run would make, without opening a single image."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from medrobust.core import Case, Dataset, Part, Sample
from medrobust.data.files import read_table
from medrobust.data.findings import Finding, error
from medrobust.data.listing import Listing, Photo
from medrobust.data.splitting.splits import COLUMNS, PARTS, make_folds
from medrobust.errors import DataError, MedrobustError

Splits = tuple[Mapping[str, Part], ...]
"""Part of each patient in the split, or in each fold; empty where the split could not be made."""


def split_of(name: str, listing: Listing, rule: Mapping[str, Any], seed: int) -> tuple[Splits, list[Finding]]:
    """The split or folds of a study's `split:` block, and what is wrong with them."""
    written = _written(rule)
    owned = files_by_patient(listing)
    findings = [
        error(
            "patient on both sides",
            f"The split file puts {listing.unit} '{patient}' in {' and '.join(sorted(parts))}.",
            "Keep one of its rows: networks must not be tested on what they were trained on.",
            *owned.get(patient, ()),
        )
        for patient, parts in sorted(written.items())
        if len(parts) > 1
    ]
    try:
        return make_folds(_as_dataset(name, listing), rule, seed), findings
    except MedrobustError as problem:
        if not findings:  # else it stopped at the first patient on both sides
            files = (Path(rule["file"]),) if "file" in rule else ()
            advice = "A run would stop here: change `split:` in the study, or its file."
            findings = [error("split impossible", str(problem), advice, *files)]
        known = {patient: next(iter(parts)) for patient, parts in written.items() if len(parts) == 1}
        return (known,) if known else (), findings


def _written(rule: Mapping[str, Any]) -> dict[str, set[Part]]:
    """The parts that a split file gives to each patient, whatever else is wrong with it."""
    if "file" not in rule:
        return {}
    try:
        rows = read_table(Path(rule["file"]), COLUMNS)
    except DataError:
        return {}  # making the split reports it
    written: defaultdict[str, set[Part]] = defaultdict(set)
    for row in rows:
        if row["part"].lower() in PARTS:
            written[row["patient_id"]].add(PARTS[row["part"].lower()])
    return written


def _as_dataset(name: str, listing: Listing) -> Dataset:
    """As much of a data set as splits depend on; opening the data would stop at the first damaged file."""
    cases = tuple(item.case for item in listing.items)
    return Dataset(
        name=name,
        task=listing.task,
        classes=listing.classes,
        unit=listing.unit,
        channels=0,
        shape=(),
        spacing=None,
        cases=cases,
        read=_refuse,
        fingerprint="",
        official=listing.official,
    )


def _refuse(case: Case) -> Sample:
    raise NotImplementedError(f"Case {case.case_id} is listed, not opened.")


def files_by_patient(listing: Listing) -> dict[str, list[Path]]:
    """The images of each patient."""
    owned: defaultdict[str, list[Path]] = defaultdict(list)
    for item in listing.items:
        owned[item.patient_id].append(item.place if isinstance(item, Photo) else item.image)
    return owned


def are_apart(patients: Collection[str], splits: Splits) -> bool:
    """Whether some of the patients are in different parts in any fold; being unused does not count."""
    return any(
        len({split.get(patient) for patient in patients} - {None, Part.UNUSED}) > 1 for split in splits
    )


def part_of(patient: str, splits: Splits) -> Part | None:
    """The part of a patient; None without a split, or with folds, where it changes."""
    return splits[0].get(patient) if len(splits) == 1 else None


def is_tested(patient: str, splits: Splits) -> bool:
    """Whether a patient is in the test part of any fold."""
    return any(split.get(patient) is Part.TEST for split in splits)

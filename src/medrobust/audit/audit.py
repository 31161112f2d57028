"""Audit the data of a study: list, split, look at every file, check; change nothing."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from medrobust.audit.looking import look_at_photos, look_at_scans
from medrobust.audit.photos import PHOTO_CHECKS, PhotoEvidence
from medrobust.audit.scans import SCAN_CHECKS, ScanEvidence
from medrobust.audit.splits import files_by_patient, listed, split_of
from medrobust.data import DATASETS, list_dataset, open_dataset
from medrobust.data.findings import Finding, Severity, error, note, quoted, warning
from medrobust.data.listing import Listing, Photos, Scans
from medrobust.data.splitting.splits import make_folds
from medrobust.errors import MedrobustError

SEX = ("sex", "gender")
"""Attributes that all images of a person share; age and place may differ."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        name: Of the data set.
        looked_at: How much was read, e.g. "1928 photographs of 1928 lesions".
        seconds: How long that took.
        findings: What was found, most severe first.
    """

    name: str
    looked_at: str
    seconds: float
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def is_sound(self) -> bool:
        """Whether there is no error."""
        return not self.count(Severity.ERROR)


def audit_data(
    data: Mapping[str, Any],
    split: Mapping[str, Any],
    seed: int,
    *,
    data_dir: Path | None,
    code: Mapping[str, Path],
    console: Console,
) -> Audit:
    """Read everything that a run would, and check it.

    Args:
        data: The study's `data:` block.
        split: Its `split:` block.
        seed: Its seed.
        data_dir: Folder that the `root` of the data is relative to.
        code: Files that the study imports, by what it says of them.
        console: Where progress is shown.

    Raises:
        StudyError: The blocks ask for something that cannot be.
        DataError: There is nothing to list.
    """
    start = time.perf_counter()
    name = str(data.get("name", data.get("load")))
    listing = list_dataset(data, data_dir)
    looked_at = "no files"
    if listing is not None:
        looked_at, found = _audit_files(name, listing, split, seed, console)
    elif "load" in data or DATASETS.named(name, "data.name").own:
        says = f"The data are opened by `{name}`, which an audit does not run, so nothing was examined."
        found = [note("own data", says, "`medrobust check` runs it, and checks what it opens.")]
    else:
        found = _audit_generated(data, split, seed)
    findings = in_order([*code_that_runs(code), *found])
    return Audit(name, looked_at, time.perf_counter() - start, findings)


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings by severity, those of a kind together, in the order in which kinds were found."""
    severities, kinds = list(Severity), list(dict.fromkeys(finding.kind for finding in findings))
    return tuple(
        sorted(findings, key=lambda finding: (severities.index(finding.severity), kinds.index(finding.kind)))
    )


def code_that_runs(code: Mapping[str, Path]) -> list[Finding]:
    """The files that a run would import because the study says so."""
    return [
        note(
            "code that runs",
            f"{where} imports {file} and everything it imports.",
            "Read it before you run a study that somebody else wrote.",
            file,
        )
        for where, file in code.items()
    ]


def _audit_files(
    name: str, listing: Listing, split: Mapping[str, Any], seed: int, console: Console
) -> tuple[str, list[Finding]]:
    if not listed(listing):  # the findings say why
        return _amount(listing), list(listing.findings)
    splits, found = split_of(name, listing, split, seed)
    findings = [*listing.findings, *found, *two_sexes(listing)]
    match listing:
        case Photos():
            photos = PhotoEvidence(listing, splits, look_at_photos(listing, console))
            findings += [finding for check in PHOTO_CHECKS for finding in check(photos)]
        case Scans():
            scans = ScanEvidence(listing, splits, look_at_scans(listing, console))
            findings += [finding for check in SCAN_CHECKS for finding in check(scans)]
    return _amount(listing), findings


def _amount(listing: Listing) -> str:
    patients = [case.patient_id for case, _ in listed(listing)]
    what = "photographs" if isinstance(listing, Photos) else "scans"
    return f"{len(patients)} {what} of {len(set(patients))} {listing.unit}s"


def _audit_generated(data: Mapping[str, Any], split: Mapping[str, Any], seed: int) -> list[Finding]:
    """Generated data have no files: only the split can be wrong."""
    dataset = open_dataset(data, None, None)
    try:
        make_folds(dataset, split, seed)
    except MedrobustError as problem:
        advice = "A run would stop here: change `split:` of the study."
        return [error("split impossible", str(problem), advice)]
    says = f"'{dataset.name}' is generated: there are no files to examine."
    return [note("generated data", says, "Nothing to do.")]


def two_sexes(listing: Listing) -> list[Finding]:
    """Patients, or lesions, that are women in some images and men in others: these are not one person's."""
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for case, _ in listed(listing):
        known = listing.attributes.get(case.scan_id, {})
        seen[case.patient_id] |= {
            str(known[name])[:1].casefold().replace("w", "f") for name in known if name.casefold() in SEX
        }
    mixed = sorted(patient for patient, sexes in seen.items() if len(sexes) > 1)
    if not mixed:
        return []
    says = f"{len(mixed)} {listing.unit}s have images of both sexes: {quoted(mixed)}."
    advice = "Find out whether two people share an identifier, or which of the two is right."
    owned = files_by_patient(listing)
    return [warning("two sexes", says, advice, *(file for patient in mixed for file in owned[patient]))]

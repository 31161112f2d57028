"""Audit the data of a study: list, split, look at every file, check."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from medrobust.audit.attribute_checks import two_sexes
from medrobust.audit.gather import look_at_photos, look_at_scans
from medrobust.audit.parts import owners, split_of
from medrobust.audit.photo_checks import PHOTO_CHECKS
from medrobust.audit.records import PhotoEvidence, ScanEvidence
from medrobust.audit.scan_checks import SCAN_CHECKS
from medrobust.data import list_dataset, open_dataset
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Listing, Photos, Scans
from medrobust.data.splitting.splits import make_folds
from medrobust.errors import MedrobustError

Evidence = TypeVar("Evidence")


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
    if listing is not None:
        looked_at, found = _audit_files(name, listing, split, seed, console)
    elif "load" in data:
        looked_at, found = "no files", [own_data(name)]
    else:
        looked_at, found = "no files", _audit_generated(data, split, seed)
    findings = in_order([*code_that_runs(code), *found])
    return Audit(name, looked_at, time.perf_counter() - start, findings)


def own_data(reference: str) -> Finding:
    """Only the user's code can open these, and an audit runs none."""
    says = f"The data are opened by `{reference}`, which an audit does not run: nothing was looked at."
    return Finding("own data", Severity.NOTE, says, "See the files that it reads by other means.")


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings by severity, those of a kind together, in the order in which kinds were found."""
    severities, kinds = list(Severity), list(dict.fromkeys(finding.kind for finding in findings))
    return tuple(
        sorted(findings, key=lambda finding: (severities.index(finding.severity), kinds.index(finding.kind)))
    )


def code_that_runs(code: Mapping[str, Path]) -> list[Finding]:
    """The files that a run would import because the study says so."""
    return [
        Finding(
            "code that runs",
            Severity.NOTE,
            f"{where} imports {file} and what that imports.",
            "Read it before you run a study that somebody else wrote.",
            (file,),
        )
        for where, file in code.items()
    ]


def _audit_files(
    name: str, listing: Listing, split: Mapping[str, Any], seed: int, console: Console
) -> tuple[str, list[Finding]]:
    if not owners(listing):  # the findings say why
        return _amount(listing), list(listing.findings)
    splits, found = split_of(name, listing, split, seed)
    findings = [*listing.findings, *found, *two_sexes(listing)]
    match listing:
        case Photos():
            photos = PhotoEvidence(listing, splits, look_at_photos(listing, console))
            findings += _checked(PHOTO_CHECKS, photos)
        case Scans():
            scans = ScanEvidence(listing, splits, look_at_scans(listing, console))
            findings += _checked(SCAN_CHECKS, scans)
    return _amount(listing), findings


def _checked(checks: Sequence[Callable[[Evidence], list[Finding]]], evidence: Evidence) -> list[Finding]:
    return [finding for check in checks for finding in check(evidence)]


def _amount(listing: Listing) -> str:
    patients = owners(listing).values()
    what = "photographs" if isinstance(listing, Photos) else "scans"
    return f"{len(patients)} {what} of {len(set(patients))} {listing.unit}s"


def _audit_generated(data: Mapping[str, Any], split: Mapping[str, Any], seed: int) -> list[Finding]:
    """Generated data have no files: only the split can be wrong."""
    dataset = open_dataset(data, None, None)
    try:
        make_folds(dataset, split, seed)
    except MedrobustError as error:
        advice = "A run would stop here: change `split:` of the study."
        return [Finding("split impossible", Severity.ERROR, str(error), advice)]
    says = f"'{dataset.name}' is generated: there are no files to look at."
    return [Finding("generated data", Severity.NOTE, says, "Nothing to do.")]

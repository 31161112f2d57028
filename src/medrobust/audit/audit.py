"""Audit the data of a study: list them, split them, look at every file, check; change nothing."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from medrobust.audit.photos import check_photos
from medrobust.audit.scans import check_scans
from medrobust.audit.splits import files_by_patient, split_of
from medrobust.core import Task
from medrobust.data import DATASETS, list_dataset, open_dataset
from medrobust.data.findings import Finding, Severity, error, note, quoted, warning
from medrobust.data.listing import Listing, Photos, Scans
from medrobust.data.splitting.splits import make_folds
from medrobust.errors import MedrobustError

SEX = ("sex", "gender")
"""Attributes that all images of a person share; age and place may differ."""


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        name: Name of the data set.
        looked_at: How much was read, e.g. "1928 photographs of 1928 lesions".
        seconds: How long it took.
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
    task: Task | None = None,
    code: Mapping[str, Path],
    console: Console,
) -> Audit:
    """Read everything that a run would read, and check it.

    Args:
        data: The study's `data:` block.
        split: Its `split:` block.
        seed: Its seed.
        data_dir: Folder that the `root` of the data is relative to.
        task: Its task, for data that may be labelled for several.
        code: Files that the study imports, by the key that names them.
        console: Where progress is shown.

    Raises:
        StudyError: The blocks ask for something impossible.
        DataError: There is nothing to list.
    """
    start = time.perf_counter()
    name = str(data.get("name", data.get("load")))
    looked_at = "no files"
    findings = [
        note(
            "code that runs",
            f"{key} imports {file} and everything it imports.",
            "Read it before you run a study that somebody else wrote.",
            file,
        )
        for key, file in code.items()
    ]
    listing = list_dataset(data, data_dir, task)
    if listing is not None:
        patients = [item.patient_id for item in listing.items]
        what = "photographs" if isinstance(listing, Photos) else "scans"
        looked_at = f"{len(patients)} {what} of {len(set(patients))} {listing.unit}s"
        findings += _audit_files(name, listing, split, seed, console)
    elif "load" in data or DATASETS.named(name, "data.name").own:
        says = f"`{name}` opens the data. An audit does not run it, so nothing was examined."
        findings.append(note("own data", says, "`medrobust check` runs it, and checks what it opens."))
    else:
        findings.append(_audit_generated(data, split, seed))
    return Audit(name, looked_at, time.perf_counter() - start, in_order(findings))


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings by severity; within it by kind, in the order in which the kinds were found."""
    severities, kinds = list(Severity), list(dict.fromkeys(finding.kind for finding in findings))
    return tuple(
        sorted(findings, key=lambda finding: (severities.index(finding.severity), kinds.index(finding.kind)))
    )


def _audit_files(
    name: str, listing: Listing, split: Mapping[str, Any], seed: int, console: Console
) -> Iterator[Finding]:
    yield from listing.findings
    if not listing.items:  # the findings say why
        return
    splits, found = split_of(name, listing, split, seed)
    yield from found
    yield from _two_sexes(listing)
    match listing:
        case Photos():
            yield from check_photos(listing, splits, console)
        case Scans():
            yield from check_scans(listing, splits, console)


def _audit_generated(data: Mapping[str, Any], split: Mapping[str, Any], seed: int) -> Finding:
    """Generated data have no files: only the split can be wrong."""
    dataset = open_dataset(data, None, None)
    try:
        make_folds(dataset, split, seed)
    except MedrobustError as problem:
        advice = "A run would stop here: change `split:` in the study."
        return error("split impossible", str(problem), advice)
    says = f"'{dataset.name}' is generated: there are no files to examine."
    return note("generated data", says, "Nothing to do.")


def _two_sexes(listing: Listing) -> Iterator[Finding]:
    """Patients, or lesions, with images of both sexes: these are not all of one person."""
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for item in listing.items:
        known = listing.attributes.get(item.case.scan_id, {})
        seen[item.patient_id] |= {
            str(known[name])[:1].casefold().replace("w", "f") for name in known if name.casefold() in SEX
        }
    mixed = sorted(patient for patient, sexes in seen.items() if len(sexes) > 1)
    if mixed:
        says = f"{len(mixed)} {listing.unit}s have images of both sexes: {quoted(mixed)}."
        advice = "Find out whether two people share an identifier, or which of the two is right."
        owned = files_by_patient(listing)
        yield warning("two sexes", says, advice, *(file for patient in mixed for file in owned[patient]))

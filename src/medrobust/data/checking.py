"""Check a data set, of the catalogue or of the user's own, before any work depends on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core import Case, Dataset
from medrobust.data.catalogue import DatasetEntry, open_dataset
from medrobust.data.contract import checked
from medrobust.data.findings import Finding, error, refused
from medrobust.data.own import open_own
from medrobust.errors import MedrobustError

MOST_BROKEN = 5
"""Broken samples after which no more are read, since most are broken in the same way."""


def check_data(
    subject: Mapping[str, Any] | DatasetEntry | Dataset,
    *,
    cache: Path | None = None,
    data_dir: Path | None = None,
    most: int = 200,
) -> tuple[Dataset | None, tuple[Finding, ...]]:
    """Whether a data set keeps the contract of `core.Dataset`, and what breaks it.

    Args:
        subject: A study's `data:` block, e.g. `{"load": "package.module:function"}`; an entry of generated
            or own data, opened with its defaults; or an open data set.
        cache: Folder for decoded arrays.
        data_dir: Folder that a relative `root` lies in.
        most: Number of cases to read, evenly spaced.

    Returns:
        The data set, None if it cannot be opened; and what is wrong, nothing if it keeps the contract.
    """
    try:
        data, again = (_opened(subject, cache, data_dir) for _ in range(2))
    except MedrobustError as broken:
        return None, (refused("cannot be opened", broken),)
    findings = []
    if (data.cases, data.fingerprint) != (again.cases, again.fingerprint):
        says = "Opened twice, the data have different cases or fingerprints."
        advice = "Draw random numbers from a seed, and sort what the file system lists."
        findings.append(error("changes when opened again", says, advice))
    findings += _broken_samples(data, data.cases[:: max(1, -(-len(data.cases) // most))])
    return data, tuple(findings)


def _opened(subject: object, cache: Path | None, data_dir: Path | None) -> Dataset:
    if isinstance(subject, Dataset):
        return checked(subject)
    if isinstance(subject, DatasetEntry):
        own = subject.own
        return open_own(own, {"load": own}, cache, data_dir) if own else checked(subject.open(cache))
    assert isinstance(subject, Mapping)
    return checked(open_dataset(subject, cache, data_dir))


def _broken_samples(data: Dataset, cases: tuple[Case, ...]) -> list[Finding]:
    """Samples that break the contract, or differ when read again."""
    findings: list[Finding] = []
    for case in cases:
        try:
            first, second = data.read(case), data.read(case)
        except MedrobustError as broken:
            findings.append(refused("broken sample", broken))
        else:
            if not all(np.array_equal(one, other) for one, other in zip(first, second, strict=True)):
                says = f"Case '{case.case_id}' differs when it is read again."
                findings.append(error("changes when read again", says, "Leave augmentation to the training."))
        if len(findings) == MOST_BROKEN:
            break
    return findings

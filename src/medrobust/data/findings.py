"""What is wrong with data, said in a way that names the files and what to do.

An adapter collects findings instead of stopping at the first, so that an audit can list them all; a run stops
if one of them is an error.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from medrobust.errors import DataError, MedrobustError


class Severity(StrEnum):
    """How severe a finding is, most severe first.

    An ERROR stops a run or would make its numbers wrong; a WARNING may mislead readers; a NOTE informs.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the data that a person should know."""

    kind: str  # what it is, in words that stay the same, e.g. "listed twice"
    severity: Severity
    says: str  # what was seen and where, as a sentence
    advice: str  # what to do about it, as a sentence
    files: tuple[Path, ...] = ()


def error(kind: str, says: str, advice: str, *files: Path) -> Finding:
    """A finding that stops a run or would make its numbers wrong."""
    return Finding(kind, Severity.ERROR, says, advice, files)


def warning(kind: str, says: str, advice: str, *files: Path) -> Finding:
    """A finding that may mislead readers of the results."""
    return Finding(kind, Severity.WARNING, says, advice, files)


def note(kind: str, says: str, advice: str, *files: Path) -> Finding:
    """A finding that is worth knowing."""
    return Finding(kind, Severity.NOTE, says, advice, files)


LAST_SENTENCE = re.compile(r"(?P<says>.*[.?!]) (?P<advice>[A-Z`][^()]*)", re.DOTALL)


def refused(kind: str, reason: MedrobustError | str, *files: Path) -> Finding:
    """An error's message as a finding; the last of several sentences is the advice."""
    parted = LAST_SENTENCE.fullmatch(str(reason))
    says, advice = parted.group("says", "advice") if parted else (str(reason), "Correct it, or remove it.")
    return error(kind, says, advice, *files)


def is_sound(findings: Iterable[Finding]) -> bool:
    """Whether none of them is an error."""
    return not any(finding.severity is Severity.ERROR for finding in findings)


def require_sound(findings: Iterable[Finding]) -> None:
    """Raise the first error among findings as a DataError, which also says how many more there are."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        more = f" ({len(errors) - 1} more errors: `medrobust audit` lists them.)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0].says} {errors[0].advice}{more}")


def quoted(names: Sequence[str], most: int = 5) -> str:
    """The first few of some names, quoted, and how many more there are.

    >>> quoted(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more

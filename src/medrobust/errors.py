"""Errors that a person is meant to read.

    MedrobustError          anything the command line shows as one message, exit code 1
    ├── StudyError          the study file asks for something impossible
    ├── DataError           a data set is missing, unreadable or inconsistent
    ├── ModelError          a network or its weights do not fit
    └── RunError            the run folder, or the run itself, failed
        └── DamagedError    a file of the run folder has changed since it was written

Every message names the argument, the rule, the value seen and what to do. Wrong arguments of a Python
function raise `ValueError`.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

MOST_SHOWN = 40
"""Known names that a message lists at most; data have thousands of cases."""

LONGEST_REASON = 500
"""Characters of a message of another package that are passed on; a network may list a thousand tensors."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class MedrobustError(Exception):
    """Base of all errors with a message for the user."""


class StudyError(MedrobustError):
    """The study asks for something impossible."""


class DataError(MedrobustError):
    """A data set is missing, unreadable or inconsistent."""


class ModelError(MedrobustError):
    """A network or its weights do not fit the study."""


class RunError(MedrobustError):
    """The run folder, or the run itself, failed."""


class DamagedError(RunError):
    """A file of the run folder is missing or has changed since it was written; it will be made again."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not in a catalogue, with the nearest known one.

    >>> unknown("perturbation", "fsgm", ["fgsm", "deepfool"])
    "Unknown perturbation 'fsgm'. Did you mean 'fgsm'? Known: deepfool, fgsm."
    """
    names = sorted(known)
    shown = ", ".join(names[:MOST_SHOWN]) + (
        f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    )
    return f"Unknown {kind} '{name}'.{nearest(name, names)} Known: {shown or 'none'}."


def nearest(name: str, known: Iterable[str]) -> str:
    """A space and the question whether the nearest name, in any case, was meant; empty if none is near."""
    folded = {each.casefold(): each for each in sorted(known)}
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f" Did you mean '{folded[near[0]]}'?" if near else ""


def reason(error: BaseException) -> str:
    r"""An exception of another package in one line: its kind and its message, at most `LONGEST_REASON` long.

    The final full stop and the terminal colours of PyTorch are removed.

    >>> reason(ValueError("It is odd:\n    3. Even numbers only."))
    'ValueError: It is odd: 3. Even numbers only'
    """
    text = " ".join(_COLOURS.sub("", str(error)).split()).rstrip(".") or "no message"
    if len(text) > LONGEST_REASON:  # the cause stands at the beginning or at the end
        text = f"{text[: LONGEST_REASON // 2]} ... {text[-LONGEST_REASON // 2 :]}"
    return f"{type(error).__name__}: {text}"


class Remark(NamedTuple):
    """A warning, and the name of the section of a report that it belongs to."""

    about: str
    sentence: str


def without(picture: str, error: Exception, about: str) -> Remark:
    """The remark that a picture is missing from a report, and why.

    >>> without("t-SNE of unet", ModelError("Its features are not finite."), "embedding").sentence
    'No t-SNE of unet: Its features are not finite.'
    """
    why = str(error) if isinstance(error, MedrobustError) else f"{reason(error)}."
    return Remark(about, f"No {picture}: {why}")

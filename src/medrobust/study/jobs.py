"""A run is a list of jobs; a job knows what it is, how long it should take, and whether it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from medrobust.core import Tick

Kind = Literal["audit", "train", "selftest", "craft", "noise", "evaluate", "embed", "examples"]


@dataclass(frozen=True)
class Job:
    """One step of a run on one network, attack or table.

    Attributes:
        kind: Which step it is.
        title: What a person reads while it runs.
        seconds: Expected duration on this machine.
        disk: Bytes that it adds to the run folder.
        done: True if its result is in the run folder.
        run: Does it, from where it stopped, and reports its progress.
    """

    kind: Kind
    title: str
    seconds: float
    disk: int
    done: bool
    run: Callable[[Tick], None]

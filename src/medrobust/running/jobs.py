"""A run is a list of jobs, each cut into pieces that any process may do.

Nothing in a job grows with the number of its pieces: which of them are finished is asked of the run folder.
"""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from medrobust.core import OnProgress, silent
from medrobust.running.pieces import Step

Kind = Literal["audit", "train", "selftest", "craft", "noise", "evaluate", "embed", "examples"]


@dataclass(frozen=True)
class Job:
    """One step of a run on one network, attack or set of images.

    Attributes:
        kind: Which step it is. Jobs of a kind do not wait for each other, those of the next wait for all.
        name: Names it among those of its kind, in every process.
        title: What a person reads while it runs.
        seconds: Expected duration on this machine.
        disk: Bytes that it adds to the run folder.
        pieces: Number of its pieces of work.
        finished: Which of them the run folder holds.
        open: Gets at hand what its pieces need, networks for example, and may be called by several processes.
    """

    kind: Kind
    name: str
    title: str
    seconds: float
    disk: int
    pieces: int
    finished: Callable[[], Set[int]]
    open: Callable[[], Step]

    def left(self) -> Iterator[int]:
        """The pieces that are still to be done, in order."""
        finished = self.finished()
        return (piece for piece in range(self.pieces) if piece not in finished)

    @cached_property
    def n_finished(self) -> int:
        """How many pieces were finished when this was asked first."""
        return len(self.finished())

    @property
    def seconds_left(self) -> float:
        """Expected duration of the others."""
        return self.seconds * (1 - self.n_finished / self.pieces)

    @property
    def disk_left(self) -> int:
        """Bytes that the others add."""
        return round(self.disk * (1 - self.n_finished / self.pieces))


@dataclass(frozen=True)
class Once:
    """A step in one piece."""

    work: Callable[[OnProgress], None]

    def do(self, piece: int, progress: OnProgress = silent) -> None:
        """Do it."""
        self.work(progress)

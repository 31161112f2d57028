"""A run is a list of jobs, each divided into pieces that any process may do.

Nothing in a job grows with the number of its pieces: the run folder tells which of them are finished.
"""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from medrobust.core import OnProgress
from medrobust.errors import Remark, RunError, without
from medrobust.storage import Parts, RunFolder

Kind = Literal[
    "audit", "expect", "train", "selftest", "craft", "noise", "evaluate", "certify", "embed", "examples"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Steps in their order."""

HERE: tuple[Kind, ...] = ("audit", "expect")
"""Steps that the process does which starts a run, whoever does the others."""

Do = Callable[[int, OnProgress], None]
"""Does a piece and writes its results to the run folder, the sign that it is finished last."""


@dataclass(frozen=True)
class Job:
    """One step of a run on one network, attack or set of images.

    Attributes:
        kind: Which step it is. Jobs of a kind do not wait for each other; those of the next wait for all.
        name: Identifies it among those of its kind, in every process.
        title: What a person reads while it runs.
        seconds: Expected duration on this machine.
        disk: Bytes that it adds to the run folder.
        finished: Which of its pieces are in the run folder.
        open: Loads what the pieces need, networks for example; several processes may call it.
        pieces: Number of its pieces of work.
    """

    kind: Kind
    name: str
    title: str
    seconds: float
    disk: int
    finished: Callable[[], Set[int]]
    open: Callable[[], Do]
    pieces: int = 1

    def left(self) -> Iterator[int]:
        """The pieces that are still to be done, in order."""
        finished = self.finished()
        return (piece for piece in range(self.pieces) if piece not in finished)

    @cached_property
    def n_finished(self) -> int:
        """How many pieces were finished when first asked."""
        return len(self.finished())

    @property
    def seconds_left(self) -> float:
        """Expected duration of the remaining pieces."""
        return self.seconds * (1 - self.n_finished / self.pieces)

    @property
    def disk_left(self) -> int:
        """Bytes that the remaining pieces add."""
        return round(self.disk * (1 - self.n_finished / self.pieces))


LEFT_OUT: Parts = ("results", "left_out")
"""A file for each picture that the run could not make."""


def as_picture(job: Job, what: str, mark: str, folder: RunFolder, *, about: str, made: Parts = ()) -> Job:
    """A job that leaves out its picture if that cannot be made: the run continues, and the report says why.

    A full disk, damaged files and networks that were replaced end a run as always.

    Args:
        job: Makes the picture, or a part of it.
        what: The picture, e.g. "t-SNE of unet".
        mark: Name of the file that says why there is no picture; shared by the jobs of one picture.
        folder: The run folder.
        about: Section of the report that the picture belongs to.
        made: File of an earlier picture, removed if there is none now.
    """

    def finished() -> Set[int]:
        return {*range(job.pieces)} if is_left_out(folder, mark) else job.finished()

    def begin() -> Do:
        opened: list[Do] = []

        def attempt(piece: int, progress: OnProgress) -> None:
            try:
                if not opened:  # opening may fail as well
                    opened.append(job.open())
                opened[0](piece, progress)
            except (RunError, OSError):
                raise
            except Exception as error:  # whatever a network of the user's, or a library that draws, raises
                if made:
                    folder.remove(*made)
                folder.write_json(without(what, error, about)._asdict(), *LEFT_OUT, f"{mark}.json")

        return attempt

    return replace(job, finished=finished, open=begin)


def is_left_out(folder: RunFolder, mark: str) -> bool:
    """Whether this run could not make a picture."""
    return folder.exists(*LEFT_OUT, f"{mark}.json")


def left_out(folder: RunFolder) -> tuple[Remark, ...]:
    """What the run could not make, each with the reason."""
    names = sorted(folder.names(*LEFT_OUT))
    return tuple(Remark(**folder.read_json(*LEFT_OUT, name)) for name in names)

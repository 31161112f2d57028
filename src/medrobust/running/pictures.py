"""Jobs that only make pictures: where one of them fails, the run goes on, and the report says why."""

from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from functools import cached_property

from medrobust.core import OnProgress, silent
from medrobust.errors import Remark, RunError, without
from medrobust.running.image_sets import Part
from medrobust.running.jobs import Job
from medrobust.running.pieces import Step
from medrobust.running.targets import Target
from medrobust.storage import RunFolder

LEFT_OUT: Part = ("results", "left_out")
"""A file for each picture that the run could not make."""


def as_picture(job: Job, what: str, mark: str, folder: RunFolder, *, about: str, made: Part = ()) -> Job:
    """A job that leaves its picture out where that cannot be made.

    A full disk, damaged files and networks that were exchanged end a run as ever.

    Args:
        job: What it takes to make the picture, or a part of that.
        what: The picture, e.g. "t-SNE of unet".
        mark: Name of the file that says why there is none. Jobs of one picture share it.
        folder: The run folder.
        about: Section of the report that the picture belongs to.
        made: The file that shows an earlier picture, which goes where there is none now.
    """

    def finished() -> Set[int]:
        return {*range(job.pieces)} if is_left_out(folder, mark) else job.finished()

    return replace(job, finished=finished, open=lambda: _Attempt(job.open, what, mark, folder, about, made))


def is_left_out(folder: RunFolder, mark: str) -> bool:
    """Whether this run could not make a picture."""
    return folder.exists(*_path(mark))


def left_out(folder: RunFolder) -> tuple[Remark, ...]:
    """What the run could not make, each with the reason."""
    names = sorted(folder.names(*LEFT_OUT))
    return tuple(Remark(**folder.read_json(*LEFT_OUT, name)) for name in names)


def tsne_mark(target: Target) -> str:
    """Mark of the t-SNE of a target."""
    return f"tsne-{target.network_id.folder}"


def try_again(folder: RunFolder) -> None:
    """Forget what former runs could not make: the networks, or the machine, may be others."""
    folder.remove(*LEFT_OUT)


def _path(mark: str) -> Part:
    return (*LEFT_OUT, f"{mark}.json")


@dataclass(frozen=True)
class _Attempt:
    """A step that may fail."""

    begin: Callable[[], Step]
    what: str
    mark: str
    folder: RunFolder
    about: str
    made: Part

    @cached_property
    def step(self) -> Step:
        """The step, opened when it is first needed: that may fail as well."""
        return self.begin()

    def do(self, piece: int, progress: OnProgress = silent) -> None:
        """Do a piece, or write down why it cannot be done.

        Raises:
            RunError: The run folder is damaged, or of other networks.
            OSError: It cannot be written.
        """
        try:
            self.step.do(piece, progress)
        except (RunError, OSError):
            raise
        except Exception as error:  # whatever a network of the user's, or a library that draws, raises
            if self.made:
                self.folder.remove(*self.made)
            self.folder.write_json(without(self.what, error, self.about)._asdict(), *_path(self.mark))

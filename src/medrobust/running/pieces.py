"""Work that is cut into pieces, which can be done in any order and by any process."""

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from medrobust.core import OnProgress, silent


@runtime_checkable
class Step(Protocol):
    """Some work, opened: what all of its pieces need is at hand."""

    def do(self, piece: int, progress: OnProgress = silent) -> None:
        """Do a piece and put its results in the run folder, last of all what says that it is finished.

        Args:
            piece: Which one.
            progress: Told how far the piece is.
        """


def do_pieces(step: Step, pieces: Collection[int], progress: OnProgress = silent) -> None:
    """Do some pieces one after the other.

    Args:
        step: What they are pieces of.
        pieces: Which ones.
        progress: Told the share of them that is done.
    """
    for number, piece in enumerate(pieces):

        def inner(done: float, note: str, before: int = number) -> None:
            progress((before + done) / len(pieces), note)

        step.do(piece, inner)
    progress(1.0, "")

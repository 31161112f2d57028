"""How many images are worked on together: fewer from the moment that memory runs out."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Result = TypeVar("Result")


class Limit:
    """Images that are worked on together. It is shared by all steps of a process, and only ever shrinks.

    Attributes:
        size: How many at most.
        shrunk: True from the moment that memory did not suffice.
    """

    def __init__(self, size: int = 16) -> None:
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}.")
        self.size = size
        self.shrunk = False

    def parts(self, count: int, work: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
        """Do work on so many images, part by part; a part that memory does not suffice for is halved.

        Args:
            count: Number of images.
            work: Done on a part of them; done again on each half where it ran out of memory.

        Yields:
            The place of a part and what the work gave.

        Raises:
            MemoryError: It does not suffice for a single image; of a GPU `torch.OutOfMemoryError`.
        """
        start = 0
        while start < count:
            place = slice(start, min(start + self.size, count))
            try:
                result = work(place)
            except (MemoryError, torch.OutOfMemoryError):
                if place.stop - place.start == 1:
                    raise
                self.size, self.shrunk = (place.stop - place.start + 1) // 2, True
                _give_back()
                continue
            yield place, result
            start = place.stop


def _give_back() -> None:
    """Return what PyTorch keeps for later, so that smaller blocks can be had."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""When memory runs out, fewer images are worked on together, for good."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medrobust.running.batches import Limit


class Memory:
    """Work that needs memory for every image."""

    def __init__(self, room: int, error: type[Exception] = MemoryError) -> None:
        self.room, self.error = room, error
        self.tried: list[int] = []

    def __call__(self, place: slice) -> Sequence[int]:
        self.tried.append(place.stop - place.start)
        if place.stop - place.start > self.room:
            raise self.error
        return range(place.start, place.stop)


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 40))
def test_every_image_is_done_once_and_in_order(count: int, size: int, room: int) -> None:
    limit, memory = Limit(size), Memory(room)
    done = [image for _, part in limit.parts(count, memory) for image in part]
    assert done == list(range(count))
    assert limit.size <= size
    assert limit.shrunk is (min(size, count) > room)


def test_it_stays_small() -> None:
    limit, memory = Limit(16), Memory(5, torch.OutOfMemoryError)
    assert [part for part, _ in limit.parts(20, memory)] == [slice(n, n + 4) for n in range(0, 20, 4)]
    assert memory.tried == [16, 8, 4, 4, 4, 4, 4]
    list(limit.parts(8, memory))
    assert memory.tried[7:] == [4, 4]


def test_a_single_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(MemoryError):
        list(Limit(4).parts(4, Memory(0)))


def test_other_errors_are_not_tried_again() -> None:
    memory = Memory(1, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        list(Limit(4).parts(4, memory))
    assert memory.tried == [4]


def test_no_image_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Limit(0)

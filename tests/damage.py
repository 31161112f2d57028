"""Damaged files: what a disk, a download or somebody with bad intentions makes of good ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from medrobust.errors import DataError


@st.composite
def damaged(draw: st.DrawFn, content: bytes, changes: int = 4) -> bytes:
    """A content with up to `changes` bytes changed, cut short or not."""
    some = bytearray(content)
    for _ in range(draw(st.integers(0, changes))):
        some[draw(st.integers(0, len(some) - 1))] = draw(st.integers(0, 255))
    return bytes(some[: draw(st.integers(0, len(some)) | st.just(len(some)))])


@contextmanager
def only_errors_that_name(path: Path) -> Iterator[None]:
    """What is inside may work, or fail with a DataError about the file."""
    try:
        yield
    except DataError as error:
        if path.name not in str(error):
            raise AssertionError(f"does not name the file: {error}") from error

"""Before anything is imported: one thread per process and, on demand, checks of the shapes in annotations."""

import os
from typing import Any

import hypothesis
import pytest

# The time of an example says nothing on a shared machine.
hypothesis.settings.register_profile("without deadlines", deadline=None)
hypothesis.settings.load_profile("without deadlines")

# Several test processes that use all cores each are slower by far than single-threaded ones.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def check_shapes() -> None:
    """Check every annotation at every call, and let `pytest.raises` accept that a wrong argument stops there.

    Not the default, since it would hide the messages that users get.
    """
    from jaxtyping import TypeCheckError, install_import_hook

    install_import_hook("medrobust", "annotations.check")
    raises = pytest.raises

    def raises_at_the_latest(expected: Any, *, match: str = "") -> Any:
        return raises((expected, TypeCheckError), match=f"(?s)Type-check error|(?:{match})")

    pytest.raises = raises_at_the_latest  # type: ignore[assignment]


if os.environ.get("MEDROBUST_CHECK_SHAPES"):  # `make test-shapes`
    check_shapes()

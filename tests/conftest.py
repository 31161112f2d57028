"""Before anything is imported: one thread per process and, on demand, checks of the shapes in annotations.

Also the browser, which tests of several folders open pages with.
"""

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import jaxtyping
import pytest
from playwright.sync_api import Browser, Page

import annotations
import browsing
from medrobust.threads import sharing_cores

# The time of an example says nothing on a shared machine.
hypothesis.settings.register_profile("without deadlines", deadline=None)
hypothesis.settings.load_profile("without deadlines")

# Several test processes that use all cores each are slower by far than single-threaded ones.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(sharing_cores(os.environ))


def check_shapes() -> None:
    """Check every annotation at every call, and let `pytest.raises` accept that a wrong argument stops there.

    Not the default, since it would hide the messages that users get.
    """
    jaxtyping.jaxtyped = annotations.jaxtyped  # type: ignore[assignment]
    jaxtyping.install_import_hook("medrobust", "annotations.check")
    raises = pytest.raises

    def raises_at_the_latest(expected: Any, *, match: str = "") -> Any:
        said = f"(?s)Type-check error|violates type hint|(?:{match})"
        return raises((expected, jaxtyping.TypeCheckError), match=said)

    pytest.raises = raises_at_the_latest  # type: ignore[assignment]


if os.environ.get("MEDROBUST_CHECK_SHAPES"):  # `make test-shapes`
    check_shapes()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Ends with its module: the event loop that it keeps running would be in the way of other tests."""
    with browsing.chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A window that shows pages without fault, or the test fails."""
    with browsing.flawless(chromium.new_page(viewport={"width": 1360, "height": 844})) as page:
        yield page


@pytest.fixture
def phone(chromium: Browser) -> Iterator[Page]:
    """The same as narrow as a telephone."""
    narrow = chromium.new_page(viewport={"width": 400, "height": 844}, is_mobile=True)
    with browsing.flawless(narrow) as page:
        yield page

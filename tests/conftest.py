"""Before anything is imported: one thread per process, and checks of the shapes in annotations.

Also the browser, which tests of several folders open pages with.
"""

import os
from collections.abc import Iterator
from pathlib import Path
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


jaxtyping.jaxtyped = annotations.jaxtyped  # type: ignore[assignment]
jaxtyping.install_import_hook("medrobust", "annotations.check")
plain_raises = pytest.raises

CHECKED = {
    f"contract/test_{name}.py"
    for name in ("corruptions", "datasets", "models", "perturbation_inputs", "perturbations")
}
"""Tests that check every annotation at every call, which takes half their time; `make test-shapes`: all."""


def raises(expected: Any, **keywords: Any) -> Any:
    """As in pytest; where annotations are checked, a wrong argument may stop there."""
    if not annotations.checking:
        return plain_raises(expected, **keywords)
    said = f"(?s)Type-check error|violates type hint|(?:{keywords.get('match', '')})"
    return plain_raises((expected, jaxtyping.TypeCheckError), match=said)


pytest.raises = raises  # type: ignore[assignment]


@pytest.fixture(scope="module", autouse=True)
def shapes(request: pytest.FixtureRequest) -> None:
    """Not in all tests, since it would hide the messages that users get."""
    where = request.path.relative_to(Path(__file__).parent).as_posix()
    annotations.checking = where in CHECKED or "MEDROBUST_CHECK_SHAPES" in os.environ


@pytest.fixture(scope="session", autouse=True)
def written_without_waiting() -> Iterator[None]:
    """Only where power fails does it matter whether the disk has what was written, and no test does that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def blank_figures() -> Iterator[None]:
    """For tests that make reports and look at no figure: to render these takes most of a report's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "medrobust.report.style._saved", lambda *_, **__: b'<svg xmlns="http://www.w3.org/2000/svg"/>'
        )
        yield


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

"""Runs whose reports hold blank figures: drawing takes longest, and `tests/unit/report` looks at figures."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _blank(blank_figures: None) -> None:
    """In all modules of this folder."""

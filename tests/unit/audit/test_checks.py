"""Checks on their own, where no planted fault reaches."""

import numpy as np
import pytest

from medrobust.audit.photos import TOO_WIDE, WIDE, expected_interval
from medrobust.audit.scans import FEWEST_PAIRS, Pair, side_pairs
from medrobust.core import sides_of
from medrobust.data.scans.structures import STRUCTURES


@pytest.mark.parametrize(
    ("classes", "pairs"),
    [
        (("background", "left kidney", "right kidney", "liver"), [Pair(1, 2)]),
        (("bg", "Right-Putamen", "Left-Putamen"), [Pair(2, 1)]),
        (("bg", "ctx-lh-cuneus", "ctx-rh-cuneus", "Left-Cerebral-Cortex"), [Pair(1, 2)]),
        (("bg", "kidney L", "kidney R"), [Pair(1, 2)]),
        (("bg", "L1", "left over"), []),
        (("bg", "vertebra l", "r"), []),
    ],
)
def test_structures_of_two_sides(classes: tuple[str, ...], pairs: list[Pair]) -> None:
    assert side_pairs(classes) == pairs


def test_sides_that_change_names() -> None:
    assert sides_of(("bg", "Left-Putamen", "kidney L", "Right-Putamen", "kidney R", "liver")) == (
        0,
        3,
        4,
        1,
        2,
        5,
    )
    assert sides_of(("bg", "left over")) is None


def test_all_sided_structures_of_the_paper_have_a_partner() -> None:
    sided = [name for name in STRUCTURES if name.startswith(("left", "right"))]
    assert 2 * len(side_pairs(STRUCTURES)) == len(sided)


def test_limits_of_the_interval_are_those_that_the_documents_give() -> None:
    widths = {n: expected_interval(n).high - expected_interval(n).low for n in range(2, 60)}
    assert all(widths[n] >= TOO_WIDE for n in widths if n <= 19)
    assert all(widths[n] < TOO_WIDE for n in widths if n >= 20)
    assert all(widths[n] >= WIDE for n in widths if n <= 45)
    assert all(widths[n] < WIDE for n in widths if n >= 46)
    assert np.isnan(expected_interval(1).low)


def test_fewer_pairs_cannot_be_significant() -> None:
    assert 2 * 0.5**FEWEST_PAIRS < 0.05 <= 2 * 0.5 ** (FEWEST_PAIRS - 1)

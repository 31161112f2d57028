"""What a self-test says, and how much a few images allow it to say."""

from collections.abc import Mapping
from typing import NamedTuple

from scipy.stats import binom

PLAUSIBLE = 0.05
"""Counts that are less likely than this, were all well, are taken for a fault."""

PIXELS = 0.02
"""Shares of pixels may differ by this much before anything is made of it; shares of images by one image."""

CHECKS: Mapping[str, str] = {
    "deterministic": "Two passes of the same images give the same logits, and so does each image alone.",
    "logits": "The network gives finite logits, not probabilities.",
    "gradients": "Nearly all entries of the gradient are finite, and it is zero for no image.",
    "noise": "The attack beats random noise of the same size.",
    "budget": "A larger budget makes it stronger.",
    "steps": "More steps never make it weaker.",
    "chance": "With a large budget the network does no better than chance.",
    "binarisation": "It finds adversarial examples that are known to exist.",
}
"""Every check and what passing it means, in the order in which they are made."""


class Check(NamedTuple):
    """What one self-test saw.

    Attributes:
        name: One of `CHECKS`.
        passed: None where it does not apply, or where these images do not tell.
        value: The number that was judged; None without one.
        seen: What was seen and, where it failed, what to do about it.
    """

    name: str
    passed: bool | None
    value: float | None
    seen: str


def not_asked(name: str, why: str) -> Check:
    """A check that does not apply, or cannot tell."""
    return Check(name, None, None, why)


def plausible(share: float, n: int, expected: float) -> bool:
    """Whether a share of `n` images may be chance where `expected` or more is the rule."""
    return bool(binom.cdf(round(share * n), n, expected) >= PLAUSIBLE)


def percent(share: float) -> str:
    """A share as people say it."""
    return f"{100 * share:.0f} %"

"""What a self-test says, and how much a few images allow it to say."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.stats import binom
from torch import Tensor

from medrobust.core import UNKNOWN
from medrobust.perturbations.checks import task_of
from medrobust.perturbations.gradients import Model, margin, predict
from medrobust.perturbations.request import Request, perturb

PLAUSIBLE = 0.05
"""Counts that would be less likely than this, were all well, are taken for a fault."""

PIXELS = 0.02
"""Fractions of pixels that differ by no more count as equal; of images or findings one may differ."""

Verdict = tuple[bool | None, float | None, str]
"""Whether a check is passed (None: it does not apply, or these images cannot tell), the number that was
judged (None: there is none), and what was seen and, if it failed, what to do about it."""


def verdict(passed: bool, value: float, seen: str, fault: str) -> Verdict:
    """The verdict on an attack: what was seen and, if it failed, the fault."""
    return passed, value, f"{seen}." if passed else f"{seen}: {fault}"


def plausible(share: float, n: int, expected: float) -> bool:
    """Whether a fraction of `n` images may be chance where `expected` or more is the rule."""
    return bool(binom.cdf(round(share * n), n, expected) >= PLAUSIBLE)


def percent(share: float) -> str:
    """A fraction in words."""
    return f"{100 * share:.0f} %"


class Outcome(NamedTuple):
    """What images do to the network.

    Attributes:
        fooled: Fraction of the judged labels of each image that are as the attack wants them; NaN where none
            is judged.
        wrong: Fraction of them that are wrong.
        margin: Mean of how far the logits are on the attack's side, above 0 where it succeeded. It
            distinguishes attacks that fool equally many of a few images.
    """

    fooled: Float[Tensor, " n"]
    wrong: Float[Tensor, " n"]
    margin: Float[Tensor, " n"]

    @property
    def success(self) -> float:
        """Mean fraction that is fooled."""
        return float(self.fooled.nanmean())

    def beats(self, other: "Outcome", tolerance: float) -> bool:
        """Whether it fools more or, where that is within the tolerance, goes farther."""
        lead = self.success - other.success
        return lead > tolerance or (
            lead >= -tolerance and bool(self.margin.nanmean() > other.margin.nanmean())
        )


@dataclass(frozen=True)
class Probe:
    """An attack and the images that it is tried on.

    Attributes:
        request: The attack, its budget solved.
        model: Network under attack, in evaluation mode.
        images: Clean images in [0, 1].
        labels: True classes, one per image or one per pixel.
        support: Where images may change; None: everywhere.
        rngs: One generator per image; copied, so that all attempts make the same draws.
        targets: What a targeted attack wants; else None.
    """

    request: Request
    model: Model
    images: Float[Tensor, "n c *space"]
    labels: Int64[Tensor, "n *labelspace"]
    support: Bool[Tensor, "n 1 *space"] | None
    rngs: Sequence[np.random.Generator]
    targets: Int64[Tensor, "n *labelspace"] | None

    def attack(self, **changed: Any) -> Float[Tensor, "n c *space"]:
        """Attack with some parameters changed; those that the attack does not have are ignored."""
        known = self.request.parameters
        parameters = {**known, **{key: value for key, value in changed.items() if key in known}}
        return perturb(
            replace(self.request, parameters=parameters),
            self.model,
            self.images,
            self.labels,
            support=self.support,
            rngs=copy.deepcopy(self.rngs),
            targets=self.targets,
        )

    @cached_property
    def attacked(self) -> Float[Tensor, "n c *space"]:
        """The images attacked as asked for."""
        return self.attack()

    @cached_property
    def attacked_outcome(self) -> Outcome:
        """What the attacked images do to the network."""
        return self.outcome(self.attacked)

    @cached_property
    def judged(self) -> Bool[Tensor, "n *labelspace"]:
        """Labels that the attack aims at: those with another target, else all known ones in the support."""
        if self.targets is not None:
            return self.targets != self.labels
        known = self.labels != UNKNOWN
        if self.support is None or not task_of(self.labels).has_maps:
            return known
        return known & self.support[:, 0]

    @property
    def takes_steps(self) -> bool:
        """Whether the attack follows the gradient for several steps."""
        return "steps" in self.request.parameters

    @property
    def tolerance(self) -> float:
        """By how much two fractions may differ and still count as equal."""
        return PIXELS if task_of(self.labels).has_maps else 1 / int(self.judged.sum())

    def outcome(self, images: Float[Tensor, "n c *space"]) -> Outcome:
        """What images do to the network."""
        logits = predict(self.model, images)
        shown = logits.max(1).indices
        wrong = shown != self.labels
        if self.targets is None:
            lead = margin(logits, self.labels.clamp_min(0))
            return Outcome(self._mean(wrong), self._mean(wrong), self._mean(lead))
        lead = -margin(logits, self.targets.clamp_min(0))
        return Outcome(self._mean(shown == self.targets), self._mean(wrong), self._mean(lead))

    def _mean(self, values: Tensor) -> Float[Tensor, " n"]:
        """Mean over the judged labels of each image."""
        judged = self.judged.reshape(len(self.labels), -1)
        kept = values.reshape(len(self.labels), -1).float().masked_fill(~judged, 0)
        return kept.sum(1) / judged.sum(1)

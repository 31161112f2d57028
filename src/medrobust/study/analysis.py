"""What a study asked for, as far as its analysis must know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from medrobust.core import Task

RELEVANT_DIFFERENCE: Mapping[Task, float] = {Task.SEGMENTATION: 0.02, Task.CLASSIFICATION: 0.05}
"""Smallest difference of Dice and of accuracy that matters, where a study does not say: a hundred photographs
cannot tell accuracies that are nearer, whatever they show."""

IntervalMethod = Literal["default", "percentile", "bca", "bootstrap-t"]


class Attack(NamedTuple):
    """An attack of the study.

    Attributes:
        label: Its name in the rows.
        beyond_paper: The paper did not have it: it stands in the tables but enters no average.
        budget: The parameter that was solved for an SSIM; None where none was.
        ssim: The SSIM that it was solved for.
        curve: The curve over budgets that it is a point of; None: of none. Points enter no average.
        value: Its budget, as a point of a curve.
    """

    label: str
    beyond_paper: bool = False
    budget: str | None = None
    ssim: float | None = None
    curve: str | None = None
    value: float | None = None


@dataclass(frozen=True)
class Settings:
    """How numbers are judged.

    Attributes:
        confidence: Level of the intervals; tests are made at `1 - confidence`.
        resamples: Bootstrap resamples and sampled sign patterns.
        relevant_difference: Smallest difference of scores that matters; None: that of the task.
        interval: Closed forms of the protocol, or a bootstrap over patients.
        surface_tolerance: Of surface distances, as asked for; their rows name the one that was taken.
        seed: Seed of the study; resampling depends on it only.
    """

    confidence: float = 0.95
    resamples: int = 10_000
    relevant_difference: float | None = None
    interval: IntervalMethod = "default"
    surface_tolerance: float | None = None
    seed: int = 0

    @property
    def alpha(self) -> float:
        """Level of the tests."""
        return round(1 - self.confidence, 12)

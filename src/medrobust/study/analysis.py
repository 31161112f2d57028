"""The parts of a study that its analysis needs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.metrics.catalogue import SCORES, Score

PRIMARY: Mapping[Task, str] = {
    Task.SEGMENTATION: "dice",
    Task.CLASSIFICATION: "accuracy",
    Task.MULTILABEL: "auroc",
}
"""The score that networks are judged by where a study does not say."""

RELEVANT_DIFFERENCE: Mapping[Task, float] = {
    Task.SEGMENTATION: 0.02,
    Task.CLASSIFICATION: 0.05,
    Task.MULTILABEL: 0.05,
}
"""Smallest difference of Dice, accuracy and AUROC that matters, where a study does not say: a hundred
photographs cannot distinguish closer accuracies."""

ORIENTATION = "orientation"
"""The family of wrong orientations: without severities, and in no mean over corruptions."""

IntervalMethod = Literal["default", "percentile", "bca", "bootstrap-t"]


class Attack(NamedTuple):
    """An attack of the study.

    Attributes:
        label: Its name in the rows.
        beyond_paper: Not in the paper: it is shown in the tables but enters no average.
        budget: The parameter that was solved for an SSIM; None where none was.
        ssim: The SSIM that it was solved for.
        curve: Curve over budgets that it is a point of, if any. Points enter no average.
        value: Its budget, as a point of a curve.
        finding: The finding that it is to turn, by name or number; None: all, or there are none.
        needs: What it uses of the network: "gradient", "scores", "decisions" or "nothing".
        crafted_on: The networks that it was crafted on: "surrogates", "targets", "both" or "ensemble".
        norm: Norm that its budget is in, or that it makes small; None without one.
        minimal: Whether it looks for the smallest change.
        share: Fraction of the labels of an image that are wrong where it has what it looks for.
        cases: Most cases that it was crafted on; None: all of the study.
    """

    label: str
    beyond_paper: bool = False
    budget: str | None = None
    ssim: float | None = None
    curve: str | None = None
    value: float | None = None
    finding: str | int | None = None
    needs: str = "gradient"
    crafted_on: str = "surrogates"
    norm: str | None = None
    minimal: bool = False
    share: float = 1.0
    cases: int | None = None

    @property
    def sources(self) -> tuple[bool, bool]:
        """Alike for attacks that were crafted on the same sources."""
        return self.crafted_on == "ensemble", self.needs == "gradient"


class Ladder(NamedTuple):
    """The threat-model ladder of a study: attackers who know more and more, with one budget.

    Attributes:
        eps: The budget, in the L-infinity norm.
        attacks: Labels of its attacks; these enter no average.
        noise: Labels of its noise.
    """

    eps: float
    attacks: tuple[str, ...]
    noise: tuple[str, ...] = ()

    def limited(self, labels: Collection[str]) -> "Ladder | None":
        """Those of its rungs that have these labels; None where no attack is left."""
        attacks, noise = (tuple(each for each in own if each in labels) for own in self[1:])
        return Ladder(self.eps, attacks, noise) if attacks else None


class Corruption(NamedTuple):
    """A corruption of the study at one strength.

    Attributes:
        label: Its name in the rows.
        family: Name that its strengths share.
        severity: Its step, or where it has none the strength itself; 1 - SSIM where that is solved for; None
            of wrong orientations.
        value: The parameter that sets its strength; None where that is solved image by image.
        unit: Of `value`.
        moves: Whether pixels move, and labels with them, so that its clean score is taken at the same pixels.
        preset: Where its steps are from; None without steps.
        ssim: The SSIM that its strength is solved for, image by image.
        trained_on: Networks that were trained on it. It is then in no mean over corruptions.
    """

    label: str
    family: str
    severity: float | None
    value: float | None = None
    unit: str = ""
    moves: bool = False
    preset: str | None = None
    ssim: float | None = None
    trained_on: tuple[str, ...] = ()


class Transform(NamedTuple):
    """A transform of the study, searched in one way.

    Attributes:
        label: Its name in the rows.
        family: Name that its searches share.
        search: How it was searched: "random", "worst" or "optimised".
        unit: Of its strength.
        moves: Whether pixels move, and labels with them, so that its clean score is taken at the same pixels.
    """

    label: str
    family: str
    search: str
    unit: str = ""
    moves: bool = False


@dataclass(frozen=True)
class Settings:
    """How numbers are judged.

    Attributes:
        confidence: Level of the intervals; tests are made at `1 - confidence`.
        resamples: Bootstrap resamples and sampled sign patterns.
        relevant_difference: Smallest difference of scores that matters; None: that of the task.
        interval: Closed forms of the protocol, or a bootstrap over patients.
        surface_tolerance: Of surface distances, as asked for; their rows name the one that was taken.
        score: The primary score as asked for, see `primary_score`.
        baseline: Network that errors under corruptions are divided by; None: the first one.
        endpoints: Mistakes by name as asked for, see `study.endpoints`.
        costs: Costs of mistakes, by true and by predicted class.
        seed: Seed of the study; resampling depends on it only.
    """

    confidence: float = 0.95
    resamples: int = 10_000
    relevant_difference: float | None = None
    interval: IntervalMethod = "default"
    surface_tolerance: float | None = None
    score: object = None
    baseline: str | None = None
    endpoints: tuple[Mapping[str, Any], ...] = ()
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seed: int = 0

    @property
    def alpha(self) -> float:
        """Level of the tests."""
        return round(1 - self.confidence, 12)


def primary_score(given: object, task: Task, where: str = "analysis.score") -> Score:
    """The score that a study judges networks by.

    Args:
        given: A name of the catalogue or of an installed package, `{"load": "package.module:function"}`, or
            in Python a function or `Score`; None: that of the task.
        task: What the networks do.
        where: Where it stands, for messages.

    Raises:
        StudyError: The name is unknown, it cannot be imported, is not a score, or is one for another task.
    """
    if given is None:
        return SCORES[PRIMARY[task]]
    if isinstance(given, Mapping):
        if len(given) != 1 or not {"name", "load"} >= given.keys():
            raise StudyError(
                f"{where} must be a name, or `load: package.module:function`; got keys"
                f" {', '.join(map(str, given)) or 'none'}."
            )
        ((how, what),) = given.items()
        score = SCORES.named(what, where) if how == "name" else SCORES.loaded(what, where)
    else:
        score = SCORES.named(given, where) if isinstance(given, str) else SCORES.loaded(given, where)
    if task not in score.tasks:
        fitting = ", ".join(name for name in SCORES if task in SCORES[name].tasks)
        raise StudyError(
            f"{where}: {score.name} is a score of {score.tasks[0]}, and this study is one of {task}. Choose"
            f" {fitting}, or load one of your own."
        )
    return score

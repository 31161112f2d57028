"""What a line of the catalogue says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from medrobust.core import Task
from medrobust.perturbations.presets import OnFailure, OnMisclassified, Preset


@dataclass(frozen=True)
class Perturbation:
    """An entry of the catalogue.

    Attributes:
        function: `(model, images, labels, *, support=None, rngs=None, <parameters>) -> images`.
        kind: Whether it is an attack, noise, or nothing at all.
        tasks: What it can be used for.
        revision: Raised with every change of its results.
        summary: One sentence for tables.
        source: The publication.
        targets: Maker of targets `(labels, *, rngs, spacing, <parameters>)`, for attacks that need one per
            pixel.
        presets: Its presets by name.
        budget: The parameter that a study may give as `{ssim: s}`.
        default_ssim: SSIM that the budget is solved for where a study gives none.
        minimal: Looks for the smallest perturbation, and so has no budget.
        on_misclassified: What happens to images that the source already gets wrong.
        on_failure: What is stored where it fails.
        whitebox: Is also run on each target itself.
        check: Raises StudyError for parameters that do not fit the task or each other; takes them, the task
            and where they were written.
        passes: Forward passes with input gradient that an image usually takes, given the parameters; for
            estimates of time only.
        beyond_paper: Stays out of the averages that follow the paper.
    """

    function: Callable[..., Tensor]
    kind: Literal["clean", "noise", "attack"]
    tasks: tuple[Task, ...]
    revision: int
    summary: str
    source: str
    targets: Callable[..., Tensor] | None = None
    presets: Mapping[str, Preset] = field(default_factory=dict)
    budget: str | None = None
    default_ssim: float | None = None
    minimal: bool = False
    on_misclassified: OnMisclassified = "attack"
    on_failure: OnFailure = "last"
    whitebox: bool = False
    check: Callable[[Mapping[str, Any], Task, str], None] | None = None
    passes: Callable[[Mapping[str, Any]], float] = lambda parameters: 1.0
    beyond_paper: bool = False

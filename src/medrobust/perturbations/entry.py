"""What a line of the catalogue says."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.errors import unknown
from medrobust.perturbations.gradients import Model


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


Attack = Callable[..., Tensor]

OnMisclassified = Literal["attack", "keep", "drop"]
"""What happens to images the source already gets wrong; `drop`: the default, and a table without them."""

OnFailure = Literal["last", "clean"]
"""What is stored where an attack fails: its last iterate, or the clean image."""


@dataclass(frozen=True)
class Preset:
    """Parameters and policies of a named source.

    Attributes:
        parameters: Keyword arguments of the attack that differ from its own defaults.
        source: Where they were read.
        on_misclassified: Policy for images that the source already gets wrong; None: the attack's own.
        on_failure: Policy for attacks that fail; None: the attack's own.
    """

    parameters: Mapping[str, Any]
    source: str
    on_misclassified: OnMisclassified | None = None
    on_failure: OnFailure | None = None


def choose(presets: Mapping[str, Preset], name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: There is none; the message suggests the nearest.
    """
    if name not in presets:
        raise ValueError(unknown("preset", name, presets))
    return presets[name]


def accepts_preset(presets: Mapping[str, Preset]) -> Callable[[Attack], Attack]:
    """Give an attack the keyword `preset`: the preset replaces defaults, explicit parameters win."""

    def decorate(attack: Attack) -> Attack:
        @functools.wraps(attack)
        def with_preset(
            model: Model, images: Tensor, labels: Tensor, *, preset: str | None = None, **given: Any
        ) -> Tensor:
            parameters = {} if preset is None else choose(presets, preset).parameters
            return attack(model, images, labels, **{**parameters, **given})

        return with_preset

    return decorate


@dataclass
class Tally:
    """Filled by an iterated attack that is given one; it never changes a result.

    Attributes:
        steps: Steps taken for each image.
        n_active: Pixels of each image that the attack set out to change (segmentation); 0: it had nothing to
            do.
    """

    steps: Int64[Tensor, " n"] | None = None
    n_active: Int64[Tensor, " n"] | None = None

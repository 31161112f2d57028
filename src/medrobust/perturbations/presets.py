"""Presets: an attack as a paper, or a library, ran it. A preset is data; its name says its source."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from medrobust.errors import unknown
from medrobust.perturbations.gradients import Model

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

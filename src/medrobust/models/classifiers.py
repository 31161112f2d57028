"""Classification networks of timm."""

from difflib import get_close_matches
from functools import partial
from typing import Annotated, Any

from annotated_types import Interval
from torch import nn

from medrobust.core import Task
from medrobust.errors import StudyError, unknown
from medrobust.models.spec import Architecture

TIMM_NAMES = {"mobilenet_v1": "mobilenetv1_100"}
"""Networks that timm calls otherwise."""


def classifier(
    name: str,
    *,
    classes: int,
    channels: int,
    dimensions: int,
    keep_probability: Annotated[float, Interval(gt=0, le=1)] = 0.8,
    pretrained: bool = False,
) -> nn.Module:
    """Build a network of timm.

    Args:
        name: Its name in timm.
        classes: Outputs of its last layer.
        channels: Channels that it takes.
        dimensions: 2; timm has no networks for volumes.
        keep_probability: Share of features that dropout before the last layer keeps in training.
        pretrained: Download its ImageNet weights.

    Raises:
        ValueError: `dimensions` is not 2.
    """
    import timm

    if dimensions != 2:
        raise ValueError(f"'{name}' takes images with 2 spatial dimensions, got {dimensions}.")
    return timm.create_model(
        name, pretrained=pretrained, num_classes=classes, in_chans=channels, drop_rate=1 - keep_probability
    )


def timm_architecture(name: str, summary: str = "", source: str = "") -> Architecture:
    """Catalogue entry of a network of timm; timm itself is not imported before it is built."""
    return Architecture(
        build=partial(classifier, TIMM_NAMES.get(name, name)),
        task=Task.CLASSIFICATION,
        summary=summary or f"timm's {name}",
        source=source or "Wightman, PyTorch Image Models (timm)",
        timm=True,
    )


def find_in_timm(name: str, catalogue: Any) -> Architecture:
    """Entry of a network that only timm knows.

    Raises:
        StudyError: timm does not know it either; names the nearest.
    """
    import timm

    if name.startswith("hf") or not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3)
        raise StudyError(
            f"{unknown('model', name, [*catalogue, *near])} Any classification network of timm is known too."
        )
    return timm_architecture(name)

"""Classification networks of timm, which is imported only when one is built."""

from typing import Annotated

from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor, nn


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
        keep_probability: Fraction of features that dropout before the last layer keeps in training.
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


def before_classifier(body: nn.Module, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
    """Pooled features of a network of timm, as its last layer sees them."""
    return body.forward_head(body.forward_features(images), pre_logits=True)  # type: ignore[operator, no-any-return]

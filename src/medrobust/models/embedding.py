"""What a network knows about an image, as one vector: the features that a t-SNE shows."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from medrobust.errors import ModelError
from medrobust.models.layers import spatial_mean

Embedding = Callable[[nn.Module, Tensor], Tensor]
"""`(body, prepared images n c *space) -> features n d`."""


def before_classifier(body: nn.Module, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
    """Pooled features of a timm network, as its last layer sees them."""
    return body.forward_head(body.forward_features(images), pre_logits=True)  # type: ignore[operator, no-any-return]


def bottleneck_mean(body: nn.Module, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
    """Mean over space of the deepest feature maps of a segmentation network."""
    return spatial_mean(body.bottleneck(images))  # type: ignore[operator]


def last_layer_input(body: nn.Module, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
    """What goes into the linear or convolution layer that runs last, averaged over space.

    For networks of the user's, of which nothing else is known.

    Raises:
        ModelError: The network runs no such layer.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = inputs[:1]

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [part.register_forward_pre_hook(keep) for part in body.modules() if isinstance(part, kinds)]
    try:
        body(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ModelError(
            "The network has no linear or convolution layer whose input could be its features. "
            "Put one at its end."
        )
    return spatial_mean(seen[0])

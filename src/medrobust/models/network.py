"""The wrapper around every network: images in [0, 1] in, logits out."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medrobust.models.embedding import Embedding


class Network(nn.Module):
    """A network that takes the images of a study as they are.

    Channels, normalisation and size are changed inside, differentiably. A single logit z becomes the two
    logits (0, z); logit maps of another size than the image are resized to it.

    Attributes:
        body: The network itself; its state dict is what weight files hold.
        classes: Number of classes.
        channels: Channels that the body takes.
        recipe: What the body was made from, as plain data.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        *,
        classes: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        size: tuple[int, ...] | None,
        embedding: Embedding,
        recipe: dict[str, object] | None = None,
    ) -> None:
        """Wrap `body`.

        Args:
            body: Takes normalised images `n channels *size`, gives logits `n classes` or `n classes *space`.
            classes: Number of classes.
            channels: Channels that the body takes.
            mean: Subtracted, per channel.
            std: Divided by, per channel.
            size: Size that the body takes; None is any.
            embedding: Gives the features of prepared images.
            recipe: What the body was made from.
        """
        super().__init__()
        self.body = body
        self.classes = classes
        self.channels = channels
        self.size = size
        self.embedding = embedding
        self.recipe = recipe or {}
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *maps"]:
        """Logits of images in [0, 1]."""
        logits: Tensor = self.body(self.prepared(images))
        if self.classes == 2:
            logits = _two_logits(logits)
        if logits.ndim > 2 and logits.shape[2:] != images.shape[2:]:
            logits = _resized(logits, tuple(images.shape[2:]))
        return logits

    def features(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
        """One vector per image: what the last layer sees; in segmentation the mean of the bottleneck."""
        return self.embedding(self.body, self.prepared(images))

    def prepared(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d *size"]:
        """Images with the channels, size and normalisation that the body takes."""
        if self.size is not None and tuple(images.shape[2:]) != self.size:
            images = _resized(images, self.size)
        if images.shape[1] == 1 and self.channels > 1:
            images = images.expand(-1, self.channels, *images.shape[2:])
        per_channel = (-1, *[1] * (images.ndim - 2))
        return (images - self.mean.view(per_channel)) / self.std.view(per_channel)


def _two_logits(logits: Tensor) -> Tensor:
    """(0, z) for a single logit z: the same decision and probability as a sigmoid of z."""
    single = logits.unsqueeze(1) if logits.ndim == 1 else logits
    return torch.cat([torch.zeros_like(single), single], 1) if single.shape[1] == 1 else logits


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    if len(size) == 3:
        return F.interpolate(maps, size, mode="trilinear", align_corners=False)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)

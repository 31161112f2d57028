"""The wrapper around every network: images in [0, 1] in, logits out."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medrobust.errors import ModelError
from medrobust.models.embedding import Embedding
from medrobust.outputs import main_output


class Network(nn.Module):
    """A network that takes the images of a study as they are.

    Channels, normalisation and size are changed inside, differentiably, on copies of the images. Of several
    outputs the main one counts. A single logit z becomes the two logits (0, z); logit maps of another size
    than the image are resized to it.

    Attributes:
        body: The network itself; its state dict is what weight files hold.
        classes: Number of classes.
        channels: Channels that the body takes.
        recipe: What the body was made from, as plain data.
        channels_last: Whether kernels and images may be put into that memory format, which is the fastest;
            False for a body that takes `view`s of its feature maps.
        note: What was changed so that it runs, a sentence; empty where nothing was.
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
        self.channels_last = True
        self.note = ""
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *maps"]:
        """Logits of images in [0, 1]."""
        logits = self.raw(images)
        if self.classes == 2 and logits.shape[1] == 1:  # the same decision and probability as a sigmoid's
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        if logits.ndim > 2 and logits.shape[2:] != images.shape[2:]:
            logits = _resized(logits, tuple(images.shape[2:]))
        return logits

    def raw(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *maps"]:
        """The body's main output as it is, but in float32 and with all of its axes.

        Axes that a `squeeze` or `flatten` took away, of the only image of a batch or of a single logit, are
        put back. Of the levels that deep supervision stacks behind the batch axis the first is taken.

        Raises:
            ModelError: There are not as many outputs as images.
        """
        logits = main_output(self.body(self.prepared(images))).float()
        if logits.shape[:1] != images.shape[:1]:
            if len(images) > 1:
                raise ModelError(
                    f"The network gives an output of shape {tuple(logits.shape)} for {len(images)} images. "
                    "Return one row of logits for each image."
                )
            logits = logits.unsqueeze(0)
        if logits.ndim in (1, images.ndim - 1):
            logits = logits.unsqueeze(1)
        return logits[:, 0] if logits.ndim == images.ndim + 1 else logits

    def train(self, mode: bool = True) -> "Network":
        """Set the mode, as `nn.Module.train`; programs of torch.export have one only, which is left alone."""
        try:
            return super().train(mode)
        except NotImplementedError:
            if mode:
                raise ModelError(
                    "The network is a program of torch.export, which has no training mode. Let the function "
                    "that makes it return the network that was exported."
                ) from None
            for part in self.modules():
                part.training = False
            return self

    def features(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
        """One vector per image: what the last layer sees; in segmentation the mean of the bottleneck.

        Raises:
            ModelError: There is no telling what the features are, or they are none of single images.
        """
        features = self.embedding(self.body, self.prepared(images))
        if features.ndim != 2 or len(features) != len(images):
            raise ModelError(
                f"What goes into its last layer has the shape {tuple(features.shape)} for {len(images)} "
                "images, and is no vector of each."
            )
        return features

    def prepared(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d *size"]:
        """Images with the channels, size and normalisation that the body takes."""
        if self.size is not None and tuple(images.shape[2:]) != self.size:
            images = _resized(images, self.size)
        if images.shape[1] == 1 and self.channels > 1:
            images = images.expand(-1, self.channels, *images.shape[2:])
        per_channel = (-1, *[1] * (images.ndim - 2))
        prepared = (images - self.mean.view(per_channel)) / self.std.view(per_channel)
        return prepared if self.channels_last else prepared.contiguous()


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    if len(size) == 3:
        return F.interpolate(maps, size, mode="trilinear", align_corners=False)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)

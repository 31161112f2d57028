"""U-Net: an encoder and a decoder joined by long skip connections.

Source: Ronneberger, Fischer & Brox, MICCAI 2015; here with padded convolutions, batch norm and linear
upsampling.
"""

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medrobust.models.architectures.layers import convolutions, crop_to, layers, pad_to_multiple


class UNet(nn.Module):
    """Two convolutions per level; widths double at every level but the deepest."""

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        dimensions: int,
        width: Annotated[int, Ge(1)] = 19,
        levels: Annotated[int, Interval(ge=2, le=7)] = 4,
        keep_probability: Annotated[float, Interval(gt=0, le=1)] = 1.0,
    ) -> None:
        """Build it with random weights.

        Args:
            classes: Classes of a pixel.
            channels: Channels of an image.
            dimensions: 2 for slices, 3 for volumes.
            width: Channels at full resolution.
            levels: Resolutions, each half of the one before.
            keep_probability: Fraction of bottleneck features that dropout keeps in training.
        """
        super().__init__()
        kind = layers(dimensions)
        widths = [width * 2 ** min(level, levels - 2) for level in range(levels)]
        self.multiple = 2 ** (levels - 1)
        self.upsampling = kind.upsampling
        self.pool = kind.pool(2)
        self.down = nn.ModuleList(
            convolutions(dimensions, (before, after, after))
            for before, after in pairwise([channels, *widths])
        )
        self.dropout = nn.Dropout(1 - keep_probability)
        self.up = nn.ModuleList(
            convolutions(dimensions, (deep + skip, skip, skip))
            for deep, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = kind.convolution(width, classes, 1)

    def encode(self, images: Float[Tensor, "n c *space"]) -> tuple[Tensor, list[Tensor]]:
        """The bottleneck, and the feature maps for the skip connections, finest first."""
        maps = [self.down[0](pad_to_multiple(images, self.multiple))]
        for block in self.down[1:]:
            maps.append(block(self.pool(maps[-1])))
        return maps[-1], maps[:-1]

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *space"]:
        """Logits of every pixel."""
        maps, skips = self.encode(images)
        maps = self.dropout(maps)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            doubled = F.interpolate(maps, scale_factor=2, mode=self.upsampling, align_corners=False)
            maps = block(torch.cat([doubled, skip], 1))
        return crop_to(self.head(maps), images)

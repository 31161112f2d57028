"""FC-DenseNet: dense blocks (short skip connections) in an encoder and decoder with long skip connections.

Source: Jégou et al., CVPR workshops 2017 ("The One Hundred Layers Tiramisu").
"""

from typing import Annotated

import torch
from annotated_types import Ge, Interval, Len
from jaxtyping import Float
from torch import Tensor, nn

from medrobust.models.architectures.layers import crop_to, layers, pad_to_multiple


class DenseBlock(nn.Module):
    """Every layer sees the input and what all layers before it made."""

    def __init__(self, dimensions: int, before: int, growth: int, depth: int, drop: float) -> None:
        super().__init__()
        kind = layers(dimensions)
        self.layers = nn.ModuleList(
            nn.Sequential(
                kind.norm(before + growth * done),
                nn.ReLU(inplace=True),
                kind.convolution(before + growth * done, growth, 3, padding=1, bias=False),
                nn.Dropout(drop),
            )
            for done in range(depth)
        )

    def forward(self, maps: Float[Tensor, "n d *space"]) -> Float[Tensor, "n e *space"]:
        """Only the new feature maps, side by side."""
        made: list[Tensor] = []
        for layer in self.layers:
            made.append(layer(torch.cat([maps, *made], 1)))
        return torch.cat(made, 1)


class FCDenseNet(nn.Module):
    """The fully convolutional DenseNet; the decoder passes on only what its dense block made new."""

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        dimensions: int,
        width: Annotated[int, Ge(1)] = 16,
        growth: Annotated[int, Ge(1)] = 12,
        layers_per_block: Annotated[tuple[Annotated[int, Ge(1)], ...], Len(1, 6)] = (1, 2, 3, 4),
        bottleneck_layers: Annotated[int, Ge(1)] = 6,
        keep_probability: Annotated[float, Interval(gt=0, le=1)] = 1.0,
    ) -> None:
        """Build it with random weights.

        Args:
            classes: Classes of a pixel.
            channels: Channels of an image.
            dimensions: 2 for slices, 3 for volumes.
            width: Channels of the first convolution.
            growth: New channels of every layer.
            layers_per_block: Layers of the encoder's blocks, finest first; the decoder mirrors them.
            bottleneck_layers: Layers of the deepest block.
            keep_probability: Fraction of features that dropout keeps in training, after every layer.
        """
        super().__init__()
        kind = layers(dimensions)
        drop = 1 - keep_probability
        self.multiple = 2 ** len(layers_per_block)
        self.stem = kind.convolution(channels, width, 3, padding=1)
        self.down, self.shrink, self.up, self.grow = (nn.ModuleList() for _ in range(4))
        skips = []
        for depth in layers_per_block:
            self.down.append(DenseBlock(dimensions, width, growth, depth, drop))
            width += growth * depth
            skips.append(width)
            self.shrink.append(
                nn.Sequential(
                    kind.norm(width),
                    nn.ReLU(inplace=True),
                    kind.convolution(width, width, 1, bias=False),
                    nn.Dropout(drop),
                    kind.pool(2),
                )
            )
        self.deepest = DenseBlock(dimensions, width, growth, bottleneck_layers, drop)
        new = growth * bottleneck_layers
        for depth, skip in zip(reversed(layers_per_block), reversed(skips), strict=True):
            self.grow.append(kind.transposed(new, new, 2, stride=2))
            self.up.append(DenseBlock(dimensions, new + skip, growth, depth, drop))
            width, new = new + skip, growth * depth
        self.head = kind.convolution(width + new, classes, 1)

    def encode(self, images: Float[Tensor, "n c *space"]) -> tuple[Tensor, list[Tensor]]:
        """What the deepest block made, and the feature maps for the long skips, finest first."""
        maps = self.stem(pad_to_multiple(images, self.multiple))
        skips = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            maps = torch.cat([maps, block(maps)], 1)
            skips.append(maps)
            maps = shrink(maps)
        return self.deepest(maps), skips

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *space"]:
        """Logits of every pixel."""
        new, skips = self.encode(images)
        for grow, block, skip in zip(self.grow, self.up, reversed(skips), strict=True):
            maps = torch.cat([grow(new), skip], 1)
            new = block(maps)
        return crop_to(self.head(torch.cat([maps, new], 1)), images)

"""SegNet: a decoder that puts maxima back where the encoder found them, and no skip connections.

Source: Badrinarayanan, Kendall & Cipolla, IEEE TPAMI 2017.
"""

from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Interval
from jaxtyping import Float
from torch import Tensor, nn

from medrobust.models.architectures.layers import convolutions, crop_to, layers, pad_to_multiple


class SegNet(nn.Module):
    """Only the places of the maxima go from the encoder to the decoder, no features."""

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        dimensions: int,
        width: Annotated[int, Ge(1)] = 36,
        levels: Annotated[int, Interval(ge=2, le=7)] = 4,
        kernel: Annotated[int, Interval(ge=1, le=11)] = 3,
        repeats: Annotated[int, Ge(1)] = 1,
        keep_probability: Annotated[float, Interval(gt=0, le=1)] = 1.0,
    ) -> None:
        """Build it with random weights.

        Args:
            classes: Classes of a pixel.
            channels: Channels of an image.
            dimensions: 2 for slices, 3 for volumes.
            width: Channels at full resolution; they double at every level but the deepest.
            levels: Resolutions, each half of the one before.
            kernel: Size of the kernels; odd.
            repeats: Convolutions per level, in the encoder and in the decoder.
            keep_probability: Fraction of bottleneck features that dropout keeps in training.

        Raises:
            ValueError: `kernel` is even.
        """
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that images keep their size, got {kernel}.")
        super().__init__()
        kind = layers(dimensions)
        widths = [width * 2 ** min(level, levels - 2) for level in range(levels)]
        self.multiple = 2 ** (levels - 1)
        self.pool = kind.pool(2, return_indices=True)
        self.unpool = kind.unpool(2)
        self.down = nn.ModuleList(
            convolutions(dimensions, [before, *[after] * repeats], kernel)
            for before, after in pairwise([channels, *widths])
        )
        self.dropout = nn.Dropout(1 - keep_probability)
        # Maxima go back into as many channels as they came from, so a level ends as wide as the next finer.
        self.up = nn.ModuleList(
            convolutions(dimensions, [*[before] * repeats, after], kernel)
            for before, after in pairwise([*widths[-2::-1], width])
        )
        self.head = kind.convolution(width, classes, 1)

    def encode(self, images: Float[Tensor, "n c *space"]) -> tuple[Tensor, list[Tensor]]:
        """The bottleneck, and where the maxima were at every level, finest first."""
        maps = self.down[0](pad_to_multiple(images, self.multiple))
        places = []
        for block in self.down[1:]:
            maps, where = self.pool(maps)
            places.append(where)
            maps = block(maps)
        return maps, places

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *space"]:
        """Logits of every pixel."""
        maps, places = self.encode(images)
        maps = self.dropout(maps)
        for block, where in zip(self.up, reversed(places), strict=True):
            maps = block(self.unpool(maps, where))
        return crop_to(self.head(maps), images)

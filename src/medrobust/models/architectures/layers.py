"""What the three segmentation networks share: layers by rank, convolution blocks, padding.

Each encodes images as `encode(images) -> (deepest feature maps, what the decoder needs of every level)`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Layers(NamedTuple):
    """The layer classes of one rank: slices (2) or volumes (3)."""

    convolution: type[nn.Conv2d | nn.Conv3d]
    transposed: type[nn.ConvTranspose2d | nn.ConvTranspose3d]
    norm: type[nn.BatchNorm2d | nn.BatchNorm3d]
    pool: type[nn.MaxPool2d | nn.MaxPool3d]
    unpool: type[nn.MaxUnpool2d | nn.MaxUnpool3d]
    upsampling: str


_LAYERS = {
    2: Layers(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d, nn.MaxUnpool2d, "bilinear"),
    3: Layers(nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.MaxPool3d, nn.MaxUnpool3d, "trilinear"),
}


def layers(dimensions: int) -> Layers:
    """The layer classes for images with 2 or 3 spatial dimensions.

    Raises:
        ValueError: Any other number of dimensions.
    """
    if dimensions not in _LAYERS:
        raise ValueError(f"dimensions must be 2 (slices) or 3 (volumes), got {dimensions}.")
    return _LAYERS[dimensions]


def convolutions(dimensions: int, widths: Sequence[int], kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm and ReLU, once for every step from one width to the next.

    Args:
        dimensions: 2 or 3.
        widths: Channels in, after the first convolution, after the second, and so on.
        kernel: Odd size of the kernels; the image keeps its size.
    """
    kind = layers(dimensions)
    block = nn.Sequential()
    for before, after in pairwise(widths):
        block.append(kind.convolution(before, after, kernel, padding=kernel // 2, bias=False))
        block.append(kind.norm(after))
        block.append(nn.ReLU(inplace=True))
    return block


def pad_to_multiple(images: Float[Tensor, "n c *space"], multiple: int) -> Float[Tensor, "n c *padded"]:
    """Zeros behind the last row (and column, and plane) until every side is a multiple of `multiple`."""
    missing = [-size % multiple for size in reversed(images.shape[2:])]
    if not any(missing):
        return images
    return F.pad(images, [pad for size in missing for pad in (0, size)])


def crop_to(
    maps: Float[Tensor, "n k *padded"], like: Float[Tensor, "n c *space"]
) -> Float[Tensor, "n k *space"]:
    """Remove what `pad_to_multiple` added to `like`."""
    sides = tuple(slice(size) for size in like.shape[2:])
    return maps[(slice(None), slice(None), *sides)]


def bottleneck_mean(body: nn.Module, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
    """Spatial mean of the deepest feature maps of a segmentation network."""
    maps: Tensor = body.encode(images)[0]  # type: ignore[operator]
    return maps.flatten(2).mean(2)

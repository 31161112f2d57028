"""What storing an image does to it: JPEG, and fewer pixels."""

import io
import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from medrobust.perturbations.corruptions.blur import along
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import Extent, corruption

Images = Float[Tensor, "n c *space"]


@corruption(
    budget="quality",
    unit="of the IJG",
    extent=Extent(100, 1),
    dimensions=(2,),
    presets=presets_of("jpeg"),
    summary="JPEG.",
)
def jpeg(images: Images, quality: Annotated[float, Ge(1), Le(100)]) -> Images:
    """Encode and decode as JPEG with 8 bits, three channels as colours at half resolution (4:2:0), by Pillow.

    Images of another number of channels are encoded channel by channel, as grey.

    Args:
        images: Images in [0, 1].
        quality: Of the Independent JPEG Group, rounded to a whole number.
    """
    pixels = (images.cpu() * 255).round().to(torch.uint8).numpy()
    if images.shape[1] == 3:
        made = np.stack([_decoded(one.transpose(1, 2, 0), quality).transpose(2, 0, 1) for one in pixels])
    else:
        flat = pixels.reshape(-1, *images.shape[2:])
        made = np.stack([_decoded(one, quality) for one in flat]).reshape(pixels.shape)
    return torch.from_numpy(made).to(images) / 255


@corruption(
    budget="factor",
    unit="of the sides",
    extent=Extent(1, 0.02),
    presets=presets_of("pixelate"),
    summary="Fewer pixels.",
)
def pixelate(images: Images, factor: Annotated[float, Gt(0), Le(1)]) -> Images:
    """Average over boxes down to a fraction of every side, then repeat pixels, as Pillow's BOX filter.

    Args:
        images: Images in [0, 1].
        factor: That fraction; sides are rounded down, to at least one pixel.
    """
    made = images.clone()
    for axis in range(2, images.ndim):
        size = images.shape[axis]
        few = max(1, int(size * factor))
        if few < size:
            matrix = boxes(few, size) @ boxes(size, few)
            made = along(made, axis, torch.from_numpy(matrix).to(images))
    return made.clamp(0, 1)


def _decoded(pixels: np.ndarray, quality: float) -> np.ndarray:
    with io.BytesIO() as file:
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=round(quality))
        with Image.open(file) as image:
            return np.asarray(image)


def boxes(size: int, target: int) -> Float[np.ndarray, "{target} {size}"]:
    """The matrix that resizes an axis: the mean of the pixels whose centre lies in a new pixel's box.

    Where pixels get more, that of the pixel in which the new one's centre lies.
    """
    ratio = size / target
    width = max(ratio, 1.0)
    matrix = np.zeros((target, size))
    for place in range(target):
        centre = (place + 0.5) * ratio
        first = max(0, int(centre - width / 2 + 0.5))
        last = min(size, int(centre + width / 2 + 0.5))
        offsets = (np.arange(first, last) - centre + 0.5) / width
        inside = (offsets > -0.5) & (offsets <= 0.5)
        matrix[place, first:last] = inside / max(1, math.fsum(inside))
    return matrix

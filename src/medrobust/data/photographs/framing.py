"""From pictures of any shape to squares of one size, the same way for a picture and its mask."""

from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from medrobust.data.photographs.pictures import Picture, to_array, to_bands

Fit = Literal["crop", "pad", "stretch"]
Colour = Literal["auto", "grey", "rgb"]

FRAMES: dict[Fit, str] = {
    "crop": "largest centred square, resized to {size} x {size} pixels",
    "pad": "whole picture, resized to fit into {size} x {size} pixels, the rest black",
    "stretch": "whole picture, resized to {size} x {size} pixels without keeping its proportions",
}
"""What each way does, for reports."""


def framed_picture(
    picture: Picture, size: int, fit: Fit, channels: int
) -> Shaped[np.ndarray, "channels size size"]:
    """A picture resized to a square (bicubic, antialiased).

    Args:
        picture: What was decoded.
        size: Pixels along each side.
        fit: "crop" takes the largest centred square, "pad" adds black, "stretch" changes proportions.
        channels: 1 makes grey of colours (ITU-R 601), 3 repeats grey.
    """
    bands = in_channels(picture.bands, channels)
    return to_array(tuple(_framed(band, size, fit, Image.Resampling.BICUBIC) for band in bands))


def framed_volume(picture: Picture, size: int) -> Shaped[np.ndarray, "1 size size size"]:
    """A volume resized to a cube, axis by axis (bicubic, antialiased).

    Args:
        picture: What was decoded; its bands are slices.
        size: Voxels along each side.
    """
    slices = to_array(
        tuple(_framed(band, size, "stretch", Image.Resampling.BICUBIC) for band in picture.bands)
    )
    # A picture whose rows are the slices: its height becomes `size` as theirs did.
    (rows,) = to_bands(slices.reshape(len(slices), size * size))
    resized = rows.resize((size * size, size), Image.Resampling.BICUBIC)
    return to_array((resized,)).reshape(1, size, size, size)


def framed_mask(
    mask: UInt8[np.ndarray, "h w"], size: int, fit: Fit, classes: int
) -> UInt8[np.ndarray, "size size"]:
    """A mask of class indices, resized as its picture is: every new pixel is what fills most of it."""
    each = [Image.fromarray((mask == index).astype(np.float32)) for index in range(1, classes)]
    shares = [np.asarray(_framed(share, size, fit, Image.Resampling.BOX)) for share in each]
    rest = 1 - np.sum(shares, axis=0)
    most: np.ndarray = np.argmax([rest, *shares], axis=0)
    return most.astype(np.uint8)


def in_channels(bands: tuple[Image.Image, ...], channels: int) -> tuple[Image.Image, ...]:
    """The bands of a picture in grey (1 channel) or in colour (3)."""
    if bands[0].mode != "F":
        wanted = "L" if channels == 1 else "RGB"
        return bands if bands[0].mode == wanted else (bands[0].convert(wanted),)
    if len(bands) == channels:
        return bands
    if channels == 3:
        return bands * 3
    red, green, blue = (np.asarray(band) for band in bands)
    return (Image.fromarray(np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue),)


def _framed(image: Image.Image, size: int, fit: Fit, by: Image.Resampling) -> Image.Image:
    """The square of an image; black where it does not reach."""
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), by, box=(left, top, left + side, top + side))
    if fit == "stretch":
        return image.resize((size, size), by)
    scale = size / max(width, height)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    square = Image.new(image.mode, (size, size))
    square.paste(image.resize(shape, by), ((size - shape[0]) // 2, (size - shape[1]) // 2))
    return square

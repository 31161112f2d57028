"""Views as pictures that a page can show: PNG as data URIs."""

import base64
import io
from functools import cache

import numpy as np
from jaxtyping import Int8, Shaped, UInt8
from PIL import Image, ImageColor

from medrobust.running.explorer import LEVELS

GREY, STEP = 128, 127 // LEVELS
"""Of a picture of changes: the value of no change, and of one level. The page computes the image from it."""


def image_uri(image: UInt8[np.ndarray, "c h w"]) -> str:
    """An image of one or three channels; of any other number, the first one."""
    pixels = np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]
    return _uri(Image.fromarray(np.ascontiguousarray(pixels)))


def change_uri(change: Int8[np.ndarray, "c h w"]) -> str:
    """Changes in levels, around middle grey."""
    return image_uri((GREY + STEP * change.astype(np.int16)).astype(np.uint8))


def labels_uri(labels: Shaped[np.ndarray, "h w"], colours: tuple[str, ...]) -> str:
    """A label map in the hexadecimal colours of the classes; the background is transparent."""
    entry, palette = _palette(colours)
    picture = Image.fromarray(entry[labels]).convert("P")
    picture.putpalette(palette.tobytes())
    return _uri(picture, transparency=0, bits=(len(palette) - 1).bit_length())


@cache
def _palette(colours: tuple[str, ...]) -> tuple[UInt8[np.ndarray, " k"], UInt8[np.ndarray, "colours 3"]]:
    """Each class' entry in a palette, and the palette; the background is the first one."""
    values = np.array([ImageColor.getrgb(colour) for colour in colours], np.uint8)
    palette, entry = np.unique(values[1:], axis=0, return_inverse=True)
    return np.concatenate([[0], 1 + entry.ravel()]).astype(np.uint8), np.concatenate([values[:1], palette])


def _uri(picture: Image.Image, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=6, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

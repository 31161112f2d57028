"""Views as pictures that a page can show: PNG as data URIs."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int8, Shaped, UInt8
from PIL import Image

from medrobust.report.figures.palette import structure_colours
from medrobust.steps.views import LEVELS

GREY, STEP = 128, 127 // LEVELS
"""Of a picture of changes: the value of no change, and of one level. The page computes the image from it."""


def image_uri(image: UInt8[np.ndarray, "c h w"]) -> str:
    """An image of one or three channels; of any other number, the first one."""
    pixels = np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]
    return _uri(Image.fromarray(np.ascontiguousarray(pixels)))


def change_uri(change: Int8[np.ndarray, "c h w"]) -> str:
    """Changes in levels, around middle grey."""
    return image_uri((GREY + STEP * change.astype(np.int16)).astype(np.uint8))


def labels_uri(labels: Shaped[np.ndarray, "h w"], classes: Sequence[str]) -> str:
    """A label map in the colours of `structure_colours`; the background is transparent."""
    colours = np.rint(255 * structure_colours(classes)).astype(np.uint8)
    palette, entry = np.unique(colours[1:], axis=0, return_inverse=True)
    index = np.concatenate([[0], 1 + entry.ravel()]).astype(np.uint8)[labels]
    picture = Image.fromarray(index).convert("P")
    picture.putpalette(np.concatenate([[[0, 0, 0]], palette]).astype(np.uint8).tobytes())
    return _uri(picture, transparency=0, bits=max(1, len(palette).bit_length()))


def hexadecimal(classes: Sequence[str]) -> list[str]:
    """The colour of each class, for the legend of label maps."""
    return [
        "#" + bytes(np.rint(255 * colour).astype(np.uint8)).hex() for colour in structure_colours(classes)
    ]


def _uri(picture: Image.Image, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=9, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

"""Pictures of any format: their headers, their pixels, and squares of one size.

Files are not trusted: sizes are checked before anything is decoded (`require_size`), and any error of a
decoder becomes a `DataError` that names the file (`files.naming`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from medrobust.data.reading import Room
from medrobust.errors import DataError

MOST_PIXELS = 2**26
"""Pixels of the largest picture that is decoded, 8192 x 8192; Pillow's own limit allows 1 GB and more."""

MOST_DEEP_PIXELS = 2**25
"""The same for 16 bits per colour."""

WHITE = 2**16 - 1
"""White in pictures of more than 8 bits."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture of an EXIF orientation upright; from 5 on, width and height swap."""

# Pillow allocates pictures in blocks. Each thread keeps freed blocks of up to 32 MB; larger ones go back to
# the system at once.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # documented, but not in the stubs


class Header(NamedTuple):
    """What a file says of its picture before it is decoded."""

    size: tuple[int, int]  # width and height in pixels, upright
    channels: int  # 1 or 3
    bits: int  # per channel
    depth: int = 1  # slices of a volume

    @classmethod
    def upright(cls, size: tuple[int, int], channels: int, bits: int, orientation: int) -> "Header":
        """The header of a picture that is stored in one of EXIF's orientations."""
        return cls(size[::-1] if orientation in (5, 6, 7, 8) else size, channels, bits)


class Origin(NamedTuple):
    """What the file of a picture was like, for audits; empty if its reader checks that itself."""

    form: str = ""  # name of its format
    mode: str = ""  # "CMYK" or "YCCK" if it was made for print
    turned: bool = False  # whether it was stored turned
    alpha: bool = False  # whether any pixel was transparent


class Picture(NamedTuple):
    """A decoded picture, upright, or a volume in grey."""

    # One 8-bit image of mode "L" or "RGB", or 1 or 3 of mode "F" with values from 0 to 65535; for a volume,
    # one of mode "L" or "F" for each slice.
    bands: tuple[Image.Image, ...]
    bits: int  # per channel in the file
    is_volume: bool = False  # whether the bands are slices
    windowed: bool = False  # whether values of the file may lie beyond black and white
    origin: Origin = Origin()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.bands[0].size

    @property
    def pixels(self) -> Shaped[np.ndarray, "c h w"]:
        """Values from 0 to 255 in 8 bits, or from 0 to 65535 in 16; for a volume, c counts the slices."""
        return _to_array(self.bands)


@runtime_checkable
class PictureFormat(Protocol):
    """How the pictures of a data set are read. Its `repr` says what the pixels depend on.

    `entry` is that of `listing.Photo`: the place inside a file that holds many.
    """

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """The header of a picture; a DataError if it cannot be read."""

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """A picture, decoded; a DataError if that fails."""


ROOM = Room(MOST_PIXELS)
"""Pixels that all threads decode at a time, so that cores do not multiply the memory of large pictures.

A pixel takes up to 18 bytes, whatever the format, and twice that in 16 bits per colour.
"""


@contextmanager
def decoding_room(files: PictureFormat, path: Path, entry: tuple[str, int] | None = None) -> Iterator[None]:
    """Wait until there is memory for a picture; an unreadable header is left for decoding to report."""
    try:
        header = files.header(path, entry)
    except DataError:
        header = Header((1, 1), 1, 8)
    width, height = header.size
    is_deep = header.bits > 8 and header.channels > 1
    with ROOM.holding(width * height * header.depth * (MOST_PIXELS // MOST_DEEP_PIXELS if is_deep else 1)):
        yield


def require_size(path: Path, width: int, height: int, *, deep: bool = False) -> None:
    """Refuse a picture that has no pixels, or more than any real one.

    `deep` says that it has several colours of 16 bits, which need four times the memory of 8.
    """
    most, kind = (MOST_DEEP_PIXELS, " in 16 bits per colour") if deep else (MOST_PIXELS, "")
    if width < 1 or height < 1 or width * height > most:
        raise DataError(
            f"{path}: claims {width} x {height} pixels; pictures of 1 to {most:,} pixels{kind} are read. "
            "Make it smaller, or remove it from the data."
        )


def to_white(values: Shaped[np.ndarray, "h w c"], bits: int) -> Shaped[np.ndarray, "h w c"]:
    """Unsigned numbers of up to 8 bits as levels from 0 to 255, of more bits as levels from 0 to 65535."""
    if bits in (8, 16):
        return values
    dtype = np.uint8 if bits < 8 else np.uint16
    table = np.rint(np.arange(2**bits) * (np.iinfo(dtype).max / (2**bits - 1))).astype(dtype)
    levels: np.ndarray = table[values.astype(np.uint16, copy=False)]
    return levels


def upright_picture(
    levels: Shaped[np.ndarray, "h w c"],
    bits: int,
    origin: Origin,
    orientation: int = 1,
    *,
    is_alpha_last: bool = False,
    is_multiplied: bool = False,
) -> Picture:
    """A picture from its levels as stored: transparent pixels are laid on black, turned ones set upright.

    The levels, from 0 to 255 or in uint16 to 65535, may be changed. `bits` counts those per channel in the
    file, `orientation` is one of EXIF's, and `is_multiplied` says that the colours are multiplied by alpha
    already.
    """
    alpha = False
    if is_alpha_last:
        levels, opacity = levels[..., :-1], levels[..., -1]
        white = np.iinfo(levels.dtype).max
        alpha = bool((opacity < white).any())
        if alpha and not is_multiplied:
            fraction = opacity.astype(np.float32) / np.float32(white)
            for band in np.moveaxis(levels, 2, 0):  # in place: float32 needs twice the memory
                product = band * fraction
                band[...] = np.rint(product, out=product)
    bands, turn = to_bands(levels), TURNS.get(orientation)
    if turn is not None:
        bands = tuple(band.transpose(turn) for band in bands)
    return Picture(bands, bits, origin=origin._replace(turned=turn is not None, alpha=alpha))


def to_bands(values: Shaped[np.ndarray, "h w *c"]) -> tuple[Image.Image, ...]:
    """The bands of a picture from an array of 8 bits, or of values from 0 to 65535."""
    if values.dtype == np.uint8:
        return (Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values),)
    planes = values.reshape(*values.shape[:2], -1)
    return tuple(Image.fromarray(planes[..., band].astype(np.float32)) for band in range(planes.shape[2]))


def _to_array(bands: tuple[Image.Image, ...]) -> Shaped[np.ndarray, "c h w"]:
    """Bands as one array: 8 bits as they are, mode "F" rounded to 16."""
    if bands[0].mode == "F":
        whole = np.empty((len(bands), bands[0].height, bands[0].width), np.uint16)
        for plane, band in zip(whole, bands, strict=True):  # one by one: float32 needs twice the memory
            plane[...] = np.clip(np.rint(np.asarray(band, np.float32)), 0, WHITE)
        return whole
    planes = [np.atleast_3d(np.asarray(band)).transpose(2, 0, 1) for band in bands]
    return np.ascontiguousarray(np.concatenate(planes))


Fit = Literal["crop", "pad", "stretch"]
Colour = Literal["auto", "grey", "rgb"]

FRAMES: dict[Fit, str] = {
    "crop": "largest centred square, resized to {size} x {size} pixels",
    "pad": "whole picture, resized to fit into {size} x {size} pixels, the rest black",
    "stretch": "whole picture, resized to {size} x {size} pixels without keeping its proportions",
}
"""What each way to a square does, for reports."""

VOLUME_FRAME = "whole volume, resized to {size} x {size} x {size} voxels"
"""The same, to a cube."""


def framed_picture(
    picture: Picture, size: int, fit: Fit, channels: int
) -> Shaped[np.ndarray, "channels size size"]:
    """A picture resized to a square of `size` pixels a side (bicubic, antialiased).

    With 1 channel, colours become grey (ITU-R 601); with 3, grey is repeated.
    """
    bands, wanted = picture.bands, "L" if channels == 1 else "RGB"
    if bands[0].mode not in ("F", wanted):
        bands = (bands[0].convert(wanted),)
    elif bands[0].mode == "F" and len(bands) < channels:
        bands = bands * 3
    elif bands[0].mode == "F" and len(bands) > channels:
        red, green, blue = (np.asarray(band) for band in bands)
        grey = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
        bands = (Image.fromarray(grey),)
    return _to_array(tuple(_framed(band, size, fit) for band in bands))


def framed_volume(picture: Picture, size: int) -> Shaped[np.ndarray, "1 size size size"]:
    """A volume, whose bands are slices, resized to a cube axis by axis (bicubic, antialiased)."""
    slices = _to_array(tuple(_framed(band, size, "stretch") for band in picture.bands))
    # A picture with a slice in each row, whose height is resized as the sides of the slices were.
    (rows,) = to_bands(slices.reshape(len(slices), size * size))
    resized = rows.resize((size * size, size), Image.Resampling.BICUBIC)
    return _to_array((resized,)).reshape(1, size, size, size)


def framed_mask(mask: UInt8[np.ndarray, "h w"], size: int, fit: Fit) -> UInt8[np.ndarray, "size size"]:
    """A mask, resized as its picture is: 1 where ones fill most of the new pixel, else 0."""
    image = Image.fromarray((mask == 1).astype(np.float32))
    inside = np.asarray(_framed(image, size, fit, Image.Resampling.BOX))
    return np.asarray(inside > 1 - inside, np.uint8)


def _framed(
    image: Image.Image, size: int, fit: Fit, by: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """The square of an image; black where the image does not reach."""
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

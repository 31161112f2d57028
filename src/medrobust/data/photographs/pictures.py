"""Pictures from files of any format: what they are like, and their pixels.

Files are not trusted: sizes are checked before anything is decoded, and whatever a decoder stumbles over
becomes a DataError that names the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from medrobust.data.reading import Room
from medrobust.errors import DataError

MOST_PIXELS = 2**26
"""Pixels of the largest picture that is decoded, 8192 x 8192; Pillow's own limit takes 1 GB and more."""

MOST_DEEP_PIXELS = 2**25
"""The same for 16 bits per colour."""

MOST_BYTES = 2**30
"""Size of the largest file that is read as a whole."""

SIXTEEN_BITS = 16

SIDEWAYS = (5, 6, 7, 8)
"""Orientations of EXIF that swap width and height."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture of an EXIF orientation upright."""

# Pillow takes the memory of a picture in blocks. What the system's allocator gives in pieces of up to 32 MB,
# each thread keeps when it is freed; larger ones go back at once.
Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # documented, but not in the stubs


class Header(NamedTuple):
    """What a picture is like, as far as its file says without being decoded.

    Attributes:
        size: Width and height in pixels, upright.
        channels: 1 or 3.
        bits: Bits per channel.
        depth: Slices of a volume; 1 for a picture.
    """

    size: tuple[int, int]
    channels: int
    bits: int
    depth: int = 1

    @classmethod
    def upright(cls, size: tuple[int, int], channels: int, bits: int, orientation: int) -> "Header":
        """Of a picture that is stored in an orientation of EXIF."""
        return cls(size[::-1] if orientation in SIDEWAYS else size, channels, bits)


class Origin(NamedTuple):
    """What the file of a picture was like, for audits; nothing where its reader checks that itself.

    Attributes:
        form: Name of its format.
        mode: "CMYK" or "YCCK" where it was made for print.
        turned: Whether it was stored turned.
        alpha: Whether any pixel was transparent.
    """

    form: str = ""
    mode: str = ""
    turned: bool = False
    alpha: bool = False


class Picture(NamedTuple):
    """A decoded picture, upright, or a volume in grey.

    Attributes:
        bands: One 8-bit image of mode "L" or "RGB"; or 1 or 3 of mode "F", with values from 0 to 65535. Of a
            volume, one of mode "L" or "F" for each slice.
        bits: Bits per channel that the file has.
        is_volume: Whether the bands are slices.
        windowed: Whether black and white are the ends of a window, beyond which nothing is lost in the file.
        origin: What its file was like.
    """

    bands: tuple[Image.Image, ...]
    bits: int
    is_volume: bool = False
    windowed: bool = False
    origin: Origin = Origin()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.bands[0].size

    @property
    def pixels(self) -> Shaped[np.ndarray, "c h w"]:
        """Values from 0 to 255 in 8 bits, or from 0 to 65535 in 16; of a volume, c counts the slices."""
        return to_array(self.bands)


@runtime_checkable
class PictureFormat(Protocol):
    """How the pictures of a data set are read. Its `repr` says what the pixels depend on.

    `entry` is that of `listing.Photo`: the place inside a file of many.
    """

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What a picture is like; raises a DataError where its file does not say."""

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """Decode a picture; raises a DataError where that cannot be done."""


ROOM = Room(MOST_PIXELS)
"""Pixels that all threads decode at a time: cores must not multiply the memory of large pictures.

One takes up to 18 bytes a pixel, whatever its format, and twice that of 16 bits per colour.
"""


@contextmanager
def decoding_room(files: PictureFormat, path: Path, entry: tuple[str, int] | None = None) -> Iterator[None]:
    """Wait until there is room in memory for a picture; a file without a header is for reading to report."""
    try:
        header = files.header(path, entry)
    except DataError:
        header = Header((1, 1), 1, 8)
    width, height = header.size
    is_deep = header.bits > 8 and header.channels > 1
    with ROOM.holding(width * height * header.depth * (MOST_PIXELS // MOST_DEEP_PIXELS if is_deep else 1)):
        yield


@contextmanager
def naming(path: Path, what: str = "an image") -> Iterator[None]:
    """Say which file could not be read.

    Everything is caught: decoders raise nearly any error on bytes that nobody foresaw.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason, advice = error.strerror, "See that it is there, and that you may read it."
        else:
            advice = (
                "If another program opens it, save it anew there; if none does, download it again or take it "
                "out of the data."
            )
        raise DataError(f"{path}: cannot be read as {what} ({reason}). {advice}") from error


def require_size(path: Path, width: int, height: int, *, deep: bool = False) -> None:
    """Refuse a picture that has no pixels, or too many to be one.

    Args:
        path: Its file, for the message.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        deep: Whether it has 16 bits for each of several colours, which take four times the memory of 8.

    Raises:
        DataError: That is so.
    """
    most, kind = (MOST_DEEP_PIXELS, " in 16 bits per colour") if deep else (MOST_PIXELS, "")
    if width < 1 or height < 1 or width * height > most:
        raise DataError(
            f"{path}: claims to be of {width} x {height} pixels; pictures of 1 to {most:,} pixels{kind} are "
            "read. Make it smaller, or take it out of the data."
        )


def to_white(values: Shaped[np.ndarray, "h w c"], bits: int) -> Shaped[np.ndarray, "h w c"]:
    """Unsigned numbers of some bits as levels from 0 to 255, or of more than 8 bits from 0 to 65535."""
    if bits in (8, SIXTEEN_BITS):
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
    """A picture from its levels as stored: what is transparent lies on black, and what was turned is upright.

    Args:
        levels: From 0 to 255, or in uint16 to 65535; they may be changed.
        bits: Bits per channel that the file has.
        origin: What the file was like.
        orientation: As EXIF counts it.
        is_alpha_last: Whether the last channel is alpha.
        is_multiplied: Whether the colours are multiplied by it already.
    """
    alpha = False
    if is_alpha_last:
        levels, opacity = levels[..., :-1], levels[..., -1]
        white = np.iinfo(levels.dtype).max
        alpha = bool((opacity < white).any())
        if alpha and not is_multiplied:
            share = opacity.astype(np.float32) / np.float32(white)
            for band in np.moveaxis(levels, 2, 0):  # in place: float32 takes twice the memory
                product = band * share
                band[...] = np.rint(product, out=product)
    turn = TURNS.get(orientation)
    bands = to_bands(levels)
    if turn is not None:
        bands = tuple(band.transpose(turn) for band in bands)
    return Picture(bands, bits, origin=origin._replace(turned=turn is not None, alpha=alpha))


def to_array(bands: tuple[Image.Image, ...]) -> Shaped[np.ndarray, "c h w"]:
    """Images as one array: 8 bits as they are, "F" rounded to 16."""
    if bands[0].mode == "F":
        whole = np.empty((len(bands), bands[0].height, bands[0].width), np.uint16)
        for plane, band in zip(whole, bands, strict=True):  # one by one: float32 takes twice the memory
            plane[...] = np.clip(np.rint(np.asarray(band, np.float32)), 0, 2**SIXTEEN_BITS - 1)
        return whole
    planes = [np.atleast_3d(np.asarray(band)).transpose(2, 0, 1) for band in bands]
    return np.ascontiguousarray(np.concatenate(planes))


def to_bands(values: Shaped[np.ndarray, "h w *c"]) -> tuple[Image.Image, ...]:
    """The bands of a picture from an array of 8 bits, or of values from 0 to 65535."""
    if values.dtype == np.uint8:
        return (Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values),)
    planes = values.reshape(*values.shape[:2], -1)
    return tuple(Image.fromarray(planes[..., band].astype(np.float32)) for band in range(planes.shape[2]))

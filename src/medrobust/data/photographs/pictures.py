"""Files that hold a picture, read in full: what they are like, and their pixels.

Files are not trusted: formats are the few named here, sizes are checked before anything is decoded, and
whatever a decoder stumbles over becomes a DataError that names the file.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped
from PIL import ExifTags, Image, ImageOps

from medrobust.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Endings of the files of `FORMATS`, in lower case."""

MOST_PIXELS = 2**26
"""Pixels of the largest picture that is decoded, 8192 x 8192; Pillow's own limit takes 1 GB and more."""

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
SIDEWAYS = (5, 6, 7, 8)
"""Orientations of EXIF that swap width and height."""

SIXTEEN_BITS = 16


class Header(NamedTuple):
    """What a picture is like, as far as its file says without being decoded.

    Attributes:
        size: Width and height in pixels, upright.
        channels: 1 or 3.
        bits: Bits per channel.
    """

    size: tuple[int, int]
    channels: int
    bits: int


class Picture(NamedTuple):
    """A decoded picture, upright.

    Attributes:
        bands: One 8-bit image of mode "L" or "RGB"; or 1 or 3 of mode "F", with values from 0 to 65535.
        bits: Bits per channel that the file has.
    """

    bands: tuple[Image.Image, ...]
    bits: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.bands[0].size

    @property
    def pixels(self) -> Shaped[np.ndarray, "c h w"]:
        """Values from 0 to 255 in 8 bits, or from 0 to 65535 in 16."""
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


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """PNG, JPEG, TIFF and BMP, turned upright as their EXIF data say.

    Palettes and CMYK become RGB. What is transparent lies on black. 16 bits of grey are kept; 16 bits of
    colour, which Pillow cuts to 8, and 32 bits, which have no white, are refused.
    """

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What the header of a file says."""
        with naming(path), _open(path) as image:
            return Header(
                size=(image.height, image.width) if _lies_sideways(image) else image.size,
                channels=1 if image.mode in GREY_MODES else 3,
                bits=SIXTEEN_BITS if _has_sixteen_bits(image) else 8,
            )

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """Decode a file.

        Raises:
            DataError: It is damaged, too large, of another format, or of 32 bits per channel.
        """
        with naming(path), _open(path) as image:
            if image.format == "PNG":
                check_png(path)
            if _has_sixteen_bits(image):
                return Picture(_sixteen_bit_bands(image, path), SIXTEEN_BITS)
            if image.mode in ("I", "F"):
                raise DataError(
                    f"{path}: holds 32 bits per pixel, and nothing says what is white. Save it in 16 bits."
                )
            ImageOps.exif_transpose(image, in_place=True)
            return Picture((_plain(image),), 8)


IMAGE_FILES = ImageFiles()


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
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{path}: cannot be read as {what} ({reason}). Download it again or take it out of the data."
        ) from error


def require_size(path: Path, width: int, height: int) -> None:
    """Refuse a picture that has no pixels, or too many to be one.

    Raises:
        DataError: That is so.
    """
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise DataError(
            f"{path}: claims to be of {width} x {height} pixels; pictures of 1 to {MOST_PIXELS:,} pixels are "
            "read. Make it smaller, or take it out of the data."
        )


def to_array(bands: tuple[Image.Image, ...]) -> Shaped[np.ndarray, "c h w"]:
    """Images as one array: 8 bits as they are, "F" rounded to 16."""
    if bands[0].mode == "F":
        planes = np.stack([np.asarray(band, np.float32) for band in bands])
        whole: np.ndarray = np.clip(np.rint(planes), 0, 2**SIXTEEN_BITS - 1)
        return whole.astype(np.uint16)
    (image,) = bands
    values = np.asarray(image)
    return np.ascontiguousarray(values.transpose(2, 0, 1)) if values.ndim == 3 else values[None].copy()


def to_bands(values: Shaped[np.ndarray, "h w *c"]) -> tuple[Image.Image, ...]:
    """The bands of a picture from an array of 8 bits, or of values from 0 to 65535."""
    if values.dtype == np.uint8:
        return (Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values),)
    planes = values.reshape(*values.shape[:2], -1).astype(np.float32)
    return tuple(Image.fromarray(planes[..., band]) for band in range(planes.shape[2]))


def check_png(path: Path) -> None:
    """Compare the checksums of a PNG file, which Pillow skips for its pixels.

    Raises:
        ValueError: One is wrong, or the file ends early.
    """
    with path.open("rb") as file:
        file.seek(8)
        kind = b""
        while kind != b"IEND":
            length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            checksum = zlib.crc32(kind)
            while length > 0:
                block = file.read(min(length, 2**20))
                if not block:
                    raise ValueError("the file ends early")
                checksum, length = zlib.crc32(block, checksum), length - len(block)
            if file.read(4) != checksum.to_bytes(4, "big"):
                raise ValueError(f"wrong checksum in its part {kind!r}")


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """A picture of a reasonable size whose pixels are not decoded yet."""
    with Image.open(path, formats=FORMATS) as image:
        require_size(path, *image.size)
        yield image


def _lies_sideways(image: Image.Image) -> bool:
    """Whether EXIF data swap width and height; those behind the pixels of a PNG would take decoding it."""
    if image.format == "PNG" and "exif" not in image.info:
        return False
    return image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Whether the file does, also where Pillow would keep 8 of them."""
    tiles = getattr(image, "tile", [])
    return image.mode.startswith("I;16") or any(";16" in repr(tile[3]) for tile in tiles)


def _sixteen_bit_bands(image: Image.Image, path: Path) -> tuple[Image.Image, ...]:
    if not image.mode.startswith("I"):
        raise DataError(
            f"{path}: holds 16 bits per channel and several channels, of which Pillow reads 8 bits. Save it "
            "in 8 bits if that is enough, or in grey."
        )
    ImageOps.exif_transpose(image, in_place=True)
    return to_bands(np.asarray(image).astype(np.uint16))


def _plain(image: Image.Image) -> Image.Image:
    """A picture of 8 bits per channel in mode "L" or "RGB"."""
    image.load()
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return _on_black(image.convert("RGBA")).convert("L" if image.mode in GREY_MODES else "RGB")
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def _on_black(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)

"""PNG, JPEG, TIFF and BMP files.

Pillow reads them, but for colours of 16 bits, of which it would drop 8: those are decoded by imagecodecs
(libpng and libtiff; a torchvision that meets a damaged PNG takes the process with it).
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from jaxtyping import UInt16
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from medrobust.data.photographs.pictures import SIXTEEN_BITS, Header, Picture, naming, require_size, to_bands
from medrobust.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Endings of the files of `FORMATS`, in lower case."""

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
SIDEWAYS = (5, 6, 7, 8)
"""Orientations of EXIF that swap width and height."""

WHITE_IS_ZERO = 0
"""TIFF's number for pictures whose low values are bright."""

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

MOST_BYTES = 2**30
"""Size of the largest file of 16 bits in colour, which is read as a whole."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """PNG, JPEG, TIFF and BMP, turned upright as their EXIF data say.

    Palettes and CMYK become RGB. What is transparent lies on black. 16 bits are kept; 32 bits, which have no
    white, are refused.
    """

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What the header of a file says."""
        with naming(path), _open(path) as image:
            return Header(
                size=_upright_size(image),
                channels=1 if image.mode in GREY_MODES or _is_grey_with_alpha(image) else 3,
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


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = _stored_size(image)
    return (height, width) if _lies_sideways(image) else (width, height)


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the pixels in the file; Pillow gives those of a TIFF file upright."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _lies_sideways(image: Image.Image) -> bool:
    """Whether EXIF data swap width and height; those behind the pixels of a PNG would take decoding it."""
    if image.format == "PNG" and "exif" not in image.info:
        return False
    return image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Whether the file does, also where Pillow would keep 8 of them."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return SIXTEEN_BITS in image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, ())
    return image.mode.startswith("I;16") or ";16" in _raw_modes(image)


def _is_grey_with_alpha(image: Image.Image) -> bool:
    """Whether a file of 16 bits is, which Pillow takes for one in colour."""
    return "LA;16" in _raw_modes(image)


def _raw_modes(image: Image.Image) -> str:
    return " ".join(repr(tile[3]) for tile in getattr(image, "tile", []))


def _sixteen_bit_bands(image: Image.Image, path: Path) -> tuple[Image.Image, ...]:
    if image.mode.startswith("I"):
        ImageOps.exif_transpose(image, in_place=True)
        return to_bands(_sixteen_bit_greys(image, path))
    values = _sixteen_bit_colours(image, path)
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    bands = to_bands(values)
    return bands if turn is None else tuple(band.transpose(turn) for band in bands)


def _sixteen_bit_greys(image: Image.Image, path: Path) -> UInt16[np.ndarray, "h w"]:
    values = np.asarray(image)
    if values.min() < 0:
        raise DataError(f"{path}: holds negative values, and nothing says what is black. Save it from 0 on.")
    grey = values.astype(np.uint16)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
        return np.invert(grey)  # Pillow does so with 8 bits only
    return grey


def _sixteen_bit_colours(image: Image.Image, path: Path) -> UInt16[np.ndarray, "h w c"]:
    """Three colours, or one grey, of a file whose header Pillow has read."""
    if image.mode not in ("RGB", "RGBA") or "transparency" in image.info:
        raise DataError(f"{path}: is a picture of 16 bits in {image.mode}. Save it as RGB of 16 bits.")
    require_size(path, *image.size, deep=True)
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: is larger than {MOST_BYTES:,} bytes. Take it out of the data.")
    decode = imagecodecs.png_decode if image.format == "PNG" else imagecodecs.tiff_decode
    values: np.ndarray = decode(path.read_bytes())
    least = 2 if _is_grey_with_alpha(image) else len(image.getbands())
    size = _stored_size(image)[::-1]
    if values.ndim == 3 and values.shape[1:] == size:  # a TIFF file with a plane for each colour
        values = np.moveaxis(values, 0, 2)
    if values.ndim != 3 or values.shape[:2] != size or values.dtype != np.uint16 or values.shape[2] < least:
        raise ValueError(
            f"its pixels of {values.dtype} and shape {values.shape} are not what its header says"
        )
    if image.mode == "RGB" or "RGBa;16" in _raw_modes(image):  # alpha is none, or is multiplied in
        return values[..., :3]
    alpha = values[..., -1].astype(np.float32) / np.float32(2**SIXTEEN_BITS - 1)
    for band in np.moveaxis(values[..., :-1], 2, 0):  # in place: float32 takes twice the memory
        band[...] = np.rint(band * alpha)
    return values[..., :-1]


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

"""PNG, JPEG, TIFF and BMP files, told apart by how they begin."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from medrobust.data.photographs import png, tiff
from medrobust.data.photographs.pictures import (
    Header,
    Origin,
    Picture,
    naming,
    require_size,
    upright_picture,
)
from medrobust.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib")
"""Endings of the files, in lower case."""

PLAIN = ("JPEG", "BMP")
"""Formats whose files Pillow decodes: each has 8 bits and holds one picture, or shows its first."""

MAGIC = {b"\xff\xd8\xff": "JPEG", b"BM": "BMP", png.MAGIC: "PNG", **dict.fromkeys(tiff.MAGIC, "TIFF")}
"""How files begin."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """PNG, JPEG, TIFF and BMP, turned upright as their EXIF data say.

    Palettes and CMYK become RGB. What is transparent lies on black. 16 bits are kept; 32 bits, which have no
    white, are refused, and so is a file of several pages or frames.
    """

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What the header of a file says."""
        with naming(path):
            match _format(path):
                case "PNG":
                    return png.png_header(path)
                case "TIFF":
                    return tiff.tiff_header(path)
            with _open_plain(path) as image:
                channels = 1 if image.mode in ("1", "L") else 3
                return Header.upright(image.size, channels, 8, _orientation(image))

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """Decode a file.

        Raises:
            DataError: It is damaged, too large, of another format, of several pages, or its black and white
                are not known.
        """
        with naming(path):
            match _format(path):
                case "PNG":
                    return png.png_picture(path)
                case "TIFF":
                    return tiff.tiff_picture(path)
            with _open_plain(path) as image:
                origin = Origin(image.format or "", image.mode)
                kept = "RGBA" if image.mode == "RGBA" else "L" if image.mode in ("1", "L") else "RGB"
                levels = np.atleast_3d(np.array(image.convert(kept)))
                return upright_picture(levels, 8, origin, _orientation(image), is_alpha_last=kept == "RGBA")


IMAGE_FILES = ImageFiles()


def is_nameless_image(path: Path) -> bool:
    """Whether a file without an ending is an image by its content; one that cannot be read may be."""
    try:
        return not path.suffix and _format(path) is not None
    except OSError:
        return True


def _format(path: Path) -> str | None:
    """The format of a file by its content; None: none of those that are read."""
    with path.open("rb") as file:
        begin = file.read(8)
    return next((name for magic, name in MAGIC.items() if begin.startswith(magic)), None)


def _open_plain(path: Path) -> Image.Image:
    """A JPEG or BMP file of a reasonable size that is not decoded yet.

    Raises:
        DataError: It is none, or too large.
    """
    if not path.stat().st_size:
        raise DataError(
            f"{path}: cannot be read as an image (it is empty). Download it again or take it out of the data."
        )
    if _format(path) is None:
        raise DataError(
            f"{path}: cannot be read as an image (by its content it is no PNG, JPEG, TIFF or BMP file). "
            "Save it as one of these, or take it out of the data."
        )
    image = Image.open(path, formats=PLAIN)
    require_size(path, *image.size)
    return image


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))

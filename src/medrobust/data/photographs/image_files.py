"""PNG, JPEG, TIFF and BMP files, told apart by how they begin.

JPEG and BMP are decoded by Pillow. PNG is decoded by libpng, since Pillow drops 8 of 16 bits per colour and
misreads the transparent colour of two and four bits of grey; for TIFF see `tiff`.
"""

import zlib
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import ExifTags, Image

from medrobust.data.files import naming, read_content, read_exactly
from medrobust.data.photographs import tiff
from medrobust.data.photographs.pictures import Header, Origin, Picture, require_size, upright_picture
from medrobust.errors import DataError

ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
}
"""Usual endings of the files of each format, in lower case."""

SUFFIXES = tuple(ending for endings in ENDINGS.values() for ending in endings)

PLAIN = ("JPEG", "BMP")
"""Formats that Pillow decodes: files of 8 bits with one picture, or of several the first."""

PNG = b"\x89PNG\r\n\x1a\n"
MAGIC = {b"\xff\xd8\xff": "JPEG", b"BM": "BMP", PNG: "PNG", **dict.fromkeys(tiff.MAGIC, "TIFF")}
"""How files begin."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """PNG, JPEG, TIFF and BMP, turned upright as their EXIF data say.

    Palettes and CMYK become RGB. Transparent pixels are laid on black. 16 bits are kept. Refused are 32 bits,
    which have no white, and files of several pages or frames.
    """

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What the header of a file says."""
        with naming(path, "an image"):
            match _format(path):
                case "PNG":
                    with path.open("rb") as file:
                        return _png_header(path, file, checked=False)[0]
                case "TIFF":
                    return tiff.tiff_header(path)
            with _open_plain(path) as image:
                channels = 1 if image.mode in ("1", "L") else 3
                return Header.upright(image.size, channels, 8, _orientation(image.getexif()))

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """Decode a file; a DataError if it is damaged, too large, or not one picture with a known white."""
        with naming(path, "an image"):
            match form := _format(path):
                case "PNG":
                    return _png_picture(path)
                case "TIFF":
                    return tiff.tiff_picture(path)
            with _open_plain(path) as image:
                origin = Origin(form or "", image.mode)
                kept = "RGBA" if image.mode == "RGBA" else "L" if image.mode in ("1", "L") else "RGB"
                levels = np.atleast_3d(np.array(image.convert(kept)))
                orientation = _orientation(image.getexif())
                return upright_picture(levels, 8, origin, orientation, is_alpha_last=kept == "RGBA")


IMAGE_FILES = ImageFiles()


def is_nameless_image(path: Path) -> bool:
    """Whether a file without an ending is an image by its content; if it cannot be read, it may be."""
    try:
        return not path.suffix and _format(path) is not None
    except OSError:
        return True


def _format(path: Path) -> str | None:
    """The format of a file by its content; None if it is not one that is read here."""
    with path.open("rb") as file:
        begin = file.read(8)
    return next((name for magic, name in MAGIC.items() if begin.startswith(magic)), None)


def _open_plain(path: Path) -> Image.Image:
    """A JPEG or BMP file of a plausible size, not decoded yet."""
    if not path.stat().st_size:
        raise DataError(f"{path}: cannot be read as an image (it is empty). Download it again, or remove it.")
    if _format(path) is None:
        raise DataError(
            f"{path}: cannot be read as an image (its content is not PNG, JPEG, TIFF or BMP). "
            "Save it as one of these, or remove it from the data."
        )
    image = Image.open(path, formats=PLAIN)
    require_size(path, *image.size)
    return image


def _orientation(exif: Image.Exif) -> int:
    return int(exif.get(ExifTags.Base.Orientation, 1))


def _png_picture(path: Path) -> Picture:
    """A PNG; all its checksums must be right, and a transparent colour becomes alpha."""
    content = read_content(path)
    header, orientation = _png_header(path, BytesIO(content), checked=True)
    levels: np.ndarray = imagecodecs.png_decode(content)
    levels = levels.reshape(*levels.shape[:2], -1)
    has_alpha = levels.shape[2] == header.channels + 1
    picture = upright_picture(levels, header.bits, Origin("PNG"), orientation, is_alpha_last=has_alpha)
    if (picture.size, levels.shape[2] - has_alpha) != (header.size, header.channels):
        raise ValueError(f"its pixels of shape {levels.shape} are not what its header says")
    return picture


def _png_header(path: Path, file: BufferedIOBase, *, checked: bool) -> tuple[Header, int]:
    """What a PNG says of its picture, and its EXIF orientation.

    If it is `checked`, all parts are read and their checksums compared.
    """
    parts: dict[bytes, bytes] = {}
    file.seek(len(PNG))
    kind = b""
    while kind != b"IEND":
        length, kind = int.from_bytes(read_exactly(file, 4), "big"), read_exactly(file, 4)
        is_wanted = kind in (b"IHDR", b"eXIf", b"acTL")
        if not (is_wanted or checked):
            file.seek(length + 4, 1)
            continue
        part = read_exactly(file, length)
        if zlib.crc32(part, zlib.crc32(kind)) != int.from_bytes(read_exactly(file, 4), "big"):
            raise ValueError(f"wrong checksum in its part {kind!r}")
        if is_wanted:
            parts.setdefault(kind, part)
    head = parts.get(b"IHDR", b"")
    size = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    depth, colours = head[8:10]
    is_grey = colours in (0, 4)  # alone, and with alpha
    require_size(path, *size, deep=depth == 16 and not is_grey)
    frames = int.from_bytes(parts.get(b"acTL", b"")[:4], "big")
    if frames > 1:
        raise DataError(f"{path}: is an animation of {frames} frames, but a case is one picture. Save one.")
    exif = Image.Exif()
    exif.load(parts.get(b"eXIf", b""))
    orientation = _orientation(exif)
    return Header.upright(size, 1 if is_grey else 3, max(depth, 8), orientation), orientation

"""PNG files, decoded by libpng, to which a transparent colour is alpha.

Pillow would drop 8 of 16 bits per colour, and compares the transparent colour of two or four bits of grey
with scaled values; a torchvision that meets a damaged PNG takes the process with it.
"""

import zlib
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from PIL import ExifTags, Image

from medrobust.data.photographs.pictures import Header, Origin, Picture, require_size, upright_picture
from medrobust.errors import DataError

MAGIC = b"\x89PNG\r\n\x1a\n"
GREY = (0, 4)
"""Colour types without colour: alone, and with alpha."""

SIXTEEN_BITS = 16
TOLD = (b"IHDR", b"eXIf", b"acTL")
"""Parts that say what the picture is like."""


class Head(NamedTuple):
    """What a PNG says of its picture.

    Attributes:
        size: Width and height in pixels, as stored.
        channels: 1 or 3, without alpha.
        bits: Bits per channel that are decoded.
        orientation: As EXIF counts it.
    """

    size: tuple[int, int]
    channels: int
    bits: int
    orientation: int


def png_header(path: Path) -> Header:
    """What the header of a PNG says.

    Raises:
        DataError: It is too large, or an animation.
        ValueError: It is damaged.
    """
    with path.open("rb") as file:
        head = _head(path, _parts(file, checked=False))
    return Header.upright(head.size, head.channels, head.bits, head.orientation)


def png_picture(path: Path) -> Picture:
    """Decode a PNG, all checksums of which must be right.

    Raises:
        DataError: It is too large, or an animation.
        Exception: It is damaged.
    """
    content = path.read_bytes()
    head = _head(path, _parts(BytesIO(content), checked=True))
    values: np.ndarray = imagecodecs.png_decode(content)
    values = values.reshape(*values.shape[:2], -1)
    colours = head.channels
    if values.shape[:2] != head.size[::-1] or values.shape[2] not in (colours, colours + 1):
        raise ValueError(f"its pixels of shape {values.shape} are not what its header says")
    return upright_picture(
        values, head.bits, Origin("PNG"), head.orientation, is_alpha_last=values.shape[2] > colours
    )


def _head(path: Path, parts: dict[bytes, bytes]) -> Head:
    header = parts.get(b"IHDR", b"")
    size = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, kind = header[8:10]
    require_size(path, *size, deep=depth == SIXTEEN_BITS and kind not in GREY)
    frames = int.from_bytes(parts.get(b"acTL", b"")[:4], "big")
    if frames > 1:
        raise DataError(f"{path}: is an animation of {frames} frames, and a case is one picture. Save one.")
    exif = Image.Exif()
    exif.load(parts.get(b"eXIf", b""))
    return Head(
        size=size,
        channels=1 if kind in GREY else 3,
        bits=SIXTEEN_BITS if depth == SIXTEEN_BITS else 8,
        orientation=exif.get(ExifTags.Base.Orientation, 1),
    )


def _parts(file: BufferedIOBase, *, checked: bool) -> dict[bytes, bytes]:
    """The parts that say what the picture is like; on request, all checksums are compared.

    Raises:
        ValueError: A checksum is wrong, or the file ends early.
    """
    found: dict[bytes, bytes] = {}
    file.seek(len(MAGIC))
    kind = b""
    while kind != b"IEND":
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if len(kind) < 4:
            raise ValueError("the file ends early")
        if not checked and kind not in TOLD:
            file.seek(length + 4, 1)
            continue
        content, checksum = file.read(length), file.read(4)
        if len(content) < length:
            raise ValueError("the file ends early")
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            raise ValueError(f"wrong checksum in its part {kind!r}")
        if kind in TOLD:
            found.setdefault(kind, content)
    return found

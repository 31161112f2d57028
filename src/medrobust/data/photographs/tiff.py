"""TIFF files: their tags are read here, strictly, and their pixels by libtiff.

Only layouts with a known black and white are decoded: grey, RGB or a palette in 1 to 16 bits, unsigned, and
YCbCr or CMYK in 8 bits. Pillow reads 12 bits as 8, and only the first of several pages; tifffile leaves out
a damaged tag, which may be the one that says what is white.

TIFF Revision 6.0 (Adobe, 1992); BigTIFF (libtiff.gitlab.io/libtiff/specification/bigtiff.html).
"""

import re
import struct
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from jaxtyping import UInt8, UInt16

from medrobust.data.files import read_content, read_exactly
from medrobust.data.photographs.pictures import (
    Header,
    Origin,
    Picture,
    require_size,
    to_white,
    upright_picture,
)
from medrobust.errors import DataError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of TIFF and BigTIFF, in both orders of bytes."""

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SUBFILE, OLD_SUBFILE, DESCRIPTION, ORIENTATION, SAMPLES, PLANAR = 254, 255, 270, 274, 277, 284
COLOURS, TILE_WIDTH, TILE_HEIGHT, INKS, EXTRA, FORMAT, DEPTH = 320, 322, 323, 332, 338, 339, 32997
STRIPS, TILES = (273, 279), (324, 325)  # their offsets and lengths

TAGS = {
    *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SUBFILE, OLD_SUBFILE, DESCRIPTION, ORIENTATION, SAMPLES),
    *(PLANAR, COLOURS, TILE_WIDTH, TILE_HEIGHT, INKS, EXTRA, FORMAT, DEPTH, *STRIPS, *TILES),
}
"""The tags that are read."""

TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""Types of whole numbers, and of text."""

MOST_PAGES = 1000

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
LAYOUTS = {
    WHITE_IS_ZERO: (1, 16, "grey"),
    BLACK_IS_ZERO: (1, 16, "grey"),
    RGB: (3, 16, "RGB"),
    PALETTE: (1, 16, "a palette"),
    CMYK: (4, 8, "CMYK"),
    YCBCR: (3, 8, "YCbCr"),
}
"""Photometric interpretations that are read: numbers per pixel, most bits of each, and a name."""

OTHERS = {4: "a transparency mask", 8: "CIELAB", 9: "ICCLAB", 10: "ITULAB", 32803: "raw data of a camera"}
"""Some that are not read, by their usual names."""

NUMBERS = {2: "signed numbers", 3: "floating-point numbers", 5: "complex numbers", 6: "complex numbers"}
"""Sample formats that are not read; 1 is unsigned, and 4 says nothing."""

JPEG = 7
"""TIFF's number of this compression."""

MULTIPLIED, SEPARATE = 1, 2
"""Extra samples that are alpha: colours are multiplied by it already, or not."""

FLIPS = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
"""Axes along which libtiff flips what it converts to RGB, by orientation; it turns nothing."""

Tags = dict[int, list[int]]


class Page(NamedTuple):
    """The page of a file that is its picture."""

    number: int  # its place in the file
    size: tuple[int, int]  # width and height in pixels, as stored
    photometric: int  # what its numbers mean, see `LAYOUTS`
    bits: int  # of each number
    alpha: int  # `MULTIPLIED` or `SEPARATE`; 0 if there is none
    samples: int  # numbers per pixel
    is_planar: bool  # whether each sample has a plane of its own
    orientation: int  # as in EXIF
    palette: UInt8[np.ndarray, "numbers 3"] | None  # colours by number

    @property
    def header(self) -> Header:
        """What it says of its picture; colours of a palette have 8 bits."""
        channels = 1 if self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) else 3
        bits = 8 if self.palette is not None else max(self.bits, 8)
        return Header.upright(self.size, channels, bits, self.orientation)


def tiff_header(path: Path) -> Header:
    """What the tags of a TIFF file say; raises as `tiff_picture` does."""
    with path.open("rb") as file:
        return _page(path, file).header


def tiff_picture(path: Path) -> Picture:
    """Decode a TIFF file; a DataError if its layout is not read, any other error if it is damaged."""
    content = read_content(path)
    page = _page(path, BytesIO(content))
    return upright_picture(
        _levels(content, page),
        page.header.bits,
        Origin("TIFF", "CMYK" if page.photometric == CMYK else ""),
        page.orientation,
        is_alpha_last=page.alpha != 0,
        is_multiplied=page.alpha == MULTIPLIED,
    )


def _page(path: Path, file: BufferedIOBase) -> Page:
    """The one page of a file that is neither a smaller copy nor a mask of another."""
    pages = _directories(file)
    whole = [
        page for page in pages if not (_one(page, SUBFILE, 0) & 0b101 or _one(page, OLD_SUBFILE, 1) == 2)
    ]
    tags, *others = whole or pages
    stack = re.match(rb"ImageJ=.*^images=(\d+)", bytes(tags.get(DESCRIPTION, ())), re.DOTALL | re.MULTILINE)
    count = max(1 + len(others), int(stack[1]) if stack else 1, _one(tags, DEPTH, 1))
    if count > 1:
        raise DataError(
            f"{path}: holds {count} pages, but a case is one picture. Save the one that counts, or each in a "
            "file of its own."
        )
    size, photometric = (_one(tags, WIDTH, 0), _one(tags, HEIGHT, 0)), _one(tags, PHOTOMETRIC, -1)
    bits, extra = tags.get(BITS, [1]), tags.get(EXTRA, [])
    if TILE_WIDTH in tags:
        require_size(path, _one(tags, TILE_WIDTH, 0), _one(tags, TILE_HEIGHT, 0))
    require_size(path, *size, deep=max(bits) > 8 and photometric == RGB)
    page = Page(
        number=next(number for number, page in enumerate(pages) if page is tags),
        size=size,
        photometric=photometric,
        bits=bits[0],
        alpha=extra[0] if extra and extra[0] in (MULTIPLIED, SEPARATE) else 0,
        samples=_one(tags, SAMPLES, 1),
        is_planar=_one(tags, PLANAR, 1) == 2,
        orientation=_one(tags, ORIENTATION, 1),
        palette=_palette(tags, bits[0]) if photometric == PALETTE else None,
    )
    _require_known(path, tags, page)
    return page


def _require_known(path: Path, tags: Tags, page: Page) -> None:
    """Refuse pages whose black, white or colours are uncertain."""
    numbers = next((NUMBERS[one] for one in tags.get(FORMAT, ()) if one in NUMBERS), "numbers")
    if numbers != "numbers" or page.bits > 16:
        raise DataError(
            f"{path}: holds {numbers} of {page.bits} bits, and nothing says what is black and what is white. "
            "Save it as unsigned numbers of 8 or 16 bits."
        )
    colours, most_bits, name = LAYOUTS.get(page.photometric, (0, 0, ""))
    spare, extra = page.samples - colours, tags.get(EXTRA, [])
    if not colours:
        wrong = OTHERS.get(page.photometric, f"photometric interpretation {page.photometric}")
    elif page.bits > most_bits or len(set(tags.get(BITS, [1]))) > 1:
        wrong = f"{name} in {' and '.join(map(str, sorted(set(tags[BITS]))))} bits"
    elif spare != len(extra) and not (page.photometric == RGB and spare == 1):
        wrong = f"{name} in {page.samples} channels, {colours + len(extra)} of which are explained"
    elif spare > 1 or (spare and page.photometric != RGB and not (name == "grey" and page.alpha)):
        wrong = f"{name} with further channels"
    elif page.photometric == CMYK and _one(tags, INKS, 1) != 1:
        wrong = "inks other than CMYK"
    elif page.samples == 2 and _one(tags, COMPRESSION, 1) == JPEG:
        wrong = "grey with alpha in JPEG"  # which imagecodecs decodes as two greys
    else:
        return
    raise DataError(f"{path}: is a picture of {wrong}, which cannot be read. Save it in grey or as RGB.")


def _palette(tags: Tags, bits: int) -> UInt8[np.ndarray, "numbers 3"]:
    """The colours of a palette, which are stored in 16 bits; old programs use only 8 of these."""
    table = np.array(tags.get(COLOURS, ()), np.uint16)
    if table.size != 3 * 2**bits:
        raise ValueError(f"its palette has {table.size} entries instead of {3 * 2**bits}")
    levels = np.rint(table / 257) if table.max() > 255 else table
    return levels.astype(np.uint8).reshape(3, -1).T


def _levels(content: bytes, page: Page) -> UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]:
    """Pixels in the order in which they are stored, from 0 to 255, or to 65535 in more than 8 bits."""
    is_converted = page.photometric in (CMYK, YCBCR)  # by libtiff, to RGB with alpha
    stored: np.ndarray = imagecodecs.tiff_decode(content, index=page.number, asrgb=is_converted)
    samples = 4 if is_converted else page.samples
    if samples == 1:
        stored = stored.reshape(*stored.shape, 1)
    elif page.is_planar and not is_converted:
        stored = np.moveaxis(stored, 0, -1)
    if stored.shape != (*page.size[::-1], samples):
        raise ValueError(f"its pixels of shape {stored.shape} are not what its tags say")
    if is_converted:
        return np.flip(stored[..., :3], FLIPS.get(page.orientation, ()))
    if page.palette is not None:
        return page.palette[stored[..., 0].astype(np.uint16)]
    levels = to_white(stored[..., : page.header.channels + (page.alpha != 0)], page.bits)
    if page.photometric == WHITE_IS_ZERO:
        levels[..., 0] = np.invert(levels[..., 0])
    return levels


def _one(tags: Tags, tag: int, default: int) -> int:
    """The first number of a tag."""
    return (tags.get(tag) or [default])[0]


def _directories(file: BufferedIOBase) -> list[Tags]:
    """The tags of all pages; a ValueError if the file ends early or its directories have no end."""
    length = file.seek(0, 2)
    file.seek(0)
    head = read_exactly(file, 8)
    order, is_big = "<" if head[:2] == b"II" else ">", 43 in head[2:4]
    count_form, entry_form, next_form = (
        struct.Struct(order + form) for form in (("Q", "HHQ8s", "Q") if is_big else ("H", "HHI4s", "I"))
    )
    (place,) = next_form.unpack(read_exactly(file, 8) if is_big else head[4:])
    pages: dict[int, Tags] = {}
    while place:
        if place in pages or len(pages) == MOST_PAGES:
            raise ValueError("its directories of pages have no end")
        file.seek(place)
        (count,) = count_form.unpack(read_exactly(file, count_form.size))
        entries = [entry_form.unpack(read_exactly(file, entry_form.size)) for _ in range(count)]
        (following,) = next_form.unpack(read_exactly(file, next_form.size))
        tags = {entry[0]: _numbers(file, order, length, *entry) for entry in entries if entry[0] in TAGS}
        for offsets, lengths in (STRIPS, TILES):
            ends = map(sum, zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False))
            if max(ends, default=0) > length:
                raise ValueError("the file ends early")
        pages[place], place = tags, following
    if not pages:
        raise ValueError("it has no page")
    return list(pages.values())


def _numbers(
    file: BufferedIOBase, order: str, length: int, tag: int, kind: int, count: int, held: bytes
) -> list[int]:
    """The numbers of a tag, which stand in its entry or elsewhere in the file."""
    if kind not in TYPES:
        raise ValueError(f"its tag {tag} is of type {kind}")
    dtype = np.dtype(order + TYPES[kind])
    size = count * dtype.itemsize
    if size > len(held):
        place = int.from_bytes(held, "little" if order == "<" else "big")
        if place + size > length:  # before memory is taken
            raise ValueError("the file ends early")
        file.seek(place)
        held = read_exactly(file, size)
    numbers: list[int] = np.frombuffer(held[:size], dtype).tolist()
    return numbers

"""TIFF files: every depth and layout shows what was stored, and what is not certain is refused."""

import struct
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from made_photos import pixels
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.errors import DataError

RANDOM = np.random.default_rng(0)
PHOTOMETRIC, ORIENTATION, EXTRA, SAMPLE_FORMAT = 262, 274, 338, 339


def shown(path: Path) -> np.ndarray:
    """What a file shows, from 0 to 1; its header promises it."""
    picture, header = IMAGE_FILES.picture(path), IMAGE_FILES.header(path)
    assert (picture.size, len(picture.pixels), picture.bits) == (header.size, header.channels, header.bits)
    return picture.pixels / np.iinfo(picture.pixels.dtype).max


def numbers(bits: int, shape: Sequence[int]) -> np.ndarray:
    """All numbers that some bits hold, as far as there is place, the largest among them."""
    values = RANDOM.integers(0, 2**bits, shape, dtype=np.uint8 if bits <= 8 else np.uint16)
    values.flat[:2] = 0, 2**bits - 1
    return values


def raw_tiff(
    path: Path, content: bytes, tags: dict[int, int | Sequence[int]], order: str = "<", big: bool = False
) -> Path:
    """A file of one strip, written by hand; `tags` by their numbers, of 16 bits each."""
    words, place = {**tags, 279: len(content)}, (16 if big else 8)
    words[273] = place
    number, count = ("Q", "Q") if big else ("I", "H")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += (
        struct.pack(order + "HHQ", 8, 0, place + len(content))
        if big
        else struct.pack(order + "I", place + len(content))
    )
    start = (
        place
        + len(content)
        + struct.calcsize(order + count)
        + len(words) * (20 if big else 12)
        + (8 if big else 4)
    )
    entries, further = b"", b""
    for tag, value in sorted(words.items()):
        values = [value] if isinstance(value, int) else list(value)
        kind, form = (4, "I") if tag in (273, 279) else (3, "H")
        stored = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(stored) > struct.calcsize(number):
            where, further = start + len(further), further + stored
            stored = struct.pack(order + number, where)
        entries += struct.pack(f"{order}HH{number}", tag, kind, len(values)) + stored.ljust(
            struct.calcsize(number), b"\0"
        )
    directory = struct.pack(order + count, len(words)) + entries + struct.pack(order + number, 0)
    path.write_bytes(head + content + directory + further)
    return path


class TestDepths:
    @pytest.mark.parametrize("bits", range(1, 17))
    @pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
    def test_grey_of_every_depth(self, tmp_path, bits, photometric):
        stored = numbers(bits, (20, 37))
        path = tmp_path / "a.tif"
        tifffile.imwrite(
            path, stored.astype(bool) if bits == 1 else stored, bitspersample=bits, photometric=photometric
        )
        expected = stored / (2**bits - 1)
        seen = shown(path)[0]
        assert seen == pytest.approx(expected if photometric == "minisblack" else 1 - expected, abs=0.5 / 255)
        assert IMAGE_FILES.header(path).bits == max(bits, 8)
        assert (seen.min(), seen.max()) == (0, 1)

    @pytest.mark.parametrize("bits", [2, 4, 5, 8, 10, 12, 14, 16])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_colours_of_every_depth(self, tmp_path, bits, planar):
        stored = numbers(bits, (3, 20, 37))
        laid = stored if planar == "separate" else np.moveaxis(stored, 0, 2)
        tifffile.imwrite(
            tmp_path / "a.tif", laid.copy(), bitspersample=bits, photometric="rgb", planarconfig=planar
        )
        assert shown(tmp_path / "a.tif") == pytest.approx(stored / (2**bits - 1), abs=0.5 / 255)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("big", [False, True])
    def test_twelve_bits_lie_the_same_way_in_both_orders_of_bytes(self, tmp_path, order, big):
        """Two numbers in three bytes, the high bits first, whatever the order of bytes (TIFF 6.0, p. 29)."""
        stored = numbers(12, (6, 8))
        bits = np.unpackbits(stored.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
        tags = {256: 8, 257: 6, 258: 12, 259: 1, PHOTOMETRIC: 1, 277: 1, 278: 6}
        path = raw_tiff(tmp_path / "a.tif", np.packbits(bits).tobytes(), tags, order, big)
        assert shown(path)[0] == pytest.approx(stored / 4095, abs=1e-5)

    @pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "f2", "f4", "f8", "u4"])
    def test_numbers_without_a_white(self, tmp_path, dtype):
        tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 9), dtype), photometric="minisblack")
        for read in (IMAGE_FILES.header, IMAGE_FILES.picture):
            with pytest.raises(
                DataError, match=r"a\.tif: holds .*numbers of .* bits, and nothing says what is"
            ):
                read(tmp_path / "a.tif")


class TestLayouts:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(
        "options",
        [
            {"tile": (32, 16)},
            {"rowsperstrip": 7},
            {"compression": "lzw"},
            {"compression": "zlib", "predictor": True},
            {"compression": "packbits"},
            {"byteorder": ">"},
            {"bigtiff": True},
            {"bigtiff": True, "byteorder": ">"},
            {"compression": "lzw", "predictor": True, "tile": (16, 16), "byteorder": ">"},
        ],
        ids=str,
    )
    def test_every_layout_holds_the_same(self, tmp_path, dtype, channels, options):
        values = pixels(3, (50, 41, 3), dtype)[..., :channels].squeeze()
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric, **options)
        picture = IMAGE_FILES.picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(picture.pixels, np.atleast_3d(values).transpose(2, 0, 1))

    @pytest.mark.parametrize(
        ("compression", "mode"),
        [
            *product(
                ["raw", "tiff_lzw", "tiff_deflate", "packbits"],
                ["1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr"],
            ),
            *product(["jpeg"], ["L", "RGB", "RGBA", "CMYK", "YCbCr"]),
            ("group4", "1"),
        ],
    )
    def test_what_pillow_writes(self, tmp_path, mode, compression):
        options = {"quality": 95} if compression == "jpeg" else {}
        image = Image.fromarray(pixels(2, (48, 64, 3)))
        image.putalpha(255) if mode in ("LA", "RGBA") else None
        image.convert(mode).save(tmp_path / "a.tif", compression=compression, **options)
        expected = np.atleast_3d(image.convert(mode).convert("L" if mode in ("1", "L", "LA") else "RGB"))
        near = 12 if compression == "jpeg" else 1
        assert shown(tmp_path / "a.tif") * 255 == pytest.approx(expected.transpose(2, 0, 1), abs=near)

    @pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_all_are_turned_upright(self, tmp_path, mode, orientation):
        """Where the first row and column of the file are, by TIFF 6.0, p. 36."""
        stored = pixels(4, (5, 7))
        image = Image.fromarray(stored)
        image = image if mode == "L" else image.convert("RGB").convert(mode)
        image.save(tmp_path / "a.tif", tiffinfo={ORIENTATION: orientation})
        turned = stored.T if orientation > 4 else stored
        is_below, is_right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
        upright = turned[:: -1 if is_below else 1, :: -1 if is_right else 1]
        assert shown(tmp_path / "a.tif")[0] * 255 == pytest.approx(upright, abs=1)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    @pytest.mark.parametrize("width", [8, 16], ids=["old table", "table"])
    def test_palettes(self, tmp_path, bits, width):
        table = RANDOM.integers(0, 2**width, (3, 2**bits))
        table[0, 0] = 2**width - 1
        stored = numbers(bits, (6, 8))
        each = np.unpackbits(stored.reshape(-1, 1), axis=1)[:, 8 - bits :]
        tags = {
            256: 8,
            257: 6,
            258: bits,
            259: 1,
            PHOTOMETRIC: 3,
            277: 1,
            278: 6,
            320: table.ravel().tolist(),
        }
        path = raw_tiff(tmp_path / "a.tif", np.packbits(each).tobytes(), tags)
        assert shown(path) == pytest.approx(table[:, stored] / (2**width - 1), abs=0.5 / 255)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
    @pytest.mark.parametrize("meaning", ["unassalpha", "assocalpha"])
    def test_what_is_transparent_lies_on_black(self, tmp_path, dtype, photometric, meaning):
        values = numbers(8 * np.dtype(dtype).itemsize, (9, 11, 4 if photometric == "rgb" else 2))
        tifffile.imwrite(
            tmp_path / "a.tif", values, photometric=photometric, extrasamples=[meaning], planarconfig="contig"
        )
        white = np.iinfo(dtype).max
        expected = values[..., :-1] / white * (values[..., -1:] / white if meaning == "unassalpha" else 1)
        assert shown(tmp_path / "a.tif") == pytest.approx(expected.transpose(2, 0, 1), abs=0.5 / 255)


class TestPages:
    def test_several_are_refused(self, tmp_path):
        pages = np.stack([np.zeros((30, 40), np.uint8), np.full((30, 40), 200, np.uint8)])
        for name, options in (("a.tif", {}), ("b.tif", {"imagej": True}), ("c.tif", {"bigtiff": True})):
            tifffile.imwrite(tmp_path / name, pages, photometric="minisblack", **options)
            for read in (IMAGE_FILES.header, IMAGE_FILES.picture):
                with pytest.raises(DataError, match=rf"{name}: holds 2 pages, but a case is one picture"):
                    read(tmp_path / name)

    def test_a_stack_with_one_directory_is_refused(self, tmp_path):
        about = "ImageJ=1.54\nimages=9\nslices=9\n"
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((30, 40), np.uint8), description=about, metadata=None)
        with pytest.raises(DataError, match=r"a\.tif: holds 9 pages"):
            IMAGE_FILES.picture(tmp_path / "a.tif")

    @pytest.mark.parametrize("first", [True, False])
    def test_smaller_copies_and_masks_are_no_further_pictures(self, tmp_path, first):
        """As in a pyramid, or with a thumbnail in front or behind."""
        whole = pixels(1, (64, 64))
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            rest = [(whole[::2, ::2].copy(), 1), (np.ones((64, 64), bool), 4)]
            for values, kind in [(whole, 0), *rest] if first else [*rest, (whole, 0)]:
                file.write(values, subfiletype=kind, photometric="minisblack", metadata=None)
        np.testing.assert_array_equal(IMAGE_FILES.picture(tmp_path / "a.tif").pixels[0], whole)

    def test_directories_without_end(self, tmp_path):
        path = raw_tiff(tmp_path / "a.tif", bytes(4), {256: 2, 257: 2, 258: 8, PHOTOMETRIC: 1})
        content = bytearray(path.read_bytes())
        content[-4:] = content[4:8]  # the next page is the first
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.tif: .*its directories of pages have no end"):
            IMAGE_FILES.picture(path)


BASE = {256: 4, 257: 2, 258: [8, 8, 8], 259: 1, PHOTOMETRIC: 2, 277: 3, 278: 2}
"""Tags of a small picture in RGB."""


class TestWhatIsNotKnown:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({PHOTOMETRIC: 8}, "is a picture of CIELAB, which cannot be read. Save it in grey or as RGB"),
            ({PHOTOMETRIC: 32803}, "is a picture of raw data of a camera"),
            ({PHOTOMETRIC: 77}, "is a picture of photometric interpretation 77"),
            ({258: [5, 6, 5]}, "is a picture of RGB in 5 and 6 bits"),
            ({258: [16] * 3, PHOTOMETRIC: 6}, "is a picture of YCbCr in 16 bits"),
            ({PHOTOMETRIC: 1}, "is a picture of grey in 3 channels, 1 of which are explained"),
            ({PHOTOMETRIC: 1, EXTRA: [0, 0]}, "is a picture of grey with further channels"),
            ({PHOTOMETRIC: 1, 277: 2, 258: [8, 8], EXTRA: 0}, "is a picture of grey with further channels"),
            ({PHOTOMETRIC: 5, 277: 4, 258: [8] * 4, 332: 2}, "is a picture of inks other than CMYK"),
            ({277: 5, 258: [8] * 5, EXTRA: [0, 0]}, "is a picture of RGB with further channels"),
            (
                {PHOTOMETRIC: 1, 277: 2, 258: [8, 8], EXTRA: 2, 259: 7},
                "is a picture of grey with alpha in JPEG",
            ),
            ({SAMPLE_FORMAT: [2, 2, 2]}, "holds signed numbers of 8 bits"),
            ({273: 9999}, "the file ends early"),
            ({322: 60000, 323: 60000}, "claims 60000 x 60000 pixels"),
        ],
    )
    def test_is_refused(self, tmp_path, changes, message):
        path = raw_tiff(tmp_path / "a.tif", bytes(64), {**BASE, **changes})
        if 273 in changes:
            path.write_bytes(
                path.read_bytes().replace(
                    struct.pack("<HHII", 273, 4, 1, 8), struct.pack("<HHII", 273, 4, 1, 9999)
                )
            )
        for read in (IMAGE_FILES.header, IMAGE_FILES.picture):
            with pytest.raises(DataError, match=rf"a\.tif: .*{message}"):
                read(path)

    def test_a_fourth_channel_that_nothing_explains_is_none_of_the_colours(self, tmp_path):
        values = numbers(8, (2, 4, 4))
        path = raw_tiff(tmp_path / "a.tif", values.tobytes(), {**BASE, 258: [8] * 4, 277: 4})
        np.testing.assert_array_equal(IMAGE_FILES.picture(path).pixels, np.moveaxis(values[..., :3], 2, 0))

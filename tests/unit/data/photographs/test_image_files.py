"""PNG files: what is transparent lies on black at every depth, and an animation is no picture."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medrobust.data.adapters.image_folder import list_image_folder
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.errors import DataError

GREY, RGB, PALETTE = 0, 2, 3


def written(
    path: Path, kind: int, depth: int, values: np.ndarray, *parts: tuple[bytes, bytes], end: bytes = b""
) -> Path:
    """A PNG by hand: `parts` go before the pixels, and EXIF data `end` behind them."""
    height, width = values.shape[:2]
    each = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(height, -1, 2), axis=2)[
        ..., 16 - depth :
    ]
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in each)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    last = [(b"eXIf", end)] if end else []
    chunks = [(b"IHDR", header), *parts, (b"IDAT", zlib.compress(rows)), *last, (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def shown(path: Path) -> np.ndarray:
    picture, header = IMAGE_FILES.picture(path), IMAGE_FILES.header(path)
    assert (picture.size, len(picture.pixels), picture.bits) == (header.size, header.channels, header.bits)
    return picture.pixels / np.iinfo(picture.pixels.dtype).max


class TestTransparentColours:
    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_of_grey(self, tmp_path, depth):
        white = 2**depth - 1
        values = np.random.default_rng(0).integers(0, white + 1, (9, 16))
        values[:3], values[3:5] = white, max(white - 2, 0)
        path = written(tmp_path / "a.png", GREY, depth, values, (b"tRNS", struct.pack(">H", white)))
        assert shown(path)[0] == pytest.approx(np.where(values == white, 0, values / white), abs=1e-6)
        assert IMAGE_FILES.picture(path).origin.alpha
        plain = written(tmp_path / "b.png", GREY, depth, values)
        assert shown(plain)[0] == pytest.approx(values / white, abs=1e-6)
        assert not IMAGE_FILES.picture(plain).origin.alpha

    @pytest.mark.parametrize("depth", [8, 16])
    def test_of_colours(self, tmp_path, depth):
        white = 2**depth - 1
        values = np.random.default_rng(0).integers(0, white + 1, (9, 16, 3))
        values[2:5] = 7, white, 9
        values[5] = 7, white, 10  # another colour
        path = written(tmp_path / "a.png", RGB, depth, values, (b"tRNS", struct.pack(">HHH", 7, white, 9)))
        values[2:5] = 0
        assert shown(path) == pytest.approx(np.moveaxis(values, 2, 0) / white, abs=1e-6)

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_of_palettes(self, tmp_path, depth):
        colours = np.random.default_rng(1).integers(0, 256, (2**depth, 3), dtype=np.uint8)
        opacity = np.full(2**depth, 255, np.uint8)
        opacity[:2] = 0, 100
        values = np.random.default_rng(0).integers(0, 2**depth, (9, 16))
        parts = (b"PLTE", colours.tobytes()), (b"tRNS", opacity[:2].tobytes())
        path = written(tmp_path / "a.png", PALETTE, depth, values, *parts)
        expected = np.moveaxis((colours * (opacity[:, None] / 255))[values], 2, 0)
        assert shown(path) * 255 == pytest.approx(expected, abs=0.5)

    @pytest.mark.parametrize(("mode", "key"), [("L", 255), ("1", 255), ("RGB", (255, 255, 255)), ("P", 0)])
    def test_as_pillow_writes_them(self, tmp_path, mode, key):
        Image.new(mode, (6, 5), 0 if mode == "P" else key).save(tmp_path / "a.png", transparency=key)
        assert not shown(tmp_path / "a.png").any()


class TestFrames:
    def test_an_animation_is_no_picture(self, tmp_path):
        frames = [Image.new("L", (8, 6), level) for level in (3, 200)]
        frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
        for read in (IMAGE_FILES.header, IMAGE_FILES.picture):
            with pytest.raises(
                DataError, match=r"a\.png: is an animation of 2 frames, but a case is one picture"
            ):
                read(tmp_path / "a.png")

    def test_one_frame_is(self, tmp_path):
        path = written(tmp_path / "a.png", GREY, 8, np.full((4, 5), 9), (b"acTL", struct.pack(">II", 1, 0)))
        assert (IMAGE_FILES.picture(path).pixels == 9).all()

    @pytest.mark.parametrize("kind", ["GIF", "WEBP"])
    def test_formats_of_animations_are_named(self, tmp_path, kind):
        Image.new("L", (8, 6)).save(tmp_path / "a.png", kind)
        with pytest.raises(
            DataError, match=r"a\.png: cannot be read as an image \(its content is not PNG, JPEG"
        ):
            IMAGE_FILES.picture(tmp_path / "a.png")


def test_exif_data_behind_the_pixels_turn_a_picture_too(tmp_path):
    values = np.arange(20).reshape(4, 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = written(tmp_path / "a.png", GREY, 8, values, end=exif.tobytes().removeprefix(b"Exif\0\0"))
    np.testing.assert_array_equal(IMAGE_FILES.picture(path).pixels[0], np.rot90(values, -1))
    assert IMAGE_FILES.header(path).size == (4, 5)


@pytest.mark.parametrize("name", ["a", "A.JFIF", "a.JPE"])
def test_endings_that_cameras_and_browsers_give(tmp_path, name):
    for label in "xy":
        (tmp_path / label).mkdir()
        Image.new("L", (8, 6), 7).save(tmp_path / label / name, "JPEG")
        (tmp_path / label / "README").write_text("no image")
    listing = list_image_folder(tmp_path)
    assert [photo.path.name for photo in listing.items] == [name, name]
    (finding,) = listing.findings
    assert (finding.kind, finding.severity.value) == ("files left out", "note")
    assert "'x/README', 'y/README'" in finding.says

"""What picture files become: colours, depths, sizes; and that no file, however damaged, does harm."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from damage import damaged, only_errors_that_name
from made_photos import pixels
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.photographs.pictures import MOST_PIXELS, Picture, framed_mask, framed_picture
from medrobust.errors import DataError
from medrobust.storage.picture_files import write_png

PEAK = """
import resource, sys
from pathlib import Path
from medrobust.data.listing import Photo
from medrobust.data.photographs.photo_cases import Decoding
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.reading import in_threads
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decoding = Decoding(IMAGE_FILES, 16, "crop", 3, 8, "stored")
in_threads(decoding.pixels, [Photo(str(one), "", 0, path) for one in range(6)], most=3)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
"""What six large pictures take in three threads, in a process of its own."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted in other units")
def test_threads_do_not_multiply_the_memory_of_large_pictures(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5)
    path = saved(tmp_path / "large.png", Image.new("LA", (side, side), 9), compress_level=1)
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 18 * MOST_PIXELS


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png(path: Path, values: np.ndarray, size: tuple[int, int] | None = None) -> Path:
    """A PNG of 16 bits per channel, which Pillow cannot write in colour; `size` is what it claims to be."""
    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", *(size or (width, height)), 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


class TestColours:
    @pytest.mark.parametrize(
        ("mode", "suffix", "channels"),
        [
            ("L", ".png", 1),
            ("1", ".png", 1),
            ("LA", ".png", 1),
            ("P", ".png", 3),
            ("RGB", ".jpg", 3),
            ("RGB", ".bmp", 3),
            ("RGB", ".tif", 3),
            ("RGBA", ".png", 3),
            ("CMYK", ".jpg", 3),
            ("CMYK", ".tif", 3),
            ("YCbCr", ".tif", 3),
        ],
    )
    def test_every_mode_keeps_what_is_pictured(self, tmp_path, mode, suffix, channels):
        image = Image.new("RGB", (40, 30), (255, 255, 255)).convert(mode)
        path = saved(tmp_path / f"a{suffix}", image)
        assert IMAGE_FILES.header(path)[:3] == ((40, 30), channels, 8)
        picture = IMAGE_FILES.picture(path)
        assert (picture.bits, picture.size) == (8, (40, 30))
        assert picture.pixels.shape == (channels, 30, 40)
        assert picture.pixels.astype(int) == pytest.approx(255, abs=4)

    def test_what_is_transparent_lies_on_black(self, tmp_path):
        values = np.full((8, 8, 4), 200, np.uint8)
        values[:, :, 3] = 255
        values[:4, :, 3] = 0
        picture = IMAGE_FILES.picture(saved(tmp_path / "a.png", Image.fromarray(values)))
        assert (picture.pixels[:, :4] == 0).all()
        assert (picture.pixels[:, 4:] == 200).all()

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_sixteen_bits_of_grey_are_kept(self, tmp_path, suffix):
        values = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40) * 50
        path = saved(tmp_path / f"a{suffix}", Image.fromarray(values))
        assert IMAGE_FILES.header(path)[:3] == ((40, 30), 1, 16)
        np.testing.assert_array_equal(IMAGE_FILES.picture(path).pixels, values[None])

    @pytest.mark.parametrize("channels", [2, 3, 4])
    def test_sixteen_bits_of_colour_are_kept(self, tmp_path, channels):
        values = np.random.default_rng(0).integers(0, 2**16, (6, 5, channels))
        path = png(tmp_path / "a.png", values)
        assert IMAGE_FILES.header(path)[:3] == ((5, 6), 1 if channels == 2 else 3, 16)
        picture = IMAGE_FILES.picture(path)
        opacity = values[..., -1:] / 65535 if channels in (2, 4) else 1
        expected = (values[..., : 1 if channels == 2 else 3] * opacity).transpose(2, 0, 1)
        np.testing.assert_allclose(picture.pixels, expected, atol=0.51)
        assert picture.bits == 16

    @pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_sixteen_bits_of_colour_in_tiff(self, tmp_path, compression, planar, order):
        values = np.random.default_rng(0).integers(0, 2**16, (3, 50, 40), dtype=np.uint16)
        path, stored = tmp_path / "a.tif", values if planar == "separate" else np.moveaxis(values, 0, 2)
        options = {"photometric": "rgb", "planarconfig": planar, "compression": compression}
        tifffile.imwrite(path, stored.copy(), byteorder=order, **options)
        assert IMAGE_FILES.header(path)[:3] == ((40, 50), 3, 16)
        np.testing.assert_array_equal(IMAGE_FILES.picture(path).pixels, values)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_sixteen_bits_of_colour_are_turned_as_eight_are(self, tmp_path, orientation):
        tag = [(274, "H", 1, orientation, True)]
        values = np.random.default_rng(0).integers(0, 2**8, (7, 5, 3), dtype=np.uint8)
        for name, depth, factor in (("a.tif", np.uint8, 1), ("b.tif", np.uint16, 257)):
            tifffile.imwrite(tmp_path / name, values.astype(depth) * factor, photometric="rgb", extratags=tag)
        eight, sixteen = (IMAGE_FILES.picture(tmp_path / name) for name in ("a.tif", "b.tif"))
        assert sixteen.size == IMAGE_FILES.header(tmp_path / "b.tif").size
        np.testing.assert_array_equal(sixteen.pixels, eight.pixels.astype(np.uint16) * 257)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_exported_pictures_are_read_again(self, tmp_path, channels):
        values = np.random.default_rng(0).integers(0, 2**16, (channels, 30, 20), dtype=np.uint16)
        write_png(tmp_path / "a.png", values)
        picture = IMAGE_FILES.picture(tmp_path / "a.png")
        np.testing.assert_array_equal(picture.pixels, values)
        framed = framed_picture(picture, 16, "stretch", channels)
        assert (framed.dtype, framed.shape) == (np.uint16, (channels, 16, 16))

    @pytest.mark.parametrize(("meaning", "seen"), [("unspecified", 7), ("unassalpha", 0), ("assocalpha", 7)])
    def test_fourth_channels(self, tmp_path, meaning, seen):
        values = np.full((20, 20, 4), (7, 7, 7, 0), np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=[meaning])
        assert (IMAGE_FILES.picture(tmp_path / "a.tif").pixels == np.full((3, 20, 20), seen)).all()

    def test_sixteen_bits_for_print_are_refused(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9, 4), np.uint16), photometric="separated")
        with pytest.raises(DataError, match=r"a\.tif: is a picture of CMYK in 16 bits.* as RGB"):
            IMAGE_FILES.picture(tmp_path / "a.tif")

    @pytest.mark.parametrize("orientation", [3, 6])
    @pytest.mark.parametrize(
        ("suffix", "dtype"), [(".png", np.uint8), (".jpg", np.uint8), (".png", np.uint16)]
    )
    def test_pictures_are_turned_upright(self, tmp_path, orientation, suffix, dtype):
        values = pixels(1, (32, 48), dtype)
        turned = np.rot90(values, 2 if orientation == 3 else 1)
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = saved(tmp_path / f"a{suffix}", Image.fromarray(turned.copy()), exif=exif)
        picture = IMAGE_FILES.picture(path)
        assert picture.pixels[0].astype(float) == pytest.approx(values.astype(float), abs=8)
        assert IMAGE_FILES.header(path).size == (48, 32)


class TestFraming:
    def test_ways_to_a_square(self):
        wide = np.zeros((40, 120, 3), np.uint8)
        wide[:, 40:80] = 255
        picture = Picture((Image.fromarray(wide),), 8)
        assert framed_picture(picture, 40, "crop", 3).min() == 255
        padded = framed_picture(picture, 60, "pad", 3)
        assert (padded[:, :20] == 0).all()
        assert (padded[:, 20:40, 22:38] == 255).all()
        stretched = framed_picture(picture, 60, "stretch", 3)
        assert (stretched[:, :, 22:38] == 255).all()
        assert (stretched[:, :, :16] == 0).all()

    def test_grey_and_colour(self):
        red = np.zeros((20, 20, 3), np.uint8)
        red[..., 0] = 255
        assert framed_picture(Picture((Image.fromarray(red),), 8), 16, "crop", 1) == pytest.approx(76)
        deep = tuple(Image.fromarray(np.float32(257) * red[..., band]) for band in range(3))
        framed = framed_picture(Picture(deep, 16), 16, "crop", 1)
        assert framed.dtype == np.uint16
        assert framed.astype(int) == pytest.approx(76 * 257, abs=100)
        grey = Picture((Image.new("L", (20, 20), 7),), 8)
        assert (framed_picture(grey, 16, "crop", 3) == 7).all()

    def test_sixteen_bits_are_resized_in_sixteen(self):
        ramp = np.linspace(0, 2**16 - 1, 64, dtype=np.float32)[None].repeat(64, 0)
        framed = framed_picture(Picture((Image.fromarray(ramp),), 16), 32, "crop", 1)
        assert len(np.unique(framed)) == 32
        assert (np.diff(framed[0, 0].astype(int)) > 1000).all()

    @settings(max_examples=60, deadline=None)
    @given(
        height=st.integers(1, 50),
        width=st.integers(1, 50),
        size=st.integers(16, 40),
        fit=st.sampled_from(["crop", "pad", "stretch"]),
        seed=st.integers(0, 99),
    )
    def test_masks_go_where_their_pictures_go(self, height, width, size, fit, seed):
        """A picture that is white inside its mask still is; masks hold 0 and 1, nothing in between."""
        mask = np.random.default_rng(seed).integers(0, 2, (height, width), dtype=np.uint8)
        framed = framed_mask(mask, size, fit)
        assert framed.shape == (size, size)
        assert set(np.unique(framed)) <= {0, 1}
        whole = framed_mask(np.ones((height, width), np.uint8), size, fit)
        seen = framed_picture(Picture((Image.new("L", (width, height), 255),), 8), size, fit, 1)[0]
        np.testing.assert_array_equal(whole == 1, seen == 255)

    def test_a_new_pixel_of_a_mask_is_what_fills_most_of_it(self):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, :11] = 1  # 2.75 new pixels
        mask[:, 20:29] = 1  # 2.25 new pixels from the sixth on
        framed = framed_mask(mask, 16, "crop")
        assert framed[5].tolist() == [1, 1, 1, 0, 0, 1, 1, 0] + [0] * 8

    def test_the_middle_of_a_new_pixel_of_a_mask_does_not_decide(self):
        cell = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0]], np.uint8)  # 5 of 9, but not the middle
        assert framed_mask(np.tile(cell, (16, 16)), 16, "crop").all()
        assert not framed_mask(np.tile(1 - cell, (16, 16)), 16, "crop").any()


def contents() -> dict[str, bytes]:
    """Small files of all formats."""
    grey, colour = Image.fromarray(pixels(3, (24, 32))), Image.fromarray(pixels(3, (24, 32, 3)))
    files = {}
    for name, image, kind, options in (
        ("a.png", colour, "PNG", {}),
        ("b.png", grey, "PNG", {}),
        ("c.png", Image.fromarray(pixels(3, (24, 32), np.uint16)), "PNG", {}),
        ("d.png", colour.convert("P"), "PNG", {}),
        ("e.jpg", colour, "JPEG", {}),
        ("f.jpg", colour, "JPEG", {"progressive": True}),
        ("g.tif", colour, "TIFF", {"compression": "tiff_lzw"}),
        ("h.tif", grey, "TIFF", {"compression": "tiff_deflate"}),
        ("i.tif", colour, "TIFF", {}),
        ("j.bmp", colour, "BMP", {}),
    ):
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        files[name] = stream.getvalue()
    deep = pixels(3, (24, 32, 3), np.uint16)
    files["k.png"] = imagecodecs.png_encode(deep)
    for name, compression in (("l.tif", None), ("m.tif", "zlib"), ("n.tif", "lzw")):
        stream = io.BytesIO()
        tifffile.imwrite(stream, deep, photometric="rgb", compression=compression)
        files[name] = stream.getvalue()
    return files


CONTENTS = contents()
hostile = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.filterwarnings("ignore")  # as in a run: what decoders remark ends nothing
class TestHostileFiles:
    @hostile
    @given(data=st.data(), name=st.sampled_from(sorted(CONTENTS)))
    def test_damage_is_a_message_that_names_the_file(self, tmp_path, data, name):
        """Cut short or with bytes changed: a picture of the size that the header says, or a DataError."""
        path = tmp_path / name
        path.write_bytes(data.draw(damaged(CONTENTS[name])))
        with only_errors_that_name(path):
            picture = IMAGE_FILES.picture(path)
            assert picture.size == IMAGE_FILES.header(path).size
            assert picture.pixels.dtype in (np.uint8, np.uint16)

    @pytest.mark.parametrize("name", [name for name in CONTENTS if name.endswith(".png")])
    def test_no_changed_byte_of_a_png_goes_unseen(self, tmp_path, name):
        original = CONTENTS[name]
        path = tmp_path / name
        for place in range(0, len(original), 7):
            content = bytearray(original)
            content[place] ^= 1
            path.write_bytes(content)
            with pytest.raises(DataError, match=r"cannot be read as an image|claims to be"):
                IMAGE_FILES.picture(path)

    @pytest.mark.parametrize("name", sorted(CONTENTS))
    def test_no_file_that_was_cut_short_goes_unseen(self, tmp_path, name):
        original = CONTENTS[name]
        path = tmp_path / name
        for length in (0, 1, 10, len(original) // 2, len(original) - 40):
            path.write_bytes(original[:length])
            with pytest.raises(DataError, match=r"cannot be read as an image"):
                IMAGE_FILES.picture(path)

    @pytest.mark.parametrize("size", [(8193, 8193), (2**31 - 1, 2**31 - 1), (0, 5), (60_000, 60_000)])
    def test_sizes_that_no_picture_has(self, tmp_path, size):
        path = png(tmp_path / "bomb.png", np.zeros((2, 2, 3)), size)
        with pytest.raises(DataError, match=r"bomb\.png"):
            IMAGE_FILES.picture(path)
        assert MOST_PIXELS == 8192 * 8192

    def test_other_formats_are_not_tried(self, tmp_path):
        for kind in ("EPS", "GIF", "PDF", "ICNS"):
            path = tmp_path / "a.png"
            Image.new("RGB", (16, 16)).save(path, kind)
            with pytest.raises(DataError, match=r"a\.png: .* not PNG, JPEG, TIFF or BMP"):
                IMAGE_FILES.picture(path)

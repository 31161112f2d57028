"""Files that are damaged, or made to do harm: an error that names them, quickly, and without their memory."""

import gzip
import re
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrobust.data.scans.volumes import VOLUME_FILES
from medrobust.errors import DataError

SHAPE = (5, 4, 3)
AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1.2, 0, -30], [0, 0, 2, 7], [0, 0, 0, 1]])
MEGABYTE = 2**20
NAMES = ("scan.nii", "scan.nii.gz", "scan.mgz", "scan.mgh", "two.nii.gz")


def content(name):
    """The bytes of a small volume in a format."""
    voxels = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    kind = nib.MGHImage if ".mg" in name else nib.Nifti2Image if name.startswith("two") else nib.Nifti1Image
    plain = kind(voxels, AFFINE).to_bytes()
    return gzip.compress(plain, mtime=0) if name.endswith(("gz", "mgz")) else plain


CONTENT = {name: content(name) for name in NAMES}

fuzzed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
formats = pytest.mark.parametrize("name", NAMES)


def refused_or_read(path):
    """What a file holds; None where it is refused by name. Any other error fails the test."""
    try:
        return VOLUME_FILES.read(path)
    except DataError as error:
        if path.name not in str(error):
            raise AssertionError(f"does not name the file: {error}") from error
        return None


def nifti(path, shape=SHAPE, *, dtype=np.int16, change=None, voxels=b"", packed=False):
    """A NIfTI-1 file whose header claims what it likes."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    raw = bytearray(header.structarr.tobytes())
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *([1] * (7 - len(shape))))
    struct.pack_into("<8f", raw, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", raw, 108, 352)
    struct.pack_into("<h", raw, 254, 1)
    for row in range(3):
        struct.pack_into("<4f", raw, 280 + 16 * row, *(float(row == column) for column in range(4)))
    raw[344:348] = b"n+1\0"
    if change:
        change(raw)
    whole = bytes(raw) + bytes(4) + voxels
    path.write_bytes(gzip.compress(whole, mtime=0) if packed else whole)
    return path


def refused(path, message, megabytes=8):
    """It is refused with a message, and little memory is taken."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message) as error:
            VOLUME_FILES.read(path)
        assert tracemalloc.get_traced_memory()[1] < megabytes * MEGABYTE
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value)


@formats
def test_the_formats_hold_the_same_volume(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CONTENT[name])
    stored = VOLUME_FILES.read(path)
    kind = nib.MGHImage if ".mg" in name else nib.Nifti2Image if name.startswith("two") else nib.Nifti1Image
    plain = gzip.decompress(CONTENT[name]) if name.endswith(("gz", "mgz")) else CONTENT[name]
    expected = nib.as_closest_canonical(kind.from_bytes(plain))
    np.testing.assert_array_equal(stored.voxels, np.asanyarray(expected.dataobj))
    np.testing.assert_allclose(stored.affine, expected.affine, atol=1e-6)


def test_scaling_is_that_of_the_header(tmp_path):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(SHAPE), AFFINE)
    image.header.set_slope_inter(2.5, -7)
    nib.save(image, tmp_path / "scaled.nii.gz")
    expected = nib.as_closest_canonical(nib.load(tmp_path / "scaled.nii.gz")).get_fdata()
    np.testing.assert_allclose(VOLUME_FILES.read(tmp_path / "scaled.nii.gz").voxels, expected)


def test_blocks_of_gzip_are_joined(tmp_path):
    """As bgzip packs."""
    plain = CONTENT["scan.nii"]
    blocks = [gzip.compress(plain[start : start + 400], mtime=0) for start in range(0, len(plain), 400)]
    (tmp_path / "blocks.nii.gz").write_bytes(b"".join(blocks))
    (tmp_path / "one.nii.gz").write_bytes(CONTENT["scan.nii.gz"])
    one, other = (VOLUME_FILES.read(tmp_path / name).voxels for name in ("blocks.nii.gz", "one.nii.gz"))
    np.testing.assert_array_equal(one, other)


@formats
@fuzzed
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_ends_early_is_refused(tmp_path, name, share):
    whole = CONTENT[name]
    # MGH files may end in a footer that nobody needs.
    needed = 284 + 2 * np.prod(SHAPE) if name.endswith(".mgh") else len(whole)
    path = tmp_path / name
    path.write_bytes(whole[: int(share * needed)])
    assert refused_or_read(path) is None


@formats
@fuzzed
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing_unseen(tmp_path, name, place, bit):
    """Packed files carry a checksum: what is read is what was written. Others have none."""
    damaged = bytearray(CONTENT[name])
    damaged[int(place * len(damaged))] ^= 1 << bit
    path = tmp_path / name
    path.write_bytes(damaged)
    stored = refused_or_read(path)
    if stored is not None and name.endswith(("gz", "mgz")):
        (tmp_path / f"good-{name}").write_bytes(CONTENT[name])
        good = VOLUME_FILES.read(tmp_path / f"good-{name}")
        np.testing.assert_array_equal(stored.voxels, good.voxels)
        np.testing.assert_array_equal(stored.affine, good.affine)


@fuzzed
@given(
    name=st.sampled_from(NAMES),
    changes=st.dictionaries(st.integers(0, 351), st.integers(0, 255), max_size=12),
)
def test_any_header_is_read_or_refused(tmp_path, name, changes):
    plain = bytearray(gzip.decompress(CONTENT[name]) if name.endswith(("gz", "mgz")) else CONTENT[name])
    for place, byte in changes.items():
        plain[place] = byte
    path = tmp_path / name
    path.write_bytes(gzip.compress(plain) if name.endswith(("gz", "mgz")) else plain)
    refused_or_read(path)


@fuzzed
@given(name=st.sampled_from(NAMES), data=st.binary(max_size=900), packed=st.booleans())
def test_any_bytes_are_read_or_refused(tmp_path, name, data, packed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if packed else data)
    refused_or_read(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_claims_a_million_million_voxels_is_refused(tmp_path, packed):
    path = nifti(tmp_path / f"huge.nii{'.gz' * packed}", (10_000, 10_000, 10_000), packed=packed)
    refused(path, r"claims 10000 x 10000 x 10000 voxels; at most 268,435,456")


def test_an_mgh_header_that_claims_too_much_is_refused(tmp_path):
    raw = bytearray(gzip.decompress(CONTENT["scan.mgz"]))
    struct.pack_into(">3i", raw, 4, 100_000, 100_000, 100_000)
    (tmp_path / "huge.mgz").write_bytes(gzip.compress(raw))
    refused(tmp_path / "huge.mgz", "claims 100000 x 100000 x 100000 voxels")


def test_voxels_that_are_promised_and_not_there_take_no_memory(tmp_path):
    refused(
        nifti(tmp_path / "short.nii", (600, 600, 600)), "holds 352 bytes, and its header promises 432000352"
    )
    refused(
        nifti(tmp_path / "short.nii.gz", (600, 600, 600), packed=True),
        "packed bytes cannot hold the 432000352",
    )
    path = nifti(
        tmp_path / "less.nii.gz",
        (100, 100, 100),
        packed=True,
        voxels=np.random.default_rng(0).bytes(1_900_000),
    )
    refused(path, "holds 1900352 bytes, and its header promises 2000352")


def test_a_bomb_is_not_unpacked(tmp_path):
    path = nifti(tmp_path / "bomb.nii.gz", packed=True, voxels=bytes(64 * MEGABYTE))
    assert path.stat().st_size < MEGABYTE
    refused(path, "the packed content is longer than its header promises")


@pytest.mark.parametrize("offset", [0, 2_000_000_000])
def test_an_offset_before_the_header_ends_or_far_behind_it_is_refused(tmp_path, offset):
    path = nifti(tmp_path / "far.nii", change=lambda raw: struct.pack_into("<f", raw, 108, offset))
    refused(path, f"voxels begin at byte {offset}")


@pytest.mark.parametrize("size", [1e-6, 1e5, 0.0])
def test_voxels_of_unbelievable_size_are_refused(tmp_path, size):
    path = nifti(
        tmp_path / "size.nii", change=lambda raw: struct.pack_into("<f", raw, 280, size), voxels=bytes(120)
    )
    refused(
        path,
        "spans no volume" if size == 0 else "has voxels of .* mm; sizes from 0.01 to 50 mm are plausible",
    )


def test_axes_that_are_nearly_parallel_are_refused(tmp_path):
    """Their volume is above 0, but which way the third axis runs is not to be seen."""
    rows = (0, 1, 1, 0, 0, 0, 1e-30, 0)
    path = nifti(
        tmp_path / "flat.nii", change=lambda raw: struct.pack_into("<8f", raw, 296, *rows), voxels=bytes(120)
    )
    refused(path, "spans no volume")


@pytest.mark.parametrize("dtype", [np.complex64, nib.nifti1.data_type_codes.dtype["RGB"]])
def test_what_holds_no_numbers_is_refused(tmp_path, dtype):
    refused(nifti(tmp_path / "colour.nii", dtype=dtype, voxels=bytes(1000)), "instead of numbers")


def test_a_pair_of_header_and_image_is_refused(tmp_path):
    path = nifti(tmp_path / "pair.nii", change=lambda raw: raw.__setitem__(slice(344, 348), b"ni1\0"))
    refused(path, re.escape("its voxels are in another file (.img)"))


def test_other_endings_and_folders_are_refused(tmp_path):
    refused(tmp_path / "scan.img", r"files that end in \.nii, \.nii\.gz, \.mgz, \.mgh")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "it is not a regular file")

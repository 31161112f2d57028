"""Files that other programs open, read back by other programs."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torchvision.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from medrobust.storage.picture_files import (
    levels,
    read_nifti,
    read_png,
    write_nifti,
    write_png,
)

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
IMAGES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(0, 1, width=32))
)


@given(IMAGES, st.sampled_from([8, 16]))
@in_one_folder
def test_a_png_is_right_to_half_a_level(tmp_path: Path, image: np.ndarray, bits: int) -> None:
    write_png(tmp_path / "a.png", levels(image, bits))
    back = read_png(tmp_path / "a.png")
    assert back.shape == image.shape
    assert np.abs(back - image).max() <= 0.5 / (2**bits - 1) + 1e-7
    np.testing.assert_array_equal(levels(back, bits), levels(image, bits))


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (1, 16), (3, 8)])
def test_pillow_sees_the_same_pixels(tmp_path: Path, channels: int, bits: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**bits, (channels, 7, 5)).astype(f"uint{bits}")
    write_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        seen = np.asarray(image)
    np.testing.assert_array_equal(seen.reshape(7, 5, channels), pixels.transpose(1, 2, 0))


def test_pillow_sees_the_high_bytes_of_16_bit_colour(tmp_path: Path) -> None:
    """It knows no such images and drops the low bytes."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (3, 7, 5)).astype(np.uint16)
    write_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), (pixels >> 8).transpose(1, 2, 0))


@pytest.mark.filterwarnings("ignore:The image decoding")
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_sees_all_16_bits(tmp_path: Path, channels: int) -> None:
    decode = getattr(torchvision.io, "decode_image", None)
    if decode is None:
        pytest.skip("this version decodes no images any more")
    pixels = np.random.default_rng(0).integers(0, 2**16, (channels, 7, 5)).astype(np.uint16)
    write_png(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(decode(str(tmp_path / "a.png"), mode="UNCHANGED").numpy(), pixels)


def test_a_png_has_one_or_three_channels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a PNG has 1 or 3 channels; got 4"):
        write_png(tmp_path / "a.png", np.zeros((4, 2, 2), np.uint8))


def test_a_volume_comes_back(tmp_path: Path) -> None:
    voxels, affine = np.random.default_rng(0).random((3, 4, 5, 2), np.float32), np.diag([-2.0, 1, 1, 1])
    write_nifti(tmp_path / "a.nii.gz", voxels, affine)
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz"), voxels)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.affine, affine)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_rounded_volume_reads_as_0_to_1(tmp_path: Path, bits: int) -> None:
    voxels = np.random.default_rng(0).random((3, 4, 5), np.float32)
    write_nifti(tmp_path / "a.nii", levels(voxels, bits), np.eye(4), slope=1 / (2**bits - 1))
    image = nib.load(tmp_path / "a.nii")
    assert image.get_data_dtype() == np.dtype(f"uint{bits}")
    assert np.abs(image.get_fdata() - voxels).max() <= 0.5001 / (2**bits - 1)

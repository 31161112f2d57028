"""Images and label maps as files that other programs open: PNG for photographs, NIfTI for scans."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
from jaxtyping import Float32, Float64, Integer, UInt8, UInt16

Levels = UInt8[np.ndarray, "*shape"] | UInt16[np.ndarray, "*shape"]


def levels(image: Float32[np.ndarray, "*shape"], bits: int) -> Levels:
    """An image in [0, 1] as whole numbers of 8 or 16 bits, rounded half to even."""
    rounded: np.ndarray = np.rint(image.astype(np.float64) * (2**bits - 1))
    return rounded.astype(np.uint8 if bits == 8 else np.uint16)


def write_png(path: Path, pixels: UInt8[np.ndarray, "c h w"] | UInt16[np.ndarray, "c h w"]) -> None:
    """Write a grey or colour image with 8 or 16 bits per channel (ISO/IEC 15948).

    Raises:
        ValueError: It has other than 1 or 3 channels.
    """
    if len(pixels) not in (1, 3):
        raise ValueError(f"pixels: a PNG has 1 or 3 channels; got {len(pixels)}.")
    rows = (pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).copy(order="C")
    path.write_bytes(imagecodecs.png_encode(rows))


def read_png(path: Path) -> Float32[np.ndarray, "c h w"]:
    """An image in [0, 1] from a file that `write_png` wrote."""
    rows: np.ndarray = imagecodecs.png_decode(path.read_bytes())
    image = np.atleast_3d(rows).transpose(2, 0, 1) / np.float64(np.iinfo(rows.dtype).max)
    return image.astype(np.float32)


def write_nifti(
    path: Path,
    voxels: Float32[np.ndarray, "x y z *c"] | Integer[np.ndarray, "x y z *c"],
    affine: Float64[np.ndarray, "4 4"],
    *,
    slope: float = 1.0,
) -> None:
    """Write a volume.

    Args:
        path: A name that ends with .nii or .nii.gz.
        voxels: Stored as they are.
        affine: From indices to world millimetres (right, anterior, superior).
        slope: What readers multiply the voxels with.
    """
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    if slope != 1.0:
        image.header.set_slope_inter(slope, 0)
    nib.save(image, path)


def read_nifti(path: Path) -> Float32[np.ndarray, "x y z *c"]:
    """The voxels of a volume, scaled as its header says."""
    return np.asarray(nib.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32))

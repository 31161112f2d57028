"""Images and label maps as files that other programs open: PNG for photographs, NIfTI for scans.

Pillow writes no 16-bit colour, so the few lines that a PNG needs are here.
"""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float32, Float64, Integer, UInt8, UInt16

COLOUR_TYPES = {1: 0, 3: 2}
"""PNG's number for grey and colour, by channels."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER, DATA = 16, 33
"""Where, in files written here, the header's content and the chunk of the pixels begin."""


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
    channels, height, width = pixels.shape
    if channels not in COLOUR_TYPES:
        raise ValueError(f"pixels: a PNG has 1 or 3 channels; got {channels}.")
    bits = 8 * pixels.dtype.itemsize
    rows = np.ascontiguousarray(pixels.transpose(1, 2, 0), pixels.dtype.newbyteorder(">"))
    # Each row begins with the number of its filter; 0 is none.
    lines = np.pad(rows.view(np.uint8).reshape(height, -1), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    path.write_bytes(SIGNATURE + b"".join(_chunk(name, content) for name, content in chunks))


def read_png(path: Path) -> Float32[np.ndarray, "c h w"]:
    """An image in [0, 1] from a file that `write_png` wrote."""
    content = path.read_bytes()
    width, height, bits = struct.unpack_from(">IIB", content, HEADER)
    (length,) = struct.unpack_from(">I", content, DATA)
    lines = np.frombuffer(zlib.decompress(content[DATA + 8 : DATA + 8 + length]), np.uint8)
    rows = lines.reshape(height, -1)[:, 1:].copy().view(f">u{bits // 8}").reshape(height, width, -1)
    image: np.ndarray = rows.transpose(2, 0, 1) / np.float64(2**bits - 1)
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


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

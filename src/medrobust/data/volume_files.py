"""One volume from a NIfTI or MGH file of anybody's: what its header claims is checked before memory is taken.

The file is read whole and unpacked whole, at most as far as its header says, so that the checksum of gzip is
verified, and a bomb is not unpacked. Which way the axes run is read from the affine, never assumed.
"""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Num, UInt8
from nibabel.imageglobals import ErrorLevel
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from medrobust.data.geometry import Affine, joined, spacing_of
from medrobust.errors import DataError

MOST_VOXELS = 2**28
"""Voxels times channels of the largest volume: a CT of 1,024 slices of 512 x 512."""

MOST_BYTES = 2**30
"""Bytes of the largest file, packed or unpacked."""

HEAD = 540
"""Bytes of the largest header, that of NIfTI-2."""

SPARE = 2**20
"""Bytes that a file may hold beyond its voxels: footers, comments and padding."""

MOST_PACKED = 1032
"""Bytes that a byte of gzip can hold at most."""

PIECE = 2**16
"""Bytes that are unpacked at a time."""

VOXEL_SIZES = (0.01, 50.0)
"""Smallest and largest size of a voxel in mm that is believed."""

FARTHEST = 1e6
"""Millimetres from the origin of the world that are believed."""

SUSPICIOUS = 35
"""nibabel's level of faults in a header from which on it is refused, not repaired."""

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")


class Stored(NamedTuple):
    """A volume in RAS as its file stores it.

    Attributes:
        voxels: Scaled as the header says; a last axis holds channels where there are any.
        affine: From x, y, z to world millimetres.
    """

    voxels: Num[np.ndarray, "x y z *c"]
    affine: Affine


def is_volume(path: Path) -> bool:
    """Whether a file has the name of a volume, and is no hidden one that a file manager left."""
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """The name of a volume's file without its ending."""
    return path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".mgz").removesuffix(".mgh")


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def read_stored(path: Path) -> Stored:
    """The volume in a file.

    Args:
        path: NIfTI-1, NIfTI-2 (one file, packed or not) or MGH.

    Raises:
        DataError: The file cannot be read, is truncated or damaged, holds no numbers, has fewer than 3 or
            more than 4 dimensions or too many voxels, or an affine that spans no believable voxels.
    """
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: volumes are read from files that end in {', '.join(SUFFIXES)}. Convert it.")
    with _readable(path), np.errstate(all="ignore"):  # what overflows is refused below
        packed = _content(path)
        head = _unpack_head(packed) if _is_packed(path) else packed
        header = _header(head[:HEAD], path)
        shape, dtype, offset = _claims(header, path)
        claimed = offset + prod(shape) * dtype.itemsize
        content: Any = _unpack(packed, claimed) if _is_packed(path) else packed
        if len(content) < claimed:
            raise ValueError(f"it holds {len(content)} bytes, and its header promises {claimed}")
        del packed
        stored: np.ndarray = np.ndarray(shape, dtype, content, offset, order="F")
        scaled = apply_read_scaling(stored, *header.get_slope_inter())
        affine: Affine = header.get_best_affine()
    _check_affine(affine, path)
    return _in_ras(scaled, affine)


def claimed_voxels(path: Path) -> int:
    """Voxels times channels that a file's header claims; 0 where it cannot be read."""
    try:
        with _readable(path), np.errstate(all="ignore"), path.open("rb") as file:
            head = file.read(2 * HEAD)
            head = _unpack_head(head) if _is_packed(path) else head
            return prod(_claims(_header(head[:HEAD], path), path)[0])
    except DataError:
        return 0


def _is_packed(path: Path) -> bool:
    return path.name.endswith(("gz", ".mgz"))


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES / 2**30:g} GB")
        return file.read(size)


def _unpack_head(packed: bytes) -> bytes:
    """The first bytes of what gzip packed."""
    return zlib.decompressobj(wbits=31).decompress(packed, HEAD)


def _unpack(packed: bytes, claimed: int) -> UInt8[np.ndarray, "claimed"]:
    """What gzip packed, straight into its place; several members follow each other, as bgzip packs.

    Raises:
        ValueError: It is shorter than claimed, much longer, or ends within a member.
        zlib.error: Damaged, or no gzip.
    """
    if claimed > MOST_PACKED * len(packed):
        raise ValueError(f"{len(packed)} packed bytes cannot hold the {claimed} that its header promises")
    content, filled = np.empty(claimed, np.uint8), 0
    member, is_open = zlib.decompressobj(wbits=31), False
    for start in range(0, len(packed), PIECE):
        piece: Any = memoryview(packed)[start : start + PIECE]
        while piece:
            part = member.decompress(piece, 16 * PIECE)
            kept = part[: max(claimed - filled, 0)]
            content[filled : filled + len(kept)] = np.frombuffer(kept, np.uint8)
            filled += len(part)
            if filled > claimed + SPARE:
                raise ValueError("the packed content goes on after what its header promises")
            is_open = not member.eof
            piece = member.unconsumed_tail if is_open else member.unused_data.lstrip(b"\0")
            member = member if is_open else zlib.decompressobj(wbits=31)
    if is_open:
        raise ValueError("the packed content ends before its end")
    if filled < claimed:
        raise ValueError(f"it holds {filled} bytes, and its header promises {claimed}")
    return content


def _header(head: bytes, path: Path) -> Any:
    """The header in the first bytes of a file, by nibabel, strictly."""
    if len(head) < 284:
        raise ValueError("it is too short for a header")
    if path.name.endswith((".mgz", ".mgh")):
        with ErrorLevel(SUSPICIOUS):
            return nib.freesurfer.mghformat.MGHHeader(head[:284])
    size = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    kind, length = (nib.Nifti2Header, 540) if 540 in size else (nib.Nifti1Header, 348)
    if not size & {348, 540}:
        raise ValueError("it begins with no header of NIfTI")
    if len(head) < length:
        raise ValueError("it is too short for a header")
    with ErrorLevel(SUSPICIOUS):
        header = kind(head[:length])
    if not bytes(header["magic"]).startswith(b"n+"):
        raise ValueError("its voxels are in another file (.img); convert the pair to one .nii")
    return header


def _claims(header: Any, path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape without axes of one voxel at its end, type and place of the voxels, all checked."""
    full = tuple(int(side) for side in header.get_data_shape())
    shape = full[:3] + tuple(side for side in full[3:] if side != 1)
    dtype, offset = _type(header), int(header.get_data_offset())
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise DataError(f"{path} has the shape {full}; a volume has 3 dimensions, and perhaps channels.")
    if dtype.kind not in "iuf":
        raise DataError(f"{path} holds {dtype} instead of numbers. Convert it to grey values.")
    voxels = prod(shape)
    if voxels > MOST_VOXELS or voxels * dtype.itemsize > MOST_BYTES:
        raise DataError(
            f"{path}: its header claims {' x '.join(map(str, shape))} voxels; at most {MOST_VOXELS:,}, "
            f"or {MOST_BYTES / 2**30:g} GB, are read. Is the header damaged?"
        )
    if not 0 <= offset <= SPARE:
        raise DataError(f"{path}: its header says that voxels begin at byte {offset}. Is it damaged?")
    return shape, dtype, offset


def _type(header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError as error:
        raise ValueError(f"its header names the unknown type of voxels {error}") from None
    return dtype


def _check_affine(affine: Affine, path: Path) -> None:
    if not np.isfinite(affine).all() or abs(affine).max() > FARTHEST:
        raise DataError(f"{path} has an affine of numbers that lie nowhere. Repair its header.")
    if not abs(np.linalg.det(affine[:3, :3])) > 0:
        raise DataError(
            f"{path} has an affine that spans no volume: its orientation is unknown. Repair its header."
        )
    smallest, largest = VOXEL_SIZES
    sizes = spacing_of(affine)
    if not all(smallest <= size <= largest for size in sizes):
        seen = " x ".join(f"{size:.3g}" for size in sizes)
        raise DataError(
            f"{path} has voxels of {seen} mm; sizes from {smallest:g} to {largest:g} mm are believed. "
            "Repair its header."
        )


def _in_ras(voxels: np.ndarray, affine: Affine) -> Stored:
    turn = io_orientation(affine)
    turned: np.ndarray = apply_orientation(voxels, turn)
    return Stored(turned, joined(affine, inv_ornt_aff(turn, voxels.shape)))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say which file cannot be read."""
    try:
        yield
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, HeaderDataError) as error:
        raise DataError(f"{path} cannot be read: {error}. Is the file complete?") from None

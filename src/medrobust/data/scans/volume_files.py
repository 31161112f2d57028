"""One volume from a NIfTI or MGH file of anybody's: what its header claims is checked before memory is taken.

The file is read whole and unpacked whole, at most as far as its header says, so that the checksum of gzip is
verified, and a bomb is not unpacked. Which way the axes run is read from the affine, never assumed.
"""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from medrobust.data.scans.geometry import Affine
from medrobust.data.scans.gzipped import SPARE, unpack, unpack_start
from medrobust.data.scans.stored import MOST_BYTES, MOST_VOXELS, Stored, file_digest, in_ras
from medrobust.errors import DataError

GZIP = b"\x1f\x8b"
"""How packed files begin, whatever their names say."""

HEAD = 540
"""Bytes of the largest header, that of NIfTI-2."""

REPAIRED = 40
"""nibabel's level of faults in a header below which it repairs them: sides below 0, unknown codes."""

SILENT = logging.Logger("headers")
"""Is told of repairs, and says nothing: what matters of a header is read from it here, or by the audit."""
SILENT.addHandler(logging.NullHandler())

MILLIMETRES = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
"""Of the units that NIfTI has for lengths; files that name none are in millimetres."""

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")


@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """NIfTI and MGH: a file for each volume."""

    def read(self, path: Path) -> Stored:
        """The volume in a file (see `read_stored`)."""
        return read_stored(path)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file."""
        return file_digest(path)

    def claimed_voxels(self, path: Path) -> int:
        """Voxels times channels that a file's header claims; 0 where it cannot be read."""
        try:
            with _readable(path), np.errstate(all="ignore"):
                return prod(_claims(_header_of(path), path)[0])
        except DataError:
            return 0


VOLUME_FILES = VolumeFiles()
"""How files are read unless an adapter says otherwise."""


def is_volume(path: Path) -> bool:
    """Whether a file has the name of a volume, and is no hidden one that a file manager left."""
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """The name of a volume's file without its ending."""
    return path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".mgz").removesuffix(".mgh")


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
        head = unpack_start(packed, HEAD) if packed.startswith(GZIP) else packed
        header = _header(head[:HEAD], path)
        shape, dtype, offset = _claims(header, path)
        claimed = offset + prod(shape) * dtype.itemsize
        content: Any = unpack(packed, claimed) if packed.startswith(GZIP) else packed
        if len(content) < claimed:
            raise ValueError(f"it holds {len(content)} bytes, and its header promises {claimed}")
        del packed
        stored: np.ndarray = np.ndarray(shape, dtype, content, offset, order="F")
        scaled = apply_read_scaling(stored, *header.get_slope_inter())
        affine = _affine(header, path)
        slope, _ = header.get_slope_inter()
    return in_ras(scaled, affine, dtype, path, step=abs(slope or 0.0) if dtype.kind in "iu" else 0.0)


def forms(path: Path) -> tuple[tuple[int, int], float]:
    """NIfTI's qform and sform code, and by how many mm the two differ; (1, 1) and 0 of other files.

    A qform that is no rotation counts as none.

    Raises:
        DataError: The header cannot be read.
    """
    if path.name.endswith((".mgz", ".mgh")) or not path.name.endswith(SUFFIXES):
        return (1, 1), 0.0
    with _readable(path), np.errstate(all="ignore"):
        header = _header_of(path)
    codes = int(header["qform_code"]), int(header["sform_code"])
    try:
        differ = np.abs(header.get_qform() - header.get_sform()).max() if all(codes) else 0.0
    except ValueError:
        return (0, codes[1]), 0.0
    return codes, float(differ) * _millimetres(header)


def _header_of(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(2 * HEAD)
    return _header((unpack_start(head, HEAD) if head.startswith(GZIP) else head)[:HEAD], path)


def _affine(header: Any, path: Path) -> Affine:
    """From indices to world millimetres: by the sform, else the qform, else by the sides of voxels alone."""
    try:
        affine: Affine = header.get_best_affine().astype(np.float64)
    except ValueError as error:
        raise DataError(f"{path} has a qform that is no rotation ({error}). Repair its header.") from None
    affine[:3] *= _millimetres(header)
    return affine


def _millimetres(header: Any) -> float:
    """Of the unit of a header's lengths."""
    try:
        unit, _ = header.get_xyzt_units()
    except (AttributeError, KeyError):  # MGH has none; a code that NIfTI does not know
        unit = "mm"
    return MILLIMETRES[unit]


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise OSError(f"it is larger than {MOST_BYTES / 2**30:g} GB")
        return file.read(size)


def _header(head: bytes, path: Path) -> Any:
    """The header in the first bytes of a file, by nibabel, strictly."""
    if len(head) < 284:
        raise ValueError("it is too short for a header")
    if path.name.endswith((".mgz", ".mgh")):
        mgh = nib.freesurfer.mghformat.MGHHeader(head[:284], check=False)
        mgh.check_fix(SILENT, REPAIRED)
        return mgh
    size = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    kind, length = (nib.Nifti2Header, 540) if 540 in size else (nib.Nifti1Header, 348)
    if not size & {348, 540}:
        raise ValueError("it begins with no header of NIfTI")
    if len(head) < length:
        raise ValueError("it is too short for a header")
    header = kind(head[:length], check=False)
    sides = [float(side) for side in header["pixdim"][1:4]]
    magic = bytes(header["magic"])
    if magic.startswith(b"ni"):
        raise DataError(
            f"{path} cannot be read: its voxels are in another file (.img). Convert the pair to one .nii."
        )
    if not magic.startswith(b"n+"):
        raise DataError(
            f"{path} cannot be read: its header is none of NIfTI, perhaps of Analyze. Convert it to NIfTI."
        )
    header.check_fix(SILENT, REPAIRED)
    if header["sform_code"] <= 0 and any(
        side == 0 and count > 1 for side, count in zip(sides, header["dim"][1:4], strict=True)
    ):
        raise DataError(
            f"{path} does not say how large its voxels are: {' x '.join(f'{side:g}' for side in sides)}, and "
            "there is no sform. Repair its header."
        )
    return header


def _claims(header: Any, path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape without axes of one voxel at its end, type and place of the voxels, all checked."""
    full = tuple(int(side) for side in header.get_data_shape())
    shape = full[:3] + tuple(side for side in full[3:] if side != 1)
    dtype, offset = _type(header), int(header.get_data_offset())
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise DataError(
            f"{path} has the shape {full}; a volume has 3 dimensions, and perhaps channels. Save it so."
        )
    if dtype.kind not in "iuf":
        what = "complex numbers" if dtype.kind == "c" else "colours"
        raise DataError(f"{path} holds {what} instead of numbers. Save it with one number for each voxel.")
    voxels = prod(shape)
    if voxels > MOST_VOXELS or voxels * dtype.itemsize > MOST_BYTES:
        raise DataError(
            f"{path}: its header claims {' x '.join(map(str, shape))} voxels; at most {MOST_VOXELS:,}, "
            f"or {MOST_BYTES / 2**30:g} GB, are read. Is the header damaged?"
        )
    if not 0 < offset <= SPARE:  # nibabel refuses what lies inside of the header, but not 0
        raise DataError(f"{path}: its header says that voxels begin at byte {offset}. Is it damaged?")
    return shape, dtype, offset


def _type(header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError as error:
        raise ValueError(f"its header names the unknown type of voxels {error}") from None
    return dtype


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say which file cannot be read."""
    try:
        yield
    except HeaderDataError as error:
        raise DataError(f"{path} cannot be read: its header is damaged ({error}). Repair it.") from None
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Is the file complete?") from None

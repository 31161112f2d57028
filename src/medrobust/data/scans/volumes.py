"""Volumes from any NIfTI or MGH file: read, turned to RAS, and checked against their labels.

In RAS x grows to the patient's right, y to the front and z to the top; which way the axes of a file run is
read from its affine, never assumed. A file is unpacked whole, so that the checksum of gzip is verified, but
no further than its header says and no further than is plausible, so that no bomb is unpacked.
"""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import gzip
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import nibabel as nib
import numpy as np
from jaxtyping import Float32, Num, UInt8, UInt16
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.volumeutils import apply_read_scaling

from medrobust.core import Grid
from medrobust.data.files import MOST_BYTES, file_digest, naming, read_content
from medrobust.data.scans.geometry import Affine, spacing_of, turn_from_ras, turn_onto, turned
from medrobust.data.scans.labels import NUMBERS
from medrobust.errors import DataError

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")

MOST_VOXELS = 2**28
"""Voxels times channels of the largest volume: a CT of 1,024 slices of 512 x 512."""

VOXEL_SIZES = (0.01, 50.0)
"""Smallest and largest plausible size of a voxel in mm."""

FARTHEST = 1e6
"""Largest plausible distance from the origin of the world in mm."""


class Stored(NamedTuple):
    """A volume in RAS, with the values that its file stores."""

    voxels: Num[np.ndarray, "x y z *c"]  # scaled as the header says; channels, if any, come last
    affine: Affine  # from x, y, z to world millimetres
    axes: str  # where the file's own axes grow to, e.g. "LAS"
    dtype: np.dtype[Any]  # of the numbers in the file
    step: float = 0.0  # between neighbouring values, if the file scales whole numbers; else 0

    @property
    def grid(self) -> Grid:
        """Where the voxels lie in the file itself, before they were turned."""
        shape = np.empty(3, int)
        shape[turn_from_ras(self.axes)[:, 0].astype(int)] = self.voxels.shape[:3]
        return Grid(tuple(shape.tolist()), turned(self.affine, self.voxels.shape[:3], self.axes))


@runtime_checkable
class VolumeFormat(Protocol):
    """How the files of a scan are read. Its `repr` says what the voxels depend on beside the files."""

    def read(self, path: Path) -> Stored:
        """The volume that a path of the scan stands for; a DataError if it cannot be read."""

    def digest(self, path: Path) -> str:
        """SHA-256 of everything that the volume is read from; a DataError if it cannot be read."""

    def claimed_voxels(self, path: Path) -> int:
        """Voxels times channels that headers claim; 0 if they cannot be read."""


@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """NIfTI-1 and NIfTI-2 (one file, packed or not) and MGH: a file for each volume."""

    channels: int = 0  # where the first of four axes, and not the last, has this length, it is taken for them

    def read(self, path: Path) -> Stored:
        """The volume in a file.

        Raises:
            DataError: The file cannot be read, is truncated or damaged, holds no numbers, has fewer than 3 or
                more than 4 dimensions or too many voxels, or its affine gives no plausible voxels.
        """
        if not path.name.endswith(SUFFIXES):
            raise DataError(
                f"{path}: volumes are read from files that end in {', '.join(SUFFIXES)}. Convert it."
            )
        with naming(path, "a volume"), np.errstate(all="ignore"):  # what overflows is refused below
            packed = read_content(path)
            header = _header(packed, path)
            shape, dtype, offset = _claims(header, path)
            claimed = offset + prod(shape) * dtype.itemsize
            content: Any = _unpack(packed, claimed) if packed.startswith(GZIP) else packed
            if len(content) < claimed:
                raise ValueError(f"it holds {len(content)} bytes, and its header promises {claimed}")
            del packed
            stored: np.ndarray = np.ndarray(shape, dtype, content, offset, order="F")
            slope, intercept = header.get_slope_inter()
            scaled = apply_read_scaling(stored, slope, intercept)
            if scaled.ndim == 4 and scaled.shape[0] == self.channels != scaled.shape[3]:
                scaled = np.moveaxis(scaled, 0, 3)
            step = abs(slope or 0.0) if dtype.kind in "iu" else 0.0
            return in_ras(scaled, _affine(header, path), dtype, path, step=step)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file."""
        return file_digest(path)

    def claimed_voxels(self, path: Path) -> int:
        """Voxels times channels that a file's header claims; 0 if it cannot be read."""
        try:
            with naming(path), np.errstate(all="ignore"):
                return prod(_claims(_header_of(path), path)[0])
        except DataError:
            return 0


VOLUME_FILES = VolumeFiles()
"""How files are read unless an adapter says otherwise."""


def is_volume(path: Path) -> bool:
    """Whether a file has the name of a volume and is not one of the hidden ones that file managers leave."""
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """The name of a volume's file without its ending."""
    return path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".mgz").removesuffix(".mgh")


AFFINE_TOLERANCE = 1e-3
"""Largest difference, in mm, between the entries of the affines of an image and its labels."""

OTHER_GRID = "Resample the labels to the image by nearest neighbour, or repair the header that is wrong."
"""What to do about labels that are not on the grid of their image."""

ROUNDED = (1e-3, 1e-6)
"""How far a stored label may be from a whole number, and how much further for each unit of its value: as
much as storage and arithmetic in float32 leave. Interpolation leaves more."""


class Volume(NamedTuple):
    """A scan with its labels, in RAS."""

    image: Float32[np.ndarray, "c x y z"]  # intensities as stored
    labels: UInt16[np.ndarray, "x y z"]  # label numbers as stored
    affine: Affine  # from x, y, z to world millimetres


def read_volume(images: Sequence[Path], labels: Path, files: VolumeFormat = VOLUME_FILES) -> Volume:
    """Read a scan and its labels, and bring both into RAS.

    Args:
        images: One file per channel, or one that holds all channels as a fourth dimension.
        labels: File of the same shape and affine.
        files: How they are read.

    Raises:
        DataError: A file cannot be read, shapes or affines differ, intensities are NaN or infinite, or labels
            are not whole numbers from 0 to 65535.
    """
    truth = read_labels(labels, files)
    channels = []
    for path in images:
        stored = files.read(path)
        turn, shape, affine = turn_onto(stored.affine, stored.voxels.shape[:3], truth.affine)
        if shape != truth.voxels.shape:
            raise DataError(
                f"{path} has the shape {shape}, but its labels {labels} have {truth.voxels.shape}. "
                f"{OTHER_GRID}"
            )
        difference = float(np.abs(affine - truth.affine).max())
        if difference > AFFINE_TOLERANCE:
            raise DataError(
                f"{path} and its labels {labels} have affines that differ by up to {difference:.3g} mm. "
                f"{OTHER_GRID}"
            )
        channels.append(_intensities(apply_orientation(stored.voxels, turn), path))
    image = channels[0] if len(channels) == 1 else np.concatenate(channels)
    return Volume(image, whole_numbers(truth, labels), truth.affine)


def read_labels(path: Path, files: VolumeFormat) -> Stored:
    """Labels as their file stores them; `whole_numbers` turns them into label numbers."""
    stored = files.read(path)
    if stored.voxels.ndim != 3:
        raise DataError(
            f"{path} has the shape {stored.voxels.shape}; labels have 3 dimensions. Save them as one volume, "
            "with one number for each voxel, or name the structures of masks in data.masks (nifti_pairs)."
        )
    return stored


def _intensities(voxels: Num[np.ndarray, "x y z *c"], path: Path) -> Float32[np.ndarray, "c x y z"]:
    with np.errstate(over="ignore"):  # what exceeds float32 becomes infinite, and is refused below
        image = voxels.astype(np.float32)
    # The sum is cheap, and not finite if a single voxel is not; whole numbers always are.
    if voxels.dtype.kind == "f" and not np.isfinite(image.sum(dtype=np.float64)):
        wrong = np.count_nonzero(~np.isfinite(image))
        raise DataError(f"{path} holds NaN or infinite intensities in {wrong} voxels. Repair the file.")
    return image[None] if image.ndim == 3 else np.moveaxis(image, 3, 0)


def whole_numbers(stored: Stored, path: Path) -> UInt16[np.ndarray, "x y z"]:
    """Labels as whole numbers; a DataError if values do not stand for whole numbers from 0 to 65535.

    If the file stores them as other whole numbers times a slope below 1, they come back within half of it.
    """
    labels = stored.voxels
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < NUMBERS:
        return labels.view(np.uint16) if labels.dtype == np.int16 else labels.astype(np.uint16)
    if not np.isfinite(labels).all():
        wrong = np.count_nonzero(~np.isfinite(labels))
        raise DataError(f"{path} holds NaN or infinity in {wrong} voxels, and labels are numbers. Repair it.")
    nearest, (least, relative) = np.rint(labels), ROUNDED
    slack = stored.step / 2 if stored.step < 1 else 0.0
    between = np.abs(labels - nearest) > slack + least + relative * np.abs(labels)
    if between.any():
        raise DataError(
            f"{path} holds the label {labels[between].flat[0]:g}; labels of {np.count_nonzero(between)} "
            "voxels are not whole numbers. Were they resampled by interpolation? Use the original, or "
            "resample it by nearest neighbour."
        )
    outside = (nearest < 0) | (nearest >= NUMBERS)
    if outside.any():
        raise DataError(
            f"{path} holds the label {nearest[outside].flat[0]:g}; labels are whole numbers from 0 to "
            f"{NUMBERS - 1}. Renumber them."
        )
    whole: np.ndarray = nearest.astype(np.uint16)
    return whole


GZIP = b"\x1f\x8b"
"""How gzip files begin, whatever they are called."""

HEAD = 540
"""Bytes of the largest header, that of NIfTI-2."""

REPAIRED = 40
"""Level of nibabel's below which it repairs faults of a header: sides below 0, unknown codes."""

SILENT = logging.Logger("headers")
"""Swallows remarks on repairs: what matters in a header is checked here, or by the audit."""
SILENT.addHandler(logging.NullHandler())

MILLIMETRES = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
"""NIfTI's units of length in mm; files that name no unit are in millimetres."""

SPARE = 2**20
"""Bytes that a file may hold beyond what its header claims: footers, comments and padding."""


def forms(path: Path) -> tuple[tuple[int, int], float]:
    """NIfTI's qform and sform codes, and by how many mm the two forms differ; (1, 1) and 0 for other files.

    A qform that is not a rotation counts as absent.
    """
    if path.name.endswith((".mgz", ".mgh")) or not path.name.endswith(SUFFIXES):
        return (1, 1), 0.0
    with naming(path, "a volume"), np.errstate(all="ignore"):
        header = _header_of(path)
    codes = int(header["qform_code"]), int(header["sform_code"])
    try:
        differ = np.abs(header.get_qform() - header.get_sform()).max() if all(codes) else 0.0
    except ValueError:
        return (0, codes[1]), 0.0
    return codes, float(differ) * _millimetres(header)


def in_ras(
    voxels: Num[np.ndarray, "i j k *c"],
    affine: Affine,
    dtype: np.dtype[Any],
    path: Path,
    *,
    step: float = 0.0,
) -> Stored:
    """Turn a volume, given along the axes of its file, as close to RAS as is possible without resampling.

    `affine` maps the file's indices to world millimetres; `dtype` and `step` are those of `Stored`.
    A DataError if the affine gives no plausible voxels.
    """
    if not np.isfinite(affine).all() or abs(affine).max() > FARTHEST:
        raise DataError(
            f"{path} has an affine with NaN, infinity or positions beyond 1,000 m. Repair its header."
        )
    turn = io_orientation(affine)
    if np.isnan(turn).any():  # axes are parallel, or nearly so
        raise DataError(
            f"{path} has an affine that spans no volume: its orientation is unknown. Repair its header."
        )
    (smallest, largest), sizes = VOXEL_SIZES, spacing_of(affine)
    if not all(smallest <= size <= largest for size in sizes):
        seen = " x ".join(f"{size:.3g}" for size in sizes)
        raise DataError(
            f"{path} has voxels of {seen} mm; sizes from {smallest:g} to {largest:g} mm are plausible. "
            "Repair its header: the sizes, or their unit."
        )
    in_order: np.ndarray = apply_orientation(voxels, turn)
    axes = "".join(code or "?" for code in nib.aff2axcodes(affine))
    return Stored(in_order, affine @ inv_ornt_aff(turn, voxels.shape), axes, dtype, step)


def _header_of(path: Path) -> Any:
    with path.open("rb") as file:
        return _header(file.read(2 * HEAD), path)


def _header(content: bytes, path: Path) -> Any:
    """The header that a file begins with, packed or not, strictly checked."""
    is_packed = content.startswith(GZIP)
    head = zlib.decompressobj(wbits=31).decompress(content[: 2**16], HEAD) if is_packed else content[:HEAD]
    if len(head) < 284:
        raise ValueError("it is too short for a header")
    if path.name.endswith((".mgz", ".mgh")):
        mgh = nib.freesurfer.mghformat.MGHHeader(head[:284], check=False)
        mgh.check_fix(SILENT, REPAIRED)
        return mgh
    size = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    kind, length = (nib.Nifti2Header, 540) if 540 in size else (nib.Nifti1Header, 348)
    if not size & {348, 540}:
        raise ValueError("it does not begin with a NIfTI header")
    if len(head) < length:
        raise ValueError("it is too short for a header")
    header = kind(head[:length], check=False)
    magic, sides = bytes(header["magic"]), [float(side) for side in header["pixdim"][1:4]]
    if magic.startswith(b"ni"):
        raise DataError(f"{path}: its voxels are in another file (.img). Convert the pair to one .nii.")
    if not magic.startswith(b"n+"):
        raise DataError(f"{path}: its header is not NIfTI, perhaps Analyze. Convert it to NIfTI.")
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
    """Shape (without trailing axes of length 1), type and offset of the voxels, all checked."""
    full = tuple(int(side) for side in header.get_data_shape())
    shape = full[:3] + tuple(side for side in full[3:] if side != 1)
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError as error:
        raise ValueError(f"its header names an unknown voxel type {error}") from None
    offset, voxels = int(header.get_data_offset()), prod(shape)
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise DataError(
            f"{path} has the shape {full}; a volume has 3 dimensions, or 4 with channels. Save each in a "
            "file of its own."
        )
    if dtype.kind not in "iuf":
        what = "complex numbers" if dtype.kind == "c" else "colours"
        raise DataError(f"{path} holds {what} instead of numbers. Save it with one number for each voxel.")
    if voxels > MOST_VOXELS or voxels * dtype.itemsize > MOST_BYTES:
        raise DataError(
            f"{path}: its header claims {' x '.join(map(str, shape))} voxels; at most {MOST_VOXELS:,}, "
            f"or {MOST_BYTES / 2**30:g} GB, are read. Is the header damaged?"
        )
    if not 0 < offset <= SPARE:  # nibabel refuses what lies inside of the header, but not 0
        raise DataError(f"{path}: its header says that voxels begin at byte {offset}. Is it damaged?")
    return shape, dtype, offset


def _affine(header: Any, path: Path) -> Affine:
    """From indices to world millimetres: by the sform, else the qform, else the sides of voxels alone."""
    try:
        affine: Affine = header.get_best_affine().astype(np.float64)
    except ValueError as error:
        raise DataError(f"{path} has a qform that is not a rotation ({error}). Repair its header.") from None
    affine[:3] *= _millimetres(header)
    return affine


def _millimetres(header: Any) -> float:
    """The unit of a header's lengths, in mm."""
    try:
        unit, _ = header.get_xyzt_units()
    except (AttributeError, KeyError):  # MGH has none; a code that NIfTI does not know
        unit = "mm"
    return MILLIMETRES[unit]


MOST_PACKED = 1032
"""Most bytes that one byte of gzip can hold."""

PIECE = 2**16
"""Bytes that are unpacked at a time."""


def _unpack(packed: bytes, claimed: int) -> UInt8[np.ndarray, "claimed"]:
    """The content that gzip packed, unpacked straight into its place, with its checksum verified.

    A ValueError if it is shorter than claimed or much longer, an EOFError if it is cut short.
    """
    if claimed > MOST_PACKED * len(packed):
        raise ValueError(f"{len(packed)} packed bytes cannot hold the {claimed} that its header promises")
    content, filled = np.empty(claimed, np.uint8), 0
    with gzip.GzipFile(fileobj=BytesIO(packed)) as file:
        while part := file.readinto(content[filled : filled + PIECE].data):
            filled += part
        if len(file.read(SPARE + 1)) > SPARE:
            raise ValueError("the packed content is longer than its header promises")
    if filled < claimed:
        raise ValueError(f"it holds {filled} bytes, and its header promises {claimed}")
    return content

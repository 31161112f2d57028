"""Look at every file once, whatever is in it, and keep a small record of it."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float64, Shaped, UInt8
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medrobust.audit.similarity import SIDE, Person, person, structure_hash
from medrobust.data.files import naming
from medrobust.data.listing import Photo, Scan
from medrobust.data.photographs.photo_cases import read_mask
from medrobust.data.photographs.pictures import Origin, PictureFormat, decoding_room
from medrobust.data.reading import in_threads
from medrobust.data.scans.geometry import spacing_of
from medrobust.data.scans.labels import IGNORED, LabelMap
from medrobust.data.scans.volumes import Stored, VolumeFormat, forms, read_labels, whole_numbers
from medrobust.errors import DataError

Item = TypeVar("Item")
Record = TypeVar("Record")

BLANK = 2
"""Largest difference between the values of a blank image, in steps of 255."""

COUNTED_LEVELS = 257
"""Different intensities are counted up to here: one more than 8 bits can hold."""

LOOKED_AT = 200_000
"""Voxels in which different intensities are counted first."""


@dataclass(frozen=True, slots=True)
class PhotoLook:
    """What is in the file of a photograph."""

    origin: Origin
    shape: tuple[int, ...]  # height and width
    grey: bool  # whether all channels are equal
    bits: int  # bits per channel of the file: 8 or 16
    high: int  # largest value of any channel, in [0, 2**bits - 1]
    contrast: int  # largest minus smallest value, in the channel where that is most
    clipped: float  # fraction of pixels with the largest possible value in all channels
    digest: bytes  # hash of size and pixels, whatever the compression
    structure: int  # perceptual hash of 64 bits
    small: UInt8[np.ndarray, "32 32"]  # the whole image in grey, upright, squeezed to a square

    @property
    def is_blank(self) -> bool:
        """Whether nothing can be seen in it; compression leaves traces of up to `BLANK` steps."""
        is_deep = self.bits > 8 and self.high > 255  # not 8-bit values in a 16-bit file
        return self.contrast <= BLANK * (257 if is_deep else 1)


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """A listed photograph, and what is in its files."""

    photo: Photo
    look: PhotoLook | None  # None if it cannot be read
    inside: float | None  # fraction of pixels that its mask marks; None without a mask that can be read
    errors: Mapping[Path, str]  # why a file cannot be read, as a sentence


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a file lie."""

    shape: tuple[int, ...]  # voxels along x, y, z in RAS
    affine: Float64[np.ndarray, "4 4"]  # from x, y, z to world millimetres
    stored: str  # orientation of the file's own axes, e.g. "LAS"
    codes: tuple[int, int]  # NIfTI's qform and sform code; (1, 1) where the format has none
    forms_differ: float  # largest difference between the two forms in mm, if both are set


@dataclass(frozen=True, slots=True)
class VolumeLook:
    """What is in a file of intensities."""

    grid: Grid
    dtype: str  # type of the numbers in the file
    not_numbers: int  # voxels that are NaN
    infinite: int  # voxels that are infinite
    low: float  # smallest finite intensity
    high: float  # largest finite intensity
    levels: int  # number of different intensities, up to `COUNTED_LEVELS`
    clipped: float  # fraction of the voxels above the smallest intensity that have the largest one
    digest: bytes  # hash of shape and intensities
    person: Person | None  # None if it cannot be compared


@dataclass(frozen=True, slots=True)
class LabelsLook:
    """What is in a file of labels."""

    grid: Grid
    strange: str  # what is wrong with the numbers, as a sentence; empty if all are known
    whole: bool  # whether all are whole numbers in [0, 65535]
    voxels: tuple[int, ...]  # number of voxels of each class
    centres: Float64[np.ndarray, "classes 3"]  # in world millimetres, RAS; NaN for an empty class


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A listed scan, and what is in its files."""

    scan: Scan
    images: Mapping[Path, VolumeLook]  # those files of intensities that can be read
    labels: LabelsLook | None  # None if they cannot be read
    errors: Mapping[Path, str]  # why a file cannot be read, as a sentence


def look_at(look: Callable[[Item], Record], items: Sequence[Item], console: Console) -> tuple[Record, ...]:
    """What `look_at_photo` or `look_at_scan` says of every item, in their order, under a progress bar."""
    columns = TextColumn("reading"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=len(items))
        return tuple(in_threads(look, items, lambda *_: bar.advance(task)))


@contextmanager
def _noting(errors: dict[Path, str], path: Path) -> Iterator[None]:
    """Note why a file cannot be read: whatever a decoder raises must not end the audit."""
    try:
        with naming(path):
            yield
    except DataError as error:
        errors[path] = str(error)


def look_at_photo(photo: Photo, files: PictureFormat, ignored: Collection[int] = ()) -> PhotoRecord:
    """Look at a photograph, and at its mask if it has one; `ignored` are values of pixels without a label."""
    errors: dict[Path, str] = {}
    look = inside = None
    with _noting(errors, photo.path), decoding_room(files, photo.path, photo.entry):
        look = _look_at_picture(photo, files)
    if photo.mask is not None:
        with _noting(errors, photo.mask):
            mask = read_mask(photo.mask, look.shape if look else None, ignored)
            inside = float((mask == 1).mean())
    return PhotoRecord(photo, look, inside, errors)


def _look_at_picture(photo: Photo, files: PictureFormat) -> PhotoLook:
    picture = files.picture(photo.path, photo.entry)
    channels, volume = picture.pixels, picture.is_volume
    grey = volume or all(np.array_equal(channel, channels[0]) for channel in channels[1:])
    channels = np.ascontiguousarray(channels[:1] if grey and not volume else channels)
    planes = channels.reshape(1, -1) if volume else channels
    ranges = [(int(plane.min()), int(plane.max())) for plane in planes]
    small = squeezed(channels[len(channels) // 2][None] if volume else channels)
    return PhotoLook(
        origin=picture.origin,
        shape=channels.shape[1:],
        grey=grey,
        bits=picture.bits,
        high=max(high for _, high in ranges),
        contrast=max(high - low for low, high in ranges),
        clipped=0.0 if picture.windowed else float((planes.min(0) >= np.iinfo(planes.dtype).max).mean()),
        digest=_digest((channels.shape, channels.dtype.str), channels),
        structure=structure_hash(small),
        small=small,
    )


def squeezed(channels: Shaped[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "32 32"]:
    """The whole image in grey, squeezed to a square; values of more than 8 bits are stretched to 0 to 255."""
    pixels = np.moveaxis(channels, 0, 2) if len(channels) == 3 else channels[0]
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / max(high - low, 1))).astype(np.uint8)
    grey = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def look_at_scan(scan: Scan, classes_of: LabelMap) -> ScanRecord:
    """Look at the images and the labels of a scan."""
    errors: dict[Path, str] = {}
    images, labels = {}, None
    for path in scan.images:
        with _noting(errors, path):
            images[path] = _look_at_image(path, scan.format)
    with _noting(errors, scan.labels):
        labels = _look_at_labels(scan, classes_of)
    return ScanRecord(scan, images, labels, errors)


def _look_at_image(path: Path, files: VolumeFormat) -> VolumeLook:
    stored = files.read(path)
    voxels, grid = stored.voxels, _grid(stored, path)
    with np.errstate(over="ignore"):  # what is beyond float32 counts as infinite, as in a run
        digest = _digest(voxels.shape, np.ascontiguousarray(voxels, np.float32))
    is_finite = np.isfinite(voxels)
    finite = voxels.ravel() if is_finite.all() else voxels[is_finite]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    above = np.count_nonzero(finite > low)
    shown = None
    if high > low and finite.size == voxels.size:
        volume = voxels if voxels.ndim == 3 else voxels.reshape(*voxels.shape[:3], -1)[..., 0]
        shown = person(volume, spacing_of(grid.affine))
    return VolumeLook(
        grid=grid,
        dtype=stored.dtype.name,
        not_numbers=int(np.isnan(voxels).sum()),
        infinite=int(np.isinf(voxels).sum()),
        low=low,
        high=high,
        levels=_levels(finite),
        clipped=np.count_nonzero(finite == high) / above if above else 0.0,
        digest=digest,
        person=shown,
    )


def _levels(values: Shaped[np.ndarray, "n"]) -> int:
    """Number of different values, up to `COUNTED_LEVELS`; a sample suffices where there are many."""
    for sample in (values[:: max(1, values.size // LOOKED_AT)], values):
        levels = np.unique(sample).size
        if levels >= COUNTED_LEVELS:
            return COUNTED_LEVELS
    return int(levels)


def _look_at_labels(scan: Scan, classes_of: LabelMap) -> LabelsLook:
    path, classes = scan.labels, len(classes_of.names)
    stored = read_labels(path, scan.format)
    grid, whole = _grid(stored, path), False
    try:
        numbers = whole_numbers(stored, path)
        whole = True
        indices = classes_of(numbers, path)
    except DataError as error:
        return LabelsLook(grid, str(error), whole, (), np.full((classes, 3), np.nan))
    known = indices != IGNORED
    flat = indices[known]
    counts = np.bincount(flat, minlength=classes)
    sums = [
        np.bincount(flat, np.broadcast_to(places, indices.shape)[known], classes)
        for places in np.ix_(*(np.arange(length, dtype=float) for length in indices.shape))
    ]
    with np.errstate(invalid="ignore"):  # an empty class has no centre: NaN
        means = np.transpose(sums) / counts[:, None]
    centres = means @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return LabelsLook(grid, "", whole, tuple(counts.tolist()), centres)


def _grid(stored: Stored, path: Path) -> Grid:
    codes, differ = forms(path)
    return Grid(tuple(stored.voxels.shape[:3]), stored.affine, stored.axes, codes, differ)


def _digest(kind: object, array: np.ndarray) -> bytes:
    """Equal for arrays of one kind with equal values."""
    digest = hashlib.blake2b(repr(kind).encode(), digest_size=16)
    digest.update(array.data)
    return digest.digest()

"""Look at every file once, whatever it holds, and keep a small record of it."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
from jaxtyping import Float16, Float64, Shaped, UInt8
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medrobust.audit.similarity import SIDE, person, structure_hash
from medrobust.data.listing import Photo, Photos, Scan, Scans
from medrobust.data.photographs.photo_cases import read_mask
from medrobust.data.photographs.pictures import PictureFormat, decoding_room
from medrobust.data.scans.labels import LabelMap
from medrobust.data.scans.volumes import Stored, VolumeFormat, forms, read_labels, whole_numbers
from medrobust.errors import DataError, reason

Item = TypeVar("Item")
Record = TypeVar("Record")


BLANK = 2
"""Steps of 255 that the values of a blank image may differ by."""


@dataclass(frozen=True, slots=True)
class PhotoLook:
    """What a photograph that can be read looks like."""

    form: str  # format of the file, whatever its name says, in Pillow's words: "JPEG", "PNG"; empty of others
    mode: str  # "CMYK" or "YCCK" where it was made for print
    turned: bool  # whether its EXIF tag asks for a rotation or reflection
    alpha: bool  # whether any pixel is transparent
    shape: tuple[int, ...]  # height and width
    grey: bool  # whether all channels are equal
    bits: int  # bits per channel of the file: 8 or 16
    high: int  # largest value of any channel, in [0, 2**bits - 1]
    contrast: int  # difference of largest and smallest value, of the channel where it is largest
    clipped: float  # fraction of the pixels that have the largest possible value in all channels
    digest: bytes  # hash of size and pixels: equal for equal images, however they are compressed
    structure: int  # perceptual hash of 64 bits
    small: UInt8[np.ndarray, "32 32"]  # the whole image in grey, upright, squeezed to 32 x 32 pixels

    @property
    def is_blank(self) -> bool:
        """Whether nothing can be seen; compression leaves traces of `BLANK` steps."""
        is_deep = self.bits > 8 and self.high > 255  # not 8-bit values in a 16-bit file
        return self.contrast <= BLANK * (257 if is_deep else 1)


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """A photograph of the listing and what its file holds."""

    photo: Photo  # as listed
    look: PhotoLook | None  # what it looks like; None where it cannot be read
    # fraction of its mask that is inside; None where there is no mask, or none that can be read
    inside: float | None
    errors: Mapping[Path, str]  # why a file cannot be read, as a sentence, by file


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a file lie."""

    shape: tuple[int, ...]  # voxels along x, y, z of the canonical orientation RAS
    affine: Float64[np.ndarray, "4 4"]  # from x, y, z to world millimetres
    stored: str  # where the file's own axes grow to, e.g. "LAS"
    codes: tuple[int, int]  # NIfTI's qform and sform code; (1, 1) where the format has none
    forms_differ: float  # largest difference in mm between the two forms, where both are set


COUNTED_LEVELS = 257
"""One more than 8 bits can tell apart."""


@dataclass(frozen=True, slots=True)
class VolumeLook:
    """What the intensities of a scan look like."""

    grid: Grid  # where its voxels lie
    dtype: str  # type of the numbers in the file
    not_numbers: int  # voxels that are NaN
    infinite: int  # voxels that are infinite
    low: float  # smallest finite intensity
    high: float  # largest finite intensity
    levels: int  # different intensities, counted up to `COUNTED_LEVELS`
    clipped: float  # fraction of the voxels above the smallest intensity that have the largest one
    digest: bytes  # hash of shape and intensities
    # the scan in a frame of its own axes, detail only; None where nothing can be compared
    person: Float16[np.ndarray, "voxels"] | None
    size: float  # size of what is pictured in mm: the root mean square distance from its centre along an axis


@dataclass(frozen=True, slots=True)
class LabelsLook:
    """What the labels of a scan look like."""

    grid: Grid  # where their voxels lie
    strange: str  # what is wrong with the numbers, as a sentence; empty where all are known
    whole: bool  # whether all are whole numbers in [0, 65535]
    voxels: tuple[int, ...]  # voxels of each class
    # centre of each class in world millimetres (right, anterior, superior); NaN where it is empty
    centres: Float64[np.ndarray, "classes 3"]


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan of the listing and what its files hold."""

    scan: Scan  # as listed
    images: Mapping[Path, VolumeLook]  # its intensities, by file; those that can be read
    labels: LabelsLook | None  # its labels; None where they cannot be read
    errors: Mapping[Path, str]  # why a file cannot be read, as a sentence, by file


def look_at_photos(listing: Photos, console: Console) -> tuple[PhotoRecord, ...]:
    """A record of every photograph, in the listing's order."""
    return tuple(_looked_at(partial(look_at_photo, files=listing.format), listing.items, console))


def look_at_scans(listing: Scans, console: Console) -> tuple[ScanRecord, ...]:
    """A record of every scan, in the listing's order."""
    look = partial(look_at_scan, classes_of=listing.classes_of, classes=len(listing.classes))
    return tuple(_looked_at(look, listing.items, console))


def _looked_at(look: Callable[[Item], Record], items: Sequence[Item], console: Console) -> Iterator[Record]:
    """Records as they come, under a progress bar; threads suffice, since decoders let others work."""
    with (
        Progress(
            TextColumn("reading"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        yield from bar.track(pool.map(look, items), total=len(items))


def look_at_photo(photo: Photo, files: PictureFormat) -> PhotoRecord:
    """The record of a photograph and its mask; a file that cannot be read becomes an error that says why."""
    errors: dict[Path, str] = {}
    look = inside = None
    try:
        with decoding_room(files, photo.path, photo.entry):
            look = _look_at_picture(photo, files)
    except Exception as error:  # whatever a decoder raises at a damaged file must not end the audit
        errors[photo.path] = _why(photo.path, error)
    try:
        if photo.mask is not None:
            inside = _inside(photo.mask, look)
    except Exception as error:
        errors[photo.mask or photo.path] = _why(photo.mask or photo.path, error)
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
        **picture.origin._asdict(),
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


def _inside(mask: Path, look: PhotoLook | None) -> float:
    """Fraction of the mask that is inside; it must be a mask, and of the size of its image."""
    pixels = read_mask(mask)
    if look and pixels.shape != look.shape:
        height, width = look.shape
        raise DataError(
            f"{mask}: has {pixels.shape[1]} x {pixels.shape[0]} pixels, its image {width} x {height}."
        )
    return float(np.count_nonzero(pixels) / pixels.size)


def _digest(what: object, array: np.ndarray) -> bytes:
    """Equal for equal values of what is the same."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=16)
    digest.update(array.data)
    return digest.digest()


def squeezed(channels: Shaped[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "32 32"]:
    """The whole image in grey, squeezed to a square; more than 8 bits are stretched over the range."""
    pixels = np.moveaxis(channels, 0, 2) if len(channels) == 3 else channels[0]
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / max(high - low, 1))).astype(np.uint8)
    grey = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


LOOKED_AT = 200_000
"""Voxels that different intensities are first counted in."""


def look_at_scan(scan: Scan, classes_of: LabelMap, classes: int) -> ScanRecord:
    """The record of a scan; a file that cannot be read becomes an error that says why."""
    errors: dict[Path, str] = {}
    images, labels = {}, None
    for path in scan.images:
        try:
            images[path] = _look_at_image(path, scan.format)
        except Exception as error:  # whatever a reader raises at a damaged file must not end the audit
            errors[path] = _why(path, error)
    try:
        labels = _look_at_labels(scan, classes_of, classes)
    except Exception as error:
        errors[scan.labels] = _why(scan.labels, error)
    return ScanRecord(scan, images, labels, errors)


def _look_at_image(path: Path, files: VolumeFormat) -> VolumeLook:
    stored = files.read(path)
    voxels, grid = stored.voxels, _grid(stored, path)
    with np.errstate(over="ignore"):  # what is beyond float32 counts as infinite, as in a run
        digest = _digest(voxels.shape, np.ascontiguousarray(voxels, np.float32))
    finite, nan, infinite = _finite(voxels)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    above = np.count_nonzero(finite > low)
    volume = voxels if voxels.ndim == 3 else voxels.reshape(*voxels.shape[:3], -1)[..., 0]
    x, y, z = (float(size) for size in nib.affines.voxel_sizes(grid.affine))
    shown = person(volume, (x, y, z)) if high > low and not nan + infinite else None
    return VolumeLook(
        grid=grid,
        dtype=stored.dtype.name,
        not_numbers=nan,
        infinite=infinite,
        low=low,
        high=high,
        levels=_levels(finite),
        clipped=np.count_nonzero(finite == high) / above if above else 0.0,
        digest=digest,
        person=None if shown is None else shown.detail,
        size=0.0 if shown is None else shown.size,
    )


def _look_at_labels(scan: Scan, classes_of: LabelMap, classes: int) -> LabelsLook:
    path = scan.labels
    stored = read_labels(path, scan.format)
    grid, empty = _grid(stored, path), np.full((classes, 3), np.nan)
    try:
        numbers = whole_numbers(stored, path)
    except DataError as error:
        return LabelsLook(grid, str(error), False, (), empty)
    try:
        indices = classes_of(numbers, path)
    except DataError as error:
        return LabelsLook(grid, str(error), True, (), empty)
    counts = np.bincount(indices.ravel(), minlength=classes)
    return LabelsLook(grid, "", True, tuple(int(count) for count in counts), _centres(indices, grid, classes))


def _finite(voxels: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The finite voxels, and how many are NaN and how many infinite."""
    if voxels.dtype.kind != "f":
        return voxels.ravel(), 0, 0
    good = np.isfinite(voxels)
    if good.all():
        return voxels.ravel(), 0, 0
    return voxels[good], int(np.isnan(voxels).sum()), int(np.isinf(voxels).sum())


def _levels(values: Shaped[np.ndarray, "n"]) -> int:
    """Different values, counted up to `COUNTED_LEVELS`: a part of them is enough where there are many."""
    for part in (values[:: max(1, values.size // LOOKED_AT)], values):
        levels = np.unique(part).size
        if levels >= COUNTED_LEVELS:
            return COUNTED_LEVELS
    return int(levels)


def _centres(classes: UInt8[np.ndarray, "x y z"], grid: Grid, count: int) -> Float64[np.ndarray, "classes 3"]:
    """Centre of each class in world millimetres."""
    flat, sizes = classes.ravel(), np.bincount(classes.ravel(), minlength=count)
    means = np.empty((count, 3))
    for axis, length in enumerate(classes.shape):
        shape = [1, 1, 1]
        shape[axis] = length
        places = np.broadcast_to(np.arange(length, dtype=np.float64).reshape(shape), classes.shape)
        with np.errstate(invalid="ignore"):  # an empty class has no centre: NaN
            means[:, axis] = np.bincount(flat, places.ravel(), minlength=count) / sizes
    centres: Float64[np.ndarray, "classes 3"] = means @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return centres


def _grid(stored: Stored, path: Path) -> Grid:
    codes, differ = forms(path)
    return Grid(tuple(stored.voxels.shape[:3]), stored.affine, stored.axes, codes, differ)


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    return f"{path} cannot be read ({reason(error)}). Check whether another program opens it, or remove it."

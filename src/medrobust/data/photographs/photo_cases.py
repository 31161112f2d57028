"""Photographs as cases, with a class or a mask each, decoded once into the cache folder."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float32, Int64, Shaped, UInt8

from medrobust.core import Case, Dataset, OnProgress, Sample, Task, silent
from medrobust.data.cache import CachedRows
from medrobust.data.files import file_digest
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.photographs.pictures import (
    FRAMES,
    MOST_PIXELS,
    VOLUME_FRAME,
    Colour,
    Fit,
    Header,
    PictureFormat,
    decoding_room,
    framed_mask,
    framed_picture,
    framed_volume,
)
from medrobust.data.reading import in_threads, part_of
from medrobust.errors import DataError, StudyError

REVISION = 3
"""Raised with every change of how images are decoded: it is part of the fingerprint."""

MASK_WHITE = (1, 255, 65535)
"""Values that say "inside": masks are stored in 0 and 1, or in black and white of 8 or 16 bits."""

Size = Annotated[int, Ge(16), Le(1024)]
Intensity = Literal["stored", "min-max"]


def open_photos(
    name: str,
    listing: Photos,
    cache: Path | None,
    progress: OnProgress = silent,
    *,
    size: Size = 128,
    fit: Fit = "crop",
    colour: Colour = "auto",
    intensity: Intensity = "stored",
) -> Dataset:
    """Photographs that an adapter has listed, as a data set for classification.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder that keeps decoded images; None decodes at every reading.
        progress: Told how far it is.
        size: Pixels along each side. Photographs are resized to it (bicubic, with antialiasing).
        fit: "crop" takes the largest centred square, "pad" the whole picture with black beside it: both keep
            its proportions. "stretch" does not.
        colour: "grey" gives one channel, "rgb" three; "auto" gives one where no file is in colour.
        intensity: What becomes 0 and 1: "stored" takes black and white of the file, "min-max" the darkest and
            the brightest value of each image.

    Raises:
        DataError: There is no photograph, or a file cannot be read. One that cannot be decoded is reported
            when it is read.
    """
    decoding, fingerprint = prepare(listing, size, fit, colour, intensity, progress)
    reader = PhotoReader(listing.items, decoding, _rows(cache, name, fingerprint, listing, decoding))
    cases = tuple(
        Case(photo.case_id, photo.case_id, photo.patient_id, photo.label) for photo in listing.items
    )
    return Dataset(
        **_in_common(name, listing, decoding, fingerprint),
        task=Task.CLASSIFICATION,
        cases=cases,
        read=reader,
        facts={**listing.facts, **_facts(decoding)},
    )


def open_masked_photos(
    name: str,
    listing: Photos,
    cache: Path | None,
    progress: OnProgress = silent,
    *,
    size: Size = 128,
    fit: Fit = "pad",
    colour: Colour = "auto",
    intensity: Intensity = "stored",
) -> Dataset:
    """Photographs with masks that an adapter has listed, as a data set for segmentation; masks may be empty.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder that keeps decoded images and masks; None decodes at every reading.
        progress: Told how far it is.
        size: As of `open_photos`; a pixel of a resized mask is what fills most of it.
        fit: As of `open_photos`, of image and mask alike.
        colour: As of `open_photos`.
        intensity: As of `open_photos`.

    Raises:
        DataError: There is no photograph, a file cannot be read, or a mask is invalid. An image that cannot
            be decoded is reported when it is read.
    """
    decoding, fingerprint = prepare(listing, size, fit, colour, intensity, part_of(progress, 0, 0.5))
    rows = _rows(cache, name, fingerprint, listing, decoding)
    masks = rows and CachedRows(Path(f"{rows.path}-masks"), rows.count, (size, size), "uint8")
    reader = PhotoReader(listing.items, decoding, rows, masks)

    def labelled(number: int) -> int:
        return int(np.count_nonzero(reader.mask(number)))

    inside = in_threads(labelled, range(len(listing.items)), part_of(progress, 0.5, 1), "mask")
    if not any(inside):
        raise DataError(f"{listing.items[0].mask} is empty, and so are all other masks. Give the masks.")
    cases = tuple(
        Case(photo.case_id, photo.case_id, photo.patient_id, foreground=count)
        for photo, count in zip(listing.items, inside, strict=True)
    )
    empty = f"all images; the mask of {inside.count(0)} is empty: these have no Dice, and none is trained on"
    return Dataset(
        **_in_common(name, listing, decoding, fingerprint),
        task=Task.SEGMENTATION,
        cases=cases,
        read=reader,
        facts={
            **listing.facts,
            **_facts(decoding),
            "masks": "a pixel is what fills most of it",
            "cases": empty,
        },
    )


@dataclass(frozen=True)
class PhotoReader:
    """Reads the sample of a case; the `read` of a `Dataset`.

    Attributes:
        photos: All photographs.
        decoding: How they become images.
        stored: Decoded photographs in the same order; None decodes at every reading.
        masks: Framed masks in the same order, likewise.
    """

    photos: tuple[Photo, ...]
    decoding: "Decoding"
    stored: CachedRows | None
    masks: CachedRows | None = None

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Number of each photograph."""
        return {photo.case_id: number for number, photo in enumerate(self.photos)}

    def __call__(self, case: Case) -> Sample:
        """Image and class, or mask, of a case."""
        number = self.places[case.case_id]
        photo = self.photos[number]
        decode = partial(self.decoding.pixels, photo)
        image = self.decoding.image(self.stored.get(number, decode) if self.stored else decode())
        return Sample(image, np.array(photo.label, np.int64) if photo.mask is None else self.mask(number))

    def mask(self, number: int) -> Int64[np.ndarray, "h w"]:
        """The mask of a photograph: 1 inside."""
        decode = partial(_framed_mask_of, self.photos[number], self.decoding)
        return np.asarray(self.masks.get(number, decode) if self.masks else decode(), np.int64)


def _framed_mask_of(photo: Photo, decoding: "Decoding") -> UInt8[np.ndarray, "size size"]:
    """The mask of a photograph, framed as its image is."""
    if photo.mask is None:
        raise DataError(f"{photo.path}: has no mask.")
    mask = read_mask(photo.mask)
    width, height = decoding.format.header(photo.path, photo.entry).size
    if mask.shape != (height, width):
        raise DataError(
            f"{photo.mask}: has {mask.shape[1]} x {mask.shape[0]} pixels, but its image {photo.path} "
            f"{width} x {height}."
        )
    return framed_mask(mask, decoding.size, decoding.fit, classes=2)


def read_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    """A mask at its full size: 1 inside, 0 outside; a DataError where it is not black and one white."""
    with decoding_room(IMAGE_FILES, path):
        values = IMAGE_FILES.picture(path).pixels
    if (values != values[:1]).any():
        raise DataError(f"{path}: a mask must be black and white, and this one is in colour.")
    found = set(np.unique(values).tolist()) - {0}
    if len(found) > 1 or not found <= set(MASK_WHITE):
        raise DataError(
            f"{path}: a mask must hold 0 and 255, or 0 and 1; this one holds {sorted(found)[:5]}. Was it "
            "saved as JPEG, or resized?"
        )
    inside: np.ndarray = values[0] > 0
    return inside.astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a photograph becomes an image.

    Attributes:
        format: How its file is read.
        size: Pixels along each side.
        fit: How a picture is brought to that size; a volume becomes a cube of voxels in any case.
        channels: 1 or 3.
        bits: Bits per channel, the most that any file has.
        intensity: What becomes 0 and 1.
        is_volume: Whether volumes are decoded; not in the fingerprint, which is over their contents.
    """

    format: PictureFormat
    size: int
    fit: Fit
    channels: int
    bits: int
    intensity: Intensity
    is_volume: bool = field(default=False, repr=False)

    @property
    def dtype(self) -> str:
        """Type of the decoded values; its largest stands for 1."""
        return "uint8" if self.bits <= 8 else "uint16"

    @property
    def space(self) -> tuple[int, ...]:
        """Sides of an image."""
        return (self.size,) * (3 if self.is_volume else 2)

    def pixels(self, photo: Photo) -> Shaped[np.ndarray, "channels *space"]:
        """Decode and frame a photograph; a DataError where its file cannot be read."""
        with decoding_room(self.format, photo.path, photo.entry):
            picture = self.format.picture(photo.path, photo.entry)
            if self.is_volume:
                framed = framed_volume(picture, self.size)
            else:
                framed = framed_picture(picture, self.size, self.fit, self.channels)
        if framed.dtype == self.dtype:
            return framed
        if self.dtype == "uint16":
            return framed.astype(np.uint16) * np.uint16(257)  # 255 becomes 65535
        return np.rint(framed / 257).astype(np.uint8)

    def image(self, pixels: Shaped[np.ndarray, "c *space"]) -> Float32[np.ndarray, "c *space"]:
        """Decoded values in [0, 1]."""
        if self.intensity == "stored":
            return np.asarray(pixels, np.float32) / np.float32(np.iinfo(self.dtype).max)
        low, high = int(pixels.min()), int(pixels.max())
        return (np.asarray(pixels, np.float32) - low) / np.float32(max(high - low, 1))


def prepare(
    listing: Photos, size: int, fit: Fit, colour: Colour, intensity: Intensity, progress: OnProgress
) -> tuple[Decoding, str]:
    """How the photographs of a listing are decoded, and the fingerprint of the result.

    The fingerprint is over contents, not dates or sizes: cached images are found by it, so that it must
    change with any pixel. It takes as long as reading all files once.

    Raises:
        StudyError: Volumes in colour, or too large.
        DataError: There is no photograph, or a file cannot be read.
    """
    if not listing.items:
        raise DataError("data.root: there is no usable photograph. `medrobust audit` says why.")
    paths = list(dict.fromkeys(path for photo in listing.items for path in (photo.path, photo.mask) if path))
    each = in_threads(file_digest, paths, part_of(progress, 0, 0.8), "checksum")
    digests = dict(zip(paths, each, strict=True))

    def header(photo: Photo) -> Header | None:
        try:
            return listing.format.header(photo.path, photo.entry)
        except DataError:  # for its reading to report
            return None

    headers = in_threads(header, listing.items, part_of(progress, 0.8, 1), "header")
    decoding = _decoding(listing.format, [one for one in headers if one], size, fit, colour, intensity)
    total = hashlib.sha256(repr((REVISION, decoding, listing.classes)).encode())
    for photo in listing.items:
        content = digests[photo.path], digests.get(photo.mask) if photo.mask else None
        total.update(repr((photo.case_id, photo.patient_id, photo.label, photo.entry, content)).encode())
    return decoding, total.hexdigest()


def _decoding(
    files: PictureFormat, headers: Sequence[Header], size: int, fit: Fit, colour: Colour, intensity: Intensity
) -> Decoding:
    in_colour = any(header.channels == 3 for header in headers) or not headers
    channels = 3 if colour == "rgb" or (colour == "auto" and in_colour) else 1
    bits = max((header.bits for header in headers), default=8)
    if not any(header.depth > 1 for header in headers):
        return Decoding(files, size, fit, channels, bits, intensity)
    if colour == "rgb":
        raise StudyError("data.colour: volumes are in grey; got 'rgb'. Use grey, or leave the key out.")
    if size**3 > MOST_PIXELS:
        raise StudyError(
            f"data.size: {size} makes volumes of {size**3:,} voxels; at most {MOST_PIXELS:,} are possible. "
            "Choose a smaller one."
        )
    return Decoding(files, size, fit, channels, bits, intensity, is_volume=True)


def _rows(
    cache: Path | None, name: str, fingerprint: str, listing: Photos, decoding: Decoding
) -> CachedRows | None:
    """Where decoded photographs are kept."""
    if cache is None:
        return None
    shape = (decoding.channels, *decoding.space)
    return CachedRows(cache / f"{name}-{fingerprint[:16]}", len(listing.items), shape, decoding.dtype)


def _in_common(name: str, listing: Photos, decoding: Decoding, fingerprint: str) -> dict[str, Any]:
    """The fields that both kinds of data sets share."""
    return {
        "name": name,
        "classes": listing.classes,
        "unit": listing.unit,
        "channels": decoding.channels,
        "shape": decoding.space,
        "spacing": None,
        "fingerprint": fingerprint,
        "official": listing.official,
        "attributes": listing.attributes,
        "bits": decoding.bits,
    }


def _facts(decoding: Decoding) -> Mapping[str, str]:
    """What a report must state about how photographs were decoded."""
    ends = {"stored": "the file's own black and white", "min-max": "its darkest and its brightest value"}
    frame = VOLUME_FRAME if decoding.is_volume else FRAMES[decoding.fit]
    return {
        "geometry": f"{frame.format(size=decoding.size)} (bicubic, antialiased)",
        "colour": "grey, one channel" if decoding.channels == 1 else "RGB",
        "intensity": f"{decoding.bits} bits per channel; per image, 0 and 1 are {ends[decoding.intensity]}",
    }

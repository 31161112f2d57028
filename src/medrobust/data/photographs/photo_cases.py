"""Photographs as cases, with a class, findings or a mask each, decoded once into the cache folder."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float32, Int64, Shaped, UInt8

from medrobust.core import UNKNOWN, Case, Dataset, OnProgress, Sample, Task, silent
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
from medrobust.data.scans.labels import IGNORED
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
    """Photographs that an adapter has listed, as a data set; for segmentation if they have masks.

    The fingerprint covers what the files hold, not their dates or sizes, because cached images are found by
    it. Computing it takes as long as reading every file once.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder for decoded images; None decodes at every reading.
        progress: Told how far it is.
        size: Pixels along each side. Photographs are resized to it (bicubic, with antialiasing); a pixel of a
            resized mask is what fills most of it.
        fit: "crop" takes the largest centred square and "pad" the whole picture, with black beside it; both
            keep its proportions. "stretch" does not. Masks go where their pictures go.
        colour: "grey" gives one channel, "rgb" three; "auto" gives one if no file is in colour.
        intensity: What becomes 0 and 1: "stored" takes the file's black and white, "min-max" the darkest and
            the brightest value of each image.

    Raises:
        StudyError: Volumes in colour, or too large.
        DataError: There is no photograph, a file cannot be read, or a mask is invalid. A photograph that
            cannot be decoded is reported when it is read.
    """
    if not listing.items:
        raise DataError("data.root: there is no usable photograph. `medrobust audit` says why.")
    is_masked = listing.items[0].mask is not None
    reading = part_of(progress, 0, 0.5) if is_masked else progress
    paths = list(dict.fromkeys(path for photo in listing.items for path in (photo.path, photo.mask) if path))
    checksums = in_threads(file_digest, paths, part_of(reading, 0, 0.8), "checksum")

    def header(photo: Photo) -> Header | None:
        try:
            return listing.format.header(photo.path, photo.entry)
        except DataError:  # reported when the photograph is read
            return None

    headers = in_threads(header, listing.items, part_of(reading, 0.8, 1), "header")
    decoding = _decoding(listing.format, [one for one in headers if one], size, fit, colour, intensity)
    decoding = replace(decoding, ignored=listing.ignored)
    fingerprint = _fingerprint(listing, decoding, dict(zip(paths, checksums, strict=True)))
    stored = None
    if cache is not None:
        shape = (decoding.channels, *decoding.space)
        path = cache / f"{name}-{fingerprint[:16]}"
        stored = CachedRows(path, len(listing.items), shape, decoding.dtype)
    reader = PhotoReader(listing.items, decoding, stored)
    images = Dataset(
        name=name,
        task=listing.task,
        classes=listing.classes,
        unit=listing.unit,
        channels=decoding.channels,
        shape=decoding.space,
        spacing=None,
        cases=tuple(photo.case for photo in listing.items),
        read=reader,
        fingerprint=fingerprint,
        official=listing.official,
        facts={**listing.facts, **_facts(decoding)},
        bits=decoding.bits,
        attributes=listing.attributes,
    )
    return _with_masks(images, reader, part_of(progress, 0.5, 1)) if is_masked else images


open_masked_photos = partial(open_photos, fit="pad")
"""The same for photographs with masks: their borders may hold what is looked for."""


def _with_masks(images: Dataset, reader: "PhotoReader", progress: OnProgress) -> Dataset:
    """The photographs with their masks, which may be empty, as a data set for segmentation."""
    if stored := reader.stored:
        masks = CachedRows(Path(f"{stored.path}-masks"), stored.count, images.shape, "uint8")
        reader = replace(reader, masks=masks)

    def labelled(number: int) -> int | None:
        mask = reader.mask(number)
        return int(np.count_nonzero(mask > 0)) if (mask != UNKNOWN).any() else None

    counts = in_threads(labelled, range(len(reader.photos)), progress, "mask")
    cases = [
        replace(case, foreground=count)
        for case, count in zip(images.cases, counts, strict=True)
        if count is not None
    ]
    if not any(case.is_labelled for case in cases):
        raise DataError(f"{reader.photos[0].mask} is empty, and so are all other masks. Give the masks.")
    n_empty = sum(not case.is_labelled for case in cases)
    empty = f"all images; the mask of {n_empty} is empty: these have no Dice, and none is trained on"
    if reader.decoding.ignored:
        empty += (
            f"; ignored pixels count nowhere, and {counts.count(None)} images of nothing else are left out"
        )
    return replace(
        images,
        task=Task.SEGMENTATION,
        cases=tuple(cases),
        read=reader,
        facts={**(images.facts or {}), "masks": "a pixel is what fills most of it", "cases": empty},
    )


@dataclass(frozen=True)
class PhotoReader:
    """Reads the sample of a case; the `read` of a `Dataset`."""

    photos: tuple[Photo, ...]
    decoding: "Decoding"
    stored: CachedRows | None  # decoded photographs in the same order; None decodes at every reading
    masks: CachedRows | None = None  # framed masks, likewise

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Number of each photograph."""
        return {photo.case_id: number for number, photo in enumerate(self.photos)}

    def __call__(self, case: Case) -> Sample:
        """Image and class, findings or mask of a case."""
        number = self.places[case.case_id]
        photo = self.photos[number]
        decode = partial(self.decoding.pixels, photo)
        image = self.decoding.image(self.stored.get(number, decode) if self.stored else decode())
        return Sample(image, np.array(photo.label, np.int64) if photo.mask is None else self.mask(number))

    def mask(self, number: int) -> Int64[np.ndarray, "h w"]:
        """The mask of a photograph: 1 inside, `core.UNKNOWN` where it is to be ignored."""
        decode = partial(self.decoding.mask, self.photos[number])
        mask = np.asarray(self.masks.get(number, decode) if self.masks else decode(), np.int64)
        return np.where(mask == IGNORED, UNKNOWN, mask) if self.decoding.ignored else mask


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a photograph becomes an image. Its `repr` is part of the fingerprint."""

    format: PictureFormat
    size: int  # pixels along each side
    fit: Fit  # how a picture is brought to that size; a volume becomes a cube in any case
    channels: int  # 1 or 3
    bits: int  # per channel, the most that any file has
    intensity: Intensity
    is_volume: bool = field(default=False, repr=False)  # the contents, which are in the fingerprint, say so
    ignored: tuple[int, ...] = field(default=(), repr=False)  # values of pixels of masks without a label

    @property
    def dtype(self) -> str:
        """Type of the decoded values; its largest stands for 1."""
        return "uint8" if self.bits <= 8 else "uint16"

    @property
    def space(self) -> tuple[int, ...]:
        """Sides of an image."""
        return (self.size,) * (3 if self.is_volume else 2)

    def pixels(self, photo: Photo) -> Shaped[np.ndarray, "channels *space"]:
        """Decode and frame a photograph; a DataError if its file cannot be read."""
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

    def mask(self, photo: Photo) -> UInt8[np.ndarray, "size size"]:
        """The mask of a photograph, framed as its image is; a DataError if it is invalid."""
        assert photo.mask is not None
        size = self.format.header(photo.path, photo.entry).size
        mask = read_mask(photo.mask, size[::-1], self.ignored)
        framed = framed_mask(mask, self.size, self.fit)
        if self.ignored:
            framed[framed_mask(np.asarray(mask == IGNORED, np.uint8), self.size, self.fit) > 0] = IGNORED
        return framed


def read_mask(
    path: Path, shape: tuple[int, ...] | None = None, ignored: Collection[int] = ()
) -> UInt8[np.ndarray, "h w"]:
    """A mask at its full size: 1 inside, 0 outside, `IGNORED` where it has one of the `ignored` values.

    A DataError if it is not black and one white, or not of the `shape` of its image, if that is known.
    """
    with decoding_room(IMAGE_FILES, path):
        values = IMAGE_FILES.picture(path).pixels
    if (values != values[:1]).any():
        raise DataError(f"{path}: a mask must be black and white, and this one is in colour.")
    found = set(np.unique(values).tolist()) - {0, *ignored}
    if len(found) > 1 or not found <= set(MASK_WHITE):
        raise DataError(
            f"{path}: a mask must hold 0 and 255, or 0 and 1; this one holds {sorted(found)[:5]}. Was it "
            "saved as JPEG, or resized? Name a value for pixels that nobody labelled in data.ignore."
        )
    if shape not in (None, values.shape[1:]):
        sizes = [" x ".join(map(str, sides[::-1])) for sides in (values.shape[1:], shape)]
        raise DataError(
            f"{path}: has {sizes[0]} pixels, but its image {sizes[1]}. Give the mask of this image."
        )
    inside: np.ndarray = np.isin(values[0], [*found]).astype(np.uint8)
    inside[np.isin(values[0], [*ignored])] = IGNORED
    return inside


def _decoding(
    files: PictureFormat, headers: Sequence[Header], size: int, fit: Fit, colour: Colour, intensity: Intensity
) -> Decoding:
    in_colour = any(header.channels == 3 for header in headers) or not headers
    channels = 3 if colour == "rgb" or (colour == "auto" and in_colour) else 1
    bits = max((header.bits for header in headers), default=8)
    is_volume = any(header.depth > 1 for header in headers)
    if is_volume and colour == "rgb":
        raise StudyError("data.colour: volumes are in grey; got 'rgb'. Use grey, or leave the key out.")
    if is_volume and size**3 > MOST_PIXELS:
        raise StudyError(
            f"data.size: {size} makes volumes of {size**3:,} voxels; at most {MOST_PIXELS:,} are possible. "
            "Choose a smaller one."
        )
    return Decoding(files, size, fit, channels, bits, intensity, is_volume)


def _fingerprint(listing: Photos, decoding: Decoding, checksums: Mapping[Path, str]) -> str:
    total = hashlib.sha256(repr((REVISION, decoding, listing.classes, *listing.ignored)).encode())
    for photo in listing.items:
        content = checksums[photo.path], checksums.get(photo.mask) if photo.mask else None
        total.update(repr((photo.case_id, photo.patient_id, photo.label, photo.entry, content)).encode())
    return total.hexdigest()


def _facts(decoding: Decoding) -> Mapping[str, str]:
    ends = {"stored": "the file's own black and white", "min-max": "its darkest and its brightest value"}
    frame = VOLUME_FRAME if decoding.is_volume else FRAMES[decoding.fit]
    return {
        "geometry": f"{frame.format(size=decoding.size)} (bicubic, antialiased)",
        "colour": "grey, one channel" if decoding.channels == 1 else "RGB",
        "intensity": f"{decoding.bits} bits per channel; per image, 0 and 1 are {ends[decoding.intensity]}",
    }

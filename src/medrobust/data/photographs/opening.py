"""Photographs as cases: decoded once into the cache folder, then read from memory maps."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float32, Shaped

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data.cache import CachedRows
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.framing import FRAMES, Colour, Fit, framed_picture
from medrobust.data.photographs.pictures import Header, PictureFormat
from medrobust.data.reading import threads
from medrobust.errors import DataError

REVISION = 2
"""Raised with every change of how images are decoded: it is part of the fingerprint."""

Size = Annotated[int, Ge(16), Le(1024)]
Intensity = Literal["stored", "min-max"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a photograph becomes an image.

    Attributes:
        format: How its file is read.
        size: Pixels along each side.
        fit: How it is brought to that size.
        channels: 1 or 3.
        bits: Bits per channel, the most that any file has.
        intensity: What becomes 0 and 1.
    """

    format: PictureFormat
    size: int
    fit: Fit
    channels: int
    bits: int
    intensity: Intensity

    @property
    def dtype(self) -> str:
        """Type of the decoded values, whose largest stands for 1."""
        return "uint8" if self.bits <= 8 else "uint16"

    def pixels(self, photo: Photo) -> Shaped[np.ndarray, "channels size size"]:
        """Decode and frame a photograph.

        Raises:
            DataError: Its file cannot be read.
        """
        picture = self.format.picture(photo.path, photo.entry)
        framed = framed_picture(picture, self.size, self.fit, self.channels)
        if framed.dtype == self.dtype:
            return framed
        if self.dtype == "uint16":
            return framed.astype(np.uint16) * np.uint16(257)  # 255 becomes 65535
        return np.rint(framed / 257).astype(np.uint8)

    def image(self, pixels: Shaped[np.ndarray, "c h w"]) -> Float32[np.ndarray, "c h w"]:
        """Decoded values in [0, 1]."""
        if self.intensity == "stored":
            return np.asarray(pixels, np.float32) / np.float32(np.iinfo(self.dtype).max)
        low, high = int(pixels.min()), int(pixels.max())
        return (np.asarray(pixels, np.float32) - low) / np.float32(max(high - low, 1))


@dataclass(frozen=True)
class PhotoReader:
    """Reads the sample of a case; the `read` of a `Dataset`.

    Attributes:
        photos: All photographs.
        decoding: How they become images.
        stored: Decoded photographs in the same order; None decodes at every reading.
    """

    photos: tuple[Photo, ...]
    decoding: Decoding
    stored: CachedRows | None

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Number of each photograph."""
        return {photo.case_id: number for number, photo in enumerate(self.photos)}

    def __call__(self, case: Case) -> Sample:
        """Image and class of a case."""
        photo = self.photos[self.places[case.case_id]]
        return Sample(self.image(case.case_id), np.array(photo.label, np.int64))

    def image(self, case_id: str) -> Float32[np.ndarray, "c h w"]:
        """The image of a case."""
        number = self.places[case_id]

        def decode() -> np.ndarray:
            return self.decoding.pixels(self.photos[number])

        return self.decoding.image(self.stored.get(number, decode) if self.stored else decode())


def open_photos(
    name: str,
    listing: Photos,
    cache: Path | None,
    *,
    size: Size = 128,
    fit: Fit = "crop",
    colour: Colour = "auto",
    intensity: Intensity = "stored",
) -> Dataset:
    """Photographs that an adapter has listed, as a data set.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder that keeps decoded images; None decodes at every reading.
        size: Pixels along each side. Photographs are resized to it (bicubic, with antialiasing).
        fit: "crop" takes the largest centred square, "pad" the whole picture with black beside it: both keep
            the proportions of what is pictured. "stretch" does not.
        colour: "grey" gives one channel, "rgb" three; "auto" gives one where no file is in colour.
        intensity: What becomes 0 and 1: "stored" takes black and white of the file, "min-max" the darkest and
            the brightest value of each image.

    Raises:
        DataError: There is no photograph, or a file cannot be read. One that cannot be decoded is reported
            when it is read.
    """
    decoding, fingerprint = prepare(listing, size, fit, colour, intensity)
    return Dataset(
        name=name,
        task=Task.CLASSIFICATION,
        classes=listing.classes,
        unit=listing.unit,
        channels=decoding.channels,
        shape=(size, size),
        spacing=None,
        cases=tuple(_case(photo) for photo in listing.items),
        read=PhotoReader(listing.items, decoding, rows_of(cache, name, fingerprint, listing, decoding)),
        fingerprint=fingerprint,
        official=listing.official,
        attributes=listing.attributes,
        facts={**listing.facts, **facts_of(decoding)},
        bits=decoding.bits,
    )


def prepare(
    listing: Photos, size: int, fit: Fit, colour: Colour, intensity: Intensity
) -> tuple[Decoding, str]:
    """How the photographs of a listing are decoded, and the fingerprint of all that comes of it.

    The fingerprint is over contents, not dates or sizes: cached images are found by it, so that it must
    change with any pixel. It takes as long as reading all files once.

    Raises:
        DataError: There is no photograph, or a file cannot be read.
    """
    if not listing.items:
        raise DataError("data.root: there is no photograph that can be used. `medrobust audit` says why.")
    with ThreadPoolExecutor(threads()) as pool:
        paths = list(
            dict.fromkeys(path for photo in listing.items for path in (photo.path, photo.mask) if path)
        )
        digests = dict(zip(paths, pool.map(_digest, paths), strict=True))
        headers = [
            header
            for header in pool.map(lambda photo: _header(listing.format, photo), listing.items)
            if header
        ]
    in_colour = any(header.channels == 3 for header in headers) or not headers
    decoding = Decoding(
        format=listing.format,
        size=size,
        fit=fit,
        channels=3 if colour == "rgb" or (colour == "auto" and in_colour) else 1,
        bits=max((header.bits for header in headers), default=8),
        intensity=intensity,
    )
    total = hashlib.sha256(repr((REVISION, decoding, listing.classes)).encode())
    for photo in listing.items:
        content = digests[photo.path], digests.get(photo.mask) if photo.mask else None
        total.update(repr((photo.case_id, photo.patient_id, photo.label, photo.entry, content)).encode())
    return decoding, total.hexdigest()


def rows_of(
    cache: Path | None, name: str, fingerprint: str, listing: Photos, decoding: Decoding
) -> CachedRows | None:
    """Where decoded photographs are kept."""
    if cache is None:
        return None
    shape = (decoding.channels, decoding.size, decoding.size)
    return CachedRows(cache / f"{name}-{fingerprint[:16]}", len(listing.items), shape, decoding.dtype)


def facts_of(decoding: Decoding) -> dict[str, str]:
    """What a report must state about how photographs were decoded."""
    ends = {"stored": "the file's own black and white", "min-max": "its darkest and its brightest value"}
    return {
        "geometry": f"{FRAMES[decoding.fit].format(size=decoding.size)} (bicubic, antialiased)",
        "colour": "grey, one channel" if decoding.channels == 1 else "RGB",
        "intensity": f"{decoding.bits} bits per channel; per image, 0 and 1 are {ends[decoding.intensity]}",
    }


def _case(photo: Photo) -> Case:
    return Case(photo.case_id, photo.case_id, photo.patient_id, photo.label)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error


def _header(files: PictureFormat, photo: Photo) -> Header | None:
    """What a photograph is like; None where that is for its reading to report."""
    try:
        return files.header(photo.path, photo.entry)
    except DataError:
        return None

"""Photographs as cases: decoded once into the cache folder, then read from memory maps."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import UInt8
from PIL import Image, ImageOps

from medrobust.core import Case, Dataset, Sample, Task
from medrobust.data.cache import cached_array
from medrobust.data.listing import Photo, Photos
from medrobust.errors import DataError

REVISION = 1
"""Raised with every change of how images are decoded: it is part of the fingerprint."""


@dataclass(frozen=True, slots=True)
class PhotoReader:
    """Reads the sample of a case; the `read` of a `Dataset`.

    Attributes:
        photos: Photographs by case.
        size: Pixels along each side.
        cache: Folder for decoded images; None decodes at every reading.
        folder: Name of the data set's own folder in the cache.
    """

    photos: Mapping[str, Photo]
    size: int
    cache: Path | None
    folder: str

    def __call__(self, case: Case) -> Sample:
        """Image and class of a case."""
        photo = self.photos[case.case_id]
        key = f"{self.folder}/{case.case_id}"
        pixels = cached_array(self.cache, key, lambda: decode(photo.path, self.size))
        return Sample(np.asarray(pixels, np.float32) / 255, np.array(photo.label, np.int64))


def open_photos(
    name: str, listing: Photos, cache: Path | None, *, size: Annotated[int, Ge(32), Le(1024)] = 128
) -> Dataset:
    """Photographs that an adapter has listed, as a data set.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder that keeps decoded images; None decodes at every reading.
        size: Pixels along each side. The largest centred square of a photograph is resized to it (bicubic,
            with antialiasing): what is pictured keeps its proportions.

    Raises:
        DataError: A file cannot be read. One that cannot be decoded is reported when it is read.
    """
    fingerprint = _fingerprint(listing, size)
    photos = {photo.case_id: photo for photo in listing.items}
    return Dataset(
        name=name,
        task=Task.CLASSIFICATION,
        classes=listing.classes,
        unit=listing.unit,
        channels=3,
        shape=(size, size),
        spacing=None,
        cases=tuple(_case(photo) for photo in listing.items),
        read=PhotoReader(photos, size, cache, f"{name}-{fingerprint[:16]}"),
        fingerprint=fingerprint,
        official=listing.official,
        facts={**listing.facts, **_facts(size)},
    )


def decode(path: Path, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """Decode a photograph upright and in RGB; resize its largest centred square to `size` pixels.

    Raises:
        DataError: The file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            square = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}). Download it again or take its row out."
        ) from error
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def _case(photo: Photo) -> Case:
    return Case(photo.case_id, photo.case_id, photo.patient_id, photo.label)


def _fingerprint(listing: Photos, size: int) -> str:
    """SHA-256 over what the listing says, every image's contents, and the parameters.

    Contents, not dates or sizes: cached images are found by this value, so that it must change with any
    pixel. Hashing 2,000 small images takes 0.1 s, the 10,015 originals of HAM10000 (2.8 GB) as long as
    reading them once.
    """
    total = hashlib.sha256(repr((REVISION, size, listing.classes)).encode())
    for photo in listing.items:
        try:
            with photo.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{photo.path}: cannot be read ({error.strerror}). Check the file.") from error
        total.update(repr((photo.case_id, photo.patient_id, photo.label, digest)).encode())
    return total.hexdigest()


def _facts(size: int) -> dict[str, str]:
    return {
        "geometry": f"largest centred square, resized to {size} x {size} pixels (bicubic, antialiased)",
        "intensity": "8-bit sRGB divided by 255",
    }

"""Photographs as cases: decoded once into the cache folder, then read from memory maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from medrobust.core import Case, Dataset, OnProgress, Sample, Task, silent
from medrobust.data.cache import CachedRows
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.decoding import Decoding, Intensity, Size, facts_of, prepare, rows_of
from medrobust.data.photographs.framing import Colour, Fit


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

    def image(self, case_id: str) -> Float32[np.ndarray, "c *space"]:
        """The image of a case."""
        number = self.places[case_id]

        def decode() -> np.ndarray:
            return self.decoding.pixels(self.photos[number])

        return self.decoding.image(self.stored.get(number, decode) if self.stored else decode())


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
    """Photographs that an adapter has listed, as a data set.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder that keeps decoded images; None decodes at every reading.
        progress: Told how far it is.
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
    decoding, fingerprint = prepare(listing, size, fit, colour, intensity, progress)
    return Dataset(
        name=name,
        task=Task.CLASSIFICATION,
        classes=listing.classes,
        unit=listing.unit,
        channels=decoding.channels,
        shape=decoding.space,
        spacing=None,
        cases=tuple(_case(photo) for photo in listing.items),
        read=PhotoReader(listing.items, decoding, rows_of(cache, name, fingerprint, listing, decoding)),
        fingerprint=fingerprint,
        official=listing.official,
        attributes=listing.attributes,
        facts={**listing.facts, **facts_of(decoding)},
        bits=decoding.bits,
    )


def _case(photo: Photo) -> Case:
    return Case(photo.case_id, photo.case_id, photo.patient_id, photo.label)

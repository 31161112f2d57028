"""Photographs with a mask each, for segmentation."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from medrobust.core import Case, Dataset, OnProgress, Sample, Task, silent
from medrobust.data.cache import CachedRows
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.decoding import Decoding, Intensity, Size, facts_of, prepare, rows_of
from medrobust.data.photographs.framing import Colour, Fit, framed_mask
from medrobust.data.photographs.image_files import IMAGE_FILES
from medrobust.data.photographs.opening import PhotoReader
from medrobust.data.photographs.pictures import decoding_room
from medrobust.data.reading import in_threads, share_of
from medrobust.errors import DataError

WHITE = (1, 255, 65535)
"""Values that say "inside": masks are stored in 0 and 1, or in black and white of 8 or 16 bits."""


@dataclass(frozen=True)
class MaskedPhotoReader:
    """Reads the sample of a case; the `read` of a `Dataset`.

    Attributes:
        photos: Reads the images.
        stored: Framed masks in the order of the photographs; None decodes at every reading.
    """

    photos: PhotoReader
    stored: CachedRows | None

    def __call__(self, case: Case) -> Sample:
        """Image and mask of a case."""
        return Sample(self.photos.image(case.case_id), self.mask(case.case_id))

    def mask(self, case_id: str) -> Int64[np.ndarray, "h w"]:
        """The mask of a case: 1 inside."""
        number = self.photos.places[case_id]

        def decode() -> np.ndarray:
            return _framed(self.photos.photos[number], self.photos.decoding)

        return np.asarray(self.stored.get(number, decode) if self.stored else decode(), np.int64)


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
    """Photographs with masks that an adapter has listed, as a data set, whatever their masks hold.

    Args:
        name: Name in the catalogue.
        listing: What there is.
        cache: Folder that keeps decoded images and masks; None decodes at every reading.
        progress: Told how far it is.
        size: As of `open_photos`; masks are resized by what fills most of a new pixel.
        fit: As of `open_photos`, of image and mask alike.
        colour: As of `open_photos`.
        intensity: As of `open_photos`.

    Raises:
        DataError: There is no photograph, a file cannot be read, or a mask cannot be one. An image that
            cannot be decoded is reported when it is read.
    """
    decoding, fingerprint = prepare(listing, size, fit, colour, intensity, share_of(progress, 0, 0.5))
    images = rows_of(cache, name, fingerprint, listing, decoding)
    masks = images and replace(images, path=Path(f"{images.path}-masks"), shape=(size, size), dtype="uint8")
    read = MaskedPhotoReader(PhotoReader(listing.items, decoding, images), masks)

    def labelled(photo: Photo) -> int:
        return int(np.count_nonzero(read.mask(photo.case_id)))

    inside = in_threads(labelled, listing.items, share_of(progress, 0.5, 1), "mask")
    cases = tuple(_case(photo, count) for photo, count in zip(listing.items, inside, strict=True))
    if not any(inside):
        raise DataError(f"{listing.items[0].mask} is empty, and so are all other masks. Give the masks.")
    return Dataset(
        name=name,
        task=Task.SEGMENTATION,
        classes=listing.classes,
        unit=listing.unit,
        channels=decoding.channels,
        shape=(size, size),
        spacing=None,
        cases=cases,
        read=read,
        fingerprint=fingerprint,
        official=listing.official,
        attributes=listing.attributes,
        facts={**listing.facts, **facts_of(decoding), **_facts(inside.count(0))},
        bits=decoding.bits,
    )


def read_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    """A mask at its full size: 1 inside, 0 outside.

    Raises:
        DataError: The file cannot be read, or holds something else than black and one white.
    """
    with decoding_room(IMAGE_FILES, path):
        values = IMAGE_FILES.picture(path).pixels
    if (values != values[:1]).any():
        raise DataError(f"{path}: a mask must be black and white, and this one is in colour.")
    found = set(np.unique(values).tolist()) - {0}
    if len(found) > 1 or not found <= set(WHITE):
        raise DataError(
            f"{path}: a mask must hold 0 and 255, or 0 and 1; this one holds {sorted(found)[:5]}. Was it "
            "saved as JPEG, or resized?"
        )
    inside: np.ndarray = values[0] > 0
    return inside.astype(np.uint8)


def _framed(photo: Photo, decoding: Decoding) -> UInt8[np.ndarray, "size size"]:
    """The mask of a photograph, framed as its image is."""
    if photo.mask is None:
        raise DataError(f"{photo.path}: has no mask.")
    mask = read_mask(photo.mask)
    width, height = decoding.format.header(photo.path, photo.entry).size
    if mask.shape != (height, width):
        raise DataError(
            f"{photo.mask}: is of {mask.shape[1]} x {mask.shape[0]} pixels, but its image {photo.path} of "
            f"{width} x {height}."
        )
    return framed_mask(mask, decoding.size, decoding.fit, classes=2)


def _case(photo: Photo, inside: int) -> Case:
    return Case(photo.case_id, photo.case_id, photo.patient_id, foreground=inside)


def _facts(empty: int) -> dict[str, str]:
    return {
        "masks": "a pixel is what fills most of it",
        "cases": f"all images; the mask of {empty} is empty: these have no Dice, and none is trained on",
    }

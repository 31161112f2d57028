"""How the file of a photograph becomes an image of the size that a study asks for."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float32, Shaped

from medrobust.core import OnProgress
from medrobust.data.cache import CachedRows
from medrobust.data.listing import Photo, Photos
from medrobust.data.photographs.framing import FRAMES, Colour, Fit, framed_picture, framed_volume
from medrobust.data.photographs.pictures import MOST_PIXELS, Header, PictureFormat, decoding_room
from medrobust.data.reading import in_threads, share_of
from medrobust.errors import DataError, StudyError

REVISION = 3
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

    @property
    def space(self) -> tuple[int, ...]:
        """Sides of an image."""
        return self.size, self.size

    @property
    def geometry(self) -> str:
        """What becomes of a picture's shape, for reports."""
        return f"{FRAMES[self.fit].format(size=self.size)} (bicubic, antialiased)"

    def pixels(self, photo: Photo) -> Shaped[np.ndarray, "channels *space"]:
        """Decode and frame a photograph.

        Raises:
            DataError: Its file cannot be read.
        """
        with decoding_room(self.format, photo.path, photo.entry):
            framed = self.framed(photo)
        if framed.dtype == self.dtype:
            return framed
        if self.dtype == "uint16":
            return framed.astype(np.uint16) * np.uint16(257)  # 255 becomes 65535
        return np.rint(framed / 257).astype(np.uint8)

    def framed(self, photo: Photo) -> Shaped[np.ndarray, "channels *space"]:
        """What a photograph holds, in the depth of its file and the size of the study."""
        picture = self.format.picture(photo.path, photo.entry)
        return framed_picture(picture, self.size, self.fit, self.channels)

    def image(self, pixels: Shaped[np.ndarray, "c *space"]) -> Float32[np.ndarray, "c *space"]:
        """Decoded values in [0, 1]."""
        if self.intensity == "stored":
            return np.asarray(pixels, np.float32) / np.float32(np.iinfo(self.dtype).max)
        low, high = int(pixels.min()), int(pixels.max())
        return (np.asarray(pixels, np.float32) - low) / np.float32(max(high - low, 1))


@dataclass(frozen=True, slots=True)
class VolumeDecoding(Decoding):
    """How a volume becomes a cube of voxels; cubes fit into cubes, whatever `fit` is."""

    @property
    def space(self) -> tuple[int, ...]:
        """Sides of the cube."""
        return self.size, self.size, self.size

    @property
    def geometry(self) -> str:
        """What becomes of a volume's shape, for reports."""
        return (
            f"whole volume, resized to {self.size} x {self.size} x {self.size} voxels (bicubic, antialiased)"
        )

    def framed(self, photo: Photo) -> Shaped[np.ndarray, "1 size size size"]:
        """What a volume holds, in the depth of its file and the size of the study."""
        return framed_volume(self.format.picture(photo.path, photo.entry), self.size)


def prepare(
    listing: Photos, size: int, fit: Fit, colour: Colour, intensity: Intensity, progress: OnProgress
) -> tuple[Decoding, str]:
    """How the photographs of a listing are decoded, and the fingerprint of all that comes of it.

    The fingerprint is over contents, not dates or sizes: cached images are found by it, so that it must
    change with any pixel. It takes as long as reading all files once.

    Raises:
        StudyError: Volumes in colour, or larger than can be.
        DataError: There is no photograph, or a file cannot be read.
    """
    if not listing.items:
        raise DataError("data.root: there is no photograph that can be used. `medrobust audit` says why.")
    paths = list(dict.fromkeys(path for photo in listing.items for path in (photo.path, photo.mask) if path))
    digests = dict(
        zip(paths, in_threads(_digest, paths, share_of(progress, 0, 0.8), "checksum"), strict=True)
    )
    headers = in_threads(
        partial(_header, listing.format), listing.items, share_of(progress, 0.8, 1), "header"
    )
    decoding = _decoding(listing.format, [one for one in headers if one], size, fit, colour, intensity)
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
    shape = (decoding.channels, *decoding.space)
    return CachedRows(cache / f"{name}-{fingerprint[:16]}", len(listing.items), shape, decoding.dtype)


def facts_of(decoding: Decoding) -> Mapping[str, str]:
    """What a report must state about how photographs were decoded."""
    ends = {"stored": "the file's own black and white", "min-max": "its darkest and its brightest value"}
    return {
        "geometry": decoding.geometry,
        "colour": "grey, one channel" if decoding.channels == 1 else "RGB",
        "intensity": f"{decoding.bits} bits per channel; per image, 0 and 1 are {ends[decoding.intensity]}",
    }


def _decoding(
    files: PictureFormat, headers: Sequence[Header], size: int, fit: Fit, colour: Colour, intensity: Intensity
) -> Decoding:
    volumes = any(header.depth > 1 for header in headers)
    in_colour = any(header.channels == 3 for header in headers) or not headers
    channels = 3 if colour == "rgb" or (colour == "auto" and in_colour) else 1
    bits = max((header.bits for header in headers), default=8)
    if not volumes:
        return Decoding(files, size, fit, channels, bits, intensity)
    if colour == "rgb":
        raise StudyError("data.colour: volumes are in grey; got 'rgb'. Take grey, or leave the key out.")
    if size**3 > MOST_PIXELS:
        raise StudyError(
            f"data.size: {size} makes volumes of {size**3:,} voxels; at most {MOST_PIXELS:,} are possible. "
            "Take a smaller one."
        )
    return VolumeDecoding(files, size, fit, channels, bits, intensity)


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

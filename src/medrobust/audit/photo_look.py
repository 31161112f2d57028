"""Look at the file of a photograph: once, and whatever it holds."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from medrobust.audit.records import PhotoLook, PhotoRecord
from medrobust.audit.structure import SIDE, structure_hash
from medrobust.data.listing import Photo
from medrobust.data.photographs.photo_cases import read_mask
from medrobust.data.photographs.pictures import PictureFormat, decoding_room
from medrobust.errors import DataError, reason


def look_at_photo(photo: Photo, files: PictureFormat) -> PhotoRecord:
    """The record of a photograph and its mask; files that cannot be read are errors that say why.

    Args:
        photo: As listed.
        files: How its file is read.
    """
    errors: dict[Path, str] = {}
    look = inside = None
    try:
        look = _look(photo, files)
    except Exception as error:  # whatever a decoder raises at a damaged file must not end the audit
        errors[photo.path] = _why(photo.path, error)
    try:
        if photo.mask is not None:
            inside = _inside(photo.mask, look)
    except Exception as error:
        errors[photo.mask or photo.path] = _why(photo.mask or photo.path, error)
    return PhotoRecord(photo, look, inside, errors)


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    return f"{path} cannot be read ({reason(error)}). See whether another program opens it, or take it out."


def _look(photo: Photo, files: PictureFormat) -> PhotoLook:
    with decoding_room(files, photo.path, photo.entry):
        return _look_at_picture(photo, files)


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
        clipped=0.0 if picture.windowed else _share_at(planes, np.iinfo(planes.dtype).max),
        digest=_digest(channels),
        structure=structure_hash(small),
        small=small,
    )


def _inside(mask: Path, look: PhotoLook | None) -> float:
    """Share of the mask that is inside.

    Raises:
        DataError: It is no mask, or of another size than its image.
    """
    pixels = read_mask(mask)
    if look and pixels.shape != look.shape:
        height, width = look.shape
        raise DataError(
            f"{mask}: has {pixels.shape[1]} x {pixels.shape[0]} pixels, its image {width} x {height}."
        )
    return float(np.count_nonzero(pixels) / pixels.size)


def _share_at(channels: Shaped[np.ndarray, "c *space"], top: int) -> float:
    """Share of the pixels with the value `top` in all channels."""
    darkest = channels[0]
    for channel in channels[1:]:
        darkest = np.minimum(darkest, channel)
    return float(np.count_nonzero(darkest >= top) / darkest.size)


def _digest(channels: Shaped[np.ndarray, "c h w"]) -> bytes:
    """Equal for equal pixels."""
    digest = hashlib.blake2b(repr((channels.shape, channels.dtype.str)).encode(), digest_size=16)
    digest.update(channels.data)
    return digest.digest()


def squeezed(channels: Shaped[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "32 32"]:
    """The whole image in grey, squeezed to a square; more than 8 bits are stretched over the range."""
    pixels = np.moveaxis(channels, 0, 2) if len(channels) == 3 else channels[0]
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / max(high - low, 1))).astype(np.uint8)
    grey = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))

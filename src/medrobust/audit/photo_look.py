"""Look at the file of a photograph: once, and whatever it holds."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image, ImageOps

from medrobust.audit.records import PhotoLook, PhotoRecord
from medrobust.audit.structure import SIDE, structure_hash
from medrobust.data.listing import Photo

TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


def look_at_photo(photo: Photo) -> PhotoRecord:
    """The record of a photograph; a file that cannot be read becomes a record that says why."""
    try:
        return PhotoRecord(photo, _look(photo.path))
    except Exception as error:  # whatever a decoder raises at a damaged file must not end the audit
        return PhotoRecord(
            photo, None, f"{photo.path} cannot be read as an image ({type(error).__name__}: {error})."
        )


def _look(path: Path) -> PhotoLook:
    with warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
        form, mode, bits = image.format or "?", image.mode, _bits(image)
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
        upright = ImageOps.exif_transpose(image)
        alpha = _is_transparent(upright)
        pixels = np.asarray(upright if bits == 16 else _plain(upright))
    channels = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    grey = all(np.array_equal(channel, channels[0]) for channel in channels[1:])
    channels = np.ascontiguousarray(channels[:1] if grey else channels)
    ranges = [(int(channel.min()), int(channel.max())) for channel in channels]
    small = squeezed(pixels)
    return PhotoLook(
        form=form,
        mode=mode,
        turned=turned,
        alpha=alpha,
        grey=grey,
        bits=bits,
        high=max(high for _, high in ranges),
        contrast=max(high - low for low, high in ranges),
        clipped=_share_at(channels, (1 << bits) - 1),
        digest=_digest(channels),
        structure=structure_hash(small),
        small=small,
    )


def _bits(image: Image.Image) -> int:
    """Bits per channel, as far as Pillow keeps them: more than 8 only in images of one channel."""
    return 16 if image.mode in ("I", "F") or image.mode.startswith("I;16") else 8


def _is_transparent(image: Image.Image) -> bool:
    """Whether an alpha channel, or a transparent colour, hides any pixel."""
    if "transparency" in image.info:
        return True
    return image.mode in TRANSPARENT and bool((np.asarray(image.getchannel("A")) < 255).any())


def _plain(image: Image.Image) -> Image.Image:
    """Grey images in one channel, all others as a run reads them, in RGB."""
    return image if image.mode == "L" else image.convert("RGB")


def _share_at(channels: Shaped[np.ndarray, "c h w"], top: int) -> float:
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


def squeezed(pixels: np.ndarray) -> UInt8[np.ndarray, "32 32"]:
    """The whole image in grey, squeezed to a square; more than 8 bits are stretched over the range."""
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / max(high - low, 1))).astype(np.uint8)
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))

"""Crafted images as a Zarr v3 group: float32, lossless, one Zarr chunk per chunk of work.

    images/        (chunk of work x its places, c, *space); places that a chunk does not need are zero
    case_id/       the case of each place, "" where there is none
    card.json      what the images are; written after the arrays' metadata: a folder without it holds nothing
    done/<i>.json  marker of a finished chunk with the SHA-256 of its images; written last

A chunk without a marker does not exist, whatever its files say.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float32
from zarr.codecs import Crc32cCodec, ZstdCodec

from medrobust.errors import DamagedError, RunError
from medrobust.storage.disk import clear_disk_errors
from medrobust.storage.folder import RunFolder

DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, FileNotFoundError)
"""What Zarr raises where its files are missing or not as it wrote them."""


class ImageStore:
    """Images of one perturbation and source, in chunks of work."""

    def __init__(self, folder: RunFolder, *parts: str) -> None:
        """Open what `create` made in a folder of the run folder.

        Raises:
            RunError: There is no such store.
            DamagedError: Its metadata cannot be read.
        """
        self._folder, self._parts = folder, parts
        self.card: dict[str, Any] = folder.read_json(*parts, "card.json")
        try:
            with folder.reached(*DAMAGE):
                store = folder.zarr_store(*parts, "images")
                self._images = zarr.open_array(store, mode="r+", zarr_format=3)
                self._width: int = self._images.chunks[0]
        except DAMAGE as error:
            raise DamagedError(
                f"{'/'.join(parts)}: the description of its images is damaged ({error}). "
                f"Delete {'/'.join((*parts, 'card.json'))} and run the study again."
            ) from None

    @classmethod
    def create(
        cls,
        folder: RunFolder,
        *parts: str,
        chunks: Sequence[Sequence[str]],
        shape: Sequence[int],
        card: Mapping[str, Any],
    ) -> "ImageStore":
        """Open a store, and create it first where there is none.

        Args:
            folder: The run folder.
            parts: Name of the store's folder in it.
            chunks: Case ids of each chunk of work.
            shape: Shape of an image, `c *space`.
            card: What the images are (JSON).
        """
        if not folder.exists(*parts, "card.json"):
            width = max(len(chunk) for chunk in chunks)
            places = np.array(
                [[*chunk, *[""] * (width - len(chunk))] for chunk in chunks], dtype=object
            ).ravel()
            with clear_disk_errors("/".join(parts)), folder.reached():
                group = zarr.open_group(folder.zarr_store(*parts), mode="w", zarr_format=3)
                group.create_array(
                    "images",
                    shape=(len(places), *shape),
                    chunks=(width, *shape),
                    dtype="float32",
                    fill_value=np.nan,
                    compressors=[ZstdCodec(level=3), Crc32cCodec()],
                    # Without it a chunk that equals the fill value is never written, and looks unfinished.
                    config={"write_empty_chunks": True},
                )
                group.create_array("case_id", shape=places.shape, dtype=str)[:] = places
            folder.write_json(dict(card), *parts, "card.json")
        return cls(folder, *parts)

    def is_done(self, chunk: int) -> bool:
        """Whether a chunk is finished."""
        return self._folder.exists(*self._marker(chunk))

    def write(self, chunk: int, images: Float32[np.ndarray, "n c *space"]) -> str:
        """Write the images of a chunk, in the order of its cases; they count only after `mark_done`.

        Returns:
            SHA-256 of the images' bytes, for the marker.

        Raises:
            RunError: The disk is full.
            ValueError: The images are too many or none, of another shape, or not float32.
        """
        fits = images.shape[1:] == self._images.shape[1:] and 0 < len(images) <= self._width
        if not fits or images.dtype != np.float32:
            raise ValueError(
                f"chunk {chunk} holds at most {self._width} float32 images of shape "
                f"{self._images.shape[1:]}; got {images.dtype} {images.shape}."
            )
        whole = images
        if len(images) < self._width:
            whole = np.zeros(self._images.chunks, np.float32)
            whole[: len(images)] = images
        with clear_disk_errors("/".join(self._parts)), self._folder.reached():
            self._images[chunk * self._width : (chunk + 1) * self._width] = whole
            self._folder.sync(*self._file(chunk))
        return _sha256(images)

    def mark_done(self, chunk: int, sha256: str, cases: Sequence[str]) -> None:
        """Write the marker of a chunk, after everything else."""
        self._folder.write_json({"sha256": sha256, "cases": list(cases)}, *self._marker(chunk))

    def forget(self, chunk: int) -> None:
        """Remove the marker of a chunk, which is then made again."""
        self._folder.remove(*self._marker(chunk))

    def read(self, chunk: int, *, verify: bool = False) -> Float32[np.ndarray, "n c *space"]:
        """Read the images of a finished chunk, with `verify` comparing them with the SHA-256 of its marker.

        Without, the CRC still finds a flipped bit.

        Raises:
            RunError: The chunk is not finished.
            DamagedError: It is missing or damaged.
        """
        name = "/".join((*self._parts, f"chunk {chunk}"))
        remedy = "Run the study again: only this chunk is crafted again."
        if not self.is_done(chunk):
            raise RunError(f"{name} is not finished. Run the study again; finished work is kept.")
        marker = self._folder.read_json(*self._marker(chunk))
        try:
            start, count = chunk * self._width, len(marker["cases"])
            with self._folder.reached(*DAMAGE):
                images = np.asarray(self._images[start : start + count])
        except DAMAGE as error:
            raise DamagedError(f"{name} is damaged ({error}). {remedy}") from error
        # Zarr fills in what is missing.
        if np.isnan(images).all() and not self._folder.exists(*self._file(chunk)):
            raise DamagedError(f"{name} is marked as finished, but its images are missing. {remedy}")
        if verify and _sha256(images) != marker.get("sha256"):
            raise DamagedError(f"{name} does not match the SHA-256 of its marker. {remedy}")
        return images

    def _file(self, chunk: int) -> tuple[str, ...]:
        return (*self._parts, "images", "c", str(chunk), *("0" for _ in self._images.shape[1:]))

    def _marker(self, chunk: int) -> tuple[str, ...]:
        return (*self._parts, "done", f"{chunk:05d}.json")


def _sha256(images: Float32[np.ndarray, "n c *space"]) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()

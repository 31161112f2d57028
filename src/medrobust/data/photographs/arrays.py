"""Pictures and volumes inside the arrays of an npz archive, as MedMNIST stores them.

Nothing in an archive is ever unpickled.
"""

import math
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from shutil import copyfileobj
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy

from medrobust.data.files import naming
from medrobust.data.photographs.pictures import Header, Picture, require_size, to_bands
from medrobust.errors import DataError

BITS = {"b1": 8, "u1": 8, "u2": 16}
"""Bits per channel by numpy's name of the type, without its byte order."""

FREE = 2**26
MOST_EXPANSION = 200
"""An array of more than `FREE` bytes may be this many times its packed size; pictures stay far below."""


@dataclass(frozen=True, slots=True)
class NpzArrays:
    """Entries `(array, number)`, each a picture or volume of an array; see `layout_of` for its shapes.

    An array is unpacked once per process, into an unnamed file of the folder for temporary files, and mapped.
    """

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What the header of the array says."""
        name, _ = _place(path, entry)
        layout = layout_of(path, name)
        depth, height, width = layout.sides
        return Header((width, height), layout.channels, layout.bits, depth)

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """One picture or volume; a DataError if the archive is damaged, or the array holds neither."""
        name, number = _place(path, entry)
        layout, pictures = layout_of(path, name), read_array(path, name)
        values = np.array(pictures[number], order="C")
        if values.dtype == bool:
            values = values * np.uint8(255)
        if layout.is_volumes:
            planes = values.reshape(layout.sides)
            return Picture(tuple(to_bands(plane)[0] for plane in planes), layout.bits, is_volume=True)
        if layout.axis is not None:
            values = np.ascontiguousarray(np.moveaxis(values, layout.axis, -1))
        return Picture(to_bands(values), layout.bits)


NPZ_ARRAYS = NpzArrays()


class Layout(NamedTuple):
    """What an array of pictures or volumes holds."""

    sides: tuple[int, int, int]  # depth of a volume (1 for a picture), height and width
    channels: int  # 1 or 3
    bits: int  # per channel
    axis: int | None  # the axis of one picture that counts the channels, if there is one
    is_volumes: bool


def layout_of(path: Path, name: str) -> Layout:
    """What an array of n pictures or volumes holds; a DataError if it is damaged or holds neither.

    Pictures have the shape n h w, n h w c or n c h w, with 1 or 3 channels; volumes are cubes of shape
    n d h w, n d h w 1 or n 1 d h w.
    """
    form = _forms(path, path.stat().st_mtime_ns).get(name)
    if form is None:
        raise DataError(f"{path}: has no array '{name}'.")
    bits = BITS.get(form.dtype.str[1:])
    if bits is None:
        raise DataError(
            f"{path}: the array '{name}' holds {form.dtype}, and nothing says what is black and what is "
            "white. Save it as uint8 from 0 to 255, or as uint16 from 0 to 65535."
        )
    sides = form.shape[1:]
    channel_counts = {3: (1, 3), 4: (1,)}.get(len(sides), ())
    axis = next((at for at in (len(sides) - 1, 0) if channel_counts and sides[at] in channel_counts), None)
    channels = 1 if axis is None else sides[axis]
    space = tuple(side for at, side in enumerate(sides) if at != axis)
    if len(space) not in (2, 3):
        raise DataError(
            f"{path}: the array '{name}' of shape {form.shape} holds neither pictures nor volumes. Save "
            "pictures as n x height x width, or with 1 or 3 channels as the last axis, and volumes as n x "
            "depth x height x width."
        )
    if len(space) == 3 and len(set(space)) > 1:
        raise DataError(
            f"{path}: the array '{name}' of shape {form.shape} holds neither pictures, which have 1 or 3 "
            "channels, nor volumes, which are cubes here. Save pictures in grey or RGB; crop or pad volumes."
        )
    depth, height, width = (1,) * (3 - len(space)) + space
    require_size(path, width, depth * height, deep=channels > 1 and bits > 8)
    return Layout((depth, height, width), channels, bits, axis, is_volumes=len(space) == 3)


class Form(NamedTuple):
    """Shape and type of an array, as its archive says."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int  # bytes in front of the values
    order: Literal["C", "F"]  # "F" if the first axis varies fastest, as in what Matlab saves


def array_forms(path: Path) -> dict[str, Form]:
    """Shape and type of every array of an archive, by its headers; a DataError if it is damaged."""
    with _archive(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return {name: _form(path, archive, name) for name in names}


def read_array(path: Path, name: str) -> np.ndarray:
    """One array of an archive, mapped; a DataError if the archive is damaged or lacks the array."""
    return _unpacked(path, name, path.stat().st_mtime_ns)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with naming(path, "an npz archive"), zipfile.ZipFile(path) as archive:
        yield archive


def _form(path: Path, archive: zipfile.ZipFile, name: str) -> Form:
    if f"{name}.npy" not in archive.namelist():
        raise DataError(f"{path}: has no array '{name}'.")
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > max(FREE, MOST_EXPANSION * info.compress_size):
        raise DataError(
            f"{path}: the array '{name}' unpacks to {info.file_size:,} bytes, over {MOST_EXPANSION} times "
            "its size in the archive, as no pictures do. It is not read."
        )
    with archive.open(info) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = read(file)
        form = Form(shape, dtype, file.tell(), "F" if by_column else "C")
    if dtype.hasobject or min(shape, default=1) < 0:
        raise DataError(f"{path}: the array '{name}' holds objects, which are not read. Save numbers.")
    if form.offset + dtype.itemsize * math.prod(shape) != info.file_size:
        raise DataError(
            f"{path}: the array '{name}' does not have the size that its header says. Download it again."
        )
    return form


@lru_cache(maxsize=4)
def _forms(path: Path, _changed: int) -> dict[str, Form]:
    return array_forms(path)


@lru_cache(maxsize=4)
def _unpacked(path: Path, name: str, _changed: int) -> np.ndarray:
    with _archive(path) as archive, tempfile.TemporaryFile() as file:
        form = _form(path, archive, name)
        with archive.open(f"{name}.npy") as packed:
            copyfileobj(packed, file, 2**20)  # to its end, so that the checksum is compared
        return np.memmap(file, form.dtype, "r", form.offset, form.shape, form.order)


def _place(path: Path, entry: tuple[str, int] | None) -> tuple[str, int]:
    if entry is None:
        raise DataError(f"{path}: holds arrays of pictures, and the data set names none of them.")
    return entry

"""Pictures and volumes inside the arrays of an npz archive, as MedMNIST stores them.

Nothing in it is ever unpickled.
"""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from shutil import copyfileobj
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from medrobust.data.photographs.pictures import Header, Picture, naming, require_size, to_bands
from medrobust.errors import DataError

COLOURS = 3
BITS = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}
MOST_EXPANSION = 200
"""How many times larger than in the archive an array over `FREE` bytes may be; pictures stay far below."""

FREE = 2**26


class Form(NamedTuple):
    """Shape and type of an array, as its archive says."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


@dataclass(frozen=True, slots=True)
class NpzArrays:
    """Entries `(array, number)`: one picture each of an array `n h w` or `n h w 3`, or a volume of `n d h w`.

    An array is unpacked once per process, into an unnamed file of the folder for temporary files, and mapped.
    """

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What the header of the array says."""
        name, _ = _place(path, entry)
        form = picture_form(path, name)
        depth, height, width, channels = _sides(form)
        return Header((width, height), channels, BITS[form.dtype], depth)

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """Read one picture or volume.

        Raises:
            DataError: The archive is damaged, or the array holds no pictures.
        """
        name, number = _place(path, entry)
        pictures = _unpacked(path, name, path.stat().st_mtime_ns)
        values, bits = np.array(pictures[number]), BITS[pictures.dtype]
        if not is_volumes(picture_form(path, name)):
            return Picture(to_bands(values), bits)
        return Picture(tuple(to_bands(plane)[0] for plane in values), bits, is_volume=True)


NPZ_ARRAYS = NpzArrays()


def array_forms(path: Path) -> dict[str, Form]:
    """Shape and type of every array of an archive, none of which is read.

    Raises:
        DataError: It is no such archive, or one of its arrays cannot be what it says.
    """
    with _archive(path) as archive:
        names = [info.filename for info in archive.infolist() if info.filename.endswith(".npy")]
        return {name.removesuffix(".npy"): _form(path, archive, name.removesuffix(".npy")) for name in names}


def read_array(path: Path, name: str) -> np.ndarray:
    """One array of an archive, in memory.

    Raises:
        DataError: The archive is damaged, or has no such array.
    """
    with _archive(path) as archive:
        form = _form(path, archive, name)
        content = archive.read(f"{name}.npy")  # to its end, where the archive's checksum is compared
        values = np.frombuffer(content, form.dtype, offset=form.offset)
        return values.reshape(form.shape)


def picture_form(path: Path, name: str) -> Form:
    """Shape and type of an array of pictures or volumes.

    Raises:
        DataError: The archive is damaged, or the array holds neither.
    """
    form = _forms(path, path.stat().st_mtime_ns).get(name)
    if form is None:
        raise DataError(f"{path}: has no array '{name}'.")
    if form.dtype not in BITS or len(form.shape) not in (3, 4):
        raise DataError(
            f"{path}: the array '{name}' of {form.dtype} and shape {form.shape} holds no pictures, which are "
            "uint8 or uint16 of shape n x height x width, or with 3 colours behind, and no volumes, of shape "
            "n x depth x height x width."
        )
    depth, height, width, channels = _sides(form)
    require_size(path, width, depth * height, deep=channels > 1 and BITS[form.dtype] > 8)
    return form


def is_volumes(form: Form) -> bool:
    """Whether an array holds volumes: four axes, of which the last is no colour."""
    return len(form.shape) == 4 and form.shape[3] != COLOURS


def _sides(form: Form) -> tuple[int, int, int, int]:
    """Depth, height, width and channels of what an array of pictures or volumes holds."""
    if is_volumes(form):
        _, depth, height, width = form.shape
        return depth, height, width, 1
    _, height, width, *colours = form.shape
    return 1, height, width, COLOURS if colours else 1


@lru_cache(maxsize=4)
def _forms(path: Path, _changed: int) -> dict[str, Form]:
    return array_forms(path)


@lru_cache(maxsize=4)
def _unpacked(path: Path, name: str, _changed: int) -> np.ndarray:
    form = picture_form(path, name)
    with _archive(path) as archive, archive.open(f"{name}.npy") as packed, tempfile.TemporaryFile() as file:
        copyfileobj(packed, file, 2**20)
        if file.tell() != form.offset + _size(form):
            raise DataError(f"{path}: the array '{name}' ends early. Download it again.")
        return np.memmap(file, form.dtype, "r", form.offset, form.shape)


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
            "what it takes in the archive, as no pictures do. It is not read."
        )
    with archive.open(info) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = read(file)
        form = Form(shape, dtype, file.tell())
    if by_column or dtype.hasobject or min(shape, default=1) < 0:
        raise DataError(
            f"{path}: the array '{name}' holds objects, or is not stored by rows. It is not read."
        )
    if form.offset + _size(form) != info.file_size:
        raise DataError(f"{path}: the array '{name}' is not as large as it says. Download it again.")
    return form


def _size(form: Form) -> int:
    size = form.dtype.itemsize
    for side in form.shape:
        size *= int(side)
    return size


def _place(path: Path, entry: tuple[str, int] | None) -> tuple[str, int]:
    if entry is None:
        raise DataError(f"{path}: holds arrays of pictures; which one is not said.")
    return entry

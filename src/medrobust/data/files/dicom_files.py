"""DICOM files of anybody's, read so that none takes more memory than its size lets one expect."""

from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.filereader import read_dataset
from pydicom.pixels.utils import pixel_array

from medrobust.data.files.dicom_codecs import add_decoders
from medrobust.errors import DataError

MOST_BYTES = 2**30
"""Size of the largest file that is read."""

MAGIC = (128, b"DICM")
"""Where in a DICOM file what stands."""

META, IDENTIFYING = 2, 8
"""Groups of elements: one of them begins what follows the preamble, or a file that has none."""

UNCOMPRESSED: dict[tuple[bool | None, bool | None], uid.UID] = {
    (True, True): uid.ImplicitVRLittleEndian,
    (False, True): uid.ExplicitVRLittleEndian,
    (False, False): uid.ExplicitVRBigEndian,
}
"""Transfer syntaxes by how elements are written: whether without their types, and in which order of bytes."""

add_decoders()


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, with or without the preamble that files should have."""
    with path.open("rb") as file:
        return _begin(file) is not None


def read_dicom_file(
    path: Path, *, pixels: bool = True, elements: Sequence[str] | None = None
) -> pydicom.FileDataset:
    """A DICOM file, with or without preamble and file meta information; pixels are not decoded.

    Args:
        path: The file.
        pixels: Whether they are read too.
        elements: Keywords of what else is read; None: everything.

    Raises:
        DataError: It is no DICOM file, too large to be read, or compressed as a whole.
        Exception: It is damaged; see `pictures.naming`.
    """
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: is larger than {MOST_BYTES:,} bytes. Take it out of the data.")
    with path.open("rb") as file:
        begin = _begin(file)
        if begin is None:
            raise DataError(
                f"{path}: cannot be read (it is no DICOM file by its content). Take it out of the data."
            )
        file.seek(begin)
        meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != META)
    if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
        # how large it gets is not known before
        raise DataError(f"{path}: is compressed as a whole (deflated). Save it in another transfer syntax.")
    wanted = None if elements is None else list(elements)
    dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=wanted, force=True)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
            raise DataError(
                f"{path}: its pixels are compressed, and it does not say how (TransferSyntaxUID). "
                "Export it again."
            )
        dataset.file_meta.TransferSyntaxUID = UNCOMPRESSED[dataset.original_encoding]
    return dataset


def stored_pixels(dataset: Any, path: Path, frame: int | None = None) -> np.ndarray:
    """The pixels of a file, or of one of its frames, as its bits hold them.

    Colours are RGB, but for those of a palette.

    Raises:
        DataError: Nothing that is installed decodes them.
        Exception: They are damaged.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" not in dataset:
        raise DataError(f"{path}: has no pixels that can be read (PixelData). Take it out of the data.")
    try:
        return pixel_array(dataset, index=frame)
    except (NotImplementedError, RuntimeError) as error:
        why = " ".join(str(error).split())
        advice = (
            "Install what is named here, or save the file uncompressed."
            if "missing dependencies" in why
            else "If another program opens it, save it uncompressed there; if none does, take it out."
        )
        raise DataError(f"{path}: its pixels ({syntax.name}) cannot be decoded ({why}). {advice}") from error


def _begin(file: BufferedIOBase) -> int | None:
    """Where the elements of a DICOM file begin; None: it is none."""
    place, magic = MAGIC
    head = file.read(place + len(magic))
    if head[place:] == magic:
        return len(head)
    group = {int.from_bytes(head[:2], order) for order in ("little", "big")}
    is_element = len(head) > 8 and bool(group & {META, IDENTIFYING}) and head[2:4] != head[:2]
    return 0 if is_element else None

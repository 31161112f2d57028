"""DICOM files of anybody's, read so that none takes more memory than its size lets one expect."""

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medrobust.errors import DataError

MOST_BYTES = 2**30
"""Size of the largest file that is read."""

MAGIC = (128, b"DICM")
"""Where in a DICOM file what stands."""

FIRST_GROUPS = (2, 8)
"""Groups of elements of which one begins a file that has no preamble."""

UNCOMPRESSED = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
"""Transfer syntaxes by how elements are written: whether without their types, and in which order of bytes."""

DEFLATED = "1.2.840.10008.1.2.1.99"
"""Transfer syntax of files that are compressed as a whole: how large they get is not known before."""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, with or without the preamble that files should have."""
    head = _head(path)
    begins = {int.from_bytes(head[:2], order) for order in ("little", "big")} & set(FIRST_GROUPS)
    return _has_preamble(head) or (len(head) > 8 and bool(begins) and head[2:4] != head[:2])


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAGIC[0] + len(MAGIC[1]))


def _has_preamble(head: bytes) -> bool:
    return head[MAGIC[0] :] == MAGIC[1]


def read_dicom_file(
    path: Path, *, pixels: bool = True, elements: Sequence[str] | None = None
) -> pydicom.FileDataset:
    """A DICOM file, with or without preamble; pixels are not decoded.

    Args:
        path: The file.
        pixels: Whether they are read too.
        elements: Keywords of what else is read; None: everything.

    Raises:
        DataError: It is too large to be read, or compressed as a whole.
        Exception: It is no DICOM file, or damaged; see `pictures.naming`.
    """
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: is larger than {MOST_BYTES:,} bytes. Take it out of the data.")
    if not is_dicom(path):
        raise ValueError("it is no DICOM file by its content")
    if _has_preamble(_head(path)) and read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
        raise DataError(f"{path}: is compressed as a whole (deflated). Save it in another transfer syntax.")
    wanted = None if elements is None else list(elements)
    dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=wanted, force=True)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        is_implicit, is_little = map(bool, dataset.original_encoding)
        dataset.file_meta.TransferSyntaxUID = UNCOMPRESSED[is_implicit, is_little]
    return dataset

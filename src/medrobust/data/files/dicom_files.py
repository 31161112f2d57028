"""DICOM files of anybody's, read so that none takes more memory than its size lets one expect."""

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.filereader import read_file_meta_info

from medrobust.errors import DataError

MOST_BYTES = 2**30
"""Size of the largest file that is read."""

DEFLATED = "1.2.840.10008.1.2.1.99"
"""Transfer syntax of files that are compressed as a whole: how large they get is not known before."""


def read_dicom_file(
    path: Path, *, pixels: bool = True, elements: Sequence[str] | None = None
) -> pydicom.FileDataset:
    """A DICOM file; pixels are not decoded.

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
    if read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
        raise DataError(f"{path}: is compressed as a whole (deflated). Save it in another transfer syntax.")
    wanted = None if elements is None else list(elements)
    return pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=wanted)

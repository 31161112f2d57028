"""DICOM files from any source: elements and pixels, without more memory than a file's size suggests.

pydicom alone decodes RLE and, through Pillow, JPEG in 8 bits and JPEG 2000 in up to 16 bits of grey.
imagecodecs adds JPEG in 12 bits, JPEG Lossless, JPEG-LS, High-Throughput JPEG 2000 and JPEG 2000 in deep
colour.
"""

from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom import uid
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.pixels.utils import pixel_array

from medrobust.data.files import MOST_BYTES
from medrobust.errors import DataError

MAGIC = (128, b"DICM")
"""Offset and content of the mark that follows the preamble of a DICOM file."""

META, IDENTIFYING = 2, 8
"""Groups of elements, one of which comes first after the preamble, or in a file that has none."""

UNCOMPRESSED: dict[tuple[bool | None, bool | None], uid.UID] = {
    (True, True): uid.ImplicitVRLittleEndian,
    (False, True): uid.ExplicitVRLittleEndian,
    (False, False): uid.ExplicitVRBigEndian,
}
"""Transfer syntaxes by whether elements are written without their types, and by their byte order."""


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
        DataError: It is not a DICOM file, too large, or compressed as a whole.
        Exception: It is damaged; see `files.naming`.
    """
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: is larger than {MOST_BYTES / 2**30:g} GB. Remove it from the data.")
    with path.open("rb") as file:
        begin = _begin(file)
        if begin is None:
            raise DataError(f"{path}: cannot be read (its content is not DICOM). Remove it from the data.")
        file.seek(begin)
        meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != META)
    if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:  # may unpack to any size
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


def _begin(file: BufferedIOBase) -> int | None:
    """Where the elements of a DICOM file begin; None if it is not one."""
    place, magic = MAGIC
    head = file.read(place + len(magic))
    if head[place:] == magic:
        return len(head)
    group = {int.from_bytes(head[:2], order) for order in ("little", "big")}
    is_element = len(head) > 8 and bool(group & {META, IDENTIFYING}) and head[2:4] != head[:2]
    return 0 if is_element else None


def present(dataset: Any, keyword: str) -> Any:
    """The value of an element, or the items of a sequence; None if it is absent or empty."""
    return dataset[keyword].value if keyword in dataset and not dataset[keyword].is_empty else None


def grouped(dataset: Any, frame: Any, group: str) -> Iterator[Any]:
    """The items of a functional group: first those of a frame, then those that all frames share."""
    for groups in (frame, *(present(dataset, "SharedFunctionalGroupsSequence") or ())):
        yield from present(groups, group) or ()


WHITE = np.array([0.95047, 1.0, 1.08883])
"""CIE XYZ of white, D65."""

TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
"""From CIE XYZ to linear sRGB."""


def rgb_of_cielab(stored: Sequence[int]) -> tuple[int, int, int]:
    """Red, green and blue, from 0 to 255, of a colour in DICOM's CIELab (PS3.3, C.10.7.1.1)."""
    lightness, a, b = np.array(stored) / (2**16 - 1) * (100, 255, 255) - (0, 128, 128)
    middle = (lightness + 16) / 116
    roots = np.array([middle + a / 500, middle, middle - b / 200])
    xyz = WHITE * np.where(roots**3 > 0.008856, roots**3, (roots - 16 / 116) / 7.787)
    linear = (TO_RGB @ xyz).clip(0, None)
    levels = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    red, green, blue = np.rint(255 * levels).clip(0, 255).astype(int).tolist()
    return red, green, blue


def stored_pixels(dataset: Any, path: Path, frame: int | None = None) -> np.ndarray:
    """The pixels of a file, or of one of its frames, as stored; colours, except of palettes, become RGB.

    Raises:
        DataError: There are none, or nothing that is installed decodes them.
        Exception: They are damaged.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" not in dataset:
        raise DataError(f"{path}: has no pixels that can be read (PixelData). Remove it from the data.")
    try:
        return pixel_array(dataset, index=frame)
    except (NotImplementedError, RuntimeError) as error:
        why = " ".join(str(error).split())
        advice = (
            "Install what is named here, or save the file uncompressed."
            if "missing dependencies" in why
            else "If another program opens it, save it uncompressed there; if none does, remove it."
        )
        raise DataError(f"{path}: its pixels ({syntax.name}) cannot be decoded ({why}). {advice}") from error


JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)

SIZ = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 codestream begins; its size follows 4 bytes later."""

DECODER_DEPENDENCIES = dict.fromkeys((*JPEG, *JPEG_LS, *JPEG_2000), ("imagecodecs>=2026.3.6",))
"""What pydicom names if a decoder is missing."""


def is_available(syntax: str) -> bool:
    """Whether a transfer syntax is decoded here; called by pydicom."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(content: bytes, runner: DecodeRunner) -> bytearray:
    """The pixels of a frame, colours interleaved; `runner`, which knows the header, is told their layout.

    Raises:
        Exception: The frame is damaged, or not of the size that the header says.
    """
    samples = runner.samples_per_pixel
    shape = (runner.rows, runner.columns, *((samples,) if samples > 1 else ()))
    if runner.transfer_syntax in JPEG:
        # Colours stay as stored: pydicom converts them if the header says so.
        space = "RGB" if samples > 1 else None
        values: np.ndarray = imagecodecs.jpeg8_decode(content, colorspace=space, outcolorspace=space)
    elif runner.transfer_syntax in JPEG_LS:
        values = imagecodecs.jpegls_decode(content)
    else:
        place = content.find(SIZ)
        right, bottom, left, top = np.frombuffer(content, ">u4", 4, place + len(SIZ) + 4).tolist()
        if place < 0 or (bottom - top, right - left) != shape[:2]:  # before memory is taken
            raise ValueError(
                f"its compressed picture has {right - left} x {bottom - top} pixels, unlike its header"
            )
        values = imagecodecs.jpeg2k_decode(content)
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
            runner.set_option("photometric_interpretation", "RGB")  # as decoded
    if values.shape != shape or values.dtype.itemsize > 2:
        raise ValueError(f"its compressed pixels have the shape {values.shape}, but its header says {shape}")
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return bytearray(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False))


for _syntax in DECODER_DEPENDENCIES:
    if "imagecodecs" not in get_decoder(_syntax).available_plugins:
        get_decoder(_syntax).add_plugin("imagecodecs", (__name__, decode_frame.__name__))

"""Compressed pixels of DICOM files, decoded by imagecodecs where pydicom has no decoder of its own.

pydicom alone decodes RLE and, through Pillow, JPEG of 8 bits and JPEG 2000 of up to 16 bits of grey. This
adds JPEG of 12 bits, JPEG Lossless, JPEG-LS, High-Throughput JPEG 2000 and JPEG 2000 in deep colour.
"""

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder

NAME = "imagecodecs"

JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)

SIZ = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 codestream begins; its size follows 4 bytes later."""

DECODER_DEPENDENCIES = dict.fromkeys((*JPEG, *JPEG_LS, *JPEG_2000), ("imagecodecs>=2026.3.6",))
"""What pydicom says where a decoder is missing."""


def is_available(syntax: str) -> bool:
    """Whether a transfer syntax is decoded here."""
    return syntax in DECODER_DEPENDENCIES


def decode_frame(content: bytes, runner: DecodeRunner) -> bytearray:
    """The pixels of a frame, colour by pixel.

    Args:
        content: As compressed.
        runner: What pydicom knows of it; is told how the pixels are laid out.

    Raises:
        Exception: The frame is damaged, or not of the size that the header says.
    """
    shape = (
        runner.rows,
        runner.columns,
        *((runner.samples_per_pixel,) if runner.samples_per_pixel > 1 else ()),
    )
    if runner.transfer_syntax in JPEG:
        # Colours stay as they are stored: pydicom converts them where the header says so.
        space = "RGB" if len(shape) == 3 else None
        values: np.ndarray = imagecodecs.jpeg8_decode(content, colorspace=space, outcolorspace=space)
    elif runner.transfer_syntax in JPEG_LS:
        values = imagecodecs.jpegls_decode(content)
    else:
        _require_size(content, runner)
        values = imagecodecs.jpeg2k_decode(content)
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
            runner.set_option("photometric_interpretation", "RGB")  # as the codestream itself asks for
    if values.shape != shape or values.dtype.itemsize > 2:
        raise ValueError(f"its compressed pixels are of shape {values.shape}, and the header says {shape}")
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return bytearray(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False))


def _require_size(content: bytes, runner: DecodeRunner) -> None:
    """Refuse a codestream of another size before it is decoded, and takes the memory of what it claims."""
    place = content.find(SIZ)
    right, bottom, left, top = np.frombuffer(content, ">u4", 4, place + len(SIZ) + 4).tolist()
    if place < 0 or (bottom - top, right - left) != (runner.rows, runner.columns):
        raise ValueError(
            f"its compressed pixels are {right - left} wide and {bottom - top} high, unlike the header"
        )


def add_decoders() -> None:
    """Let pydicom decode by what is here, after all that it finds itself."""
    for syntax in DECODER_DEPENDENCIES:
        decoder = get_decoder(syntax)
        if NAME not in decoder.available_plugins:
            decoder.add_plugin(NAME, (__name__, decode_frame.__name__))

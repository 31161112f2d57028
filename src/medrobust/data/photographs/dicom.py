"""DICOM files that hold one picture: X-rays, mammograms, photographs, single slices."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from jaxtyping import Float32
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from medrobust.data.files.dicom_files import read_dicom_file
from medrobust.data.photographs.pictures import Header, Picture, naming, require_size, to_bands
from medrobust.errors import DataError

WHITE = 2**16 - 1
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, slots=True)
class DicomFiles:
    """DICOM files, one picture each.

    Grey values go through rescale slope and intercept (or the table of the modality), then through the
    window, whose lower end becomes black; where low values are meant to be bright (MONOCHROME1) they are.

    Attributes:
        window: Centre and width in the units of the rescaled values; None takes the file's own window, or
            where it has none all values that its bits can hold.
    """

    window: tuple[float, float] | None = None

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What the header of a file says."""
        with naming(path, "a DICOM picture"):
            header = read_dicom(path, pixels=False)
            channels = 1 if header.PhotometricInterpretation in GREY else 3
            return Header((int(header.Columns), int(header.Rows)), channels, int(header.BitsStored))

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """Decode a file.

        Raises:
            DataError: It is damaged, too large, compressed in a way that nothing installed can read, or holds
                something else than one picture.
        """
        with naming(path, "a DICOM picture"):
            dataset = read_dicom(path)
            if dataset.PhotometricInterpretation not in GREY:
                return _colour_picture(dataset)
            values = _shown(dataset, self.window)
            if dataset.PhotometricInterpretation == "MONOCHROME1":
                values = 1 - values
            windowed = self.window is not None or _has_window(dataset)
            return Picture(to_bands(values * np.float32(WHITE)), int(dataset.BitsStored), windowed=windowed)


def read_dicom(path: Path, *, pixels: bool = True) -> Any:
    """A file that holds one picture, which is not decoded yet.

    Args:
        path: The file.
        pixels: Whether they are read too.

    Raises:
        DataError: It holds something else, or is too large to be read.
        Exception: It is no DICOM file, or damaged; see `pictures.naming`.
    """
    dataset = read_dicom_file(path, pixels=pixels)
    if "Rows" not in dataset or "Columns" not in dataset:
        raise DataError(f"{path}: is a DICOM file without a picture.")
    frames, kind = int(dataset.get("NumberOfFrames") or 1), dataset.get("PhotometricInterpretation")
    if frames != 1:
        raise DataError(f"{path}: holds {frames} pictures, and one is read. Split the file, or take it out.")
    if kind not in (*GREY, *COLOUR) or not 1 <= int(dataset.BitsStored) <= 16:
        raise DataError(f"{path}: pictures of {kind} in {dataset.BitsStored} bits cannot be read.")
    deep = kind not in GREY and int(dataset.BitsStored) > 8
    require_size(path, int(dataset.Columns), int(dataset.Rows), deep=deep)
    return dataset


def _shown(dataset: Any, window: tuple[float, float] | None) -> Float32[np.ndarray, "h w"]:
    """Grey values from 0, at the lower end of the window, to 1."""
    stored = pixel_array(dataset)
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise ValueError(f"pixels of shape {stored.shape} are no grey picture of the size that it says")
    rescaled: np.ndarray = apply_modality_lut(stored, dataset)
    if window is None and "VOILUTSequence" in dataset:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        values, low, high = apply_voi_lut(rescaled, dataset, prefer_lut=True), 0.0, 2.0**bits - 1
    else:
        values, (low, high) = rescaled, _limits(dataset, window)
    shown: np.ndarray = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    if not np.isfinite(shown).all():
        raise ValueError("its rescaled values are no numbers")
    return np.clip(shown, 0, 1, out=shown)


def _limits(dataset: Any, window: tuple[float, float] | None) -> tuple[float, float]:
    """The rescaled values that become black and white.

    A window of centre c and width w goes from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2 (DICOM PS3.3,
    C.11.2.1.2, LINEAR), or from c - w / 2 to c + w / 2 (LINEAR_EXACT, and windows that a study gives).
    """
    if window is None and _has_window(dataset):
        centre, width = (_first(dataset[key].value) for key in ("WindowCenter", "WindowWidth"))
        function = dataset.get("VOILUTFunction", "LINEAR")
        if function == "LINEAR":
            centre, width = centre - 0.5, width - 1
        elif function != "LINEAR_EXACT":
            raise ValueError(f"the window function {function} is not known here")
        low, high = centre - width / 2, centre + width / 2
    elif window is not None:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    else:
        low, high = _full_range(dataset)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"its window from {low:g} to {high:g} is empty")
    return low, high


def _has_window(dataset: Any) -> bool:
    return "VOILUTSequence" in dataset or ("WindowCenter" in dataset and "WindowWidth" in dataset)


def _full_range(dataset: Any) -> tuple[float, float]:
    """What the bits of a file can hold, rescaled."""
    bits, signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0))
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    low, high = sorted(float(value) for value in apply_modality_lut(ends, dataset))
    return low, high


def _colour_picture(dataset: Any) -> Picture:
    values = pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
    bits = 8 * values.dtype.itemsize
    if values.shape != (dataset.Rows, dataset.Columns, 3) or bits not in (8, 16):
        raise ValueError(f"pixels of shape {values.shape} and type {values.dtype} are no picture in colour")
    return Picture(to_bands(values), bits)


def _first(value: Any) -> float:
    """The first of several windows, which viewers show first."""
    return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)

"""DICOM files that hold one picture: X-rays, mammograms, photographs, single slices.

Elements by DICOM PS3.3: C.7.6.3 (pixels and palettes), C.7.6.16 (functional groups), C.11.1 (modality) and
C.11.2 (windows).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut
from scipy.special import expit

from medrobust.data.dicom import grouped, present, read_dicom_file, stored_pixels
from medrobust.data.files import naming
from medrobust.data.photographs.pictures import WHITE, Header, Picture, require_size, to_bands, to_white
from medrobust.errors import DataError

COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
GREY = ("MONOCHROME1", "MONOCHROME2")

OPTIONAL = (
    *("NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration", "PixelRepresentation", "HighBit"),
    *("PixelPresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "PresentationLUTShape"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)
"""Optional elements; an empty one counts as absent."""

MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
"""Functional groups in which enhanced files keep what others have in their header."""


@dataclass(frozen=True, slots=True)
class DicomFiles:
    """DICOM files, one picture each.

    Grey values go through rescale slope and intercept (or the table of the modality), then through the
    window, whose lower end becomes black; where low values are meant to be bright (MONOCHROME1, or an inverse
    presentation) they are. Padding is black.
    """

    # Centre and width in the units of the rescaled values; None takes the file's own window (the first of
    # several, or its table), or if it has none all values that its bits can hold.
    window: tuple[float, float] | None = None

    def header(self, path: Path, entry: tuple[str, int] | None = None) -> Header:
        """What the header of a file says."""
        with naming(path, "a DICOM picture"):
            header = read_dicom(path, pixels=False)
            channels = 1 if header.PhotometricInterpretation in GREY else 3
            return Header((int(header.Columns), int(header.Rows)), channels, _bits(header))

    def picture(self, path: Path, entry: tuple[str, int] | None = None) -> Picture:
        """Decode a file; a DataError if it is damaged, too large, not a picture, or cannot be decoded."""
        with naming(path, "a DICOM picture"):
            dataset = read_dicom(path)
            stored, kind = _stored(dataset, path), dataset.PhotometricInterpretation
            if kind not in GREY:
                return Picture(to_bands(_colours(stored, dataset)), _bits(dataset))
            shown = _shown(stored, dataset, self.window)
            if kind == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
                np.subtract(1, shown, out=shown)
            shown[_is_padding(stored, dataset)] = 0
            windowed = self.window is not None or (_voi_table(dataset) or _own_window(dataset)) is not None
            return Picture(to_bands(shown * np.float32(WHITE)), _bits(dataset), windowed=windowed)


def read_dicom(path: Path, *, pixels: bool = True) -> Any:
    """A file that holds one picture, not decoded yet, with its optional elements in one place.

    Raises:
        DataError: It holds something else, or is too large.
        Exception: It is not a DICOM file, or damaged; see `files.naming`.
    """
    dataset = read_dicom_file(path, pixels=pixels)
    _flatten(dataset)
    if not (dataset.get("Rows") and dataset.get("Columns")):
        raise DataError(f"{path}: is a DICOM file without a picture. Remove it from the data.")
    frames, kind = int(dataset.get("NumberOfFrames", 1)), dataset.get("PhotometricInterpretation")
    bits = dataset.get("BitsStored") or "unknown"
    if frames > 1:
        raise DataError(f"{path}: holds {frames} pictures, but a case is one. Split the file, or remove it.")
    if kind not in (*GREY, *COLOUR) or bits == "unknown" or not 1 <= int(bits) <= 16:
        raise DataError(
            f"{path}: pictures of {kind or 'unknown colours'} in {bits} bits cannot be read. Remove it."
        )
    if kind in GREY and dataset.get("PixelPresentation") in ("COLOR", "MIXED"):
        raise DataError(
            f"{path}: colours a part of its grey values (Supplemental Palette), which cannot be read. "
            "Save it as RGB."
        )
    require_size(path, int(dataset.Columns), int(dataset.Rows), deep=kind not in GREY and int(bits) > 8)
    return dataset


def _flatten(dataset: Any) -> None:
    """Lift elements out of functional groups, drop empty ones, and fill in the usual values."""
    frames = present(dataset, "PerFrameFunctionalGroupsSequence") or [()]
    for macro in MACROS:
        for item in grouped(dataset, frames[0], macro):
            for element in item:
                if element.tag not in dataset or dataset[element.tag].is_empty:
                    dataset[element.tag] = element
    for keyword in OPTIONAL:
        if keyword in dataset and dataset[keyword].is_empty:
            del dataset[keyword]
    planes = 1 if dataset.get("PhotometricInterpretation") in (*GREY, "PALETTE COLOR") else 3
    usual = {"SamplesPerPixel": planes, "PlanarConfiguration": 0, "PixelRepresentation": 0}
    for keyword, value in usual.items():
        if keyword not in dataset:
            setattr(dataset, keyword, value)


def _stored(dataset: Any, path: Path) -> Shaped[np.ndarray, "h w *c"]:
    """The numbers that the bits of each pixel hold; colours as RGB."""
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    spare = int(dataset.get("HighBit", bits - 1)) + 1 - bits
    if not 0 <= spare <= allocated - bits:
        raise ValueError(f"{bits} bits of {allocated} cannot end at bit {dataset.HighBit}")
    is_shifted = spare > 0 and not dataset.file_meta.TransferSyntaxUID.is_compressed
    if is_shifted:  # pydicom assumes that the lowest bit is the first
        dataset.BitsStored = bits + spare
    stored = stored_pixels(dataset, path)
    dataset.BitsStored = bits
    has_planes = dataset.PhotometricInterpretation not in (*GREY, "PALETTE COLOR")
    if stored.shape != (dataset.Rows, dataset.Columns, *((3,) if has_planes else ())):
        raise ValueError(f"its pixels of shape {stored.shape} are not what its header says")
    return stored >> spare if is_shifted else stored


def _ends(dataset: Any) -> tuple[int, int]:
    """The smallest and the largest number that the bits of a pixel hold."""
    bits = int(dataset.BitsStored)
    half = 2 ** (bits - 1)
    return (-half, half - 1) if dataset.get("PixelRepresentation") else (0, 2**bits - 1)


def _bits(dataset: Any) -> int:
    """Bits per channel of a picture; those of its table if it has a palette."""
    is_palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
    return _palette(dataset).bits if is_palette else int(dataset.BitsStored)


def _colours(stored: Shaped[np.ndarray, "h w *c"], dataset: Any) -> Shaped[np.ndarray, "h w 3"]:
    """Colours from 0 to 255, or to 65535 in more than 8 bits."""
    bits = _bits(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = _palette(dataset).of(stored)
    if stored.min() < 0 or stored.max() >= 2**bits:
        raise ValueError(f"its colours from {stored.min()} to {stored.max()} do not fit into {bits} bits")
    return to_white(stored.astype(np.uint8 if bits <= 8 else np.uint16, copy=False), bits)


def _shown(
    stored: Shaped[np.ndarray, "h w"], dataset: Any, window: tuple[float, float] | None
) -> Float32[np.ndarray, "h w"]:
    """Grey values from 0, at the lower end of the window, to 1."""
    values, (low, high) = _rescaled(stored, dataset), _full_range(dataset)
    if not np.isfinite(values).all():
        raise ValueError("its rescaled values are NaN or infinite")
    if window is not None:
        return Window(*window).of(values)
    table = _voi_table(dataset)
    if table is not None:
        shown: np.ndarray = table.of(values).astype(np.float32) / np.float32(2**table.bits - 1)
        return np.clip(shown, 0, 1, out=shown)
    return (_own_window(dataset) or Window((low + high) / 2, high - low)).of(values)


def _rescaled(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """Stored numbers in the units of the modality: by its table, or by slope and intercept."""
    table = _modality_table(dataset)
    if table is not None:
        return table.of(stored)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return stored if (slope, intercept) == (1, 0) else stored * slope + intercept


def _full_range(dataset: Any) -> tuple[float, float]:
    """What the bits of a file can hold, rescaled."""
    table = _modality_table(dataset)
    if table is not None:
        return 0, 2.0**table.bits - 1
    low, high = sorted(_rescaled(np.array(_ends(dataset)), dataset).tolist())
    return low, high


def _is_padding(stored: Shaped[np.ndarray, "h w"], dataset: Any) -> Shaped[np.ndarray, "h w"]:
    """Which pixels only pad the picture to a rectangle (PS3.3, C.7.5.1.1.2)."""
    if "PixelPaddingValue" not in dataset:
        return np.zeros(stored.shape, bool)
    first = dataset.PixelPaddingValue
    ends = [int(first), int(dataset.get("PixelPaddingRangeLimit", first))]
    if dataset.get("PixelRepresentation"):
        ends = [end - 2**16 if end >= 2**15 else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


class Window(NamedTuple):
    """Which values become black and white, by a function of PS3.3, C.11.2.1.2 and C.11.2.1.3."""

    centre: float
    width: float
    function: str = "LINEAR_EXACT"

    def of(self, values: Shaped[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
        """Values from 0, black, to 1, white; float64 is changed in place, to save memory."""
        centre, width = self.centre, self.width
        if self.function == "LINEAR":
            centre, width = centre - 0.5, width - 1
        elif self.function not in ("LINEAR_EXACT", "SIGMOID"):
            raise ValueError(f"its window function {self.function} is unknown; data.window can give a window")
        is_step = width == 0 and self.function == "LINEAR"
        if not (math.isfinite(centre) and 0 <= width < math.inf) or (width == 0 and not is_step):
            raise ValueError(
                f"its window of centre {self.centre:g} and width {self.width:g} is empty; data.window can "
                "give another"
            )
        own = values if values.dtype == np.float64 else None
        away = np.subtract(values, centre, out=own, dtype=np.float64).astype(np.float32)
        if self.function == "SIGMOID":
            shown: np.ndarray = expit(away * np.float32(4 / width))
        elif is_step:
            shown = (away > 0).astype(np.float32)
        else:
            shown = np.clip(away / np.float32(width) + np.float32(0.5), 0, 1)
        return shown


def _own_window(dataset: Any) -> Window | None:
    """The first window of a file, which viewers show first."""

    def several(keyword: str) -> list[Any]:
        value = dataset.get(keyword, [])
        return list(value) if isinstance(value, MultiValue | list) else [value]

    for centre, width in zip(several("WindowCenter"), several("WindowWidth"), strict=False):
        if centre != "" and width != "":
            return Window(float(centre), float(width), dataset.get("VOILUTFunction", "LINEAR").upper())
    return None


class Table(NamedTuple):
    """A lookup table."""

    values: Shaped[np.ndarray, "numbers *colours"]  # a value, or a colour, for each number
    first: int  # number of the first value, which stands for smaller numbers too, as the last for larger ones
    bits: int  # of the values

    def of(self, numbers: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w *colours"]:
        """The value for each number, once rounded."""
        places = np.subtract(numbers, self.first, dtype=np.float32, casting="same_kind")
        np.clip(np.rint(places, out=places), 0, len(self.values) - 1, out=places)
        found: np.ndarray = self.values[places.astype(np.int32)]
        return found


def _modality_table(dataset: Any) -> Table | None:
    return _first_table(dataset, "ModalityLUTSequence", _ends(dataset)[0] < 0)


def _voi_table(dataset: Any) -> Table | None:
    return _first_table(dataset, "VOILUTSequence", _full_range(dataset)[0] < 0)


def _first_table(dataset: Any, sequence: str, is_signed: bool) -> Table | None:
    for item in dataset.get(sequence) or ():
        descriptor, data = present(item, "LUTDescriptor"), present(item, "LUTData")
        if descriptor is not None and data is not None:
            return _table(dataset, descriptor, data, is_signed)
    return None


def _palette(dataset: Any) -> Table:
    is_signed = _ends(dataset)[0] < 0
    if "RedPaletteColorLookupTableData" in dataset:
        names = [f"{primary}PaletteColorLookupTable" for primary in ("Red", "Green", "Blue")]
        tables = [
            _table(dataset, dataset[f"{name}Descriptor"].value, dataset[f"{name}Data"].value, is_signed)
            for name in names
        ]
        values = np.stack([table.values for table in tables], axis=1)
        return Table(values, tables[0].first, max(table.bits for table in tables))
    count, first, bits = _descriptor(dataset.RedPaletteColorLookupTableDescriptor, is_signed)
    every = np.arange(first, first + count, dtype=np.int32)
    return Table(apply_color_lut(every, dataset)[:, :3], first, bits)  # pydicom unfolds segmented tables


def _descriptor(descriptor: Any, is_signed: bool) -> tuple[int, int, int]:
    """How many values a table has, the number of the first, and the bits of each."""
    count, first, bits = map(int, descriptor)
    if is_signed and first >= 2**15:  # stored without its sign
        first -= 2**16
    if not 1 <= bits <= 16:
        raise ValueError(f"its table has values of {bits} bits")
    return count % 2**16 or 2**16, first, bits


def _table(dataset: Any, descriptor: Any, data: Any, is_signed: bool) -> Table:
    """A table from its elements; values of 8 bits are stored one or two to a word."""
    count, first, bits = _descriptor(descriptor, is_signed)
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2").astype("<u2")
    else:
        words = np.atleast_1d(np.array(data, "<u2"))
    values = words if len(words) >= count else words.view(np.uint8)
    if len(values) < count:
        raise ValueError(f"its table has {len(values)} values instead of {count}")
    values = values[:count]
    if values.max() >= 2**bits:  # 8 bits in the upper half of a word
        bits = 16
    return Table(values.astype(np.uint16), first, bits)

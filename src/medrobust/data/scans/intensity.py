"""Intensities in [0, 1]: what becomes black and what becomes white, by name."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt
from jaxtyping import Float32
from pydantic import Field

from medrobust.errors import DataError

Z_RANGE = 3.0
"""Standard deviations from the mean that become 0 and 1."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of intensities as radiologists set it, e.g. 40 and 400 Hounsfield units for the abdomen."""

    centre: float  # what becomes 0.5
    width: Annotated[float, Gt(0)]  # from what becomes 0 to what becomes 1


Percentile = Annotated[str, Field(pattern=r"^percentile-(100|[1-9]?[0-9])(\.[0-9]+)?$")]

Intensity = Literal["min-max", "z-score"] | Percentile | Window
"""How intensities are normalised, each scan and channel by itself (see `normalise`)."""


def normalise(
    image: Float32[np.ndarray, "x y z"], intensity: Intensity, where: str
) -> Float32[np.ndarray, "x y z"]:
    """One volume's intensities in [0, 1]; what lies outside is clipped, and the minimum becomes exactly 0.

    - min-max: the minimum becomes 0 and the maximum 1.
    - percentile-P: the minimum becomes 0 and the P-th percentile of the voxels above the minimum 1, so that
      the amount of air around a head plays no part.
    - z-score: of the voxels above the minimum, mean - 3 standard deviations becomes 0 and mean + 3 becomes 1.
    - a window: centre - width / 2 becomes 0 and centre + width / 2 becomes 1, as in CT.

    A DataError, which names the volume by `where`, if the image is constant or becomes constant.
    """
    lowest = image.min()
    if lowest == image.max():
        raise DataError(f"{where}: every voxel has the intensity {lowest:g}. The file holds no image.")
    black, white = _range(image, lowest, intensity)
    scale = np.float32(white - black)
    if not scale > 0:
        raise DataError(
            f"{where}: {_named(intensity)} maps the range {black:g} to {white:g} to [0, 1], which leaves no "
            "image. Choose another normalisation."
        )
    scaled = image - np.float32(black)
    with np.errstate(over="ignore"):  # overflow is clipped like everything above white
        scaled /= scale  # in place: volumes are large
    np.clip(scaled, 0, 1, out=scaled)
    if intensity == "z-score":
        scaled[image == lowest] = 0
    if scaled.max() == scaled.min():
        raise DataError(
            f"{where}: {_named(intensity)} leaves nothing of intensities from {lowest:g} to {image.max():g}. "
            "Choose another window or normalisation."
        )
    return scaled


def _range(image: np.ndarray, lowest: np.float32, intensity: Intensity) -> tuple[float, float]:
    """What becomes 0 and what becomes 1."""
    if isinstance(intensity, Window):
        return intensity.centre - intensity.width / 2, intensity.centre + intensity.width / 2
    if intensity == "min-max":
        return float(lowest), float(image.max())
    above = image[image > lowest]
    if intensity == "z-score":
        mean, deviation = above.mean(dtype=np.float64), above.std(dtype=np.float64)
        return mean - Z_RANGE * deviation, mean + Z_RANGE * deviation
    percentile = float(intensity.removeprefix("percentile-"))
    return float(lowest), float(np.percentile(above, percentile, overwrite_input=True))


def intensity_fact(intensity: Intensity) -> str:
    """What a report states about it."""
    if isinstance(intensity, Window):
        low, high = _range(np.empty(0), np.float32(0), intensity)
        return f"{_named(intensity)}: {low:g} to 0 and {high:g} to 1, clipped"
    if intensity == "z-score":
        ends = "z-score of the voxels above the minimum, -3 to 0 and 3 to 1, clipped; the minimum to 0"
    elif intensity == "min-max":
        ends = "minimum to 0 and maximum to 1, clipped"
    else:
        percentile = intensity.removeprefix("percentile-")
        ends = f"minimum to 0 and {percentile}th percentile of the voxels above the minimum to 1, clipped"
    return f"per scan, {ends}"


def _named(intensity: Intensity) -> str:
    if isinstance(intensity, Window):
        return f"window of centre {intensity.centre:g} and width {intensity.width:g}"
    return intensity

"""What a T1-weighted scanner makes of a phantom brain: partial volume, bias field, blur and noise."""

from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8
from scipy import ndimage

from medrobust.data.phantoms.brain_geometry import TISSUES
from medrobust.data.phantoms.fields import smooth_field


class Intensity(NamedTuple):
    """T1 intensity of a tissue relative to white matter.

    Attributes:
        mean: Mean over subjects.
        between: Standard deviation of the subjects' means.
        texture: Standard deviation within a subject, partial volume and noise left out.
    """

    mean: float
    between: float
    texture: float


INTENSITIES: dict[str, Intensity] = {
    "air": Intensity(0.30, 0, 0.05),  # fluid lies there until the skull is stripped
    "cerebrospinal fluid": Intensity(0.30, 0.02, 0.05),
    "third ventricle": Intensity(0.21, 0.04, 0.04),
    "fourth ventricle": Intensity(0.23, 0.04, 0.04),
    "lateral ventricle": Intensity(0.22, 0.04, 0.04),
    "cerebral cortex": Intensity(0.62, 0.02, 0.05),
    "cerebellar cortex": Intensity(0.64, 0.03, 0.06),
    "vermis": Intensity(0.68, 0.03, 0.06),
    "basal forebrain": Intensity(0.67, 0.03, 0.05),
    "amygdala": Intensity(0.65, 0.03, 0.04),
    "hippocampus": Intensity(0.66, 0.02, 0.05),
    "caudate": Intensity(0.69, 0.03, 0.04),
    "putamen": Intensity(0.75, 0.03, 0.04),
    "thalamus": Intensity(0.77, 0.03, 0.06),
    "brain stem": Intensity(0.92, 0.03, 0.06),
    "ventral diencephalon": Intensity(0.90, 0.03, 0.06),
    "cerebellar white matter": Intensity(0.97, 0.03, 0.05),
    "pallidum": Intensity(0.95, 0.02, 0.04),
    "cerebral white matter": Intensity(1.00, 0, 0.04),
}
"""Both sides of a structure share one intensity: left and right are told by position only.

Chosen so that the finished scans, with partial volume, have the ratios to white matter that were measured in
8 scans of the MICCAI 2012 Multi-Atlas Labelling Challenge.
"""

SKULL_STRIPPED_AT = 0.5
"""Share of brain from which on a voxel is kept."""


def without_side(tissue: str) -> str:
    """Name of a tissue in `INTENSITIES`."""
    return tissue.removeprefix("left ").removeprefix("right ")


def pooled(values: Shaped[np.ndarray, "x y z"], factor: int) -> Shaped[np.ndarray, "u v w"]:
    """Sums over blocks of `factor`^3 voxels; sizes must be multiples of `factor`."""
    corners = product(range(factor), repeat=3)
    total: Any = sum(values[i::factor, j::factor, k::factor] for i, j, k in corners)
    return np.asarray(total)


def majority(tissues: UInt8[np.ndarray, "x y z"], factor: int) -> UInt8[np.ndarray, "u v w"]:
    """The most frequent tissue of each block of `factor`^3 voxels; in a draw, the first in `TISSUES`."""
    best = np.zeros([size // factor for size in tissues.shape], np.uint8)
    most = np.zeros_like(best)
    for tissue in np.flatnonzero(np.bincount(tissues.ravel())):
        votes = pooled((tissues == tissue).view(np.uint8), factor)
        best[votes > most] = tissue
        np.maximum(most, votes, out=most)
    return best


def scan(
    tissues: UInt8[np.ndarray, "x y z"], factor: int, spacing: float, rng: np.random.Generator
) -> Float32[np.ndarray, "u v w"]:
    """A skull-stripped scan in [0, 1] of a brain given on a grid that is `factor` times finer.

    Args:
        tissues: Values in `TISSUES`.
        factor: How many fine voxels an edge of the scan's voxels has.
        spacing: Edge of a voxel of the scan in mm.
        rng: Source of all draws.

    Returns:
        Intensities, the 99.5th percentile of the brain scaled to 1, clipped; exactly 0 outside of the brain.
    """
    means, textures = draw_intensities(rng)
    voxels = factor**3
    shape = tuple(size // factor for size in tissues.shape)
    image = pooled(means[tissues], factor) / voxels
    image += pooled(textures[tissues], factor) / voxels * grain(rng, shape)
    image = np.maximum(image, 0) ** float(np.exp(rng.normal(0, 0.1)))
    image *= np.exp(rng.uniform(0.03, 0.12) * bias(rng, shape, spacing))
    image = ndimage.gaussian_filter(image, rng.uniform(0.4, 0.6))
    image = rician(image, rng.uniform(0.01, 0.03), rng)
    brain = pooled((tissues > 0).view(np.uint8), factor) >= SKULL_STRIPPED_AT * voxels
    return normalised(image, brain)


def draw_intensities(rng: np.random.Generator) -> tuple[Float32[np.ndarray, " t"], Float32[np.ndarray, " t"]]:
    """Mean and texture of each of `TISSUES` in one subject."""
    draws = {
        name: entry.mean * (1 + entry.between * rng.standard_normal()) for name, entry in INTENSITIES.items()
    }
    names = [without_side(tissue) for tissue in TISSUES]
    means = np.array([draws[name] for name in names], np.float32)
    return means, np.array([INTENSITIES[name].texture for name in names], np.float32)


def bias(rng: np.random.Generator, shape: tuple[int, ...], spacing: float) -> Float32[np.ndarray, "x y z"]:
    """Log of a coil's sensitivity; the same on both sides, so that it does not tell left from right."""
    field = smooth_field(rng, shape, 45 / spacing)[0]
    return np.asarray((field + field[::-1]) / np.float32(np.sqrt(2)))


def grain(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32[np.ndarray, "x y z"]:
    """Standard normal texture that neighbouring voxels share, as tissue does."""
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), rng.uniform(0.6, 0.8))
    return np.asarray(smooth / smooth.std())


def rician(
    image: Float32[np.ndarray, "x y z"], sigma: float, rng: np.random.Generator
) -> Float32[np.ndarray, "x y z"]:
    """The magnitude of a complex image with normal noise of standard deviation `sigma` in both channels."""
    real, imaginary = (
        np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2)
    )
    return np.asarray(np.hypot(image + real, imaginary))


def normalised(
    image: Float32[np.ndarray, "x y z"], brain: Bool[np.ndarray, "x y z"]
) -> Float32[np.ndarray, "x y z"]:
    """The image divided by the 99.5th percentile of its brain, clipped to [0, 1], 0 outside."""
    return np.where(brain, np.clip(image / np.percentile(image[brain], 99.5), 0, 1), 0).astype(np.float32)

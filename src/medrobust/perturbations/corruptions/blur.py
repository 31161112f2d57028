"""Blur and coarse sampling: Gaussian, defocus, motion and zoom, and slices far apart.

Radii and widths in pixels are those of an image whose shorter side has 224 pixels, the size for which
MedMNIST-C and ImageNet-C state them; on others they are scaled with it. Widths in mm are scaled with the
pixel size, which counts as 1 mm where nobody knows it.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from scipy import ndimage
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from medrobust.perturbations.corruptions.draws import Rngs
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import Extent, corruption

Images = Float[Tensor, "n c *space"]

SIDE = 224


@corruption(
    budget="sigma",
    unit="pixels at 224",
    extent=Extent(0, 40),
    presets=presets_of("gaussian_blur"),
    summary="Gaussian blur.",
)
def gaussian_blur(
    images: Images, sigma: Annotated[float, Ge(0), Le(100)], truncate: Annotated[float, Gt(0), Le(8)] = 2.5
) -> Images:
    """Blur along every axis; borders are mirrored without repeating the outermost pixel, as torchvision's.

    Args:
        images: Images in [0, 1].
        sigma: Standard deviation, in pixels of an image with a side of 224.
        truncate: Where the kernel ends, in standard deviations.
    """
    width = sigma * scale_of(images)
    return smoothed(images, [width] * (images.ndim - 2), truncate, "reflect")


@corruption(
    budget="sd_mm",
    unit="mm",
    extent=Extent(0, 40),
    presets=presets_of("smoothing"),
    summary="Gaussian smoothing of a width in mm.",
)
def smoothing(
    images: Images, sd_mm: Annotated[float, Ge(0), Le(100)], spacing: Sequence[float] | None = None
) -> Images:
    """Blur along every axis; borders are mirrored, as SciPy and TorchIO do.

    Args:
        images: Images in [0, 1].
        sd_mm: Standard deviation in mm.
        spacing: Size of a pixel in mm along each axis; None: 1.
    """
    sizes = spacing or (1.0,) * (images.ndim - 2)
    return smoothed(images, [sd_mm / size for size in sizes], 4.0, "symmetric")


@corruption(
    budget="radius",
    unit="pixels at 224",
    extent=Extent(0, 40),
    dimensions=(2,),
    presets=presets_of("defocus_blur"),
    summary="A camera out of focus.",
)
def defocus_blur(
    images: Images, radius: Annotated[float, Ge(0), Le(100)], alias: Annotated[float, Ge(0), Le(10)] = 0.1
) -> Images:
    """Average over a disc whose edge is smoothed by a Gaussian; borders are mirrored.

    Args:
        images: Images in [0, 1].
        radius: Of the disc, in pixels of an image with a side of 224.
        alias: Standard deviation of that Gaussian, in the same unit.
    """
    kernel = disc(radius, alias, scale_of(images))
    return convolved(images, kernel[None], "reflect").clamp(0, 1)


@corruption(
    budget="radius",
    unit="pixels at 224",
    extent=Extent(0, 60),
    dimensions=(2,),
    presets=presets_of("motion_blur"),
    summary="The camera or the patient moves during the exposure.",
)
def motion_blur(
    images: Images,
    rngs: Rngs,
    radius: Annotated[float, Ge(0), Le(100)],
    sigma: Annotated[float, Gt(0), Le(100)] = 5.0,
) -> Images:
    """Average along a line in a random direction within 45 degrees of the horizontal, further points less.

    The line begins at the pixel and has the weights of half a Gaussian, as ImageMagick's; it is sampled
    bilinearly, where that takes the nearest pixel. Borders are continued by their outermost pixel.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        radius: Half of the line's length, in pixels of an image with a side of 224.
        sigma: Standard deviation of the weights along it, in the same unit.
    """
    scale = scale_of(images)
    taps = round(2 * radius * scale) + 1
    lines = [line(taps, sigma * scale, rng.uniform(-45, 45)) for rng in rngs]
    return convolved(images, np.stack(lines), "edge").clamp(0, 1)


@corruption(
    budget="largest",
    unit="factor",
    extent=Extent(1, 3),
    dimensions=(2,),
    presets=presets_of("zoom_blur"),
    summary="The camera moves towards what it sees during the exposure.",
)
def zoom_blur(
    images: Images, largest: Annotated[float, Ge(1), Le(10)], step: Annotated[float, Ge(0.005), Le(1)] = 0.02
) -> Images:
    """Mean of the image and of its enlargements about the centre by 1, 1 + step, ... up to `largest`.

    Args:
        images: Images in [0, 1].
        largest: The largest factor, itself left out.
        step: Difference of two factors.
    """
    total, factors = images.clone(), np.arange(1, largest, step)
    for factor in factors:
        total += enlarged(images, float(factor))
    return (total / (len(factors) + 1)).clamp(0, 1)


@corruption(
    budget="factor",
    unit="pixel sizes",
    extent=Extent(1, 20),
    presets=presets_of("anisotropic_sampling"),
    summary="Slices that are far apart, along one axis.",
)
def anisotropic_sampling(images: Images, rngs: Rngs, factor: Annotated[float, Ge(1), Le(50)]) -> Images:
    """Sample one random axis more coarsely (nearest pixels), and interpolate linearly back.

    Labels stay as they are. ROOD-MRI samples them coarsely too, which changes what a network is held to, so
    that a perfect one has a Dice below 1. TorchIO leaves up to half a coarse pixel at both ends black; here
    the outermost coarse pixel is continued.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        factor: Size of a coarse pixel, in pixels.
    """
    axes = [int(rng.integers(2, images.ndim)) for rng in rngs]
    made = images.clone()
    for axis in sorted(set(axes)):
        chosen = [place for place, other in enumerate(axes) if other == axis]
        matrix = torch.from_numpy(coarse(images.shape[axis], factor)).to(images)
        made[chosen] = along(images[chosen], axis, matrix)
    return made.clamp(0, 1)


def scale_of(images: Tensor) -> float:
    """Pixels of these images for each pixel of an image whose shorter side has 224."""
    return min(images.shape[2:]) / SIDE


def along(images: Images, axis: int, matrix: Tensor) -> Images:
    """A matrix applied along one axis."""
    return (images.movedim(axis, -1) @ matrix.T).movedim(-1, axis).contiguous()


Border = Literal["reflect", "symmetric", "edge"]
"""As in `numpy.pad`."""


def smoothed(images: Images, widths: Sequence[float], truncate: float, border: Border) -> Images:
    """Gaussian means along each axis, of a standard deviation of `widths` pixels.

    The kernel ends `truncate` standard deviations away, rounded to whole pixels, as SciPy's.
    """
    made = images.clone()
    for axis, width in enumerate(widths, 2):
        half = int(truncate * width + 0.5)
        if half > 0:
            size = images.shape[axis]
            weights = np.exp(-0.5 * (np.arange(-half, half + 1) / width) ** 2)
            matrix = np.zeros((size, size))
            places = np.pad(np.arange(size), half, mode=border)
            for offset, weight in enumerate(weights / weights.sum()):
                np.add.at(matrix, (np.arange(size), places[offset : offset + size]), weight)
            made = along(made, axis, torch.from_numpy(matrix).to(images))
    return made.clamp(0, 1)


def disc(radius: float, alias: float, scale: float = 1.0) -> Float[np.ndarray, "h w"]:
    """Weights of a disc, smoothed within a window of 3 pixels (5 if the radius is above 8 at full scale).

    They add up to 1. Those of MedMNIST-C and ImageNet-C add up to more where the disc reaches the border of
    its array (1.013 at radius 8 and alias 0.5), and so brighten an image.
    """
    half = math.ceil(max(8.0, radius) * scale)
    x = np.arange(-half, half + 1)
    inside = (x[:, None] ** 2 + x**2 <= (radius * scale) ** 2).astype(np.float64)
    reach = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    smoothing = np.exp(-0.5 * (reach / max(alias * scale, 1e-3)) ** 2)
    kernel: np.ndarray = inside / inside.sum()
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, smoothing / smoothing.sum(), axis, mode="mirror")
    kernel /= kernel.sum()
    return kernel


def line(taps: int, sigma: float, degrees: float) -> Float[np.ndarray, "h w"]:
    """Weights of a line from the centre, shared out bilinearly among the pixels around each of its points."""
    steps = np.arange(taps)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    kernel = np.zeros((2 * taps + 1, 2 * taps + 1))
    rows, columns = (taps + steps * ratio(math.radians(degrees)) for ratio in (math.sin, math.cos))
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    below, right = rows - top, columns - left
    for row, share in ((0, 1 - below), (1, below)):
        for column, part in ((0, 1 - right), (1, right)):
            np.add.at(kernel, (top + row, left + column), weights * share * part)
    return kernel


def convolved(images: Images, kernels: Float[np.ndarray, "m h w"], border: Border) -> Images:
    """Correlation with a kernel for all images or one for each, of odd sizes; by FFT, exact to about 1e-6."""
    high, wide = (size // 2 for size in kernels.shape[1:])
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(size), half, mode=border)).to(images.device)
        for size, half in zip(images.shape[2:], (high, wide), strict=True)
    )
    padded = images[:, :, rows][..., columns]
    size = [next_fast_len(length, real=True) for length in padded.shape[2:]]
    weights = torch.from_numpy(kernels).to(images)[:, None]
    spectrum = torch.fft.rfft2(padded, size) * torch.fft.rfft2(weights, size).conj()
    made: Tensor = torch.fft.irfft2(spectrum, size)
    return made[..., : images.shape[2], : images.shape[3]].contiguous()


def enlarged(images: Images, factor: float) -> Images:
    """The centre, enlarged linearly and cut to the size of the image."""
    space = images.shape[2:]
    cut = [math.ceil(size / factor) for size in space]
    for axis, (size, part) in enumerate(zip(space, cut, strict=True), 2):
        images = images.narrow(axis, (size - part) // 2, part)
    large = [round(part * factor) for part in cut]
    images = F.interpolate(images, size=large, mode="bilinear", align_corners=True)
    for axis, (size, part) in enumerate(zip(space, large, strict=True), 2):
        images = images.narrow(axis, (part - size) // 2, size)
    return images


def coarse(size: int, factor: float) -> Float[np.ndarray, "{size} {size}"]:
    """The matrix that samples an axis `factor` pixels apart, about its centre, and interpolates back."""
    count = max(1, math.floor(size / factor))
    centres = (size - 1) / 2 + (np.arange(count) - (count - 1) / 2) * factor
    seen = np.clip(np.floor(centres + 0.5).astype(int), 0, size - 1)
    places = np.clip((np.arange(size) - centres[0]) / factor, 0, count - 1)
    before = np.minimum(np.floor(places).astype(int), max(count - 2, 0))
    after = np.minimum(before + 1, count - 1)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size), seen[before]), 1 - (places - before))
    np.add.at(matrix, (np.arange(size), seen[after]), places - before)
    return matrix

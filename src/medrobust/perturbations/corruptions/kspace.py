"""Artefacts of MR images, made where they arise: in k-space, the Fourier transform of the image.

A spectrum is centred: frequency 0 lies at index `size // 2` of each axis. Volumes are transformed along all
three axes. What had been outside of a skull-stripped brain is there no longer, so that air stays black only
until a ghost falls on it; corruptions leave the support.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Complex, Float
from scipy import ndimage
from torch import Tensor

from medrobust.perturbations.corruptions.blur import scale_of
from medrobust.perturbations.corruptions.draws import Rngs, drawn
from medrobust.perturbations.corruptions.geometry import rigid, sampled, voxels
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import Extent, corruption

Images = Float[Tensor, "n c *space"]
Spectra = Complex[Tensor, "n c *space"]

JITTER = 0.3
"""By how much a movement is early or late, in mean times between two."""

CENTRE = 1 / 20
"""The fraction of lines in the middle of k-space that are not disturbed."""

LINE_SMOOTHING = 0.5
"""Standard deviation over which the movements of neighbouring lines are smoothed, in lines."""


@corruption(
    budget="intensity",
    unit="of the lines' strength",
    extent=Extent(0, 3),
    presets=presets_of("ghosting"),
    summary="Ghosts: copies along the phase-encoding direction.",
    source="Pérez-García et al. 2021, TorchIO",
)
def ghosting(
    images: Images,
    rngs: Rngs,
    intensity: Annotated[float, Ge(0), Le(10)],
    ghosts: Annotated[int, Ge(1), Le(100)] = 7,
) -> Images:
    """Weaken every line whose number is a multiple of `ghosts` along the first or second axis, at random.

    The line of frequency 0 stays. Above 1, the sign of the lines turns. Negative results become 0.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        intensity: By what share lines are weakened.
        ghosts: How many ghosts there are.
    """
    axes = torch.tensor([int(rng.integers(2)) for rng in rngs])
    spectrum = spectra(images)
    for axis in (0, 1):
        size = images.shape[2 + axis]
        weights = torch.ones(len(images), size)
        weights[:, ::ghosts] = 1 - intensity * (axes == axis).float()[:, None]
        weights[:, size // 2] = 1
        spectrum = spectrum * _lines(weights, images, axis)
    return inverse(spectrum).real.clamp(0, 1)


@corruption(
    budget="intensity",
    unit="of the largest amplitude",
    extent=Extent(0, 5),
    presets=presets_of("spikes"),
    summary="Stripes from a spike in k-space.",
    source="Pérez-García et al. 2021, TorchIO",
)
def spikes(images: Images, rngs: Rngs, intensity: Annotated[float, Ge(0), Le(20)]) -> Images:
    """Add a real number to one random place of the spectrum; clip the real part of the result to [0, 1].

    The largest amplitude of an image without negative values is that of frequency 0, so the spike is a wave
    of `intensity` times the channel's mean.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        intensity: The number, in largest amplitudes of the channel's spectrum.
    """
    places = drawn(rngs, lambda rng: rng.random(images.ndim - 2), images)
    return (images + intensity * wave(images, places)).clamp(0, 1)


@corruption(
    budget="alpha",
    unit="of the spectrum's radius",
    extent=Extent(0, 0.99),
    presets=presets_of("gibbs_ringing"),
    summary="Ringing beside edges, from a spectrum that ends too early.",
    source="MONAI 1.6.1, GibbsNoise",
)
def gibbs_ringing(images: Images, alpha: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Remove all frequencies outside of a sphere, and clip the real part to [0, 1].

    Args:
        images: Images in [0, 1].
        alpha: How much smaller the sphere is than one around the largest square that holds the spectrum.
    """
    space = images.shape[2:]
    radius = (1 - alpha) * max(space) * 2**0.5 / 2
    squares = [(torch.arange(size, dtype=torch.float64) - (size - 1) / 2).square() for size in space]
    distance = sum(torch.meshgrid(*squares, indexing="ij"))
    kept = (torch.as_tensor(distance).sqrt() <= radius).to(images)
    return inverse(spectra(images) * kept).real.clamp(0, 1)


@corruption(
    budget="translation_mm",
    unit="mm",
    extent=Extent(0, 30),
    presets=presets_of("rigid_motion"),
    summary="The head moves a few times during the acquisition.",
    source="Shaw et al. 2019, MRI k-space motion artefact augmentation; TorchIO 1.2.1",
)
def rigid_motion(
    images: Images,
    rngs: Rngs,
    translation_mm: Annotated[float, Ge(0), Le(200)],
    rotation: Annotated[float, Ge(0), Le(180)] = 0.0,
    movements: Annotated[int, Ge(1), Le(50)] = 2,
    spacing: Sequence[float] | None = None,
) -> Images:
    """Join spectra of the image in several positions along the last axis, its middle from the unmoved image.

    Movements are about the centre of the image. (TorchIO 1.2.1 turns about the origin of the file's world
    coordinates, and in 2D joins along an axis of one voxel.) Negative results become 0.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        translation_mm: Largest shift along each axis, drawn evenly up to there in both directions.
        rotation: Largest angle in degrees, drawn likewise; about each axis in 3D.
        movements: How many there are.
        spacing: Size of a pixel in mm along each axis; None: 1.
    """
    dimensions = images.ndim - 2
    turns = 1 if dimensions == 2 else 3
    times = (np.arange(1, movements + 1)) / (movements + 1)

    def positions(rng: np.random.Generator) -> np.ndarray:
        late = rng.uniform(-JITTER, JITTER, movements) / (movements + 1)
        angles = rng.uniform(-rotation, rotation, (movements, turns))
        shifts = rng.uniform(-translation_mm, translation_mm, (movements, dimensions))
        return np.concatenate([(times + late)[:, None], angles, shifts], axis=1)

    drawing = drawn(rngs, positions, images)
    sizes = spacing or (1.0,) * dimensions
    return moved_during(
        images, drawing[..., 0], drawing[..., 1 : 1 + turns], drawing[..., 1 + turns :], sizes
    )


@corruption(
    budget="shift",
    unit="pixels at 224",
    extent=Extent(0, 60),
    presets=presets_of("line_motion"),
    summary="The patient jerks while single lines of k-space are acquired.",
    source="MedFM-Robust",
)
def line_motion(
    images: Images,
    rngs: Rngs,
    shift: Annotated[float, Ge(0), Le(500)],
    share: Annotated[float, Gt(0), Le(1)] = 0.5,
) -> Images:
    """Turn the phase of random phase-encoding lines as a shift of the image does, and take the magnitude.

    Lines run along the first axis; the twentieth of them around frequency 0 stays. Shifts along all axes are
    drawn evenly up to `shift` in both directions, line by line, and smoothed over half a line.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        shift: Largest shift, in pixels of an image whose shorter side has 224.
        share: Probability of a line to be disturbed.
    """
    lines, dimensions = images.shape[2], images.ndim - 2
    largest = shift * scale_of(images)
    middle = np.abs(np.arange(lines) - lines // 2) <= lines * CENTRE / 2

    def movement(rng: np.random.Generator) -> np.ndarray:
        hit = (rng.random(lines) < share) & ~middle
        raw = rng.uniform(-largest, largest, (dimensions, lines)) * hit
        return ndimage.gaussian_filter1d(raw, LINE_SMOOTHING, axis=1) * ~middle

    return shifted_by_line(images, drawn(rngs, movement, images)).abs().clamp(0, 1)


def spectra(images: Tensor) -> Spectra:
    """Centred spectra of all channels."""
    space = tuple(range(2, images.ndim))
    made: Tensor = torch.fft.fftshift(torch.fft.fftn(images, dim=space), dim=space)
    return made


def inverse(spectrum: Spectra) -> Spectra:
    """The complex images that have these centred spectra."""
    space = tuple(range(2, spectrum.ndim))
    made: Tensor = torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=space), dim=space)
    return made


def wave(images: Images, places: Float[Tensor, "n d"]) -> Images:
    """What a spike of one largest amplitude adds, at places in [0, 1) of the centred spectrum."""
    space = tuple(range(2, images.ndim))
    phase = torch.zeros_like(images[:, :1], dtype=torch.float64)
    for axis, size in enumerate(images.shape[2:]):
        frequency = (places[:, axis].double() * size).floor() - size // 2
        turns = torch.arange(size, device=images.device, dtype=torch.float64) / size
        phase = phase + _lines(frequency[:, None] * turns, images, axis)
    return images.mean(space, keepdim=True) * (2 * torch.pi * phase).cos().to(images)


def moved_during(
    images: Images,
    times: Float[Tensor, "n m"],
    angles: Float[Tensor, "n m turns"],
    shifts: Float[Tensor, "n m d"],
    spacing: Sequence[float],
) -> Images:
    """Images that took `m` further positions at times in [0, 1]; angles in degrees, shifts in mm."""
    last, movements = images.shape[-1], times.shape[1]
    ends = (times * last).floor()
    # The unmoved image fills the segment that holds the middle.
    late = times > 0.5
    middle = torch.where(late.any(1), late.int().argmax(1), movements)
    column = torch.arange(last, device=images.device)
    lowest = images.amin(tuple(range(2, images.ndim)), keepdim=True)
    total = torch.zeros_like(images, dtype=torch.complex64)
    for position in range(movements + 1):
        # The position that would have begun the acquisition takes the place of the unmoved one.
        where = torch.full_like(middle, position)
        where = torch.where(where == middle, 0, torch.where(where == 0, middle, where))
        begin = torch.where(where > 0, ends.gather(1, (where - 1).clamp_min(0)[:, None])[:, 0], 0)
        end = torch.where(
            where < movements, ends.gather(1, where.clamp_max(movements - 1)[:, None])[:, 0], last
        )
        segment = ((column >= begin[:, None]) & (column < end[:, None])).float()
        seen = images
        if position > 0:
            matrix, offset = rigid(angles[:, position - 1], shifts[:, position - 1], spacing)
            points = voxels(images.shape[2:], images.device)
            seen, inside = sampled(images, points @ matrix.mT + offset[:, None])
            seen = torch.where(inside[:, None], seen, lowest)
        total += spectra(seen) * _lines(segment, images, images.ndim - 3)
    return inverse(total).real.clamp(0, 1)


def shifted_by_line(images: Images, shifts: Float[Tensor, "n d lines"]) -> Spectra:
    """Complex images each line of whose spectrum, along the first axis, is that of a shifted image."""
    cycles: Tensor = torch.zeros(())
    for axis, size in enumerate(images.shape[2:]):
        frequency = (torch.arange(size, device=images.device) - size // 2).to(images) / size
        along = frequency.view(-1, *[1] * (images.ndim - 3 - axis))
        cycles = cycles.to(images.device) + along * _lines(shifts[:, axis], images, 0)
    return inverse(spectra(images) * torch.exp(-2j * torch.pi * cycles))


def _lines(values: Float[Tensor, "n size"], images: Tensor, axis: int) -> Tensor:
    """A number for each image and each line of one of its axes, in a shape that goes with the images."""
    ones = [1] * (images.ndim - 3)
    ones.insert(axis, values.shape[1])
    return values.to(images.device).view(len(values), 1, *ones)

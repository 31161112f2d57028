"""Noise of photographs, radiographs, MR and ultrasound images, drawn for each image by its own generator.

On grey images noise has the standard deviation that is stated. MedMNIST-C draws it for three equal channels
and averages them with the weights of luminance, which leaves two thirds of it (0.668).
"""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from medrobust.perturbations.corruptions.draws import Rngs, drawn
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import Extent, corruption

Images = Float[Tensor, "n c *space"]


@corruption(
    budget="sd",
    unit="of the range",
    extent=Extent(0, 10),
    presets=presets_of("gaussian_noise"),
    summary="Gaussian noise of a fixed standard deviation.",
)
def gaussian_noise(images: Images, rngs: Rngs, sd: Annotated[float, Ge(0), Le(10)]) -> Images:
    """Add Gaussian noise, and clip to [0, 1].

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        sd: Standard deviation.
    """
    return (images + sd * _normal(images, rngs)).clamp(0, 1)


@corruption(
    budget="sd",
    unit="of the pixel's value",
    extent=Extent(0, 10),
    presets=presets_of("speckle_noise"),
    summary="Noise in proportion to the brightness, as of coherent imaging.",
)
def speckle_noise(images: Images, rngs: Rngs, sd: Annotated[float, Ge(0), Le(10)]) -> Images:
    """Multiply each entry by a normal number of mean 1, and clip to [0, 1].

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        sd: Standard deviation of that number.
    """
    return (images * (1 + sd * _normal(images, rngs))).clamp(0, 1)


@corruption(
    budget="photons",
    unit="at full brightness",
    extent=Extent(1e6, 1, geometric=True),
    presets=presets_of("shot_noise"),
    summary="Noise of counting few photons.",
)
def shot_noise(images: Images, rngs: Rngs, photons: Annotated[float, Gt(0), Le(1e9)]) -> Images:
    """Draw each entry from the Poisson distribution of its mean, and clip to [0, 1].

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        photons: Count that stands for 1.
    """
    means = (images.double().cpu() * photons).numpy()
    counts = np.stack([rng.poisson(mean) for rng, mean in zip(rngs, means, strict=True)])
    return torch.from_numpy((counts / photons).astype(np.float32)).to(images.device).clamp(0, 1)


@corruption(
    budget="share",
    unit="of the entries",
    extent=Extent(0, 1),
    presets=presets_of("impulse_noise"),
    summary="Salt and pepper.",
)
def impulse_noise(images: Images, rngs: Rngs, share: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Set a share of the entries, channel by channel, to 0 or 1, equally often.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        share: Probability of an entry to be set.
    """
    hit = drawn(rngs, lambda rng: rng.random(images.shape[1:], dtype=np.float32), images)
    return torch.where(hit < share, (hit < share / 2).to(images), images)


@corruption(
    budget="share",
    unit="of the image's standard deviation",
    extent=Extent(0, 10),
    presets=presets_of("rician_noise"),
    summary="Noise of a magnitude MR image, relative to its contrast.",
    source="Gudbjartsson and Patz 1995, The Rician distribution of noisy MRI data",
)
def rician_noise(images: Images, rngs: Rngs, share: Annotated[float, Ge(0), Le(10)]) -> Images:
    """Add Gaussian noise to both parts of the complex signal of each channel, and clip to [0, 1].

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        share: Standard deviation of the noise in each part, relative to that of the channel.
    """
    both = drawn(rngs, lambda rng: rng.standard_normal((2, *images.shape[1:]), dtype=np.float32), images)
    space = tuple(range(2, images.ndim))
    sd = share * images.std(dim=space, correction=0, keepdim=True)
    return torch.hypot(images + sd * both[:, 0], sd * both[:, 1]).clamp(0, 1)


@corruption(
    budget="sd",
    unit="of the range, where the image is 0",
    extent=Extent(0, 10),
    presets=presets_of("low_dose"),
    summary="Noise of a CT image taken with fewer photons.",
    source="MedFM-Robust",
)
def low_dose(images: Images, rngs: Rngs, sd: Annotated[float, Ge(0), Le(10)]) -> Images:
    """Add Gaussian noise that grows with the root of 1 plus the brightness, and clip to [0, 1].

    It is white; that of a reconstruction from projections is not.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        sd: Standard deviation where an image is 0.
    """
    return (images + sd * (images + 1).sqrt() * _normal(images, rngs)).clamp(0, 1)


@corruption(
    budget="sigma",
    unit="of the logarithm",
    extent=Extent(0, 5),
    presets=presets_of("lognormal_speckle"),
    summary="Speckle of ultrasound and optical coherence tomography.",
    source="MedFM-Robust",
)
def lognormal_speckle(images: Images, rngs: Rngs, sigma: Annotated[float, Ge(0), Le(5)]) -> Images:
    """Multiply each pixel by a log-normal number of mean 1, the same in all channels; clip to [0, 1].

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        sigma: Standard deviation of the number's logarithm.
    """
    normal = drawn(rngs, lambda rng: rng.standard_normal((1, *images.shape[2:]), dtype=np.float32), images)
    return (images * (sigma * normal - sigma**2 / 2).exp()).clamp(0, 1)


def _normal(images: Images, rngs: Rngs) -> Images:
    """Standard normal numbers for every entry."""
    return drawn(rngs, lambda rng: rng.standard_normal(images.shape[1:], dtype=np.float32), images)

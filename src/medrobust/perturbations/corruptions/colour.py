"""Colours that are off: of a camera, or of a stain."""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from medrobust.perturbations.corruptions.draws import Rngs, drawn
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import Extent, corruption

Images = Float[Tensor, "n 3 height width"]

STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Red, green and blue that haematoxylin, eosin and DAB absorb (Ruifrok and Johnston 2001)."""

DARKEST = 1e-6


@corruption(
    budget="added",
    unit="of the saturation",
    extent=Extent(0, 1),
    dimensions=(2,),
    colour=True,
    presets=presets_of("saturate"),
    summary="Stronger colours.",
)
def saturate(images: Images, added: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Add to the saturation of HSV, at most up to 1, and keep hue and value.

    Grey has no hue, and like any library that calls it red, this one makes it red.

    Args:
        images: Images in [0, 1].
        added: What is added.
    """
    value, darkest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    chroma = value - darkest
    saturation = torch.where(chroma > 0, chroma / value.clamp_min(DARKEST**2), 0)
    wanted = (saturation + added).clamp_max(1)
    red = torch.tensor((0.0, 1.0, 1.0)).to(images).view(1, 3, 1, 1)
    away = torch.where(chroma > 0, (value - images) / chroma.clamp_min(DARKEST**2), red)
    return torch.where(wanted == saturation, images, value * (1 - wanted * away)).clamp(0, 1)


@corruption(
    budget="sigma",
    unit="of each stain, and optical density",
    extent=Extent(0, 2),
    dimensions=(2,),
    colour=True,
    presets=presets_of("stain_shift"),
    summary="Another laboratory's stain.",
    source="Tellez et al. 2018, Whole-slide mitosis detection in H&E breast histology",
)
def stain_shift(images: Images, rngs: Rngs, sigma: Annotated[float, Ge(0), Le(5)]) -> Images:
    """Multiply each of the three stains of an image by a random number, and add another.

    Stains are those of scikit-image's `rgb2hed`, in natural units of optical density, and may be negative
    here, so that nothing changes without a shift.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        sigma: Factors are drawn within it around 1, and additions within it around 0.
    """
    shifts = drawn(rngs, lambda rng: rng.uniform(-sigma, sigma, (2, 3)), images)
    return restained(images, 1 + shifts[:, 0], shifts[:, 1])


def restained(images: Images, factors: Float[Tensor, "n 3"], additions: Float[Tensor, "n 3"]) -> Images:
    """Images whose stains are multiplied and added to."""
    absorbed = torch.tensor(STAINS).to(images)
    density = -images.clamp_min(DARKEST).log()
    stains = torch.einsum("ncyx,cs->nsyx", density, torch.linalg.inv(absorbed))
    stains = stains * factors[:, :, None, None] + additions[:, :, None, None]
    made = (-torch.einsum("nsyx,sc->ncyx", stains, absorbed)).exp()
    return made.clamp(0, 1)

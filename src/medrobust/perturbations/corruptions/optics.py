"""What endoscopes, dermatoscopes and scanners of the retina see besides the tissue.

Sizes in pixels are those of an image whose shorter side has 224 pixels, and are scaled with it.
"""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from medrobust.perturbations.corruptions.blur import scale_of
from medrobust.perturbations.corruptions.draws import Rngs, drawn
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import Extent, corruption
from medrobust.perturbations.geometry import per_image

Images = Float[Tensor, "n c height width"]

LOSS = (0.1, 0.5, 0.5)
"""What blood takes from red, green and blue."""

HAIR = 0.1
"""How bright a hair is, relative to what lies under it."""

STROKE, FINER = 32, 4
"""Places along a hair that are joined, and how much finer the grid is that it is drawn on."""


@corruption(
    budget="strength",
    unit="of the brightest pixel",
    extent=Extent(0, 2),
    dimensions=(2,),
    presets=presets_of("specular_highlights"),
    summary="Highlights where light is reflected by a wet surface.",
    source="MedFM-Robust",
)
def specular_highlights(
    images: Images,
    rngs: Rngs,
    strength: Annotated[float, Ge(0), Le(2)],
    spots: Annotated[int, Ge(1), Le(100)] = 4,
    width: Annotated[float, Gt(0), Le(1)] = 0.05,
) -> Images:
    """Add white Gaussian spots at random places, and clip to [0, 1].

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        strength: Height of a spot, of which each has 0.8 to 1.2.
        spots: Their number.
        width: Standard deviation of a spot, of the shorter side.
    """
    high, wide = images.shape[2:]

    def light(rng: np.random.Generator) -> object:
        made = np.zeros((high, wide))
        for _ in range(spots):
            y, x = _from(rng, high, wide)
            made += rng.uniform(0.8, 1.2) * np.exp(-(y**2 + x**2) / (2 * (width * min(high, wide)) ** 2))
        return made[None]

    brightest = per_image(images.flatten(1).amax(1), images)
    return (images + strength * brightest * drawn(rngs, light, images)).clamp(0, 1)


@corruption(
    budget="share",
    unit="of the pixels",
    extent=Extent(0, 0.6),
    dimensions=(2,),
    colour=True,
    presets=presets_of("blood"),
    summary="Blood in the field of view of an endoscope.",
    source="MedFM-Robust",
)
def blood(images: Images, rngs: Rngs, share: Annotated[float, Ge(0), Le(0.6)]) -> Images:
    """Take green and blue, and a little red, from soft ellipses that cover a share of the image.

    Ellipses are laid until they cover the share; their semi-axes are an eighth to a twentieth of the height.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        share: What is covered. Up to 0.2 blood is as opaque as five times the share.
    """
    high, wide = images.shape[2:]

    def covered(rng: np.random.Generator) -> object:
        mask = np.zeros((high, wide))
        while (mask > 0).mean() < share:
            y, x = _from(rng, high, wide)
            turn, axes = rng.uniform(0, np.pi), rng.uniform(high / 20, high / 8, 2)
            along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
            mask = np.maximum(mask, 1 - (along / axes[0]) ** 2 - (across / axes[1]) ** 2)
        return mask[None]

    loss = torch.tensor(LOSS).to(images)[:, None, None]
    return images * (1 - min(5 * share, 1) * drawn(rngs, covered, images) * loss)


@corruption(
    budget="share",
    unit="of the pixels",
    extent=Extent(0, 0.3),
    dimensions=(2,),
    presets=presets_of("over_exposure"),
    summary="The light is too close to the tissue.",
    source="MedFM-Robust",
)
def over_exposure(images: Images, rngs: Rngs, share: Annotated[float, Ge(0), Le(0.3)]) -> Images:
    """Blend soft spots into the brightest value of each channel, until they cover a share of the image.

    A spot falls off as exp(-2 (d / r)^2) and covers what lies within r, a fifteenth to a sixth of the shorter
    side. Their centres lie in the middle half along each axis.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        share: What is covered. Up to 0.125 spots are as opaque as eight times the share.
    """
    high, wide = images.shape[2:]

    def light(rng: np.random.Generator) -> object:
        mask = np.zeros((high, wide))
        while (mask >= np.exp(-2)).mean() < share:
            radius = min(high, wide) * rng.uniform(1 / 15, 1 / 6)
            y, x = (np.arange(size) - size * rng.uniform(0.25, 0.75) for size in (high, wide))
            mask = np.maximum(mask, np.exp(-2 * np.hypot(y[:, None], x) ** 2 / radius**2))
        return mask[None]

    brightest = images.amax((2, 3), keepdim=True)
    return images + min(8 * share, 1) * drawn(rngs, light, images) * (brightest - images)


@corruption(
    budget="strokes",
    unit="hairs",
    dimensions=(2,),
    presets=presets_of("hair"),
    summary="Dark hairs on the skin.",
    source="MedFM-Robust",
)
def hair(
    images: Images,
    rngs: Rngs,
    strokes: Annotated[int, Ge(0), Le(200)],
    thickness: Annotated[float, Gt(0), Le(20)] = 2.0,
) -> Images:
    """Draw dark cubic Bezier curves, half as long as the shorter side at most, with soft edges.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        strokes: Number of hairs.
        thickness: Of a hair, in pixels.
    """
    high, wide = images.shape[2:]
    size = scale_of(images)
    t = np.linspace(0, 1, STROKE)[:, None]
    basis = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    width = max(round(FINER * thickness * size), 1)

    def cover(rng: np.random.Generator) -> object:
        mask = Image.new("L", (FINER * wide, FINER * high))
        for _ in range(strokes):
            start = rng.uniform(0, (wide, high))
            angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(50 * size, min(high, wide) / 2)
            points = start + np.linspace(0, length, 4)[:, None] * [np.cos(angle), np.sin(angle)]
            points[1:] += rng.normal(0, length / 8, (3, 2))
            line = (FINER * basis @ points).flatten().tolist()
            ImageDraw.Draw(mask).line(line, fill=255, width=width, joint="curve")
        return np.asarray(mask.resize((wide, high), Image.Resampling.BOX))[None] / 255

    mask = drawn(rngs, cover, images)
    return images * (1 - (1 - HAIR) * mask)


@corruption(
    budget="share",
    unit="of the width",
    extent=Extent(0, 0.5),
    dimensions=(2,),
    presets=presets_of("vessel_shadows"),
    summary="Shadows of vessels in optical coherence tomography.",
    source="MedFM-Robust",
)
def vessel_shadows(images: Images, rngs: Rngs, share: Annotated[float, Ge(0), Le(0.5)]) -> Images:
    """Make one to three bands of columns black, a sixth of their width softly at each side.

    Args:
        images: Images in [0, 1], light coming from above.
        rngs: One generator per image.
        share: Width of a band, of which each has 0.7 to 1.3, in widths of the image.
    """
    wide = images.shape[3]

    def factors(rng: np.random.Generator) -> object:
        light = np.ones(wide)
        for _ in range(rng.integers(1, 4)):
            width, centre = wide * share * rng.uniform(0.7, 1.3), rng.uniform(0, wide)
            inside = (width / 2 - np.abs(np.arange(wide) - centre)) / max(width / 6, 1e-6)
            light *= 1 - np.clip(inside, 0, 1)
        return light[None, None]

    return images * drawn(rngs, factors, images)


@corruption(
    budget="bands",
    unit="black bands",
    dimensions=(2,),
    presets=presets_of("blink"),
    summary="The patient blinks during a scan of the retina.",
    source="MedFM-Robust",
)
def blink(images: Images, rngs: Rngs, bands: Annotated[int, Ge(0), Le(50)]) -> Images:
    """Make bands of rows black, each a fiftieth to a twentieth of the height.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        bands: Number of bands; they may overlap.
    """
    high = images.shape[2]

    def open_eye(rng: np.random.Generator) -> object:
        seen = np.ones(high)
        for _ in range(bands):
            width = max(round(rng.uniform(high / 50, high / 20)), 1)
            start = rng.integers(0, high - width + 1)
            seen[start : start + width] = 0
        return seen[None, :, None]

    return images * drawn(rngs, open_eye, images)


def _from(rng: np.random.Generator, high: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances along both axes from a random point."""
    return np.arange(high)[:, None] - rng.uniform(0, high), np.arange(wide) - rng.uniform(0, wide)

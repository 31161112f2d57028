"""What lies over the image: a dark corner, writing, bubbles, ink, shadows and streaks.

Sizes in pixels are those of an image whose shorter side has 224 pixels, and are scaled with it.
"""

import string
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from medrobust.perturbations.corruptions.blur import SIDE, scale_of
from medrobust.perturbations.corruptions.draws import Rngs, drawn
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import Extent, corruption

Images = Float[Tensor, "n c height width"]

FEWEST_BUBBLES, SMALLEST_BUBBLE, RIM = 7, 3, 2
INSIDE, ON_RIM = 100 / 255, 130 / 255
"""How white a bubble is, and its rim."""

CAPITAL = 22.0
"""Height of OpenCV's letters at scale 1, in pixels."""

LETTER = 8
MARGIN = 10


@corruption(
    budget="radius",
    unit="of half the shorter side",
    extent=Extent(1.45, 0.05),
    dimensions=(2,),
    presets=presets_of("black_corner"),
    summary="The round field of view of a dermatoscope or a fundus camera.",
)
def black_corner(images: Images, radius: Annotated[float, Gt(0), Le(3)]) -> Images:
    """Make everything black outside of a disc about the centre.

    Args:
        images: Images in [0, 1].
        radius: Of the disc, in halves of the shorter side, rounded down to whole pixels.
    """
    high, wide = images.shape[2:]
    y, x = np.mgrid[:high, :wide]
    whole = int(min(high // 2, wide // 2, high - high // 2, wide - wide // 2) * radius)
    inside = (y - high // 2) ** 2 + (x - wide // 2) ** 2 <= whole**2
    return images * torch.from_numpy(inside).to(images)


@corruption(
    budget="words",
    unit="words at most",
    dimensions=(2,),
    presets=presets_of("characters"),
    summary="Small writing in the picture.",
)
def characters(
    images: Images,
    rngs: Rngs,
    words: Annotated[int, Ge(1), Le(100)],
    letters: Annotated[int, Ge(3), Le(26)] = 8,
    scale: Annotated[float, Gt(0), Le(5)] = 0.16,
) -> Images:
    """Write 1 to `words` words of 3 to `letters` random letters, each in a random colour at a random place.

    The letters are those that come with Pillow, as high as OpenCV's, with which MedMNIST-C writes. On images
    of another number of channels than three, each channel gets a random grey.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        words: Largest number of words.
        letters: Largest number of letters of a word.
        scale: Largest height of letters, in those of OpenCV at scale 1 (22 pixels); the smallest is 0.14.
    """
    return _each(images, rngs, lambda image, rng: _written(image, rng, words, letters, scale))


@corruption(
    budget="radius",
    unit="pixels at 224, at most",
    extent=Extent(3, 60),
    dimensions=(2,),
    presets=presets_of("bubbles"),
    summary="Air bubbles under the cover glass.",
)
def bubbles(
    images: Images,
    rngs: Rngs,
    radius: Annotated[float, Ge(3), Le(200)],
    number: Annotated[int, Ge(7), Le(1000)] = 15,
) -> Images:
    """Lay 7 to `number` half-transparent white discs with a whiter rim over the image, later ones on top.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        radius: Largest radius; the smallest is 3.
        number: Largest number of discs.
    """
    size = scale_of(images)

    def layer(rng: np.random.Generator) -> object:
        white = np.zeros(images.shape[2:])
        for _ in range(rng.integers(FEWEST_BUBBLES, number + 1)):
            reach = size * rng.integers(SMALLEST_BUBBLE, int(radius) + 1)
            distance = np.hypot(*_offsets(images, rng, reach))
            white[distance <= reach + RIM * size] = ON_RIM
            white[distance <= reach] = INSIDE
        return white[None]

    white = drawn(rngs, layer, images)
    return (images * (1 - white) + white).clamp(0, 1)


@corruption(
    budget="spots",
    unit="spots at most",
    dimensions=(2,),
    presets=presets_of("stain_deposit"),
    summary="Drops of stain on the slide.",
)
def stain_deposit(images: Images, rngs: Rngs, spots: Annotated[int, Ge(1), Le(100)]) -> Images:
    """Darken 1 to `spots` round spots with a wavy and soft outline.

    MedMNIST-C has photographs of ink; these outlines are drawn, so that only their number is the same.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        spots: Largest number of spots.
    """
    size = scale_of(images)

    def ink(rng: np.random.Generator) -> object:
        light = np.ones(images.shape[2:])
        for _ in range(rng.integers(1, spots + 1)):
            radius = size * rng.uniform(8, 20)
            y, x = _offsets(images, rng, radius)
            angle, outline = np.arctan2(y, x), np.full(light.shape, radius)
            for waves in (2, 3, 5):
                amplitude, phase = rng.uniform(0, 0.15), rng.uniform(0, 2 * np.pi)
                outline += radius * amplitude * np.cos(waves * angle + phase)
            light *= 1 - rng.uniform(0.7, 1) / (1 + np.exp((np.hypot(y, x) - outline) / size))
        return light[None]

    return images * drawn(rngs, ink, images)


@corruption(
    budget="strength",
    unit="brighter or darker at the metal",
    extent=Extent(0, 1),
    dimensions=(2,),
    presets=presets_of("metal_streaks"),
    summary="Streaks from a piece of metal in a CT image.",
    source="MedFM-Robust",
)
def metal_streaks(
    images: Images,
    rngs: Rngs,
    strength: Annotated[float, Ge(0), Le(1)],
    streaks: Annotated[int, Ge(2), Le(200)] = 20,
) -> Images:
    """Make rays from a random point of the inner half alternately brighter and darker; clip to [0, 1].

    The change falls linearly to nothing at a distance of half the shorter side. Rays are 2 pixels wide.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        strength: The change where rays begin, relative to the image.
        streaks: Number of rays.
    """
    half, width = min(images.shape[2:]) / 2, scale_of(images)

    def factors(rng: np.random.Generator) -> object:
        y, x = _offsets(images, rng, half / 2)
        distance, turn = np.hypot(y, x), rng.uniform(0, 2 * np.pi / streaks)
        place = (np.arctan2(y, x) - turn) * streaks / (2 * np.pi)
        off = np.abs(place - np.round(place)) * 2 * np.pi / streaks * distance
        sign = np.where(np.round(place) % 2 == 0, 1, -1)
        return (1 + strength * sign * np.clip(1 - distance / half, 0, 1) * (off <= width))[None]

    return (images * drawn(rngs, factors, images)).clamp(0, 1)


@corruption(
    budget="strength",
    unit="darker at the bottom",
    extent=Extent(0, 1),
    dimensions=(2,),
    presets=presets_of("acoustic_shadow"),
    summary="The shadow of something that lets no ultrasound pass.",
    source="MedFM-Robust",
)
def acoustic_shadow(images: Images, rngs: Rngs, strength: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Darken a band that begins in the second quarter of the depth, and gets darker and wider below.

    Args:
        images: Images in [0, 1], ultrasound coming from above.
        rngs: One generator per image.
        strength: How dark it gets far below, and how wide: 0.08 + 0.15 of it, in widths of the image.
    """
    high, wide = images.shape[2:]

    def factors(rng: np.random.Generator) -> object:
        start, centre = rng.uniform(high / 4, high / 2), rng.uniform(0.2, 0.8) * wide
        depth = np.clip((np.arange(high)[:, None] - start) / max(high - start, 1), 0, 1)
        width = wide * (0.08 + 0.15 * strength) * (1 + 0.3 * depth)
        inside = np.clip((width / 2 - np.abs(np.arange(wide) - centre)) / (width / 6), 0, 1)
        return (1 - strength * (1 - np.exp(-3 * depth)) * inside)[None]

    return images * drawn(rngs, factors, images)


@corruption(
    budget="strength",
    unit="of the interface",
    extent=Extent(0, 1),
    dimensions=(2,),
    presets=presets_of("reverberation"),
    summary="Echoes of an interface that lies across the beam of ultrasound.",
    source="MedFM-Robust",
)
def reverberation(images: Images, rngs: Rngs, strength: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Repeat a row of the upper third below itself, ever fainter and as a blurred band; clip to [0, 1].

    Echoes are 0.8 of the row's depth and 20 `strength` pixels apart, and cover a half to three quarters of
    the width. There are 3, and 10 more for each unit of `strength`; each has 0.6 - 0.15 `strength` of the one
    above it.

    Args:
        images: Images in [0, 1], ultrasound coming from above.
        rngs: One generator per image.
        strength: Brightness of the first echo, relative to the row.
    """
    high, wide = images.shape[2:]
    size, number = scale_of(images), int(3 + 10 * strength)
    thickness, decay = (3 + 8 * strength) * size, 0.6 - 0.15 * strength

    def echoes(rng: np.random.Generator) -> object:
        row, width = int(rng.uniform(high / 6, high / 3)), wide * rng.uniform(0.5, 0.75)
        place = np.arange(wide) - rng.uniform(0, wide - width)
        apart, below = 0.8 * row + 20 * strength * size, np.arange(high)[:, None] - row
        bands = sum(
            decay**each * np.exp(-((2 * (below - (each + 1) * apart) / thickness) ** 2) / 2)
            for each in range(number)
        )
        interface = np.broadcast_to(below == 0, (high, wide))
        return np.stack([bands * ((place >= 0) & (place < width)), interface])

    made = drawn(rngs, echoes, images)
    bands, interface = made[:, :1], made[:, 1:]
    return (images + strength * bands * (images * interface).sum(2, keepdim=True)).clamp(0, 1)


def _each(images: Images, rngs: Rngs, change: Callable[[np.ndarray, np.random.Generator], None]) -> Images:
    """Images that are changed in place one by one."""
    made = images.cpu().numpy().copy()
    for image, rng in zip(made, rngs, strict=True):
        change(image, rng)
    return torch.from_numpy(made).to(images.device).clamp(0, 1)


def _written(image: np.ndarray, rng: np.random.Generator, words: int, letters: int, scale: float) -> None:
    channels, high, wide = image.shape
    size = min(high, wide) / SIDE
    for _ in range(rng.integers(1, words + 1)):
        count = int(rng.integers(3, letters + 1))
        text = "".join(rng.choice(list(string.ascii_lowercase), count))
        # Capitals are about 0.7 of the size of a font.
        height = CAPITAL * rng.integers(14, max(int(scale * 100), 14) + 1) / 100 / 0.7 * size
        font = ImageFont.load_default(max(height, 1.0))
        left = rng.uniform(MARGIN * size, max(wide - LETTER * count * size, MARGIN * size))
        base = rng.uniform(MARGIN * size, max(high - MARGIN * size, MARGIN * size))
        colour = rng.random((channels, 1, 1), dtype=np.float32)
        mask = Image.new("L", (wide, high))
        ImageDraw.Draw(mask).text((left, base), text, fill=255, font=font, anchor="ls")
        ink = np.asarray(mask, dtype=np.float32) / 255
        image += ink * (colour - image)


def _offsets(
    images: Images, rng: np.random.Generator, margin: float
) -> tuple[Float[np.ndarray, "height 1"], Float[np.ndarray, " width"]]:
    """Distances along both axes from a random point that is at least `margin` from all borders."""
    high, wide = images.shape[2:]
    y, x = (rng.uniform(min(margin, size / 2), max(size - margin, size / 2)) for size in (high, wide))
    return np.arange(high)[:, None] - y, np.arange(wide) - x

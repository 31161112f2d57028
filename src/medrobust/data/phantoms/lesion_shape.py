"""Outlines of phantom lesions, and coordinates inside them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medrobust.data.phantoms.lesion_texture import Map, Points, fractal, grid

ANGLES = np.linspace(-np.pi, np.pi, 257)


class Form(NamedTuple):
    """How the outlines of a class are drawn: ranges of uniform draws.

    Attributes:
        radius: Mean radius as a fraction of the image width.
        irregularity: Relative size of the bumps of the contour.
        softness: Width of the border as a fraction of the image width.
        roundness: Ratio of the axes, at most 1.
    """

    radius: tuple[float, float]
    irregularity: float
    softness: tuple[float, float]
    roundness: tuple[float, float] = (0.75, 1.0)


@dataclass(frozen=True)
class Outline:
    """A drawn outline.

    Attributes:
        inside: Membership of every pixel in [0, 1], soft at the border.
        depth: 0 at the centre, 1 at the border, more outside.
        angle: Direction of every pixel from the lesion's centre, in (-pi, pi].
        centre: x and y of the centre, as fractions of the image width.
        contour: Radius of the border in each direction of `ANGLES`.
    """

    inside: Map
    depth: Map
    angle: Map
    centre: Float[np.ndarray, "2"]
    contour: Float[np.ndarray, "257"]

    @property
    def n(self) -> int:
        """Pixels along each side."""
        return int(self.inside.shape[0])

    def at(self, angle: Float[np.ndarray, " k"], depth: Float[np.ndarray, " k"]) -> Points:
        """Positions in given directions, `depth` times as far from the centre as the border is."""
        radius = depth * np.interp(np.angle(np.exp(1j * angle)), ANGLES, self.contour)
        return np.asarray(self.centre + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))

    def scatter(
        self, rng: np.random.Generator, count: int, *, inner: float = 0.0, outer: float = 0.9
    ) -> Points:
        """`count` positions, evenly over the ring between the depths `inner` and `outer`."""
        depth = np.sqrt(rng.uniform(inner**2, outer**2, size=count))
        return self.at(rng.uniform(-np.pi, np.pi, size=count), depth)


def draw_outline(rng: np.random.Generator, n: int, form: Form) -> Outline:
    """Draw an outline: an ellipse whose radius is modulated by harmonics that fall off with their order."""
    orders = np.arange(2, 10)
    amplitude = rng.normal(0, form.irregularity * 1.3 / orders**1.5)
    phase = rng.uniform(0, 2 * np.pi, size=orders.size)
    bumps = np.sum(amplitude * np.cos(ANGLES[:, None] * orders + phase), axis=1)
    roundness, turn = rng.uniform(*form.roundness), rng.uniform(0, np.pi)
    ellipse = 1 / np.sqrt(np.cos(ANGLES - turn) ** 2 * roundness + np.sin(ANGLES - turn) ** 2 / roundness)
    contour = rng.uniform(*form.radius) * ellipse * np.clip(1 + bumps, 0.35, 1.6)
    centre = rng.normal(0, 0.025, size=2)
    x, y = grid(n)
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    # A little noise at every scale makes the border ragged; harmonics alone look like a drawing.
    ragged = 1 + np.float32(0.12 * form.irregularity) * fractal(rng, n)
    border = np.interp(angle, ANGLES, contour).astype(np.float32) * ragged
    softness = np.float32(rng.uniform(*form.softness))
    inside = 1 / (1 + np.exp(np.clip((distance - border) * 4 / softness, -30, 30)))
    return Outline(inside.astype(np.float32), distance / border, angle, centre, contour)

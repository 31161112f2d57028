"""Skin as a camera sees it: chromophores absorb, what lies over them scatters.

Colours are mixed in optical density, `-ln(intensity)`, where melanin and blood add up; painting in RGB gives
muddy mixtures. The absorption of both pigments per channel is relative (textbook values); amounts are set so
that skin and lesions have the median colours measured on public dermatoscopic images.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from medrobust.data.phantoms.lesion_texture import Map, fractal, grid, ripples

MELANIN = np.array([0.6, 1.0, 1.5], np.float32)
BLOOD = np.array([0.25, 1.0, 0.85], np.float32)
Colour = tuple[int, int, int]
"""Red, green and blue, each in [0, 255]."""


@dataclass
class Layers:
    """What a picture of `n n` pixels is made of.

    Attributes:
        n: Pixels along each side.
        melanin: Brown pigment, 0 and up.
        blood: Red pigment, 0 and up.
        dark: Absorption alike in all channels: crusts, hairs, shadows.
        seen: Share of the light from the pigments that passes what covers them, in [0, 1].
        veil: Light that the covering layers scatter, in [0, 1].
    """

    n: int
    melanin: Map = field(init=False)
    blood: Map = field(init=False)
    dark: Map = field(init=False)
    seen: Map = field(init=False)
    veil: Float32[np.ndarray, "3 n n"] = field(init=False)

    def __post_init__(self) -> None:
        self.melanin, self.blood, self.dark = (np.zeros((self.n, self.n), np.float32) for _ in range(3))
        self.seen = np.ones((self.n, self.n), np.float32)
        self.veil = np.zeros((3, self.n, self.n), np.float32)

    def cover(self, amount: Map, colour: Colour) -> None:
        """Lay scattering matter of `colour` over everything so far; `amount` in [0, 1] is its opacity."""
        amount = np.clip(amount, 0, 1)
        self.seen *= 1 - amount
        self.veil *= 1 - amount
        self.veil += amount * (np.asarray(colour, np.float32) / 255)[:, None, None]

    def add(self, other: "Layers", share: float = 1.0) -> None:
        """Add the pigments of `other` and lay its covers over these, both weakened to `share`."""
        self.melanin += np.float32(share) * other.melanin
        self.blood += np.float32(share) * other.blood
        self.dark += np.float32(share) * other.dark
        passed = 1 - np.float32(share) * (1 - other.seen)
        self.seen *= passed
        self.veil = self.veil * passed + np.float32(share) * other.veil

    def mottle(self, rng: np.random.Generator) -> None:
        """Make the pigments uneven: no living tissue is of one colour."""
        self.melanin *= np.maximum(0, 1 + 0.12 * fractal(rng, self.n))
        self.blood *= np.maximum(0, 1 + 0.12 * fractal(rng, self.n))

    def light(self) -> Float32[np.ndarray, "3 n n"]:
        """Intensities in [0, 1]."""
        density = MELANIN[:, None, None] * self.melanin + BLOOD[:, None, None] * self.blood + self.dark
        return np.asarray(np.exp(-density) * self.seen + self.veil, np.float32)


@dataclass(frozen=True)
class Skin:
    """The skin of one patient: pigments, and how uneven they are."""

    melanin: float
    blood: float
    furrows: float
    mottling: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Skin":
        """A skin between very light and tanned (individual typology angle about 55 to -10 degrees)."""
        return cls(
            melanin=rng.uniform(0.04, 0.3),
            blood=rng.uniform(0.08, 0.24),
            furrows=rng.uniform(0.01, 0.035),
            mottling=rng.uniform(0.01, 0.04),
        )

    def paint(self, rng: np.random.Generator, layers: Layers) -> None:
        """Paint the skin with its clouds of pigment, its relief and a tilted light."""
        n = layers.n
        x, y = grid(n)
        layers.melanin += np.float32(self.melanin) + np.float32(self.mottling) * fractal(rng, n)
        layers.blood += np.float32(self.blood) + np.float32(self.mottling) * fractal(rng, n)
        np.maximum(layers.melanin, 0, out=layers.melanin)
        np.maximum(layers.blood, 0, out=layers.blood)
        # The zero crossings of ripples are a net of fine lines, as the furrows of skin are.
        net = np.exp(-np.abs(ripples(rng, n, 0.05)) / 0.25)
        tilt = rng.normal(0, 0.08, size=2).astype(np.float32)
        layers.dark += 0.04 + np.float32(self.furrows) * net + tilt[0] * x + tilt[1] * y

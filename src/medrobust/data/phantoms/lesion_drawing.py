"""What phantom lesions are drawn with: random textures, marks, outlines, and layers of pigment.

Lengths and positions are fractions of the image width and the origin is the centre of the image, so that a
picture does not depend on its resolution, apart from its random fields. Maps are float32 of shape `n n`, in
[0, 1] unless said otherwise.

Colours are mixed in optical density, `-ln(intensity)`, where melanin and blood add up; mixed in RGB they turn
muddy. The relative absorption of the pigments per channel is from textbooks; their amounts give skin and
lesions the median colours of public dermatoscopic images.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

Map = Float32[np.ndarray, "n n"]
Point = Float[np.ndarray, "1 2"]
Points = Float[np.ndarray, "k 2"]


class Stroke(NamedTuple):
    """A line through `points` (x, y), `width` wide."""

    points: Points
    width: float


def grid(n: int) -> tuple[Map, Map]:
    """Coordinates x and y of every pixel's centre, in (-0.5, 0.5)."""
    axis = ((np.arange(n, dtype=np.float32) + 0.5) / n - 0.5).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def smoothstep(values: Map, low: float, high: float) -> Map:
    """0 below `low`, 1 above `high`, smooth between; a falling step if `low > high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def fractal(rng: np.random.Generator, n: int, *, hurst: float = 0.6) -> Map:
    """Fractional Brownian noise of zero mean and unit variance: cloudy, with detail at every scale."""
    return _coloured(rng, n, lambda frequency: np.maximum(frequency, 1.0) ** -(hurst + 1))


def ripples(rng: np.random.Generator, n: int, wavelength: float, *, spread: float = 0.2) -> Map:
    """Noise of one wavelength in all directions, zero mean, unit variance: ridges and furrows."""
    centre = 1 / wavelength
    return _coloured(rng, n, lambda frequency: np.exp(-(((frequency - centre) / (spread * centre)) ** 2)))


def _coloured(rng: np.random.Generator, n: int, amplitude: Callable[[Map], Map]) -> Map:
    """White noise with an amplitude per spatial frequency (cycles per image width)."""
    rows, columns = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)[None]
    frequency = np.hypot(rows, columns).astype(np.float32)
    white = rng.standard_normal((2, *frequency.shape), dtype=np.float32)
    spectrum = (white[0] + 1j * white[1]) * amplitude(frequency)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(n, n)).astype(np.float32)
    return np.asarray(noise / noise.std())


def honeycomb(rng: np.random.Generator, n: int, pitch: float, *, jitter: float = 0.15) -> Map:
    """Lines around holes `pitch` apart: a pigment network, irregular with a large `jitter`."""
    x, y = grid(n)
    x = x + np.float32(jitter * pitch) * fractal(rng, n)
    y = y + np.float32(jitter * pitch) * fractal(rng, n)
    angles = rng.uniform(0, np.pi) + np.arange(3) * np.pi / 3
    wave = 4 * np.pi / (np.sqrt(3) * pitch)
    waves = sum(np.cos(np.float32(wave * np.cos(a)) * x + np.float32(wave * np.sin(a)) * y) for a in angles)
    return smoothstep(np.asarray(waves, np.float32), 0.4, -1.0)


def discs(
    n: int, centres: Points, radii: Float[np.ndarray, " k"], *, blur: float = 0.002, flat: float = 1.0
) -> Map:
    """Filled discs (ellipses of height `flat` times their width) with edges `blur` wide."""

    def draw(canvas: ImageDraw.ImageDraw) -> None:
        for (x, y), radius in zip((centres + 0.5) * n - 0.5, np.asarray(radii) * n, strict=True):
            canvas.ellipse((x - radius, y - radius * flat, x + radius, y + radius * flat), fill=255)

    return _drawn(n, draw, blur)


def strokes(n: int, lines: Iterable[Stroke], *, blur: float = 0.002) -> Map:
    """Lines with edges `blur` wide."""

    def draw(canvas: ImageDraw.ImageDraw) -> None:
        for line in lines:
            path = [(float(x), float(y)) for x, y in (line.points + 0.5) * n - 0.5]
            canvas.line(path, fill=255, width=max(1, round(line.width * n)), joint="curve")

    return _drawn(n, draw, blur)


def _drawn(n: int, draw: Callable[[ImageDraw.ImageDraw], None], blur: float) -> Map:
    image = Image.new("L", (n, n))
    draw(ImageDraw.Draw(image))
    drawn = np.asarray(image, np.float32) / 255
    return np.asarray(gaussian_filter(drawn, blur * n, truncate=3.0), np.float32)


def curve(start: Point, bend: Point, end: Point, steps: int = 12) -> Points:
    """Points along a quadratic Bezier curve from `start` to `end`, pulled towards `bend`."""
    t = np.linspace(0, 1, steps)[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end)


def branches(
    rng: np.random.Generator, start: Point, heading: float, length: float, width: float, *, levels: int = 3
) -> list[Stroke]:
    """A tree of vessels that thins as it branches, beginning at `start`."""
    direction = np.array([[np.cos(heading), np.sin(heading)]])
    sideways = direction[:, ::-1] * [[-1, 1]]
    end = start + length * direction
    bend = start + 0.5 * length * direction + rng.normal(0, 0.2 * length) * sideways
    trunk = Stroke(curve(start, bend, end), width)
    if levels == 0:
        return [trunk]
    twigs = [
        branches(rng, end, heading + turn, length * rng.uniform(0.6, 0.9), width * 0.7, levels=levels - 1)
        for turn in rng.uniform(0.25, 0.8, size=2) * [-1, 1]
    ]
    return [trunk, *(stroke for twig in twigs for stroke in twig)]


ANGLES = np.linspace(-np.pi, np.pi, 257)


class Form(NamedTuple):
    """How the outlines of a class are drawn: ranges of uniform draws."""

    radius: tuple[float, float]  # mean radius
    irregularity: float  # relative size of the bumps of the contour
    softness: tuple[float, float]  # width of the border
    roundness: tuple[float, float] = (0.75, 1.0)  # ratio of the axes, at most 1


@dataclass(frozen=True)
class Outline:
    """A drawn outline."""

    inside: Map  # membership of every pixel, soft at the border
    depth: Map  # 0 at the centre, 1 at the border, more outside
    angle: Map  # direction of every pixel from the lesion's centre, in (-pi, pi]
    centre: Float[np.ndarray, "2"]  # x and y of the centre
    contour: Float[np.ndarray, "257"]  # radius of the border in each direction of `ANGLES`

    @property
    def n(self) -> int:
        """Pixels along each side."""
        return int(self.inside.shape[0])

    def at(self, angle: Float[np.ndarray, " k"], depth: Float[np.ndarray, " k"]) -> Points:
        """Positions in given directions, `depth` times as far from the centre as the border."""
        radius = depth * np.interp(np.angle(np.exp(1j * angle)), ANGLES, self.contour)
        return np.asarray(self.centre + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))

    def scatter(
        self, rng: np.random.Generator, count: int, *, inner: float = 0.0, outer: float = 0.9
    ) -> Points:
        """`count` positions, uniform over the ring between the depths `inner` and `outer`."""
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


MELANIN = np.array([0.6, 1.0, 1.5], np.float32)
BLOOD = np.array([0.25, 1.0, 0.85], np.float32)

Colour = tuple[int, int, int]
"""Red, green and blue, each in [0, 255]."""


@dataclass
class Layers:
    """What a picture of `n n` pixels is made of."""

    n: int
    melanin: Map = field(init=False)  # brown pigment, 0 and up
    blood: Map = field(init=False)  # red pigment, 0 and up
    dark: Map = field(init=False)  # absorption alike in all channels: crusts, hairs, shadows
    seen: Map = field(init=False)  # fraction of the pigments' light that passes what covers them
    veil: Float32[np.ndarray, "3 n n"] = field(init=False)  # light that the covers scatter, in [0, 1]

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

    def add(self, other: "Layers", fraction: float = 1.0) -> None:
        """Add the pigments of `other` and lay its covers over these, both weakened to `fraction`."""
        weight = np.float32(fraction)
        self.melanin += weight * other.melanin
        self.blood += weight * other.blood
        self.dark += weight * other.dark
        passed = 1 - weight * (1 - other.seen)
        self.seen *= passed
        self.veil = self.veil * passed + weight * other.veil

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

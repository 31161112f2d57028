"""Random textures and drawn marks, the raw material of the phantom lesions.

Lengths and positions are fractions of the image width, the centre of the image is the origin, so that a
picture does not depend on the resolution it is drawn at (apart from its random fields). All maps are float32
of shape `n n`.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

Map = Float32[np.ndarray, "n n"]
Point = Float[np.ndarray, "1 2"]
Points = Float[np.ndarray, "k 2"]


class Stroke(NamedTuple):
    """A line through `points` (x, y), `width` wide; both as fractions of the image width."""

    points: Points
    width: float


def grid(n: int) -> tuple[Map, Map]:
    """Coordinates x and y of every pixel's centre, in (-0.5, 0.5)."""
    axis = ((np.arange(n, dtype=np.float32) + 0.5) / n - 0.5).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def smoothstep(values: Map, low: float, high: float) -> Map:
    """0 below `low`, 1 above `high`, smooth between; a falling step where `low > high`."""
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
    """White noise given an amplitude per spatial frequency (cycles per image width)."""
    frequency = np.hypot(np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)[None]).astype(
        np.float32
    )
    white = rng.standard_normal((2, *frequency.shape), dtype=np.float32)
    spectrum = (white[0] + 1j * white[1]) * amplitude(frequency)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(n, n)).astype(np.float32)
    return np.asarray(noise / noise.std())


def honeycomb(rng: np.random.Generator, n: int, pitch: float, *, jitter: float = 0.15) -> Map:
    """Lines around holes `pitch` apart, in [0, 1]: a pigment network; irregular with a large `jitter`."""
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
    """Filled discs (ellipses of height `flat` times their width), in [0, 1], with edges `blur` wide."""

    def draw(canvas: ImageDraw.ImageDraw) -> None:
        for (x, y), radius in zip(_pixels(n, centres), np.asarray(radii) * n, strict=True):
            canvas.ellipse((x - radius, y - radius * flat, x + radius, y + radius * flat), fill=255)

    return _drawn(n, draw, blur)


def strokes(n: int, lines: Iterable[Stroke], *, blur: float = 0.002) -> Map:
    """Lines, in [0, 1], with edges `blur` wide."""

    def draw(canvas: ImageDraw.ImageDraw) -> None:
        for line in lines:
            path = [(float(x), float(y)) for x, y in _pixels(n, line.points)]
            canvas.line(path, fill=255, width=max(1, round(line.width * n)), joint="curve")

    return _drawn(n, draw, blur)


def _pixels(n: int, points: Points) -> Points:
    return (np.asarray(points) + 0.5) * n - 0.5


def _drawn(n: int, draw: Callable[[ImageDraw.ImageDraw], None], blur: float) -> Map:
    image = Image.new("L", (n, n))
    draw(ImageDraw.Draw(image))
    drawn = np.asarray(image, np.float32) / 255
    return np.asarray(gaussian_filter(drawn, blur * n, truncate=3.0), np.float32)


def curve(start: Point, bend: Point, end: Point, steps: int = 12) -> Points:
    """Points along a quadratic Bezier curve from `start` to `end`, drawn towards `bend`."""
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

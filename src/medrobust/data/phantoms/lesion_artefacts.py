"""What a photograph of skin shows besides the lesion: hairs, a ruler, gel bubbles, ink, the camera itself."""

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from medrobust.data.phantoms.lesion_skin import Layers
from medrobust.data.phantoms.lesion_texture import Map, Stroke, curve, discs, grid, smoothstep, strokes

INK = (92, 70, 160)


@dataclass(frozen=True)
class Circumstances:
    """What the photographs of one patient share: the camera, its light, and the hair.

    Attributes:
        gains: White balance, a factor per channel.
        vignette: Share of the light that is lost at the corners.
        tube: True where the round field of view of a dermatoscope shows.
        flashes: Mean number of reflections of a ring flash.
        hairs: Mean number of hairs; 0 for most patients.
        hair_density: Optical density of a hair.
        blur: Standard deviation of the focus blur, as a fraction of the image width.
        noise: Standard deviation of the sensor noise, on a scale of [0, 1].
    """

    gains: Float32[np.ndarray, "3"]
    vignette: float
    tube: bool
    flashes: float
    hairs: float
    hair_density: float
    blur: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Circumstances":
        """Circumstances of a random patient."""
        return cls(
            gains=rng.uniform(0.95, 1.05, size=3).astype(np.float32),
            vignette=rng.uniform(0.02, 0.2),
            tube=bool(rng.random() < 0.2),
            flashes=rng.choice([0.0, 4.0], p=[0.7, 0.3]),
            hairs=rng.choice([0.0, rng.uniform(3, 18)], p=[0.7, 0.3]),
            hair_density=rng.uniform(0.5, 1.2),
            blur=rng.uniform(0.0, 0.004),
            noise=rng.uniform(0.004, 0.01),
        )


def add_artefacts(rng: np.random.Generator, circumstances: Circumstances, layers: Layers) -> None:
    """Lay what is on the skin over it: ink, bubbles, hairs, reflections, a ruler."""
    n = layers.n
    if rng.random() < 0.05:
        layers.cover(_pen_mark(rng, n) * np.float32(rng.uniform(0.4, 0.8)), INK)
    if rng.random() < 0.12:
        count = int(rng.integers(2, 8))
        bubbles, radii = rng.uniform(-0.48, 0.48, size=(count, 2)), rng.uniform(0.01, 0.03, size=count)
        rings = np.clip(discs(n, bubbles, radii) - discs(n, bubbles, radii * 0.75), 0, 1)
        layers.cover(rings * 0.35, (246, 240, 236))
    hairs = strokes(n, _hairs(rng, int(rng.poisson(circumstances.hairs))), blur=0.0015)
    layers.dark += hairs * np.float32(circumstances.hair_density)
    flashes = int(rng.poisson(circumstances.flashes))
    spots = discs(n, rng.uniform(-0.4, 0.4, size=(flashes, 2)), np.full(flashes, 0.006), blur=0.004)
    layers.cover(spots * 0.8, (255, 253, 250))
    if rng.random() < 0.08:
        layers.dark += strokes(n, _ruler(rng), blur=0.001)


def photograph(
    rng: np.random.Generator, circumstances: Circumstances, light: Float32[np.ndarray, "3 n n"]
) -> UInt8[np.ndarray, "3 size size"]:
    """Take the picture: optics, reduction to half the size, sensor, JPEG compression.

    Args:
        rng: Randomness of this one image.
        circumstances: Camera and illumination.
        light: Intensities in [0, 1] at twice the resolution of the picture.

    Returns:
        The picture, 8 bits per channel.
    """
    n = light.shape[1]
    if circumstances.blur * n > 0.3:
        light = gaussian_filter(light, (0, circumstances.blur * n, circumstances.blur * n), truncate=3.0)
    light = (
        light * (circumstances.gains * rng.uniform(0.97, 1.03))[:, None, None] * _falloff(circumstances, n)
    )
    small = light.reshape(3, n // 2, 2, n // 2, 2).mean(axis=(2, 4))
    noisy = small + circumstances.noise * rng.standard_normal(small.shape, dtype=np.float32)
    pixels = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    return _through_jpeg(pixels, quality=int(rng.integers(75, 96)))


def _falloff(circumstances: Circumstances, n: int) -> Map:
    x, y = grid(n)
    radius = np.hypot(x, y)
    light = 1 - np.float32(circumstances.vignette) * 2 * radius**2
    if circumstances.tube:
        light *= 0.03 + 0.97 * smoothstep(radius, 0.62, 0.56)
    return np.asarray(light, np.float32)


def _through_jpeg(pixels: UInt8[np.ndarray, "3 size size"], quality: int) -> UInt8[np.ndarray, "3 size size"]:
    """Compress and decompress. Chroma stays at full resolution: these pictures are small."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(
        file, "JPEG", quality=quality, subsampling=0
    )
    with Image.open(file) as image:
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _hairs(rng: np.random.Generator, count: int) -> list[Stroke]:
    """Bent hairs that lie roughly in one direction."""
    lie = rng.uniform(0, np.pi)
    hairs = []
    for _ in range(count):
        angle, length = lie + rng.normal(0, 0.4), rng.uniform(0.3, 0.9)
        middle = rng.uniform(-0.5, 0.5, size=(1, 2))
        half = 0.5 * length * np.array([[np.cos(angle), np.sin(angle)]])
        bend = middle + rng.normal(0, 0.1, size=(1, 2))
        hairs.append(Stroke(curve(middle - half, bend, middle + half), rng.uniform(0.004, 0.009)))
    return hairs


def _ruler(rng: np.random.Generator) -> list[Stroke]:
    """Ticks along one side of the picture, every fifth longer."""
    edge, pitch = rng.uniform(0.4, 0.47), rng.uniform(0.03, 0.05)
    places = np.arange(-0.5, 0.5, pitch)
    ticks = [np.array([[x, edge], [x, edge - (0.05 if i % 5 == 0 else 0.025)]]) for i, x in enumerate(places)]
    turned, mirrored = rng.random() < 0.5, rng.choice([-1, 1])
    return [Stroke(mirrored * (progress[:, ::-1] if turned else progress), 0.005) for progress in ticks]


def _pen_mark(rng: np.random.Generator, n: int) -> Map:
    """A stroke of a surgical marker near a corner."""
    corner = rng.choice([-1, 1], size=(1, 2)) * 0.46
    reach = rng.uniform(0.15, 0.3, size=(1, 2)) * -np.sign(corner)
    path = curve(corner + reach * [[1, 0]], corner * 0.9, corner + reach * [[0, 1]])
    return strokes(n, [Stroke(path, 0.03)], blur=0.006)

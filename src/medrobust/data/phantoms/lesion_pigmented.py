"""How phantom lesions of the mostly brown classes look.

Each painter adds a lesion's pigments and covers to `Layers` of its own. A feature has a probability and a
random strength, so that classes overlap. Lengths are fractions of the image width.
"""

import numpy as np

from medrobust.data.phantoms.lesion_shape import Outline
from medrobust.data.phantoms.lesion_skin import Layers
from medrobust.data.phantoms.lesion_texture import (
    Map,
    Stroke,
    discs,
    fractal,
    honeycomb,
    ripples,
    smoothstep,
    strokes,
)

BLUE_GREY = (118, 130, 152)
IVORY = (238, 226, 206)
SCAR = (236, 208, 204)


def nevus(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """Symmetric, evenly brown, with a regular network, regular globules, or neither."""
    n = form.n
    body = rng.uniform(0.3, 0.65)
    layers.melanin += form.inside * np.float32(body)
    layers.melanin += form.inside * smoothstep(form.depth, 0.8, 0.1) * np.float32(rng.uniform(0, 0.3))
    layers.blood += form.inside * np.float32(rng.uniform(0.08, 0.2))
    pattern = rng.choice(["network", "globules", "even"], p=[0.5, 0.25, 0.25])
    if pattern == "network":
        lines = honeycomb(rng, n, rng.uniform(0.05, 0.07), jitter=rng.uniform(0.15, 0.3))
        fading = smoothstep(form.depth, 1.1, 0.6)
        layers.melanin += form.inside * (lines - 0.4) * fading * np.float32(rng.uniform(0.3, 0.6))
    elif pattern == "globules":
        count = int(rng.integers(15, 40))
        globules = discs(n, form.scatter(rng, count, outer=0.95), rng.uniform(0.012, 0.02, size=count))
        layers.melanin += form.inside * globules * np.float32(rng.uniform(0.3, 0.6))


def melanoma(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """Asymmetric, light brown to black, with a blue-white veil, an irregular network, streaks."""
    n = form.n
    # A region is one side of a wavy line through the lesion: the usual cause of its asymmetry.
    layers.melanin += form.inside * np.float32(rng.uniform(0.15, 0.4))
    for strength in rng.uniform(0.3, 0.8, size=int(rng.integers(1, 3))):
        side = np.cos(form.angle - np.float32(rng.uniform(-np.pi, np.pi))) * form.depth + 0.35 * fractal(
            rng, n
        )
        layers.melanin += form.inside * smoothstep(side, 0.0, 0.35) * np.float32(strength)
    blotch = smoothstep(fractal(rng, n), 0.5, 1.0)
    layers.melanin += form.inside * blotch * np.float32(rng.uniform(0.3, 0.9))
    layers.blood += form.inside * smoothstep(fractal(rng, n), 0.4, 1.2) * np.float32(rng.uniform(0.1, 0.5))
    if rng.random() < 0.5:
        lines = honeycomb(rng, n, rng.uniform(0.06, 0.09), jitter=0.5)
        layers.melanin += form.inside * (lines - 0.3) * np.float32(rng.uniform(0.3, 0.7))
    if rng.random() < 0.45:
        layers.melanin += _pseudopods(rng, form) * np.float32(rng.uniform(0.8, 1.4))
    if rng.random() < 0.7:
        patch = _patch(rng, form, rng.uniform(0.3, 0.6))
        layers.cover(patch * np.float32(rng.uniform(0.45, 0.75)), BLUE_GREY)
    if rng.random() < 0.3:
        layers.cover(_patch(rng, form, rng.uniform(0.2, 0.4)) * 0.6, SCAR)


def seborrhoeic_keratosis(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """Sharp border, yellow-brown to black; white cysts, dark comedo-like openings, brain-like ridges."""
    n = form.n
    layers.melanin += form.inside * np.float32(rng.uniform(0.25, 0.8))
    layers.cover(form.inside * np.float32(rng.uniform(0.2, 0.4)), (186, 158, 100))
    if rng.random() < 0.6:
        ridges = ripples(rng, n, rng.uniform(0.07, 0.1))
        layers.melanin += form.inside * np.clip(ridges, -1.2, 1.2) * np.float32(rng.uniform(0.1, 0.22))
    if rng.random() < 0.85:
        count = int(rng.integers(8, 24))
        openings = discs(n, form.scatter(rng, count), rng.uniform(0.01, 0.026, size=count), flat=0.8)
        layers.melanin += form.inside * openings * np.float32(rng.uniform(0.6, 1.1))
    if rng.random() < 0.9:
        count = int(rng.integers(12, 36))
        cysts = discs(n, form.scatter(rng, count), rng.uniform(0.008, 0.018, size=count), blur=0.004)
        layers.cover(form.inside * cysts * np.float32(rng.uniform(0.6, 0.95)), IVORY)


def dermatofibroma(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """A pale brown, softly bounded disc with a delicate network around a white, scar-like patch."""
    n = form.n
    rim = smoothstep(form.depth, 0.3, 0.65)
    layers.melanin += form.inside * (0.1 + rim * np.float32(rng.uniform(0.12, 0.3)))
    layers.blood += form.inside * np.float32(rng.uniform(0.1, 0.25))
    if rng.random() < 0.75:
        lines = honeycomb(rng, n, rng.uniform(0.045, 0.06))
        layers.melanin += form.inside * rim * (lines - 0.4) * np.float32(rng.uniform(0.15, 0.35))
    if rng.random() < 0.95:
        extent = rng.uniform(0.4, 0.62)
        ragged = form.depth + 0.08 * fractal(rng, n)
        scar = smoothstep(ragged, extent * 1.15, extent * 0.6)
        layers.cover(form.inside * scar * np.float32(rng.uniform(0.5, 0.85)), SCAR)


def _pseudopods(rng: np.random.Generator, form: Outline) -> Map:
    """Dark fingers that reach outwards over part of the border."""
    middle, count = rng.uniform(-np.pi, np.pi), int(rng.integers(5, 11))
    angles = middle + np.linspace(-0.7, 0.7, count) + rng.normal(0, 0.05, size=count)
    starts, ends = form.at(angles, np.full(count, 0.75)), form.at(angles, rng.uniform(1.05, 1.25, size=count))
    fingers = [
        Stroke(np.stack([start, end]), rng.uniform(0.012, 0.024))
        for start, end in zip(starts, ends, strict=True)
    ]
    return strokes(form.n, fingers, blur=0.004)


def _patch(rng: np.random.Generator, form: Outline, size: float) -> Map:
    """A cloudy patch somewhere inside, `size` times as wide as the lesion."""
    centre = form.scatter(rng, 1, outer=0.6)
    patch = discs(form.n, centre, np.array([size * form.contour.mean()]), blur=0.02)
    clouds = smoothstep(fractal(rng, form.n), -1.2, 0.2)
    return np.asarray(form.inside * patch * clouds)

"""Phantom photographs of skin lesions in the ten classes of the Dermofit library, made from a seed.

`phantom_lesion` paints skin, a lesion with the features of its class, and the artefacts of a photograph.
Classes overlap in two ways: every feature is missing in some lesions of a class and varies in strength, and
some lesions also carry features of a class for which they are mistaken in practice. Lesions of one patient
share skin, camera, light and hair.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from medrobust.data.phantoms.lesion_drawing import (
    Form,
    Layers,
    Map,
    Outline,
    Skin,
    Stroke,
    branches,
    curve,
    discs,
    draw_outline,
    fractal,
    grid,
    honeycomb,
    ripples,
    smoothstep,
    strokes,
)
from medrobust.rng import generator

BLUE_GREY, NEST = (118, 130, 152), (112, 116, 138)
INK, IVORY, KERATIN, PEARL = (92, 70, 160), (238, 226, 206), (240, 222, 170), (234, 204, 198)
SCALE, SCAR, WHITE = (244, 234, 212), (236, 208, 204), (242, 230, 226)


class Picture(NamedTuple):
    """A photograph, and the pixels that the lesion covers."""

    image: UInt8[np.ndarray, "3 size size"]
    mask: Bool[np.ndarray, "size size"]


def phantom_lesion(
    seed: int, patient: str, lesion: str, diagnosis: str, *, size: int, overlap: float = 0.2
) -> Picture:
    """The photograph of a lesion, drawn at twice its size and reduced.

    Args:
        seed: Seed of all patients.
        patient: Name of the patient, which determines skin, camera, light and hair.
        lesion: Name of the lesion, which determines everything else.
        diagnosis: Class of the lesion, one of `LOOKS`.
        size: Pixels along each side.
        overlap: Fraction of the lesions that partly look like another class.
    """
    rng = generator(seed, "phantom_lesions", "patient", patient)
    skin, circumstances = Skin.draw(rng), Circumstances.draw(rng)
    rng = generator(seed, "phantom_lesions", "image", lesion)
    layers, look = Layers(2 * size), LOOKS[diagnosis]
    skin.paint(rng, layers)
    outline = draw_outline(rng, layers.n, look.form)
    other = rng.uniform(0.2, 0.65) if rng.random() < overlap else 0.0
    for paint, fraction in ((look.paint, 1 - other), (LOOKS[rng.choice(look.mimics)].paint, other)):
        if fraction > 0:
            painted = Layers(layers.n)
            paint(rng, outline, painted)
            painted.mottle(rng)
            layers.add(painted, fraction)
    add_artefacts(rng, circumstances, layers)
    return Picture(photograph(rng, circumstances, layers.light()), (outline.inside > 0.5)[::2, ::2])


@dataclass(frozen=True)
class Circumstances:
    """What the photographs of one patient share: camera, light and hair."""

    gains: Float32[np.ndarray, "3"]  # white balance, a factor per channel
    vignette: float  # fraction of the light lost at the corners
    tube: bool  # whether the round field of view of a dermatoscope shows
    flashes: float  # mean number of reflections of a ring flash
    hairs: float  # mean number of hairs; 0 for most patients
    hair_density: float  # optical density of a hair
    blur: float  # standard deviation of the focus blur, as a fraction of the image width
    noise: float  # standard deviation of the sensor noise, on a scale of [0, 1]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Circumstances":
        """The circumstances of a random patient."""
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
    """Cover the skin with what lies on it: ink, bubbles, hairs, reflections, a ruler."""
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


def _hairs(rng: np.random.Generator, count: int) -> list[Stroke]:
    """Bent hairs in roughly one direction."""
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


def photograph(
    rng: np.random.Generator, circumstances: Circumstances, light: Float32[np.ndarray, "3 n n"]
) -> UInt8[np.ndarray, "3 size size"]:
    """The picture of intensities in [0, 1]: optics, reduction to half the size, sensor, JPEG."""
    n = light.shape[1]
    if circumstances.blur * n > 0.3:
        light = gaussian_filter(light, (0, circumstances.blur * n, circumstances.blur * n), truncate=3.0)
    x, y = grid(n)
    radius = np.hypot(x, y)
    falloff = 1 - np.float32(circumstances.vignette) * 2 * radius**2
    if circumstances.tube:
        falloff *= 0.03 + 0.97 * smoothstep(radius, 0.62, 0.56)
    gains = circumstances.gains * rng.uniform(0.97, 1.03)
    light = light * gains[:, None, None] * falloff.astype(np.float32)
    small = light.reshape(3, n // 2, 2, n // 2, 2).mean(axis=(2, 4))
    noisy = small + circumstances.noise * rng.standard_normal(small.shape, dtype=np.float32)
    pixels = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    file, picture = io.BytesIO(), Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture.save(file, "JPEG", quality=int(rng.integers(75, 96)), subsampling=0)
    with Image.open(file) as image:
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


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
    """Asymmetric, light brown to black, with a blue-white veil, an irregular network and streaks."""
    n = form.n
    layers.melanin += form.inside * np.float32(rng.uniform(0.15, 0.4))
    # Darker on one side of a wavy line through the lesion: the usual cause of asymmetry.
    for strength in rng.uniform(0.3, 0.8, size=int(rng.integers(1, 3))):
        side = np.cos(form.angle - np.float32(rng.uniform(-np.pi, np.pi))) * form.depth
        side = side + 0.35 * fractal(rng, n)
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


def actinic_keratosis(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """Flat, ill-defined redness around pale follicles ("strawberry"), with flakes of scale."""
    n = form.n
    layers.blood += form.inside * np.float32(rng.uniform(0.16, 0.3)) * (1 + 0.25 * fractal(rng, n))
    layers.melanin += form.inside * np.float32(rng.uniform(0.05, 0.16))
    if rng.random() < 0.9:
        count = int(rng.integers(24, 48))
        follicles, radii = form.scatter(rng, count, outer=0.95), rng.uniform(0.016, 0.026, size=count)
        layers.cover(form.inside * discs(n, follicles, radii, blur=0.005) * 0.55, PEARL)
        layers.cover(form.inside * discs(n, follicles, radii * 0.4, blur=0.003) * 0.7, WHITE)
    if rng.random() < 0.7:
        flakes = smoothstep(fractal(rng, n, hurst=0.2), 1.2, 1.6)
        layers.cover(form.inside * flakes * np.float32(rng.uniform(0.4, 0.7)), SCALE)


def basal_cell_carcinoma(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """Pearly pink with sharp arborising vessels, blue-grey nests, an ulcer."""
    n = form.n
    layers.blood += form.inside * np.float32(rng.uniform(0.16, 0.3))
    layers.cover(form.inside * np.float32(rng.uniform(0.1, 0.25)), PEARL)
    if rng.random() < 0.9:
        trees: list[Stroke] = []
        for angle in rng.uniform(-np.pi, np.pi, size=int(rng.integers(2, 5))):
            root = form.at(np.array([angle]), np.array([0.95]))
            heading = angle + np.pi + rng.normal(0, 0.35)
            trees += branches(rng, root, heading, 0.4 * form.contour.mean() * rng.uniform(1, 1.5), 0.015)
        layers.blood += strokes(n, trees) * form.inside * np.float32(rng.uniform(0.6, 1.1))
    if rng.random() < 0.7:
        count = int(rng.integers(3, 9))
        centres, radii = form.scatter(rng, count), rng.uniform(0.025, 0.055, size=count)
        nests = discs(n, centres, radii, blur=0.006, flat=0.7)
        layers.cover(form.inside * nests * np.float32(rng.uniform(0.5, 0.85)), NEST)
    if rng.random() < 0.3:
        _ulcer(rng, form, layers)


def squamous_cell_carcinoma(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """A red nodule with a mass of keratin in its centre and vessels that point to it from the rim."""
    n = form.n
    layers.blood += form.inside * np.float32(rng.uniform(0.3, 0.5))
    if rng.random() < 0.8:
        layers.blood += _radial_vessels(rng, form) * form.inside * np.float32(rng.uniform(0.4, 0.8))
    if rng.random() < 0.9:
        extent = rng.uniform(0.5, 0.72)
        mass = smoothstep(form.depth + 0.12 * fractal(rng, n), extent * 1.1, extent * 0.7)
        layers.cover(form.inside * mass * np.float32(rng.uniform(0.65, 0.95)), KERATIN)
        layers.dark += form.inside * mass * np.clip(0.1 * fractal(rng, n, hurst=0.2), 0, 0.3)
    if rng.random() < 0.5:
        count = int(rng.integers(2, 6))
        spots = discs(n, form.scatter(rng, count), rng.uniform(0.012, 0.025, size=count))
        _crust(layers, form.inside * spots)
    if rng.random() < 0.25:
        _ulcer(rng, form, layers)


def _radial_vessels(rng: np.random.Generator, form: Outline) -> Map:
    """Irregular vessels in the rim that run towards the centre."""
    count = int(rng.integers(12, 26))
    angles = rng.uniform(-np.pi, np.pi, size=count)
    outer, inner = rng.uniform(0.85, 0.98, size=count), rng.uniform(0.5, 0.65, size=count)
    starts, ends = form.at(angles, outer), form.at(angles + rng.normal(0, 0.08, size=count), inner)
    bends = (starts + ends) / 2 + rng.normal(0, 0.015, size=(count, 2))
    lines = [
        Stroke(curve(start[None], bend[None], end[None]), 0.012)
        for start, bend, end in zip(starts, bends, ends, strict=True)
    ]
    return strokes(form.n, lines)


def _ulcer(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """A raw, crusted hollow."""
    centre = form.scatter(rng, 1, outer=0.5)
    hollow = discs(form.n, centre, form.contour.mean() * rng.uniform(0.2, 0.35, size=1), blur=0.008)
    _crust(layers, form.inside * hollow * smoothstep(fractal(rng, form.n), -1.2, 0.0))


def _crust(layers: Layers, where: Map) -> None:
    """Dried blood: red-black."""
    layers.blood += 0.9 * where
    layers.dark += 0.45 * where


def bowen_disease(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """A sharply bounded, scaly red plaque with clusters of coiled vessels that look like dots."""
    n = form.n
    layers.blood += form.inside * np.float32(rng.uniform(0.28, 0.42))
    layers.melanin += form.inside * np.float32(rng.uniform(0.1, 0.2))
    if rng.random() < 0.9:
        clusters = form.scatter(rng, int(rng.integers(4, 8)), outer=0.8)
        around = [centre + rng.normal(0, 0.045, size=(int(rng.integers(8, 18)), 2)) for centre in clusters]
        coils = np.concatenate(around)
        dots = discs(n, coils, rng.uniform(0.008, 0.014, size=len(coils)))
        layers.blood += form.inside * dots * np.float32(rng.uniform(0.7, 1.2))
    if rng.random() < 0.7:
        scale = smoothstep(fractal(rng, n, hurst=0.8), 0.5, 1.1)
        layers.cover(form.inside * scale * np.float32(rng.uniform(0.5, 0.8)), SCALE)


def haemangioma(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """Sharply bounded red, purple or black lacunae with pale septa between them."""
    n = form.n
    layers.blood += form.inside * np.float32(rng.uniform(0.35, 0.65))
    count = int(rng.integers(6, 20))
    radii = form.contour.mean() * rng.uniform(0.14, 0.32, size=count)
    lacunae = discs(n, form.scatter(rng, count, outer=0.8), radii, blur=0.004, flat=0.85)
    layers.blood += form.inside * lacunae * np.float32(rng.uniform(0.5, 1.0))
    purple = rng.uniform(0.15, 0.5)
    layers.dark += form.inside * lacunae * np.float32(purple)
    layers.cover(form.inside * lacunae * np.float32(purple * 0.6), (84, 40, 92))
    layers.cover(form.inside * (1 - lacunae) * np.float32(rng.uniform(0, 0.35)), PEARL)


def pyogenic_granuloma(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """A bright red, even dome with a white collar, crossed by white rails; it bleeds easily."""
    n = form.n
    dome = smoothstep(form.depth, 1.0, 0.0)
    layers.blood += form.inside * (np.float32(rng.uniform(0.9, 1.2)) - 0.3 * dome)
    collar = np.exp(-(((form.depth - 1.02) / 0.11) ** 2)).astype(np.float32)
    if rng.random() < 0.95:
        layers.cover(collar * np.float32(rng.uniform(0.55, 0.85)), WHITE)
    if rng.random() < 0.6:
        angles = rng.uniform(-np.pi, np.pi, size=int(rng.integers(1, 4)))
        ends = [form.at(np.array([a, a + np.pi + rng.normal(0, 0.3)]), np.full(2, 0.95)) for a in angles]
        rails = strokes(n, [Stroke(end, 0.016) for end in ends], blur=0.005)
        layers.cover(form.inside * rails * np.float32(rng.uniform(0.3, 0.6)), WHITE)
    if rng.random() < 0.3:
        spots = discs(n, form.scatter(rng, 2), rng.uniform(0.02, 0.04, size=2), blur=0.006)
        _crust(layers, form.inside * spots)


Painter = Callable[[np.random.Generator, Outline, Layers], None]


class Look(NamedTuple):
    """One class of lesions."""

    images: int  # how many there are in the Dermofit library
    form: Form  # how its outlines are drawn
    paint: Painter  # how its inside is drawn
    mimics: tuple[str, ...]  # classes that some of its lesions resemble


LOOKS: dict[str, Look] = {
    "AK": Look(45, Form((0.28, 0.38), 0.22, (0.05, 0.1)), actinic_keratosis, ("IEC", "SCC", "BCC")),
    "BCC": Look(239, Form((0.24, 0.34), 0.15, (0.02, 0.05)), basal_cell_carcinoma, ("SCC", "AK", "IEC")),
    "ML": Look(331, Form((0.18, 0.3), 0.06, (0.015, 0.05)), nevus, ("MEL", "SK", "DF")),
    "SK": Look(257, Form((0.28, 0.38), 0.16, (0.006, 0.015)), seborrhoeic_keratosis, ("MEL", "ML")),
    "SCC": Look(88, Form((0.24, 0.34), 0.14, (0.015, 0.04)), squamous_cell_carcinoma, ("IEC", "BCC", "AK")),
    "IEC": Look(78, Form((0.32, 0.42), 0.28, (0.01, 0.025)), bowen_disease, ("AK", "SCC", "BCC")),
    "PYO": Look(
        24, Form((0.15, 0.24), 0.08, (0.008, 0.015), (0.8, 1.0)), pyogenic_granuloma, ("VASC", "SCC")
    ),
    "VASC": Look(97, Form((0.17, 0.29), 0.08, (0.008, 0.02)), haemangioma, ("PYO", "MEL")),
    "MEL": Look(76, Form((0.3, 0.42), 0.34, (0.01, 0.05), (0.65, 0.95)), melanoma, ("ML", "SK")),
    "DF": Look(65, Form((0.18, 0.28), 0.08, (0.05, 0.09), (0.8, 1.0)), dermatofibroma, ("ML", "BCC")),
}

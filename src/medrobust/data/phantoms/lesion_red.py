"""How phantom lesions of the mostly red classes look: keratoses, carcinomas and vascular lesions.

Each painter adds a lesion's pigments and covers to `Layers` of its own. A feature has a probability and a
random strength, so that classes overlap. Lengths are fractions of the image width.
"""

import numpy as np

from medrobust.data.phantoms.lesion_shape import Outline
from medrobust.data.phantoms.lesion_skin import Layers
from medrobust.data.phantoms.lesion_texture import (
    Map,
    Stroke,
    branches,
    curve,
    discs,
    fractal,
    smoothstep,
    strokes,
)

BLUE_GREY = (112, 116, 138)
KERATIN = (240, 222, 170)
PEARL = (234, 204, 198)
SCALE = (244, 234, 212)
WHITE = (242, 230, 226)


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
        layers.cover(form.inside * nests * np.float32(rng.uniform(0.5, 0.85)), BLUE_GREY)
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


def bowen_disease(rng: np.random.Generator, form: Outline, layers: Layers) -> None:
    """A sharply bounded, scaly red plaque with clusters of coiled vessels that look like dots."""
    n = form.n
    layers.blood += form.inside * np.float32(rng.uniform(0.28, 0.42))
    layers.melanin += form.inside * np.float32(rng.uniform(0.1, 0.2))
    if rng.random() < 0.9:
        clusters = form.scatter(rng, int(rng.integers(4, 8)), outer=0.8)
        coils = np.concatenate(
            [c + rng.normal(0, 0.045, size=(int(rng.integers(8, 18)), 2)) for c in clusters]
        )
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
    """A bright red, even dome in a white collar, crossed by white rails; it bleeds easily."""
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
        _crust(
            layers, form.inside * discs(n, form.scatter(rng, 2), rng.uniform(0.02, 0.04, size=2), blur=0.006)
        )


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

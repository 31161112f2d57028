"""Phantom brains: T1-weighted, skull-stripped scans of the paper's 27 structures, made from a seed.

`phantom_brain` deforms a template at random and scans it. The template takes outline, folded cortex, white
matter and the shape of the ventricles from the ICBM152 tissue maps (2009a) in nilearn's wheel; ellipsoids
tell the structures apart.

Source: tissue maps, Fonov et al., NeuroImage 54 (2011); positions and sizes of the ellipsoids, mean of 30
scans of the MICCAI 2012 Multi-Atlas Labelling Challenge, fitted to the maps; intensities, 8 of these scans.
"""

from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Shaped, UInt8
from scipy import ndimage

from medrobust.data.scans.structures import STRUCTURES
from medrobust.errors import DataError
from medrobust.rng import generator

FIELD_OF_VIEW = (160, 208, 160)
"""Extent of a scan in mm: right to left, posterior to anterior, inferior to superior."""

CENTRE = np.array([0.0, -16.0, 9.0])
"""Middle of the field of view in mm of ICBM space."""

STEP = 4
"""Distance in mm between the points at which deformations are computed."""

SIZE = 0.92
"""Mean size of the subjects relative to ICBM's brain, which is larger than the measured ones."""

GYRAL, LOBAR = (14, 1.0), (35, 1.5)
"""Wavelength (node distance) and standard deviation in mm of the two scales of the velocity field."""

VENTRICLES = ("left lateral ventricle", "right lateral ventricle", "third ventricle", "fourth ventricle")


def phantom_brain(seed: int, subject: int, spacing: float) -> Float32[np.ndarray, "2 x y z"]:
    """One subject: the template, deformed at random, and its scan.

    Args:
        seed: Seed of all subjects.
        subject: Number of the subject.
        spacing: Edge of a voxel in mm.

    Returns:
        The image in [0, 1], 0 outside the brain, and the class index in `STRUCTURES` of each voxel as a
        float, cut to the box around the brain. Axes: right, anterior, superior.

    Raises:
        DataError: nilearn is not installed.
    """
    factor = max(1, round(spacing))
    fine = [size * factor for size in grid_shape(spacing)]
    points = backward_map(generator(seed, "phantom_brains", subject, "shape"), fine, spacing)
    last = np.array(template().shape)[:, None, None, None] - 1  # the border of the template is air
    tissues = template()[tuple(np.clip(np.rint(points), 0, last).astype(np.intp))]
    labels = majority(tissues, factor)
    labels[labels >= len(STRUCTURES)] = 0
    image = scan(tissues, factor, spacing, generator(seed, "phantom_brains", subject, "scan"))
    volumes = np.stack([image, labels.astype(np.float32)])
    occupied = np.argwhere(volumes.any(axis=0))
    x, y, z = (slice(low, high + 1) for low, high in zip(occupied.min(0), occupied.max(0), strict=True))
    return np.ascontiguousarray(volumes[:, x, y, z])


def grid_shape(spacing: float) -> tuple[int, ...]:
    """Voxels of a scan along each axis."""
    return tuple(int(np.ceil(size / spacing)) for size in FIELD_OF_VIEW)


def backward_map(rng: np.random.Generator, fine: list[int], spacing: float) -> Float32[np.ndarray, "3 x y z"]:
    """Where each fine voxel comes from in the template, in mm from `LOW`: affine, then a diffeomorphism."""
    half = np.array(grid_shape(spacing)) * spacing / 2 * (1 - 1 / np.array(fine))
    coarse = [int(np.ceil(2 * length / STEP)) + 1 for length in half]
    axes = (np.linspace(-h, h, n) for h, n in zip(half, coarse, strict=True))
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"))
    affine = random_affine(rng, scale=0.03, anisotropy=0.015, degrees=3.0, shear=0.012) / SIZE
    straight = np.tensordot(affine, lattice, 1) + (CENTRE - LOW)[:, None, None, None]
    displacement = STEP * exponential(random_velocity(rng))
    moved = [
        start + ndimage.map_coordinates(part, straight / STEP, order=1, mode="nearest")
        for start, part in zip(straight, displacement, strict=True)
    ]
    return np.stack([resize(part.astype(np.float32), tuple(fine)) for part in moved])


def random_velocity(rng: np.random.Generator) -> Float32[np.ndarray, "3 x y z"]:
    """The velocity that deforms the template, in units of `STEP` mm: lobes, gyri and ventricles."""
    flow = ventricle_flow()
    velocity = np.float32(np.clip(rng.normal(1, 3), -2.5, 7)) * -flow
    for wavelength, strength in (LOBAR, GYRAL):
        velocity += np.float32(strength) * smooth_field(rng, flow.shape[1:], wavelength / STEP, components=3)
    return np.asarray(velocity / STEP)


@cache
def ventricle_flow() -> Float32[np.ndarray, "3 x y z"]:
    """Directions away from the ventricles, at most 1 mm long, every `STEP` mm of the template."""
    parts = template()
    ventricles = np.isin(parts, [TISSUE[name] for name in VENTRICLES]).astype(np.float32)
    near = ndimage.gaussian_filter(ventricles, 5)
    away = -np.array(np.gradient(near))[:, ::STEP, ::STEP, ::STEP]
    return np.asarray(away / np.linalg.norm(away, axis=0).max(), np.float32)


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, ...], nodes_apart: float, *, components: int = 1
) -> Float32[np.ndarray, "components *space"]:
    """Standard normal draws at nodes `nodes_apart` grid points apart, cubically interpolated."""
    nodes = tuple(max(2, round(size / nodes_apart) + 1) for size in shape)
    coarse = rng.standard_normal((components, *nodes), dtype=np.float32)
    return np.stack([resize(field, shape, order=3) for field in coarse])


def resize(
    field: Float32[np.ndarray, "*space"], shape: tuple[int, ...], *, order: Literal[1, 3] = 1
) -> Float32[np.ndarray, "*resized"]:
    """A field on a grid of another shape with the same corners, by splines of the given order.

    Multiplying by the matrix of the interpolation, axis by axis, is much faster than `ndimage.zoom`.
    """
    for old, new in zip(field.shape, shape, strict=True):
        weights = ndimage.zoom(np.eye(old, dtype=np.float32), (new / old, 1), order=order, mode="nearest")
        field = np.tensordot(field, weights, (0, 1))  # removes the first axis and puts the new one last
    return field


def exponential(
    velocity: Float32[np.ndarray, "d *space"], *, squarings: int = 6
) -> Float32[np.ndarray, "d *space"]:
    """Displacement after unit time along a stationary velocity field, both in grid points.

    Scaling and squaring: the displacement after 1/2^squarings is composed with itself. The map is a
    diffeomorphism if the field is smooth.

    Source: Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006.
    """
    displacement = velocity / np.float32(2**squarings)
    points = np.indices(velocity.shape[1:], np.float32)
    for _ in range(squarings):
        moved = points + displacement
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(part, moved, order=1, mode="nearest") for part in displacement]
        )
    return displacement


def random_affine(
    rng: np.random.Generator, *, scale: float, anisotropy: float, degrees: float, shear: float
) -> Float[np.ndarray, "3 3"]:
    """Rotation times shear times scale, all uniform; each axis is also scaled by up to `anisotropy`."""
    angles = np.deg2rad(rng.uniform(-degrees, degrees, 3))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (k for k in range(3) if k != axis)
        turn = np.eye(3)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    sheared = np.eye(3) + np.triu(rng.uniform(-shear, shear, (3, 3)), 1)
    sizes = (1 + rng.uniform(-scale, scale)) * (1 + rng.uniform(-anisotropy, anisotropy, 3))
    return rotation @ sheared @ np.diag(sizes)


HIDDEN = ("cerebrospinal fluid", "vermis", "basal forebrain")

TISSUES: tuple[str, ...] = ("air", *STRUCTURES[1:], *HIDDEN)
"""Values of the template. The first 28 are the classes of the task; the hidden ones are visible, but labelled
background."""

TISSUE = {name: index for index, name in enumerate(TISSUES)}

LOW, HIGH = np.array([-80, -112, -72]), np.array([80, 80, 88])
"""Corners of the template in mm of ICBM space: x right, y anterior, z superior of the anterior commissure."""

CEREBELLAR_WHITE = 0.4
"""Fraction of white matter from which a voxel of the cerebellum is labelled white matter."""

STEM_END = -65
"""Height in mm at which the scan ends, as the labels of real scans do."""


class Ellipsoid(NamedTuple):
    """One side of a structure, in mm: lateral (away from the mid-plane), anterior, superior."""

    centre: tuple[float, float, float]  # centre of the ellipsoid
    radii: tuple[float, float, float]  # semi-axes, largest first
    main: tuple[float, float, float]  # direction of the largest semi-axis
    second: tuple[float, float, float] = (0, 0, 1)  # approximate direction of the second semi-axis


FORWARD, UP, SIDE = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)

PAIRED: dict[str, Ellipsoid] = {
    "ventral diencephalon": Ellipsoid((9, -14, -9), (17, 12.5, 9.5), (-0.53, 0.84, -0.11)),
    "hippocampus": Ellipsoid((26, -22, -12), (26, 10, 7), (0, -0.87, 0.5), SIDE),
    "amygdala": Ellipsoid((23, -4, -18), (8.5, 7, 5.5), FORWARD),
    "thalamus": Ellipsoid((11.5, -19, 8), (20, 12, 11), (-0.42, 0.87, 0.24)),
    "caudate": Ellipsoid((13.5, 10, 10), (21, 10, 5.5), (-0.09, 0.84, -0.53)),
    "putamen": Ellipsoid((26, 2, 1), (20.5, 10.5, 6.5), (-0.31, 0.93, -0.18)),
    "pallidum": Ellipsoid((19.5, -4, 0), (13.5, 7.3, 5.3), (-0.56, 0.82, 0.06)),
}
"""Deep structures; if two overlap, the later one wins."""

LATERAL_VENTRICLE = Ellipsoid((15, -18, 13), (60, 24, 14), (0.28, -0.95, -0.11))
INFERIOR_HORN = Ellipsoid((31, -22, -14), (22, 5, 5), (0, -0.87, 0.5), SIDE)
THIRD_VENTRICLE = Ellipsoid((0, -12, 0), (20, 13, 5), FORWARD)
FOURTH_VENTRICLE = Ellipsoid((0, -44, -33), (19, 11, 10), UP, SIDE)
BRAIN_STEM = Ellipsoid((0, -29, -33), (34, 15, 13), (0, -0.25, 0.97), SIDE)
CEREBELLUM = Ellipsoid((24, -62, -38), (22, 20, 14), SIDE)
PEDUNCLES = Ellipsoid((0, -42, -33), (28, 22, 22), UP, FORWARD)
BASAL_FOREBRAIN = Ellipsoid((9, 9, -9), (9, 6, 5), FORWARD)
DEEP = Ellipsoid((14, -6, 4), (40, 21, 24), FORWARD)
"""Where grey matter outside the deep structures belongs to no gyrus."""


@cache
def template() -> UInt8[np.ndarray, "x y z"]:
    """Index in `TISSUES` of every cubic millimetre from `LOW` to `HIGH`; left and right are mirror images."""
    right = half_template(*tissue_maps())
    mirrored = np.array([TISSUE[name.replace("right", "left")] for name in TISSUES], np.uint8)
    return np.concatenate([mirrored[right[:0:-1]], right])


def tissue_maps() -> tuple[Float32[np.ndarray, "x y z"], Float32[np.ndarray, "x y z"]]:
    """Fractions of grey and white matter in [0, 1] in the right half of ICBM space, from the mid-plane on.

    A DataError if nilearn is not installed.
    """
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template
    except ImportError:
        raise DataError(
            "data.name: 'phantom_brains' needs the ICBM152 tissue maps of the package nilearn, which is not "
            "installed. Run: pip install 'medrobust[demo]'"
        ) from None
    halves = []
    for image in (load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1)):
        origin = np.rint(image.affine[:3, 3]).astype(int)
        first, last = np.array([0, *LOW[1:]]) - origin, HIGH - origin + 1
        x, y, z = (slice(a, b) for a, b in zip(first, last, strict=True))
        halves.append(np.asarray(image.dataobj[x, y, z], np.float32))
    grey, white = halves
    return grey, white


def half_template(
    grey: Float32[np.ndarray, "x y z"], white: Float32[np.ndarray, "x y z"]
) -> UInt8[np.ndarray, "x y z"]:
    """The right half of the template from the fractions of grey and white matter."""
    lateral, anterior, _ = grid()
    fluid = 1 - grey - white
    brain = ndimage.gaussian_filter(grey + white, 2) > 0.45
    brain |= grey + white > 0.5
    brain[:, :, : STEM_END - LOW[2]] = False
    white_matter, cortex = TISSUE["right cerebral white matter"], TISSUE["right cerebral cortex"]
    parts = np.where(white > 0.54, white_matter, cortex).astype(np.uint8)

    below = infratentorial(fluid)
    parts[below] = TISSUE["right cerebellar cortex"]
    parts[below & (white > CEREBELLAR_WHITE)] = TISSUE["right cerebellar white matter"]
    parts[below & (lateral < 5)] = TISSUE["vermis"]
    parts[below & (inside(BRAIN_STEM) | ((anterior > -34) & (lateral < 12)))] = TISSUE["brain stem"]

    solid = fluid < 0.4
    parts[(parts == cortex) & inside(DEEP)] = white_matter
    parts[inside(BASAL_FOREBRAIN) & solid] = TISSUE["basal forebrain"]
    for name, ellipsoid in PAIRED.items():
        parts[inside(ellipsoid) & solid] = TISSUE[f"right {name}"]

    parts[~solid] = TISSUE["cerebrospinal fluid"]
    parts[~brain] = TISSUE["air"]
    horns = ~solid & inside(LATERAL_VENTRICLE) & ((lateral > 2) | (anterior > -10)) | inside(INFERIOR_HORN)
    rim = ndimage.binary_dilation(horns, iterations=3) & (parts == cortex)  # partial volume, not cortex
    parts[rim] = white_matter
    parts[horns] = TISSUE["right lateral ventricle"]
    parts[~solid & inside(THIRD_VENTRICLE)] = TISSUE["third ventricle"]
    parts[~solid & inside(FOURTH_VENTRICLE)] = TISSUE["fourth ventricle"]
    return parts


def infratentorial(fluid: Float32[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """What lies below the tentorium: floods from well above and well below meet in the fluid between."""
    lateral, anterior, superior = grid()
    tentorium = np.maximum(2 - 0.5 * lateral - 0.7 * np.maximum(-40 - anterior, 0), -30)
    below = inside(CEREBELLUM) | inside(PEDUNCLES) | inside(BRAIN_STEM)
    below |= (fluid < 0.9) & (anterior < -32) & (superior < -34)
    below |= (fluid < 0.9) & (anterior < -42) & (anterior > -80) & (superior < -13 - 0.55 * lateral)
    above = ((superior > tentorium + 14) | (anterior > -5)) & ~below
    seeds = below.astype(np.int8) + 2 * above.astype(np.int8)
    cost = np.clip(255 * fluid, 0, 255).astype(np.uint8)
    return np.asarray(ndimage.watershed_ift(cost, seeds) == 1)


def grid() -> tuple[Int64[np.ndarray, "x 1 1"], Int64[np.ndarray, "1 y 1"], Int64[np.ndarray, "1 1 z"]]:
    """Coordinates of the right half in mm: lateral, anterior, superior."""
    x, y, z = np.ogrid[0 : HIGH[0] + 1, LOW[1] : HIGH[1] + 1, LOW[2] : HIGH[2] + 1]
    return x, y, z


def inside(ellipsoid: Ellipsoid) -> Bool[np.ndarray, "x y z"]:
    """Which voxels of the right half lie in an ellipsoid."""
    offsets = [axis - centre for axis, centre in zip(grid(), ellipsoid.centre, strict=True)]
    scaled = frame(ellipsoid) / np.array(ellipsoid.radii)[:, None]
    return np.asarray(sum(sum(o * s for o, s in zip(offsets, row, strict=True)) ** 2 for row in scaled) < 1)


def frame(ellipsoid: Ellipsoid) -> Float[np.ndarray, "3 3"]:
    """Unit vectors along the semi-axes, as rows."""
    main = np.array(ellipsoid.main) / np.linalg.norm(ellipsoid.main)
    second = np.array(ellipsoid.second) - main * np.dot(main, ellipsoid.second)
    second /= np.linalg.norm(second)
    return np.stack([main, second, np.cross(main, second)])


class Intensity(NamedTuple):
    """T1 intensity of a tissue relative to white matter."""

    mean: float  # mean over subjects
    between: float  # standard deviation of the subjects' means
    texture: float  # standard deviation within a subject, without partial volume and noise


INTENSITIES: dict[str, Intensity] = {
    "air": Intensity(0.30, 0, 0.05),  # fluid, until the skull is stripped
    "cerebrospinal fluid": Intensity(0.30, 0.02, 0.05),
    "third ventricle": Intensity(0.21, 0.04, 0.04),
    "fourth ventricle": Intensity(0.23, 0.04, 0.04),
    "lateral ventricle": Intensity(0.22, 0.04, 0.04),
    "cerebral cortex": Intensity(0.62, 0.02, 0.05),
    "cerebellar cortex": Intensity(0.64, 0.03, 0.06),
    "vermis": Intensity(0.68, 0.03, 0.06),
    "basal forebrain": Intensity(0.67, 0.03, 0.05),
    "amygdala": Intensity(0.65, 0.03, 0.04),
    "hippocampus": Intensity(0.66, 0.02, 0.05),
    "caudate": Intensity(0.69, 0.03, 0.04),
    "putamen": Intensity(0.75, 0.03, 0.04),
    "thalamus": Intensity(0.77, 0.03, 0.06),
    "brain stem": Intensity(0.92, 0.03, 0.06),
    "ventral diencephalon": Intensity(0.90, 0.03, 0.06),
    "cerebellar white matter": Intensity(0.97, 0.03, 0.05),
    "pallidum": Intensity(0.95, 0.02, 0.04),
    "cerebral white matter": Intensity(1.00, 0, 0.04),
}
"""Both sides of a structure share one intensity: left and right differ only in position.

Chosen so that finished scans, with partial volume, have the ratios to white matter that were measured in 8
scans of the MICCAI 2012 Multi-Atlas Labelling Challenge.
"""

SKULL_STRIPPED_AT = 0.5
"""Fraction of brain from which a voxel is kept."""


def scan(
    tissues: UInt8[np.ndarray, "x y z"], factor: int, spacing: float, rng: np.random.Generator
) -> Float32[np.ndarray, "u v w"]:
    """A skull-stripped scan in [0, 1], exactly 0 outside, of tissues on a grid `factor` times finer."""
    means, textures = draw_intensities(rng)
    voxels = factor**3
    shape = tuple(size // factor for size in tissues.shape)
    image = pooled(means[tissues], factor) / voxels
    grain = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), rng.uniform(0.6, 0.8))
    image += pooled(textures[tissues], factor) / voxels * (grain / grain.std())
    image = np.maximum(image, 0) ** float(np.exp(rng.normal(0, 0.1)))
    strength, coil = rng.uniform(0.03, 0.12), smooth_field(rng, shape, 45 / spacing)[0]
    bias = (coil + coil[::-1]) / np.float32(np.sqrt(2))  # symmetric, to keep the sides alike
    image *= np.exp(strength * bias)
    image = ndimage.gaussian_filter(image, rng.uniform(0.4, 0.6))
    image = rician(image, rng.uniform(0.01, 0.03), rng)
    brain = pooled((tissues > 0).view(np.uint8), factor) >= SKULL_STRIPPED_AT * voxels
    return normalised(image, brain)


def pooled(values: Shaped[np.ndarray, "x y z"], factor: int) -> Shaped[np.ndarray, "u v w"]:
    """Sums over blocks of `factor`^3 voxels; sizes must be multiples of `factor`."""
    corners = product(range(factor), repeat=3)
    total: Any = sum(values[i::factor, j::factor, k::factor] for i, j, k in corners)
    return np.asarray(total)


def majority(tissues: UInt8[np.ndarray, "x y z"], factor: int) -> UInt8[np.ndarray, "u v w"]:
    """The most frequent tissue of each block of `factor`^3 voxels; on a tie, the first in `TISSUES`."""
    best = np.zeros([size // factor for size in tissues.shape], np.uint8)
    most = np.zeros_like(best)
    for tissue in np.flatnonzero(np.bincount(tissues.ravel())):
        votes = pooled((tissues == tissue).view(np.uint8), factor)
        best[votes > most] = tissue
        np.maximum(most, votes, out=most)
    return best


def draw_intensities(rng: np.random.Generator) -> tuple[Float32[np.ndarray, " t"], Float32[np.ndarray, " t"]]:
    """Mean and texture of each of `TISSUES` in one subject."""
    draws = {
        name: entry.mean * (1 + entry.between * rng.standard_normal()) for name, entry in INTENSITIES.items()
    }
    names = [tissue.removeprefix("left ").removeprefix("right ") for tissue in TISSUES]
    means = np.array([draws[name] for name in names], np.float32)
    return means, np.array([INTENSITIES[name].texture for name in names], np.float32)


def rician(
    image: Float32[np.ndarray, "x y z"], sigma: float, rng: np.random.Generator
) -> Float32[np.ndarray, "x y z"]:
    """The magnitude of a complex image with normal noise of standard deviation `sigma` in both channels."""
    real, imaginary = (
        np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2)
    )
    return np.asarray(np.hypot(image + real, imaginary))


def normalised(
    image: Float32[np.ndarray, "x y z"], brain: Bool[np.ndarray, "x y z"]
) -> Float32[np.ndarray, "x y z"]:
    """The image divided by the 99.5th percentile of its brain, clipped to [0, 1], 0 outside."""
    return np.where(brain, np.clip(image / np.percentile(image[brain], 99.5), 0, 1), 0).astype(np.float32)

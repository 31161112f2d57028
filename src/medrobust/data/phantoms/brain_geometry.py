"""The template of the phantom brains: which structure lies where, at 1 mm.

Outline, folded cortex, white matter and the ventricles' shape come from the ICBM152 tissue maps (2009a) that
nilearn's wheel carries; which part of the brain is which structure comes from oriented ellipsoids, at
positions and of sizes measured on real scans.

Source: tissue maps, Fonov et al., NeuroImage 54 (2011); ellipsoids, mean of 30 scans of the MICCAI 2012
Multi-Atlas Labelling Challenge, fitted to the maps.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from scipy import ndimage

from medrobust.data.scans.structures import STRUCTURES
from medrobust.errors import DataError

HIDDEN = ("cerebrospinal fluid", "vermis", "basal forebrain")
TISSUES: tuple[str, ...] = ("air", *STRUCTURES[1:], *HIDDEN)
"""Values of the template. The first 28 are the classes of the task; the hidden ones are seen, but labelled
background.
"""

TISSUE = {name: index for index, name in enumerate(TISSUES)}
LOW, HIGH = np.array([-80, -112, -72]), np.array([80, 80, 88])
"""Corners of the template in mm of ICBM space: x right, y anterior, z superior of the anterior commissure."""

CEREBELLAR_WHITE = 0.4
"""Share of white matter from which on a millimetre of the cerebellum is labelled so."""

STEM_END = -65
"""Height in mm below which the scan ends, as the labels of real scans do."""


class Ellipsoid(NamedTuple):
    """One side of a structure, in mm: lateral (away from the mid-plane), anterior, superior.

    Attributes:
        centre: Centre of the ellipsoid.
        radii: Semi-axes, largest first.
        main: Direction of the largest semi-axis.
        second: Direction that the second semi-axis is nearest to.
    """

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    main: tuple[float, float, float]
    second: tuple[float, float, float] = (0, 0, 1)


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
"""Deep structures; later ones win where two overlap."""

LATERAL_VENTRICLE = Ellipsoid((15, -18, 13), (60, 24, 14), (0.28, -0.95, -0.11))
INFERIOR_HORN = Ellipsoid((31, -22, -14), (22, 5, 5), (0, -0.87, 0.5), SIDE)
THIRD_VENTRICLE = Ellipsoid((0, -12, 0), (20, 13, 5), FORWARD)
FOURTH_VENTRICLE = Ellipsoid((0, -44, -33), (19, 11, 10), UP, SIDE)
BRAIN_STEM = Ellipsoid((0, -29, -33), (34, 15, 13), (0, -0.25, 0.97), SIDE)
CEREBELLUM = Ellipsoid((24, -62, -38), (22, 20, 14), SIDE)
PEDUNCLES = Ellipsoid((0, -42, -33), (28, 22, 22), UP, FORWARD)
BASAL_FOREBRAIN = Ellipsoid((9, 9, -9), (9, 6, 5), FORWARD)
DEEP = Ellipsoid((14, -6, 4), (40, 21, 24), FORWARD)
"""Where grey matter outside of the deep structures belongs to no gyrus."""


@cache
def template() -> UInt8[np.ndarray, "x y z"]:
    """Value in `TISSUES` of every millimetre between `LOW` and `HIGH`; left and right are mirror images.

    Raises:
        DataError: nilearn is not installed.
    """
    right = half_template(*tissue_maps())
    mirrored = np.array([TISSUE[name.replace("right", "left")] for name in TISSUES], np.uint8)
    return np.concatenate([mirrored[right[:0:-1]], right])


def tissue_maps() -> tuple[Float32[np.ndarray, "x y z"], Float32[np.ndarray, "x y z"]]:
    """Shares of grey and white matter in [0, 1] in the right half of ICBM space, from the mid-plane on.

    Raises:
        DataError: nilearn is not installed.
    """
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template
    except ImportError:
        raise DataError(
            "data.name: 'phantom_brains' needs the ICBM152 tissue maps of the package nilearn, which is not "
            "installed. Run: pip install 'medrobust[demo]'"
        ) from None
    grey, white = (
        _right_half(load(resolution=1)) for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    return grey, white


def _right_half(image: Any) -> Float32[np.ndarray, "x y z"]:
    origin = np.rint(image.affine[:3, 3]).astype(int)
    first, last = np.array([0, *LOW[1:]]) - origin, HIGH - origin + 1
    x, y, z = (slice(a, b) for a, b in zip(first, last, strict=True))
    return np.asarray(image.dataobj[x, y, z], np.float32)


def half_template(
    grey: Float32[np.ndarray, "x y z"], white: Float32[np.ndarray, "x y z"]
) -> UInt8[np.ndarray, "x y z"]:
    """The right half of the template from the shares of grey and white matter in [0, 1]."""
    fluid = 1 - grey - white
    brain = ndimage.gaussian_filter(grey + white, 2) > 0.45
    brain |= grey + white > 0.5
    brain[:, :, : STEM_END - LOW[2]] = False
    parts = np.where(white > 0.54, TISSUE["right cerebral white matter"], TISSUE["right cerebral cortex"])
    parts = parts.astype(np.uint8)
    solid = fluid < 0.4
    draw_cerebellum(parts, white, infratentorial(fluid))
    draw_deep(parts, solid)
    parts[~solid] = TISSUE["cerebrospinal fluid"]
    parts[~brain] = TISSUE["air"]
    draw_ventricles(parts, ~solid)
    return parts


def infratentorial(fluid: Float32[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """What lies below the tentorium: floods from safely above and safely below meet in the fluid between."""
    lateral, anterior, superior = grid()
    tentorium = np.maximum(2 - 0.5 * lateral - 0.7 * np.maximum(-40 - anterior, 0), -30)
    below = inside(CEREBELLUM) | inside(PEDUNCLES) | inside(BRAIN_STEM)
    below |= (fluid < 0.9) & (anterior < -32) & (superior < -34)
    below |= (fluid < 0.9) & (anterior < -42) & (anterior > -80) & (superior < -13 - 0.55 * lateral)
    above = ((superior > tentorium + 14) | (anterior > -5)) & ~below
    seeds = below.astype(np.int8) + 2 * above.astype(np.int8)
    cost = np.clip(255 * fluid, 0, 255).astype(np.uint8)
    return np.asarray(ndimage.watershed_ift(cost, seeds) == 1)


def draw_cerebellum(
    parts: UInt8[np.ndarray, "x y z"], white: Float32[np.ndarray, "x y z"], below: Bool[np.ndarray, "x y z"]
) -> None:
    """Cerebellum, vermis and brain stem, in place."""
    lateral, anterior, _ = grid()
    parts[below] = TISSUE["right cerebellar cortex"]
    parts[below & (white > CEREBELLAR_WHITE)] = TISSUE["right cerebellar white matter"]
    parts[below & (lateral < 5)] = TISSUE["vermis"]
    parts[(below & inside(BRAIN_STEM)) | (below & (anterior > -34) & (lateral < 12))] = TISSUE["brain stem"]


def draw_deep(parts: UInt8[np.ndarray, "x y z"], solid: Bool[np.ndarray, "x y z"]) -> None:
    """Deep structures, in place, where there is tissue; grey matter between them becomes white matter."""
    cortex, white = TISSUE["right cerebral cortex"], TISSUE["right cerebral white matter"]
    parts[(parts == cortex) & inside(DEEP)] = white
    parts[inside(BASAL_FOREBRAIN) & solid] = TISSUE["basal forebrain"]
    for name, ellipsoid in PAIRED.items():
        parts[inside(ellipsoid) & solid] = TISSUE[f"right {name}"]


def draw_ventricles(parts: UInt8[np.ndarray, "x y z"], fluid: Bool[np.ndarray, "x y z"]) -> None:
    """Ventricles, in place: fluid inside of their ellipsoids; the mixed voxels around them are no cortex."""
    lateral, anterior, _ = grid()
    horns = (fluid & inside(LATERAL_VENTRICLE) & ((lateral > 2) | (anterior > -10))) | inside(INFERIOR_HORN)
    rim = ndimage.binary_dilation(horns, iterations=3) & (parts == TISSUE["right cerebral cortex"])
    parts[rim] = TISSUE["right cerebral white matter"]
    parts[horns] = TISSUE["right lateral ventricle"]
    parts[fluid & inside(THIRD_VENTRICLE)] = TISSUE["third ventricle"]
    parts[fluid & inside(FOURTH_VENTRICLE)] = TISSUE["fourth ventricle"]


def grid() -> tuple[Int64[np.ndarray, "x 1 1"], Int64[np.ndarray, "1 y 1"], Int64[np.ndarray, "1 1 z"]]:
    """Coordinates of the right half in mm: lateral, anterior, superior."""
    x, y, z = np.ogrid[0 : HIGH[0] + 1, LOW[1] : HIGH[1] + 1, LOW[2] : HIGH[2] + 1]
    return x, y, z


def inside(ellipsoid: Ellipsoid) -> Bool[np.ndarray, "x y z"]:
    """Where in the right half an ellipsoid is."""
    offsets = [axis - centre for axis, centre in zip(grid(), ellipsoid.centre, strict=True)]
    scaled = frame(ellipsoid) / np.array(ellipsoid.radii)[:, None]
    return np.asarray(sum(sum(o * s for o, s in zip(offsets, row, strict=True)) ** 2 for row in scaled) < 1)


def frame(ellipsoid: Ellipsoid) -> Float[np.ndarray, "3 3"]:
    """Unit vectors along the semi-axes, as rows."""
    main = np.array(ellipsoid.main) / np.linalg.norm(ellipsoid.main)
    second = np.array(ellipsoid.second) - main * np.dot(main, ellipsoid.second)
    second /= np.linalg.norm(second)
    return np.stack([main, second, np.cross(main, second)])

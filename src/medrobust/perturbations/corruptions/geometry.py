"""What moves pixels, and labels with them: positions, deformations, wrong orientations.

Every entry returns `(images, labels, valid)`. Images are interpolated linearly, label maps take the nearest
pixel. What comes into the field of view from outside is filled with the channel's smallest value and has no
label (`UNKNOWN`), and `valid` is false there. Labels of whole images stay as they are. Widths in mm are
scaled with the pixel size, which counts as 1 mm where nobody knows it; 2D images move in their plane only.

No severity of these is solved for an SSIM, which says nothing about where things are.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from medrobust.core import UNKNOWN
from medrobust.perturbations.checks import task_of
from medrobust.perturbations.corruptions.blur import scale_of
from medrobust.perturbations.corruptions.draws import Rngs, drawn
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import corruption

Images = Float[Tensor, "n c *space"]
Labels = Int64[Tensor, "n *labelspace"]
Moved = tuple[Images, Labels, Bool[Tensor, "n *space"]]

CONTROL_POINTS = 7
LOCKED = 2
"""Layers of control points at each border that stay where they are."""


@corruption(
    budget="translation_mm",
    unit="mm",
    presets=presets_of("affine"),
    summary="The patient lies elsewhere and turned.",
    source="Boone et al. 2023, ROOD-MRI",
)
def affine(
    images: Images,
    labels: Labels,
    rngs: Rngs,
    translation_mm: Annotated[float, Ge(0), Le(1000)],
    rotation: Annotated[float, Ge(0), Le(180)] = 0.0,
    spacing: Sequence[float] | None = None,
) -> Moved:
    """Shift along every axis and turn about the centre, in 3D about every axis.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        rngs: One generator per image.
        translation_mm: Largest shift, drawn evenly up to there in both directions.
        rotation: Largest angle in degrees, drawn likewise.
        spacing: Size of a pixel in mm along each axis; None: 1.
    """
    dimensions = images.ndim - 2
    angles = drawn(rngs, lambda rng: rng.uniform(-rotation, rotation, 1 if dimensions == 2 else 3), images)
    shifts = drawn(rngs, lambda rng: rng.uniform(-translation_mm, translation_mm, dimensions), images)
    matrix, offset = rigid(angles, shifts, spacing or (1.0,) * dimensions)
    # Things are turned and then shifted, so pixels come from where the inverse leads.
    back = torch.linalg.inv(matrix)
    return _moved_by(images, labels, back, -(back @ offset[:, :, None])[:, :, 0])


@corruption(
    budget="degrees",
    unit="degrees",
    presets=presets_of("rotation"),
    summary="The image is turned in its plane.",
)
def rotation(
    images: Images,
    labels: Labels,
    rngs: Rngs,
    degrees: Annotated[float, Ge(0), Le(180)],
    spacing: Sequence[float] | None = None,
) -> Moved:
    """Turn about the centre, either way with equal probability; volumes in the plane of their last axes.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        rngs: One generator per image.
        degrees: The angle.
        spacing: Size of a pixel in mm along each axis; None: 1.
    """
    dimensions = images.ndim - 2
    angles = drawn(
        rngs, lambda rng: [degrees * rng.choice((-1.0, 1.0))] + [0.0] * (2 * dimensions - 4), images
    )
    nowhere = torch.zeros(len(images), dimensions, device=images.device)
    return _moved_by(images, labels, *rigid(angles, nowhere, spacing or (1.0,) * dimensions))


@corruption(
    budget="factor",
    unit="of the size",
    presets=presets_of("shrinking"),
    summary="The camera is further away.",
)
def shrinking(images: Images, labels: Labels, factor: Annotated[float, Gt(0), Le(1)]) -> Moved:
    """Make everything smaller about the centre.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        factor: New size of things relative to the old one.
    """
    dimensions = images.ndim - 2
    matrix = torch.eye(dimensions, device=images.device).expand(len(images), -1, -1) / factor
    return _moved_by(images, labels, matrix, torch.zeros(len(images), dimensions, device=images.device))


@corruption(
    budget="shift",
    unit="pixels at 224",
    presets=presets_of("translation"),
    summary="The image is off centre.",
)
def translation(
    images: Images, labels: Labels, rngs: Rngs, shift: Annotated[float, Ge(0), Le(1000)]
) -> Moved:
    """Shift in a random direction.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        rngs: One generator per image.
        shift: How far, in pixels of an image whose shorter side has 224.
    """
    dimensions = images.ndim - 2

    def way(rng: np.random.Generator) -> object:
        drawing = rng.standard_normal(dimensions)
        return shift * scale_of(images) * drawing / np.linalg.norm(drawing)

    matrix = torch.eye(dimensions, device=images.device).expand(len(images), -1, -1)
    return _moved_by(images, labels, matrix, drawn(rngs, way, images))


@corruption(
    budget="shift",
    unit="of the width",
    dimensions=(2,),
    presets=presets_of("row_shift"),
    summary="The eye moves while a scan of the retina is acquired row by row.",
    source="MedFM-Robust",
)
def row_shift(
    images: Images,
    labels: Labels,
    rngs: Rngs,
    shift: Annotated[float, Ge(0), Le(1)],
    blocks: Annotated[int, Ge(1), Le(100)] = 3,
) -> Moved:
    """Shift 1 to `blocks` blocks of rows sideways, each an eighth to a third of the height.

    Shifts are whole pixels; those of blocks that overlap add up.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        rngs: One generator per image.
        shift: Largest shift, drawn evenly up to there in both directions, in widths of the image.
        blocks: Largest number of blocks.
    """
    high, wide = images.shape[2:]

    def sideways(rng: np.random.Generator) -> object:
        by = np.zeros(high)
        for _ in range(rng.integers(1, blocks + 1)):
            rows = round(high * rng.uniform(1 / 8, 1 / 3))
            start = rng.integers(0, high - rows + 1)
            by[start : start + rows] += np.round(wide * rng.uniform(-shift, shift))
        return np.stack([np.zeros((high, wide)), np.repeat(by[:, None], wide, 1)], -1).reshape(-1, 2)

    return resampled(images, labels, voxels((high, wide), images.device) - drawn(rngs, sideways, images))


@corruption(
    budget="displacement_mm",
    unit="mm",
    presets=presets_of("elastic"),
    summary="A smooth random deformation.",
    source="Pérez-García et al. 2021, TorchIO",
)
def elastic(
    images: Images,
    labels: Labels,
    rngs: Rngs,
    displacement_mm: Annotated[float, Ge(0), Le(1000)],
    spacing: Sequence[float] | None = None,
) -> Moved:
    """Displace 7 control points per axis at random and everything between them by cubic B-splines.

    The two outermost layers of control points stay. Where displacements exceed half the distance of two
    control points the image may fold, as ROOD-MRI's larger severities do.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        rngs: One generator per image.
        displacement_mm: Largest displacement of a control point along each axis.
        spacing: Size of a pixel in mm along each axis; None: 1.
    """
    dimensions = images.ndim - 2
    sizes = np.asarray(spacing or (1.0,) * dimensions)

    def control(rng: np.random.Generator) -> object:
        points = rng.uniform(-displacement_mm, displacement_mm, (*(CONTROL_POINTS,) * dimensions, dimensions))
        free = np.zeros((CONTROL_POINTS,) * dimensions, dtype=bool)
        free[(slice(LOCKED, -LOCKED),) * dimensions] = True
        return points * free[..., None] / sizes

    return resampled(
        images,
        labels,
        voxels(images.shape[2:], images.device) + bent(drawn(rngs, control, images), images.shape[2:]),
    )


@corruption(budget=None, summary="The image is mirrored.")
def flip(
    images: Images,
    labels: Labels,
    axis: Annotated[int, Ge(-3), Le(-1)] = -1,
    rename_sides: bool = False,
    sides: Sequence[int] | None = None,
) -> Moved:
    """Mirror along an axis.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        axis: Of the image, counted from the last: -1 exchanges left and right as shown, -2 top and bottom.
        rename_sides: Whether the names of sides (left, right) in label maps change with the place, so that a
            network that goes by the place is right; else they stay with the pixels.
        sides: The class that each becomes then, see `medrobust.core.sides_of`; None: no class has a side.
    """
    made = _arranged(images, labels, lambda part: part.flip(_axis(images, axis)))
    if not rename_sides or sides is None or not task_of(labels).has_maps:
        return made
    renamed = torch.tensor(sides, device=labels.device)[made[1].clamp_min(0)]
    return made[0], torch.where(made[1] == UNKNOWN, UNKNOWN, renamed), made[2]


@corruption(budget=None, summary="The image is turned by quarters.")
def quarter_turns(images: Images, labels: Labels, turns: Annotated[int, Ge(1), Le(3)] = 1) -> Moved:
    """Turn the last two axes by multiples of 90 degrees, about the centre.

    What does not fit into an image that is not square is lost.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        turns: How many quarters, counter-clockwise as shown.
    """
    return _arranged(images, labels, lambda part: part.rot90(turns, (-2, -1)))


@corruption(budget=None, summary="Two axes are exchanged.")
def swapped_axes(
    images: Images,
    labels: Labels,
    first: Annotated[int, Ge(-3), Le(-1)] = -2,
    second: Annotated[int, Ge(-3), Le(-1)] = -1,
) -> Moved:
    """Exchange two axes; what does not fit into an image whose sides differ is lost.

    Args:
        images: Images in [0, 1].
        labels: Their classes.
        first: One axis of the image, counted from the last.
        second: The other one.
    """
    return _arranged(images, labels, lambda part: part.transpose(_axis(images, first), _axis(images, second)))


def voxels(space: Sequence[int], device: torch.device) -> Float[Tensor, "points d"]:
    """Indices of all pixels, relative to the centre of the image."""
    axes = [torch.arange(size, device=device) - (size - 1) / 2 for size in space]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def rigid(
    angles: Float[Tensor, "n turns"], shifts: Float[Tensor, "n d"], spacing: Sequence[float]
) -> tuple[Float[Tensor, "n d d"], Float[Tensor, "n d"]]:
    """Where pixels come from, as a matrix and an offset in pixels about the centre.

    Args:
        angles: In degrees; in 3D about the first, second and third axis, applied as Rz Rx Ry in that frame.
        shifts: In mm along each axis.
        spacing: Size of a pixel in mm along each axis.
    """
    radians = torch.deg2rad(angles.double())
    dimensions = shifts.shape[1]
    if dimensions == 2:
        matrix = _turn(radians[:, 0], 2, (0, 1))
    else:
        x, y, z = (_turn(radians[:, place], 3, pair) for place, pair in enumerate(((1, 2), (2, 0), (0, 1))))
        matrix = z @ x @ y
    sizes = torch.tensor(spacing, dtype=torch.float64, device=shifts.device)
    matrix = matrix * sizes / sizes[:, None]
    return matrix.to(shifts), (shifts.double() / sizes).to(shifts)


def bent(control: Float[Tensor, "n *points d"], space: Sequence[int]) -> Float[Tensor, "n pixels d"]:
    """Displacements of all pixels by cubic B-splines over control points, whose inner cells the image is."""
    made = control.movedim(-1, 1)
    for axis, size in enumerate(space):
        matrix = torch.from_numpy(splines(size, control.shape[1 + axis])).to(control)
        made = (made.movedim(2 + axis, -1) @ matrix.T).movedim(-1, 2 + axis)
    return made.flatten(2).mT


def splines(size: int, control_points: int = CONTROL_POINTS) -> Float[np.ndarray, "{size} {control_points}"]:
    """Weights of the control points along an axis: none is negative, and those of a pixel add up to 1."""
    cells = control_points - 3
    places = (np.arange(size) + 0.5) / size * cells
    cell = np.minimum(places.astype(int), cells - 1)
    t = places - cell
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    matrix = np.zeros((size, control_points))
    for offset, weight in enumerate(weights):
        matrix[np.arange(size), cell + offset] = weight / 6
    return matrix


def sampled(
    images: Images, points: Float[Tensor, "n pixels d"], mode: str = "bilinear"
) -> tuple[Images, Bool[Tensor, "n *space"]]:
    """Values at points, given relative to the centre in pixels; and whether these lie in the image.

    A pixel reaches half a pixel beyond its centre, also at the border.
    """
    space = images.shape[2:]
    halves = torch.tensor(space, device=images.device, dtype=torch.float32) / 2
    inside = (points.abs() <= halves + 1e-4).all(-1).view(len(images), *space)
    grid = (points / halves).flip(-1).view(len(images), *space, len(space))
    made = F.grid_sample(images, grid.to(images), mode=mode, padding_mode="border", align_corners=False)
    return made, inside


def _turn(radians: Tensor, dimensions: int, plane: tuple[int, int]) -> Float[Tensor, "n d d"]:
    """Rotations from the first axis of a plane towards the second."""
    one, other = plane
    matrix = torch.eye(dimensions, dtype=radians.dtype, device=radians.device).repeat(len(radians), 1, 1)
    matrix[:, one, one] = matrix[:, other, other] = radians.cos()
    matrix[:, other, one] = radians.sin()
    matrix[:, one, other] = -radians.sin()
    return matrix


def _moved_by(
    images: Images, labels: Labels, matrix: Float[Tensor, "n d d"], offset: Float[Tensor, "n d"]
) -> Moved:
    return resampled(images, labels, voxels(images.shape[2:], images.device) @ matrix.mT + offset[:, None])


def resampled(images: Images, labels: Labels, points: Float[Tensor, "n pixels d"]) -> Moved:
    """Every pixel takes what lies at its point."""
    made, valid = sampled(images, points)
    made = torch.where(valid[:, None], made, images.amin(tuple(range(2, images.ndim)), keepdim=True))
    if not task_of(labels).has_maps:
        return made.clamp(0, 1), labels.clone(), valid
    nearest, _ = sampled(labels[:, None].float(), points, mode="nearest")
    return made.clamp(0, 1), torch.where(valid, nearest[:, 0].round().long(), UNKNOWN), valid


def _arranged(images: Images, labels: Labels, arrange: Callable[[Tensor], Tensor]) -> Moved:
    """Pixels in another order, cut and filled up to the same size about the centre."""
    space = images.shape[2:]

    def fitted(part: Tensor, fill: Tensor) -> Tensor:
        turned = arrange(part)
        made = fill.expand_as(part).clone()
        into, out_of = made, turned
        for axis, (had, size) in enumerate(zip(turned.shape[-len(space) :], space, strict=True), -len(space)):
            both = min(had, size)
            into = into.narrow(axis, (size - both) // 2, both)
            out_of = out_of.narrow(axis, (had - both) // 2, both)
        into.copy_(out_of)
        return made

    made = fitted(images, images.amin(tuple(range(2, images.ndim)), keepdim=True))
    valid = fitted(torch.ones_like(images[:, 0], dtype=torch.bool), torch.tensor(False, device=images.device))
    if not task_of(labels).has_maps:
        return made, labels.clone(), valid
    return made, fitted(labels, torch.tensor(UNKNOWN, device=labels.device)), valid


def _axis(images: Tensor, axis: int) -> int:
    """An axis counted from the last, which images of two dimensions have only two of."""
    if -axis > images.ndim - 2:
        raise ValueError(f"axis: images have {images.ndim - 2} dimensions, got axis {axis}; use -1 or -2.")
    return axis

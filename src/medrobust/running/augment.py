"""Affine augmentation of a batch: one random rotation, scaling, shear, shift and reflection per image."""

from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from medrobust.study.training import Augmentation


def moved(
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    amount: Augmentation,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "n c *space"], Int64[Tensor, "n *labelspace"]]:
    """Images in [0, 1] moved at random, and label maps with them.

    Images are interpolated linearly, label maps by the nearest neighbour, so that what is `UNKNOWN` in them
    stays it. What enters from outside is 0, background, in label maps, and the reflected image where an image
    has its labels as a whole.
    """
    space = images.shape[2:]
    matrices = torch.from_numpy(_movements(len(images), tuple(space), amount, rng)).to(images)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    if labels.ndim < images.ndim - 1:
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False), labels
    maps = F.grid_sample(labels[:, None].to(images), grid, mode="nearest", align_corners=False)
    return F.grid_sample(images, grid, align_corners=False), maps[:, 0].long()


def _movements(
    n: int, space: tuple[int, ...], amount: Augmentation, rng: np.random.Generator
) -> Float64[np.ndarray, "n d e"]:
    """Maps from output to input positions: matrices in torch's order (x first) and units."""
    sides = np.array(space[::-1], dtype=float)
    d = len(sides)
    matrices = np.eye(d) * rng.uniform(1 - amount.scale, 1 + amount.scale, (n, 1, d))
    shear = np.tan(np.radians(rng.uniform(-amount.shear, amount.shear, n)))
    matrices[:, 0] += shear[:, None] * matrices[:, 1]
    for first, second in combinations(range(d), 2):
        angles = np.radians(rng.uniform(-amount.rotation, amount.rotation, n))
        matrices = _rotations(angles, d, first, second) @ matrices
    if amount.flip:
        matrices[:, 0] *= rng.choice([-1.0, 1.0], (n, 1))
    # Positions run from -1 to 1 along every side: without this a rotation of an oblong image would shear it.
    matrices = matrices * sides / sides[:, None]
    shifts = 2 * rng.uniform(-amount.shift, amount.shift, (n, d, 1))
    return np.concatenate([matrices, shifts], 2)


def _rotations(
    angles: Float64[np.ndarray, "n"], d: int, first: int, second: int
) -> Float64[np.ndarray, "n d d"]:
    turns = np.tile(np.eye(d), (len(angles), 1, 1))
    turns[:, first, first] = turns[:, second, second] = np.cos(angles)
    turns[:, first, second], turns[:, second, first] = -np.sin(angles), np.sin(angles)
    return turns

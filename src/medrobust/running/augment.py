"""Augmentation of a batch: one random movement per image, corruptions of a study, Gaussian noise."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from medrobust.perturbations import Request
from medrobust.perturbations import moved as applied
from medrobust.study.training import Augmentation

CORRUPTED = 0.5
"""Share of the images that are corrupted, on average."""


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


def corrupted(
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    corruptions: Sequence[Request],
    rngs: Sequence[np.random.Generator],
    spacing: Sequence[float] | None = None,
    sides: Sequence[int] | None = None,
) -> tuple[Float[Tensor, "n c *space"], Int64[Tensor, "n *labelspace"]]:
    """Put half of the images, on average, through one family each, at one of its strengths.

    Every family is as likely, and in it every strength. Label maps move with the pixels where these do, and
    are `UNKNOWN` where a pixel shows nothing of the image.

    Args:
        images: Images in [0, 1].
        labels: True classes.
        corruptions: Of every family one request per strength.
        rngs: One generator per image.
        spacing: Size of a pixel in mm; None where unknown.
        sides: The class that each becomes where left and right change names.

    Source: Rusak et al. 2020, A simple way to make neural networks robust against diverse image corruptions:
        half of a batch stays clean.
    """
    families: dict[str, list[Request]] = {}
    for each in corruptions:
        families.setdefault(each.curve or each.label, []).append(each)
    names, chosen = list(families), dict[str, tuple[Request, list[int]]]()
    for place, rng in enumerate(rngs):
        if rng.random() < CORRUPTED:
            strengths = families[names[rng.integers(len(names))]]
            request = strengths[rng.integers(len(strengths))]
            chosen.setdefault(request.label, (request, []))[1].append(place)
    images, labels = images.clone(), labels.clone()
    for request, places in chosen.values():
        # As wherever corruptions are made: on the CPU, so that they are the same on every machine.
        made = applied(
            request,
            images[places].cpu(),
            labels[places].cpu(),
            rngs=[rngs[place] for place in places],
            spacing=spacing,
            sides=sides,
        )
        images[places], labels[places] = made.images.to(images), made.labels.to(labels)
    return images, labels


def noisy(
    images: Float[Tensor, "n c *space"], sigma: float, rngs: Sequence[np.random.Generator]
) -> Float[Tensor, "n c *space"]:
    """Images with Gaussian noise of one standard deviation everywhere, not clipped to [0, 1].

    This is the noise under which a smoothed network votes.

    Source: Cohen, Rosenfeld, Kolter 2019, Certified adversarial robustness via randomized smoothing, section
        3.3.
    """
    drawn = np.stack([rng.standard_normal(images.shape[1:], dtype=np.float32) for rng in rngs])
    return images + sigma * torch.from_numpy(drawn).to(images)


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

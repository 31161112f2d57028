"""Noise of a given strength, or of the strength at which an image has a given SSIM.

Noise is drawn from one generator per image and scaled afterwards, so that an image's noise keeps its pattern
while its strength is solved for.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int64
from pydantic import GetPydanticSchema
from torch import Tensor

from medrobust.errors import unknown
from medrobust.metrics.similarity import ssim
from medrobust.parameters import Ratio
from medrobust.perturbations.entry import perturbation
from medrobust.perturbations.geometry import per_image, rows, within
from medrobust.perturbations.gradients import Model
from medrobust.perturbations.strength import Solution, first_strength, solve_strength
from medrobust.rng import generators_of

LARGEST_STRENGTH = 10.0

Strength = Annotated[
    float | Tensor, GetPydanticSchema(lambda _, handler: handler.generate_schema(Annotated[Ratio, Ge(0)]))
]
"""A study gives one number, of at least 0; the program may give one for every image."""

Noise = Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]
"""Noisy images, not clipped, for images, standard normal draws, and strengths `n 1 ...`."""

NOISES: dict[str, tuple[int, Noise]] = {
    "gaussian": (1, lambda images, draws, scale: images + scale * draws[0]),
    "rician": (2, lambda images, draws, scale: torch.hypot(images + scale * draws[0], scale * draws[1])),
}
"""How many fields a noise draws, and what it does with them."""


@perturbation(role="clean", needs="nothing", summary="The image as it is.")
def clean(
    model: Model | None,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
) -> Float[Tensor, "n c *space"]:
    """Copy the images; nothing else is used."""
    return images.clone()


@perturbation(role="noise", needs="nothing", revision=2, summary="Gaussian noise.")
def gaussian(
    model: Model | None,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    strength: Strength,
) -> Float[Tensor, "n c *space"]:
    """Add Gaussian noise, and clip to [0, 1].

    Args:
        model: Unused.
        images: Clean images in [0, 1].
        labels: Unused.
        support: Where images may change.
        rngs: One generator per image.
        strength: Standard deviation, at least 0; one for all images or one for each.
    """
    return add_noise("gaussian", images, draw("gaussian", images, rngs), strength, support)


@perturbation(
    role="noise",
    needs="nothing",
    revision=2,
    summary="Noise of a magnitude MR image.",
    source="Gudbjartsson and Patz 1995, The Rician distribution of noisy MRI data",
)
def rician(
    model: Model | None,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    strength: Strength,
) -> Float[Tensor, "n c *space"]:
    """Add Gaussian noise to both parts of the complex signal of a magnitude MR image, and clip to [0, 1].

    Args:
        model: Unused.
        images: Clean images in [0, 1].
        labels: Unused.
        support: Where images may change.
        rngs: One generator per image.
        strength: Standard deviation in each part, at least 0; one for all images or one for each.
    """
    return add_noise("rician", images, draw("rician", images, rngs), strength, support)


def match_noise(
    name: str,
    images: Float[Tensor, "n c *space"],
    ssim_goal: Float[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
) -> Solution:
    """Solve for the strength at which the noise of each image has a given SSIM over the support.

    Args:
        name: "gaussian" or "rician".
        images: Clean images in [0, 1].
        ssim_goal: Wanted SSIM, usually that of an attack. 1, or NaN (an empty support), gives a strength of
            0.
        support: Where images may change, and over which SSIM is taken; None: everywhere.
        rngs: One generator per image; None: those of seed 0. They are copied, so that the same generators
            give the noise that was solved for.

    Returns:
        Strengths; a match is `reached` if its SSIM is within max(0.05 (1 - goal), 1e-5) of the goal.

    Raises:
        ValueError: An unknown name.
    """
    draws = draw(name, images, copy.deepcopy(rngs))
    changed = (ssim_goal < 1).nonzero()[:, 0]
    goal, draws = ssim_goal[changed], [field[changed] for field in draws]
    clean, where = images[changed], rows(support, changed)

    def evaluate(some: Tensor, strength: Tensor) -> Tensor:
        fields, place = [field[some] for field in draws], rows(where, some)
        return ssim(clean[some], add_noise(name, clean[some], fields, strength, place), place)

    def noisy(strength: Tensor) -> Tensor:
        return add_noise(name, clean, draws, strength, where)

    tolerance = (0.05 * (1 - goal)).clamp_min(1e-5)
    first = first_strength(noisy, clean, goal, where, LARGEST_STRENGTH)
    solution = solve_strength(evaluate, goal, tolerance, first=first, largest=LARGEST_STRENGTH)
    strength, reached_ssim = torch.zeros_like(ssim_goal), ssim_goal.clone()
    reached = torch.ones_like(ssim_goal, dtype=torch.bool)
    strength[changed], reached_ssim[changed], reached[changed] = solution
    return Solution(strength, reached_ssim, reached)


def add_noise(
    name: str,
    images: Float[Tensor, "n c *space"],
    draws: Sequence[Float[Tensor, "n c *space"]],
    strength: float | Float[Tensor, " n"],
    support: Bool[Tensor, "n 1 *space"] | None,
) -> Float[Tensor, "n c *space"]:
    """Scale standard normal draws and apply them within the support.

    Raises:
        ValueError: A strength that is negative, not finite, or not one per image.
    """
    scale = torch.as_tensor(strength, dtype=images.dtype, device=images.device)
    fits = scale.ndim == 0 or scale.shape == (len(images),)
    if not fits or not bool((scale.isfinite() & (scale >= 0)).all()):
        raise ValueError(
            f"strength: must be one number of at least 0, or one for each of {len(images)} images, got "
            f"{strength}."
        )
    _, apply = NOISES[name]
    return within(apply(images, draws, per_image(scale.expand(len(images)), images)), images, support)


def draw(
    name: str, images: Float[Tensor, "n c *space"], rngs: Sequence[np.random.Generator] | None
) -> list[Float[Tensor, "n c *space"]]:
    """Standard normal numbers for the fields of a noise, drawn on the CPU from each image's own generator.

    Raises:
        ValueError: An unknown noise, or not one generator per image.
    """
    if name not in NOISES:
        raise ValueError(unknown("noise", name, NOISES))
    rngs = generators_of(rngs, len(images))
    shape = (NOISES[name][0], *images.shape[1:])
    drawn = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs], axis=1)
    return list(torch.from_numpy(drawn).to(images.device))

"""The image as it is, and noise of a given strength, drawn from one generator per image."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int64
from pydantic import GetPydanticSchema
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.perturbations.entry import perturbation
from medrobust.perturbations.geometry import per_image, within
from medrobust.perturbations.gradients import Model
from medrobust.rng import generators_of

Strength = Annotated[
    float | Float[Tensor, " n"],
    GetPydanticSchema(lambda _, handler: handler.generate_schema(Annotated[Ratio, Ge(0)])),
]
"""A study gives one number, of at least 0; the program may give one for each image."""


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


@perturbation(role="noise", needs="nothing", strength_of_each=True, revision=2, summary="Gaussian noise.")
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
    (field,) = _fields(images, rngs, strength, count=1)
    return within(images + field, images, support)


@perturbation(
    role="noise",
    needs="nothing",
    strength_of_each=True,
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
    real, imaginary = _fields(images, rngs, strength, count=2)
    return within(torch.hypot(images + real, imaginary), images, support)


@perturbation(
    role="noise",
    needs="nothing",
    norms=("inf",),
    uses_whole_budget=True,
    strength_of_each=True,
    beyond_paper=True,
    summary="Every entry by the whole budget, up or down at random.",
)
def random_signs(
    model: Model | None,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    eps: Strength,
) -> Float[Tensor, "n c *space"]:
    """Add or subtract `eps` at every entry, and clip to [0, 1].

    The control of an attack with a budget in the L-infinity norm: FGSM goes to a corner of the same ball, and
    so does this, to one that no network has chosen.

    Args:
        model: Unused.
        images: Clean images in [0, 1].
        labels: Unused.
        support: Where images may change.
        rngs: One generator per image.
        eps: Change of every entry, at least 0; one for all images or one for each.
    """
    (field,) = _fields(images, rngs, eps, count=1, name="eps")
    scale = torch.as_tensor(eps, dtype=images.dtype, device=images.device).expand(len(images))
    return within(images + per_image(scale, images) * field.sign(), images, support)


def _fields(
    images: Float[Tensor, "n c *space"],
    rngs: Sequence[np.random.Generator] | None,
    strength: float | Float[Tensor, " n"],
    *,
    count: int,
    name: str = "strength",
) -> list[Float[Tensor, "n c *space"]]:
    """Normal numbers of standard deviation `strength`, drawn on the CPU from each image's own generator.

    `name` is that of the strength, for messages.

    Raises:
        ValueError: A strength that is negative or not finite, or not one strength or generator per image.
    """
    scale = torch.as_tensor(strength, dtype=images.dtype, device=images.device)
    fits = scale.ndim == 0 or scale.shape == (len(images),)
    if not fits or not bool((scale.isfinite() & (scale >= 0)).all()):
        raise ValueError(
            f"{name}: must be a number of at least 0, got {strength}; or one for each of {len(images)} "
            "images."
        )
    shape = (count, *images.shape[1:])
    drawn = [rng.standard_normal(shape, dtype=np.float32) for rng in generators_of(rngs, len(images))]
    scale = per_image(scale.expand(len(images)), images)
    return [scale * torch.from_numpy(field).to(images.device) for field in np.stack(drawn, axis=1)]

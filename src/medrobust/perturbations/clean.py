"""The perturbation that changes nothing: clean images take the same way through a study as all others."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.perturbations.checks import check_inputs
from medrobust.perturbations.gradients import Model, ordinary_mode


@ordinary_mode()
def clean(
    model: Model | None,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
) -> Float[Tensor, "n c *space"]:
    """Copy the images.

    Args:
        model: Not needed.
        images: Images in [0, 1].
        labels: True classes.
        support: Not needed.
        rngs: Not needed.

    Returns:
        The same images.
    """
    check_inputs(images, labels, support)
    return images.clone()

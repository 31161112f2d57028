"""Random numbers of a batch: drawn for each image by its own generator, on the CPU."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from medrobust.perturbations.geometry import per_image

Rngs = Sequence[np.random.Generator]
"""One generator per image."""


def drawn(rngs: Rngs, draw: Callable[[np.random.Generator], object], images: Tensor) -> Tensor:
    """What each generator gives, stacked along a first axis, as float32 beside the images."""
    values = np.stack([np.asarray(draw(rng), dtype=np.float32) for rng in rngs])
    return torch.from_numpy(values).to(images.device)


def signs(rngs: Rngs, images: Tensor) -> Tensor:
    """1 or -1 for each image, equally often, in a shape that goes with the images."""
    return per_image(drawn(rngs, lambda rng: rng.choice((-1.0, 1.0)), images), images)

"""The images that an attack of a fixed budget may make."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.perturbations.support import rows, within

Norm = Literal["inf", "2"]


class Ball(NamedTuple):
    """Images in [0, 1] no farther than `eps` from the clean ones, and equal to them outside of the support.

    Attributes:
        clean: The centres.
        support: Where images may change; None: everywhere.
        eps: The radius.
        norm: "inf": of the largest change of an entry; "2": of the Euclidean norm of all changes.
    """

    clean: Float[Tensor, "n c *space"]
    support: Bool[Tensor, "n 1 *space"] | None
    eps: float
    norm: Norm

    def rows(self, index: Int64[Tensor, " r"]) -> "Ball":
        """The same around some of the images."""
        return self._replace(clean=self.clean[index], support=rows(self.support, index))

    def project(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """The nearest images that are allowed; for "2" nearest in the ball, then in [0, 1]."""
        change = self._supported(images - self.clean)
        if self.norm == "inf":
            change = change.clamp(-self.eps, self.eps)
        else:
            size = lengths(change).clamp_min(torch.finfo(change.dtype).tiny)
            change = change * (self.eps / size).clamp_max(1)
        # The clean image lies in [0, 1], so clipping brings images nearer to it and never out of the ball.
        return within(self.clean + change, self.clean, self.support)

    def steepest(self, gradient: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """The change of norm 1 along which a function of that gradient grows most; 0 where it vanishes."""
        if self.norm == "inf":
            return gradient.sign()
        gradient = self._supported(gradient)
        return gradient / lengths(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)

    def random_images(self, rngs: Sequence[np.random.Generator] | None) -> Float[Tensor, "n c *space"]:
        """Images drawn uniformly from the ball, each by its own generator, then clipped to [0, 1].

        Raises:
            ValueError: Not one generator per image.
        """
        if rngs is None or len(rngs) != len(self.clean):
            raise ValueError(
                f"rngs: a random start needs one generator per image, {len(self.clean)} in all, got "
                f"{None if rngs is None else len(rngs)}; pass [medrobust.rng.generator(seed, key), ...] or "
                "random_start=False."
            )
        shape = tuple(self.clean.shape[1:])
        if self.norm == "inf":
            drawn = np.stack([rng.uniform(-self.eps, self.eps, shape) for rng in rngs])
            return self.project(self.clean + torch.from_numpy(drawn).to(self.clean))
        directions = np.stack([rng.standard_normal(shape) for rng in rngs])
        shares = torch.tensor([rng.uniform() for rng in rngs], dtype=torch.float64)
        change = self._supported(torch.from_numpy(directions).to(self.clean))
        # The volume within a radius grows with its power of the number of entries that can change.
        entries = torch.full_like(shares, float(np.prod(shape)))
        if self.support is not None:
            entries = self.support.flatten(1).sum(1).cpu().double().clamp_min(1) * shape[0]
        radii = (self.eps * shares ** (1 / entries)).to(self.clean).view(-1, *[1] * len(shape))
        size = lengths(change).clamp_min(torch.finfo(change.dtype).tiny)
        return self.project(self.clean + radii * change / size)

    def _supported(self, change: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        return change if self.support is None else change * self.support


def lengths(images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *ones"]:
    """Euclidean norm of each, in a shape that divides `images`."""
    each: Tensor = torch.linalg.vector_norm(images.flatten(1), dim=1)
    return each.view(-1, *[1] * (images.ndim - 1))

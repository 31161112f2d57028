"""The images that an attack of a fixed budget may make."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.perturbations.norms import Norm, lengths, per_image, unit
from medrobust.perturbations.support import rows, within


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
        change = self.supported(images - self.clean)
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
        return unit(self.supported(gradient))

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
        change = self.supported(torch.from_numpy(directions).to(self.clean))
        # The volume within a radius grows with its power of the number of entries that can change.
        entries = torch.full_like(shares, float(np.prod(shape)))
        if self.support is not None:
            entries = self.support.flatten(1).sum(1).cpu().double().clamp_min(1) * shape[0]
        radii = per_image((self.eps * shares ** (1 / entries)).to(self.clean), self.clean)
        return self.project(self.clean + radii * unit(change))

    def supported(self, change: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """A change within the support; 0 elsewhere."""
        return change if self.support is None else torch.where(self.support, change, 0)

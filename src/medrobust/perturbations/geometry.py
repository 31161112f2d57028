"""Norms of images and of their gradients, of whatever magnitude these are.

Squares of float32 numbers below 1e-23 vanish and those above 1e19 are infinite, so every image is scaled
first: by a power of two, which rounds nothing. Also where images may change: supports, steps and balls.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from scipy.ndimage import binary_fill_holes
from torch import Tensor

Norm = Literal["inf", "2"]

BallNorm = Literal["inf", "2", "1"]
"""Norms that a budget can be in."""

_EXPONENTS = 126
"""Up to here, powers of two and their inverses are normal float32 numbers."""


def lengths(images: Float[Tensor, "n c *space"], order: float = 2.0) -> Float[Tensor, "n *ones"]:
    """Norm of each image, in a shape that divides `images`.

    Args:
        images: Of any magnitude, finite.
        order: 2: the Euclidean norm; 1: the sum of magnitudes; `math.inf`: the largest magnitude.
    """
    scale = _scales(images)
    return _norms(images * scale, order) / scale


def unit(images: Float[Tensor, "n c *space"], order: float = 2.0) -> Float[Tensor, "n c *space"]:
    """Every image divided by its norm of that order, see `lengths`; one that is 0 everywhere stays so."""
    scaled = images * _scales(images)
    return scaled / _norms(scaled, order).clamp_min(torch.finfo(images.dtype).tiny)


def per_image(values: Shaped[Tensor, " n"], images: Tensor) -> Shaped[Tensor, "n *ones"]:
    """One number for each image, in a shape that goes with `images`."""
    return values.view(-1, *[1] * (images.ndim - 1))


def _norms(images: Tensor, order: float) -> Tensor:
    if order == torch.inf:  # which the function below takes 20 times as long to find
        return images.abs().amax(tuple(range(1, images.ndim)), keepdim=True)
    return per_image(torch.linalg.vector_norm(images.flatten(1), ord=order, dim=1), images)


def _scales(images: Tensor) -> Tensor:
    """Powers of two that bring the largest magnitude of each image to about 1."""
    exponents = torch.frexp(_norms(images, torch.inf)).exponent
    return torch.exp2(-exponents.clamp(-_EXPONENTS, _EXPONENTS).to(images.dtype))


def acted_on(
    support: Bool[Tensor, "n 1 *space"],
    images: Float[Tensor, "n c *space"],
    made: Float[Tensor, "n c *space"],
) -> Bool[Tensor, "n 1 *space"]:
    """Where the similarity of what ignores the support is taken: there, and wherever anything has changed."""
    return support | (made != images).any(1, keepdim=True)


SupportMode = Literal["auto", "image", "foreground"]

STRIPPED_SHARE = 0.05
"""An image of which at least this fraction is exactly zero counts as skull-stripped."""


def support_of(images: Float[Tensor, "n c *space"], mode: SupportMode = "auto") -> Bool[Tensor, "n 1 *space"]:
    """The support of every image.

    Args:
        images: Clean images in [0, 1].
        mode: "image": everything. "foreground": the pixels with a channel that is not zero, holes filled.
            "auto": the foreground of an image of which at least 5 % is exactly zero (skull-stripped MRI),
            else everything.

    Returns:
        True where attack and noise may act.

    Raises:
        ValueError: An unknown mode.
    """
    if mode not in ("auto", "image", "foreground"):
        raise ValueError(f"mode: must be 'auto', 'image' or 'foreground', got {mode!r}.")
    if mode == "image":
        return torch.ones_like(images[:, :1], dtype=torch.bool)
    nonzero = (images != 0).any(1).cpu().numpy()
    supports = [
        binary_fill_holes(image)
        if mode == "foreground" or np.mean(~image) >= STRIPPED_SHARE
        else np.ones_like(image)
        for image in nonzero
    ]
    return torch.from_numpy(np.stack(supports)[:, None]).to(images.device)


def within(
    images: Float[Tensor, "n c *space"],
    clean: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
) -> Float[Tensor, "n c *space"]:
    """`images` clipped to [0, 1], and the clean ones outside of the support."""
    clipped = images.clamp(0, 1)
    return clipped if support is None else torch.where(support, clipped, clean)


def rows(support: Bool[Tensor, "n 1 *space"] | None, index: Tensor) -> Tensor | None:
    """The support of some of the images."""
    return None if support is None else support[index]


def step_inside(
    images: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
    gradient: Float[Tensor, "n c *space"],
    rise: Float[Tensor, " n"],
    norm: BallNorm,
) -> Float[Tensor, "n c *space"]:
    """The step of smallest norm by which a linear function of each image rises by `rise`, inside [0, 1].

    Were there no range, it would follow the gradient ("2") or its sign ("inf"). Entries that would leave the
    range stop at its end, the others share what is left to rise, and so on until none leaves. That ends after
    finitely many rounds with the exact solution, since the rise is a concave and piecewise linear function of
    how far the others go. With "1" the steepest entry goes to the end of its range, then the next, and so on
    as far as needed. Where no step rises enough, it is the one that rises most.
    """
    slopes = unit(gradient, torch.inf)
    rise = rise / lengths(gradient, torch.inf).flatten().clamp_min(torch.finfo(rise.dtype).tiny)
    steep = slopes.abs()
    room = torch.where(slopes > 0, 1 - images, images)
    free = (steep > 0) & (room > 0)
    if support is not None:
        free &= support
    room = room * free
    if norm == "1":
        gains, order = (steep * room).flatten(1).double(), steep.flatten(1).argsort(1, descending=True)
        sorted_gains = gains.gather(1, order)
        before = sorted_gains.cumsum(1) - sorted_gains
        shares = ((rise[:, None] - before) / sorted_gains.clamp_min(torch.finfo(gains.dtype).tiny)).clamp(
            0, 1
        )
        taken = torch.zeros_like(gains).scatter_(1, order, shares).to(room).view_as(room)
        return slopes.sign() * taken * room
    pace = steep if norm == "2" else torch.ones_like(steep)
    while True:
        left = rise - torch.where(free, 0, steep * room).flatten(1).sum(1)
        rate = torch.where(free, steep * pace, 0).flatten(1).sum(1)
        far = per_image(left / rate.clamp_min(torch.finfo(rate.dtype).tiny), images) * pace
        leaving = free & (far > room)
        if not leaving.any():
            return slopes.sign() * torch.where(free, far, room)
        free &= ~leaving


class Ball(NamedTuple):
    """Images in [0, 1] at most `eps` away from the clean ones, and equal to them outside the support."""

    clean: Float[Tensor, "n c *space"]
    support: Bool[Tensor, "n 1 *space"] | None
    eps: float | Float[Tensor, " n"]  # of all images, or of each
    norm: BallNorm  # of which eps is the largest

    def rows(self, index: Int64[Tensor, " r"]) -> "Ball":
        """The same for some of the images."""
        eps = self.eps[index] if isinstance(self.eps, Tensor) else self.eps
        return self._replace(clean=self.clean[index], support=rows(self.support, index), eps=eps)

    @property
    def radius(self) -> Float[Tensor, "#n *ones"]:
        """`eps`, in a shape that goes with the images."""
        return per_image(torch.as_tensor(self.eps).to(self.clean).view(-1), self.clean)

    def project(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """The nearest allowed images; for "2" the nearest in the ball, then in [0, 1]."""
        change = self.supported(images - self.clean)
        if self.norm == "inf":
            change = change.clamp(-self.radius, self.radius)
        elif self.norm == "2":
            size = lengths(change).clamp_min(torch.finfo(change.dtype).tiny)
            change = change * (self.radius / size).clamp_max(1)
        else:
            change = self._shrunk(change)
        # The clean image lies in [0, 1], so clipping brings images nearer to it and never out of the ball.
        return within(self.clean + change, self.clean, self.support)

    def _shrunk(self, change: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """The nearest changes inside [0, 1] whose magnitudes add up to `eps` at most.

        The same amount is taken from all magnitudes, which end at 0 and at the room in the range, so their
        sum falls along a line between the amounts at which an entry leaves its room or arrives at 0.

        Source: Croce, Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers".
        """
        sizes = change.abs().flatten(1).double()
        room = torch.where(change > 0, 1 - self.clean, self.clean).flatten(1).double()
        eps = torch.as_tensor(self.eps, dtype=torch.float64, device=change.device).expand(len(change))
        excess = (sizes.minimum(room).sum(1) - eps)[:, None]  # what has to go
        amounts, order = torch.cat([(sizes - room).clamp_min(0), sizes], 1).sort(1)
        falling = torch.where(order < sizes.shape[1], 1.0, -1.0).to(amounts).cumsum(1)
        steps = amounts.diff(dim=1) * falling[:, :-1]
        gone = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
        last = ((gone <= excess).sum(1, keepdim=True) - 1).clamp_min(0)
        # Where nothing falls any more, rounding alone is left.
        beyond = (excess - gone.gather(1, last)) / falling.gather(1, last).clamp_min(1)
        amount = torch.where(excess > 0, amounts.gather(1, last) + beyond, 0)
        kept = (sizes - amount).clamp_min(0).minimum(room).view_as(change).to(change)
        return change.sign() * kept

    def steepest(self, gradient: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """The change of norm 1 by which a function with that gradient grows most; 0 where it vanishes.

        For "1" it is a single entry, the first of the steepest.
        """
        if self.norm == "inf":
            return gradient.sign()
        gradient = self.supported(gradient)
        if self.norm == "2":
            return unit(gradient)
        flat = gradient.flatten(1)
        first = flat.abs().max(1, keepdim=True).indices
        return torch.zeros_like(flat).scatter(1, first, flat.gather(1, first).sign()).view_as(gradient)

    def random_images(self, rngs: Sequence[np.random.Generator]) -> Float[Tensor, "n c *space"]:
        """Images drawn uniformly from the ball, each by its own generator, then brought into [0, 1]."""
        shape = tuple(self.clean.shape[1:])
        if self.norm == "inf":
            each = self.eps.tolist() if isinstance(self.eps, Tensor) else [self.eps] * len(rngs)
            drawn = np.stack([rng.uniform(-eps, eps, shape) for rng, eps in zip(rngs, each, strict=True)])
            return self.project(self.clean + torch.from_numpy(drawn).to(self.clean))
        directions = np.stack(
            [rng.standard_normal(shape) if self.norm == "2" else rng.laplace(size=shape) for rng in rngs]
        )
        shares = torch.tensor([rng.uniform() for rng in rngs], dtype=torch.float64)
        change = self.supported(torch.from_numpy(directions).to(self.clean))
        # The volume within a radius grows with its power of the number of entries that can change.
        entries = torch.full_like(shares, float(np.prod(shape)))
        if self.support is not None:
            entries = self.support.flatten(1).sum(1).cpu().double().clamp_min(1) * shape[0]
        sizes = torch.as_tensor(self.eps, dtype=torch.float64).cpu() * shares ** (1 / entries)
        radii = per_image(sizes.to(self.clean), self.clean)
        return self.project(self.clean + radii * unit(change, float(self.norm)))

    def supported(self, change: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """A change within the support; 0 elsewhere."""
        return change if self.support is None else torch.where(self.support, change, 0)

"""The nearest images that fool a network, among all that an attack comes by."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from medrobust.core import UNKNOWN
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Tally
from medrobust.perturbations.geometry import lengths, per_image, rows, within
from medrobust.perturbations.gradients import (
    Model,
    Pullback,
    fraction_wrong,
    linearise,
    margin,
    predict,
)

AnyNorm = Literal["inf", "2", "1", "0"]
"""What can be made small: the largest change of an entry, the Euclidean norm, the sum of magnitudes, or the
number of entries that change."""


class Nearest:
    """Images on their way, and the nearest ones so far that fool the network.

    Images that the network already gets wrong enough take no part and stay as they are. An image that never
    fools it counts by the share of labels that it gets wrong, the last of equal ones.

    Attributes:
        places: Of the images that take part; all other attributes are about these.
        clean: The clean images.
        labels: Their labels.
        support: Where they may change.
        here: Where they are.
        fooled: Whether the network is fooled there.
        found: Whether it has been fooled so far.
        sizes: Norm of the smallest change that did; infinite if none has.
    """

    def __init__(
        self,
        model: Model,
        images: Float[Tensor, "n c *space"],
        labels: Int64[Tensor, "n *labelspace"],
        support: Bool[Tensor, "n 1 *space"] | None,
        norm: AnyNorm,
        *,
        share: float = 1.0,
    ) -> None:
        """Leave out the images of which a fraction `share` of the labels is already predicted wrong."""
        logits = predict(model, images)
        check_logits(logits, labels)
        wrong = fraction_wrong(logits.max(1).indices, labels)
        self.places = (wrong < share).nonzero()[:, 0]
        self._model, self._norm, self._share, self._all = model, norm, share, images
        self.clean, self.labels = images[self.places], labels[self.places]
        self.support = rows(support, self.places)
        self.here = self.clean
        self.fooled = torch.zeros_like(self.places, dtype=torch.bool)
        self.found = self.fooled
        self.sizes = torch.full_like(self.clean.flatten(1)[:, 0], torch.inf)
        self._wrong = torch.zeros_like(wrong[self.places])
        self._best = self.clean.clone()

    @property
    def change(self) -> Float[Tensor, "r c *space"]:
        """How far the images are from the clean ones."""
        return self.here - self.clean

    def go(self, change: Float[Tensor, "r c *space"]) -> None:
        """Go to where the images have changed so much, inside of [0, 1] and of the support."""
        self.here = within(self.clean + change, self.clean, self.support)

    def supported(self, gradient: Float[Tensor, "r c *space"]) -> Float[Tensor, "r c *space"]:
        """A gradient within the support; 0 elsewhere."""
        return gradient if self.support is None else torch.where(self.support, gradient, 0)

    def look(self) -> tuple[Float[Tensor, "r k *labelspace"], Pullback]:
        """Show the network the images and keep those that are nearer than any before: logits, way back."""
        logits, pullback = linearise(self._model, self.here)
        self._keep(logits)
        return logits, pullback

    def result(self, tally: Tally | None, steps: int) -> Float[Tensor, "n c *space"]:
        """The nearest of all images seen, and where they are now, after so many steps."""
        if len(self.places):
            self._keep(predict(self._model, self.here))
        if tally is not None:
            tally.steps = torch.zeros(len(self._all), dtype=torch.int64, device=self._all.device)
            tally.steps[self.places] = steps
        result = self._all.clone()
        result[self.places] = self._best
        return result

    def _keep(self, logits: Float[Tensor, "r k *labelspace"]) -> None:
        check_logits(logits, self.labels)
        wrong = surely_wrong(logits, self.labels)
        self.fooled = wrong >= self._share
        size = sizes(self.change, self._norm)
        better = torch.where(self.fooled, size < self.sizes, ~self.found & (wrong >= self._wrong))
        self.sizes = torch.where(better & self.fooled, size, self.sizes)
        self._wrong = torch.where(better, wrong, self._wrong)
        self._best = torch.where(per_image(better, self.here), self.here, self._best)
        self.found = self.found | self.fooled


RESOLVED = 1e-5
"""By how much a wrong logit must lead, in units of the largest: at a tie, the last bits of a sum decide, and
an image that fools the network here would be right when it is shown again in another batch."""


def surely_wrong(
    logits: Float[Tensor, "r k *labelspace"], labels: Int64[Tensor, "r *labelspace"]
) -> Float64[Tensor, " r"]:
    """Fraction of the known labels of each image that are predicted wrong whatever the rounding."""
    lead = margin(logits, labels.clamp_min(0)) - RESOLVED * logits.abs().amax(1)
    return fraction_wrong(torch.where(lead > 0, UNKNOWN, labels), labels)


def sizes(change: Float[Tensor, "r c *space"], norm: AnyNorm) -> Float[Tensor, " r"]:
    """The norm of each change."""
    if norm == "0":
        return (change != 0).flatten(1).sum(1).to(change.dtype)
    return lengths(change, float(norm)).flatten()


def falling(share: float, last: float) -> float:
    """From 1 at a share of 0 to `last` at 1, along a cosine."""
    return last + (1 - last) * (1 + math.cos(math.pi * share)) / 2


class Adam:
    """Steps of Adam down a gradient: means of it and of its square, corrected for their start at 0.

    Attributes:
        metric: The root of the mean square, by which the last step was divided.

    Source: Kingma, Ba 2015, "Adam: a method for stochastic optimization".
    """

    def __init__(self, like: Float[Tensor, "r c *space"]) -> None:
        self.metric = torch.zeros_like(like)
        self._mean, self._square, self._count = torch.zeros_like(like), torch.zeros_like(like), 0

    def step(self, gradient: Float[Tensor, "r c *space"]) -> Float[Tensor, "r c *space"]:
        """The direction to go down, at a rate of 1."""
        self._count += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        self.metric = (self._square / (1 - 0.999**self._count)).sqrt() + 1e-8
        return self._mean / (1 - 0.9**self._count) / self.metric

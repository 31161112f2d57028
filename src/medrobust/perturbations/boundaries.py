"""Boundaries of a linearised network: which are near, how far they are, and the step to the nearest."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.perturbations.gradients import Model, Pullback, linearise
from medrobust.perturbations.support import rows, within

MINIMAL_STEP = 1e-4
"""Added to every distance, as the authors' code does: a step shorter than float32 resolves would never
arrive."""

SLACK = 1.1
"""After a first step that looks at all rivals, one gets a gradient only if its boundary seems at most so many
times as far as the nearest one's.

It seems so by the size of its gradient when last seen, so that a step can miss the nearest boundary; what
that costs and saves stands in docs/performance.md.
"""

Norm = Literal["2", "inf"]

View = tuple[Tensor, Pullback]
"""Logits of images, and the way back to their gradients."""


class Walk(NamedTuple):
    """Images on their way.

    Attributes:
        clean: Where they started.
        support: Where they may change; None: everywhere.
        result: Where they are.
        total: The steps so far, where the overshoot is on their sum; None: it is on every step.
    """

    clean: Float[Tensor, "n c *space"]
    support: Bool[Tensor, "n 1 *space"] | None
    result: Float[Tensor, "n c *space"]
    total: Float[Tensor, "n c *space"] | None

    def advance(self, places: Int64[Tensor, " r"], step: Float[Tensor, "r c *space"], factor: float) -> None:
        """Take a step, `factor` times as long as it is, with the images in `places`."""
        start = self.result[places]
        if self.total is not None:
            self.total[places] += step
            start, step = self.clean[places], self.total[places]
        moved = start + factor * step
        self.result[places] = within(moved, self.clean[places], rows(self.support, places))


class Rivals(NamedTuple):
    """The classes that images may be led to.

    Attributes:
        classes: Other classes than the true one, those of the largest clean logits first.
        sizes: Dual norm of the gradient that leads to each, as last seen; NaN: not yet.
    """

    classes: Int64[Tensor, "n rivals"]
    sizes: Float[Tensor, "n rivals"]

    @classmethod
    def of(
        cls, logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], candidates: int | None
    ) -> "Rivals":
        """The `candidates - 1` other classes with the largest logits, or all that there are."""
        wanted = min(candidates or logits.shape[1], logits.shape[1]) - 1
        classes = logits.scatter(1, labels[:, None], -torch.inf).topk(wanted, dim=1).indices
        return cls(classes, torch.full_like(logits[:, :wanted], torch.nan))

    def nearest_first(
        self, logits: Float[Tensor, "r k"], labels: Int64[Tensor, " n"], places: Int64[Tensor, " r"]
    ) -> tuple[Int64[Tensor, "r rivals"], Int64[Tensor, " r"]]:
        """The rivals of images, those whose boundaries seem nearest first; and how many of them are near.

        A rival's gap of logits, divided by the size of its gradient when last seen, stands for its distance;
        at first all are near. Numbers of near rivals are rounded up to powers of two, or to all.
        """
        gaps = (logits.gather(1, self.classes[places]) - logits.gather(1, labels[places, None])).abs()
        sizes = self.sizes[places]
        # A rival that no gradient led to is the last resort.
        distances = torch.where(sizes > 0, gaps / sizes, torch.inf)
        near = sizes.isnan() | (distances <= SLACK * distances.amin(1, keepdim=True))
        rounded = 2 ** near.sum(1).log2().ceil().long()
        return distances.argsort(dim=1, stable=True), rounded.clamp_max(near.shape[1])


class Nearest:
    """The nearest boundary of each image among those that were looked at.

    Attributes:
        distance: How far it is; infinite before any.
        size: Dual norm of the gradient that leads to it.
        normal: That gradient.
    """

    def __init__(self, images: Float[Tensor, "n c *space"], norm: Norm) -> None:
        """Nothing has been looked at."""
        self.distance = images.new_full((len(images),), torch.inf)
        self.size = torch.ones_like(self.distance)
        self.normal = torch.zeros_like(images)
        self._norm = norm

    def look(
        self, places: Int64[Tensor, " r"], gaps: Float[Tensor, " r"], gradient: Float[Tensor, "r c *space"]
    ) -> Float[Tensor, " r"]:
        """Look at a boundary of some images.

        Args:
            places: Which images.
            gaps: By how much logits differ.
            gradient: Of that difference.

        Returns:
            Dual norms of the gradients: that of the norm that is made small, which turns a gap of logits into
            a distance.
        """
        size: Tensor = gradient.flatten(1).norm(p=2 if self._norm == "2" else 1, dim=1)
        distance = gaps.abs() / size + MINIMAL_STEP
        nearer = distance < self.distance[places]
        at = places[nearer]
        self.distance[at], self.size[at], self.normal[at] = distance[nearer], size[nearer], gradient[nearer]
        return size

    @property
    def step(self) -> Float[Tensor, "n c *space"]:
        """The step to each boundary; 0 where no gradient leads anywhere."""
        length = self.distance.nan_to_num(posinf=0) / (self.size if self._norm == "2" else 1)
        direction = self.normal if self._norm == "2" else self.normal.sign()
        return length.view(-1, *[1] * (direction.ndim - 1)) * direction


def nearest_step(
    model: Model,
    walk: Walk,
    view: View,
    labels: Int64[Tensor, " n"],
    running: Int64[Tensor, " r"],
    right: Bool[Tensor, " r"],
    rivals: Rivals,
    norm: Norm,
) -> Float[Tensor, "s c *space"]:
    """The steps of those images that are still right to the nearest of their linearised boundaries.

    All gradients that every one of them needs come from `view`, of which the images are at `running`; those
    that need more are linearised once more, with others that need about as many.
    """
    logits, pullback = view
    order, counts = rivals.nearest_first(logits[right], labels, running[right])
    shared = int(counts.min())
    nearest = Nearest(walk.result[running[right]], norm)

    def look(pullback: Pullback, logits: Tensor, rows_of: Tensor, among: Tensor, ranks: range) -> None:
        """Images `among` those still right lie at `rows_of` the logits."""
        places = running[right][among]
        can_rise, can_fall = movable(walk.result[places], rows(walk.support, places))
        for rank in ranks:
            rival = rivals.classes[places].gather(1, order[among, rank, None])[:, 0]
            weights = torch.zeros_like(logits)
            weights[rows_of, rival], weights[rows_of, labels[places]] = 1, -1
            gradient = pullback(weights, keep=rank < ranks[-1])[rows_of]
            gradient = gradient * torch.where(gradient > 0, can_rise, can_fall)
            gaps = (weights[rows_of] * logits[rows_of]).sum(1)
            rivals.sizes[places, order[among, rank]] = nearest.look(among, gaps, gradient)

    everyone = torch.arange(len(counts), device=counts.device)
    look(pullback, logits, right.nonzero()[:, 0], everyone, range(shared))
    for count in sorted({*counts.tolist()} - {shared}):
        among = (counts == count).nonzero()[:, 0]
        again = linearise(model, walk.result[running[right][among]])
        look(again[1], again[0], torch.arange(len(among), device=among.device), among, range(shared, count))
    return nearest.step


def movable(
    images: Float[Tensor, "n c *space"], support: Bool[Tensor, "n 1 *space"] | None
) -> tuple[Bool[Tensor, "n c *space"], Bool[Tensor, "n c *space"]]:
    """Entries that can get brighter, and darker: in the support, and not at that end of [0, 1] already.

    The others would make the way look shorter than it is, and the attack would creep up to a boundary.
    """
    brighter, darker = images < 1, images > 0
    return (brighter, darker) if support is None else (brighter & support, darker & support)

"""Boundaries of a linearised network: which are near, how far they are, and the step to the nearest."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.perturbations.box import step_inside
from medrobust.perturbations.gradients import Model, Pullback, linearise
from medrobust.perturbations.norms import ORDER, Norm, lengths, per_image, unit
from medrobust.perturbations.support import rows, within

DUAL = {"2": 2.0, "inf": 1.0}
"""Order of the norm of gradients that turns a gap of logits into a distance."""

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


class Steps(NamedTuple):
    """How far a step goes, and what it makes small.

    Attributes:
        norm: Distance that is made small.
        least: Added to every distance, in units of the image.
        near: After a first step that looks at all rivals, one gets a gradient only if its boundary seems at
            most so many times as far as the nearest one's; infinite: all do. It seems so by the size of its
            gradient when last seen, so that a step can miss the nearest boundary; what that costs and saves
            stands in docs/performance.md.
        inside: Look for the nearest point of a boundary in [0, 1] instead of anywhere.
    """

    norm: Norm
    least: float
    near: float
    inside: bool


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

    def gaps(
        self,
        logits: Float[Tensor, "r k"],
        labels: Int64[Tensor, " n"],
        places: Int64[Tensor, " r"],
        least: float,
    ) -> Float[Tensor, "r rivals"]:
        """By how much the true class's logits exceed the rivals'.

        Infinite for a rival with the same logit as the true class, where no `least` distance would lead over
        its boundary.
        """
        gaps = logits.gather(1, labels[places, None]) - logits.gather(1, self.classes[places])
        return gaps if least else torch.where(gaps > 0, gaps, torch.inf)

    def nearest_first(
        self, gaps: Float[Tensor, "r rivals"], places: Int64[Tensor, " r"], near: float
    ) -> tuple[Int64[Tensor, "r rivals"], Int64[Tensor, " r"]]:
        """The rivals of images, those whose boundaries seem nearest first; and how many of them are near.

        A rival's gap of logits, divided by the size of its gradient when last seen, stands for its distance;
        at first all are near. Numbers of near rivals are rounded up to powers of two, or to all.
        """
        sizes = self.sizes[places]
        # A rival that no gradient led to is the last resort.
        distances = torch.where(sizes > 0, gaps / sizes, torch.inf)
        nearest = distances.amin(1, keepdim=True).clamp_min(torch.finfo(distances.dtype).tiny)
        seem_near = sizes.isnan() | (distances <= near * nearest)
        rounded = 2 ** seem_near.sum(1).log2().ceil().long()
        return distances.argsort(dim=1, stable=True), rounded.clamp_max(seem_near.shape[1])


def steps_over(
    images: Float[Tensor, "r c *space"],
    support: Bool[Tensor, "r 1 *space"] | None,
    gradient: Float[Tensor, "r c *space"],
    gaps: Float[Tensor, " r"],
    size: Float[Tensor, " r"],
    how: Steps,
) -> tuple[Float[Tensor, " r"], Float[Tensor, "r c *space"]]:
    """The steps over the boundaries of linear functions, and how far these are; infinite: no way leads there.

    Args:
        images: Where the steps begin.
        support: Where images may change; None: everywhere.
        gradient: Of the gap of logits that is to be closed, 0 outside of the support.
        gaps: How wide these are.
        size: Dual norms of the gradients.
        how: How far steps go.
    """
    if not how.inside:
        distances = torch.where(size > 0, gaps / size, torch.inf) + how.least
        direction = unit(gradient) if how.norm == "2" else gradient.sign()
        return distances, per_image(distances.nan_to_num(posinf=0), images) * direction
    step = step_inside(images, support, gradient, gaps + how.least * size, how.norm)
    closed = (unit(gradient, DUAL[how.norm]) * step).flatten(1).sum(1) * size
    # Beyond the end of the range, the way is as long as if it went on.
    factor = ((gaps + how.least * size) / closed).clamp_min(1).nan_to_num(nan=torch.inf, posinf=torch.inf)
    return lengths(step, ORDER[how.norm]).flatten().clamp_min(how.least) * factor, step


def nearest_step(
    model: Model,
    walk: Walk,
    view: View,
    labels: Int64[Tensor, " n"],
    running: Int64[Tensor, " r"],
    right: Bool[Tensor, " r"],
    rivals: Rivals,
    how: Steps,
) -> Float[Tensor, "s c *space"]:
    """The steps of those images that are still right to the nearest of their linearised boundaries; 0: none.

    All gradients that every one of them needs come from `view`, of which the images are at `running`; those
    that need more are linearised once more, with others that need about as many.
    """
    logits = view[0]
    places = running[right]
    gaps = rivals.gaps(logits[right], labels, places, how.least)
    order, counts = rivals.nearest_first(gaps, places, how.near)
    shared = int(counts.min())
    step = torch.zeros_like(walk.result[places])
    distance = torch.full_like(gaps[:, 0], torch.inf)

    def look(view: View, rows_of: Tensor, among: Tensor, ranks: range) -> None:
        """Images `among` those still right lie at `rows_of` the view."""
        at, (logits, pullback) = places[among], view
        images, support = walk.result[at], rows(walk.support, at)
        for rank in ranks:
            column = order[among, rank]
            weights = torch.zeros_like(logits)
            weights[rows_of, rivals.classes[at, column]], weights[rows_of, labels[at]] = 1, -1
            gradient = pullback(weights, keep=rank < ranks[-1])[rows_of]
            if support is not None:
                gradient = gradient * support
            size = lengths(gradient, DUAL[how.norm]).flatten()
            rivals.sizes[at, column] = size
            found, way = steps_over(images, support, gradient, gaps[among, column], size, how)
            nearer = found < distance[among]
            distance[among[nearer]], step[among[nearer]] = found[nearer], way[nearer]

    everyone = torch.arange(len(counts), device=counts.device)
    look(view, right.nonzero()[:, 0], everyone, range(shared))
    for count in sorted({*counts.tolist()} - {shared}):
        among = (counts == count).nonzero()[:, 0]
        again = linearise(model, walk.result[places[among]])
        look(again, torch.arange(len(among), device=among.device), among, range(shared, count))
    return step

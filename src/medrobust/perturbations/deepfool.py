"""DeepFool: the shortest way over the boundary of a network that is linearised anew at every step."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_classification, check_inputs, check_logits
from medrobust.perturbations.gradients import Model, frozen, linearise, one_hot, predict
from medrobust.perturbations.presets import Preset, accepts_preset
from medrobust.perturbations.support import rows, within
from medrobust.perturbations.tally import Tally

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

PRESETS = {
    "moosavi-2016": Preset(
        {"steps": 50, "overshoot": 0.02, "overshoot_on": "sum", "candidates": 10, "norm": "2"},
        source="Moosavi-Dezfooli, Fawzi, Frossard 2016, and their code: overshoot on the accumulated "
        "perturbation. The paper does not clip; here entries stop at 0 and 1",
    ),
    "foolbox-0.8": Preset(
        {"steps": 100, "overshoot": 0.05, "overshoot_on": "step", "candidates": None, "norm": "2"},
        source="foolbox 0.8.0, foolbox/attacks/deepfool.py: 1.05 on every step; its classes below the label "
        "are all other classes for as long as the image is still right",
        failed="clean",
    ),
}


@accepts_preset(PRESETS)
def deepfool(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    steps: Annotated[int, Ge(1)] = 50,
    overshoot: Annotated[Ratio, Ge(0), Le(1)] = 0.02,
    overshoot_on: Literal["sum", "step"] = "sum",
    candidates: Annotated[int, Ge(2)] | None = 10,
    norm: Norm = "2",
) -> Float[Tensor, "n c *space"]:
    """Find a small perturbation that changes the prediction; images already wrong are kept.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change; None: everywhere.
        rngs: Not needed, nothing is drawn.
        tally: Is told the steps of each image.
        steps: Largest number of linearisations.
        overshoot: By how much the boundary is overstepped, relative to the way to it.
        overshoot_on: "sum": once, on the accumulated perturbation. "step": on every step.
        candidates: Classes that are looked at, those of the largest clean logits, the true one included;
            None: all. Of these a step takes the gradients of those that seem near, see `Rivals`.
        norm: Distance that is made small.

    Returns:
        Attacked images; the last iterate where no step was enough.

    Raises:
        ValueError: A wrong argument.
        ModelError: The network's output cannot be attacked.

    Source:
        Moosavi-Dezfooli, Fawzi, Frossard 2016, "DeepFool: a simple and accurate method to fool deep neural
        networks".
    """
    check_inputs(images, labels, support)
    check_classification(labels)
    walk = Walk(images, support, images.clone(), None if overshoot_on == "step" else torch.zeros_like(images))
    taken = torch.zeros_like(labels)
    with frozen(model):
        logits = predict(model, images)
        check_logits(logits, labels)
        rivals = Rivals.of(logits, labels, candidates)
        running = (logits.argmax(1) == labels).nonzero()[:, 0]
        logits = logits[running]
        for _ in range(steps):
            if len(running) == 0:
                break
            order, counts = rivals.nearest_first(logits, labels, running)
            # Images that need about as many gradients share their passes.
            for count in sorted(set(counts.tolist())):
                group = (counts == count).nonzero()[:, 0]
                places, looked_at = running[group], order[group, :count]
                chosen = rivals.classes[places].gather(1, looked_at)
                here = rows(support, places)
                step, sizes = projection(model, walk.result[places], labels[places], chosen, here, norm)
                rivals.sizes[places[:, None], looked_at] = sizes
                walk.advance(places, step, 1 + overshoot)
            taken[running] += 1
            # A forward pass of its own costs a tenth of the gradients that finished images would otherwise
            # still get, and tells which rivals are near.
            logits = predict(model, walk.result[running])
            right = logits.argmax(1) == labels[running]
            running, logits = running[right], logits[right]
    if tally is not None:
        tally.steps = taken
    return walk.result


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


def projection(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    rivals: Int64[Tensor, "n rivals"],
    support: Bool[Tensor, "n 1 *space"] | None,
    norm: Norm,
) -> tuple[Float[Tensor, "n c *space"], Float[Tensor, "n rivals"]]:
    """The step to the nearest of the boundaries with the rivals, all of them linearised at `images`.

    Returns:
        The step, 0 where no gradient leads anywhere; and the dual norm of every rival's gradient.
    """
    logits, pullback = linearise(model, images)
    own = one_hot(labels, logits)
    can_rise, can_fall = movable(images, support)
    shortest, length = torch.full_like(logits[:, 0], torch.inf), torch.ones_like(logits[:, 0])
    normal, sizes = torch.zeros_like(images), []
    for place, rival in enumerate(rivals.T):
        towards = one_hot(rival, logits) - own
        gradient = pullback(towards, keep=place < rivals.shape[1] - 1)
        gradient = gradient * torch.where(gradient > 0, can_rise, can_fall)
        # The dual norm of the one that is made small turns a gap of logits into a distance.
        size = gradient.flatten(1).norm(p=2 if norm == "2" else 1, dim=1)
        distance = (towards * logits).sum(1).abs() / size + MINIMAL_STEP
        nearer = distance < shortest
        shortest, length = torch.where(nearer, distance, shortest), torch.where(nearer, size, length)
        normal[nearer] = gradient[nearer]
        sizes.append(size)
    way = shortest.nan_to_num(posinf=0) / (length if norm == "2" else 1)
    direction = normal if norm == "2" else normal.sign()
    return way.view(-1, *[1] * (images.ndim - 1)) * direction, torch.stack(sizes, 1)


def movable(
    images: Float[Tensor, "n c *space"], support: Bool[Tensor, "n 1 *space"] | None
) -> tuple[Bool[Tensor, "n c *space"], Bool[Tensor, "n c *space"]]:
    """Entries that can get brighter, and darker: in the support, and not at that end of [0, 1] already.

    The others would make the way look shorter than it is, and the attack would creep up to a boundary.
    """
    brighter, darker = images < 1, images > 0
    return (brighter, darker) if support is None else (brighter & support, darker & support)

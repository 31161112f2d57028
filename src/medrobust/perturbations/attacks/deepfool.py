"""DeepFool: the shortest way over the boundary of a network that is linearised anew at every step."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import Norm, lengths, per_image, rows, step_inside, unit, within
from medrobust.perturbations.gradients import Model, Pullback, linearise, margin_weights

PRESETS = {
    "moosavi-2016": Preset(
        {
            "steps": 50,
            "overshoot": 0.02,
            "overshoot_on": "sum",
            "candidates": 10,
            "least": 1e-4,
            "norm": "2",
            "near": None,
            "trials": 0,
        },
        source="Moosavi-Dezfooli, Fawzi, Frossard 2016, and their code: overshoot on the accumulated "
        "perturbation, 1e-4 added to every step. They do not clip; here the network is shown images cut off "
        "at 0 and 1, and what is accumulated is not cut",
    ),
    "foolbox-0.8": Preset(
        {
            "steps": 100,
            "overshoot": 0.05,
            "overshoot_on": "step",
            "candidates": None,
            "least": 0.0,
            "norm": "2",
            "near": None,
            "trials": 0,
        },
        source="foolbox 0.8.0, foolbox/attacks/deepfool.py: 1.05 on every step, cut off at 0 and 1; only "
        "classes whose logit is below the label's. Where steps are cut off it creeps up to a boundary: at a "
        "tie in float32 it turns to another class, and an image that it found may be right again in another "
        "pass, whose last bits differ",
        on_failure="clean",
    ),
}


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    presets=PRESETS,
    norms=("2", "inf"),
    minimal=True,
    on_misclassified="keep",
    passes=lambda parameters: 10.0 + parameters["trials"],
    revision=4,
    summary="The shortest way over the nearest boundary of the linearised network.",
    source="Moosavi-Dezfooli, Fawzi, Frossard 2016, DeepFool",
)
def deepfool(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["moosavi-2016", "foolbox-0.8"] | None = None,
    steps: Annotated[int, Ge(1)] = 50,
    overshoot: Annotated[Ratio, Ge(0), Le(1)] = 0.02,
    overshoot_on: Literal["sum", "step"] = "sum",
    candidates: Annotated[int, Ge(2)] | None = 10,
    least: Annotated[float, Ge(0), Le(1)] = 1e-4,
    norm: Norm = "2",
    near: Annotated[float, Ge(1)] | None = 1.5,
    trials: Annotated[int, Ge(0)] = 8,
) -> Float[Tensor, "n c *space"]:
    """Find a small perturbation that changes the prediction; misclassified images stay as they are.

    Steps lead over the nearest boundary of the linearised network until an image fools it, as published: the
    part of a step outside [0, 1] is cut off. Then `trials` shorten the perturbation along that boundary,
    inside [0, 1]. With trials, an image that half of the steps did not fool takes the other half to the
    nearest point of a boundary inside [0, 1]; where the range ends first, it goes to the end of the range.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        tally: Receives the steps and trials of each image.
        preset: Parameters of a named source.
        steps: Largest number of linearisations; an image that runs out of them is returned as it is then.
        overshoot: How far the boundary is overstepped, relative to the way to it.
        overshoot_on: "sum": once, on the accumulated perturbation. "step": on every step.
        candidates: Classes that are considered, those of the largest clean logits, the true one included;
            None: all.
        least: Added to the length of every step, in units of the image: a step shorter than float32 resolves
            would never arrive. 0: nothing, and a class that ties with the true one is no rival.
        norm: Distance to be minimised.
        near: After the first step a gradient is computed only for candidates whose boundaries seem at most so
            many times as far as the nearest; None: for all.
        trials: Largest number of trials to shorten the perturbation, see `shorten`; 0: DeepFool as published.
    """
    logits, pullback = linearise(model, images)
    check_logits(logits, labels)
    wanted = min(candidates or logits.shape[1], logits.shape[1]) - 1
    walk = Walk(
        model=model,
        clean=images,
        labels=labels,
        support=support,
        rivals=logits.scatter(1, labels[:, None], -torch.inf).topk(wanted, dim=1).indices,
        sizes=torch.full_like(logits[:, :wanted], torch.nan),
        result=images.clone(),
        total=None if overshoot_on == "step" else torch.zeros_like(images),
        norm=norm,
        least=least,
        near=near or torch.inf,
    )
    taken = torch.zeros_like(labels)
    running = torch.arange(len(images), device=images.device)
    for number in range(steps):
        right = logits.argmax(1) == labels[running]
        if not right.any():
            break
        # Images fooled by the last step share its pass once more, which costs less than a forward pass to
        # tell them apart.
        inside = trials > 0 and 2 * number >= steps > 1
        step = walk.nearest_step((logits, pullback), running, right, inside=inside)
        running = running[right]
        walk.advance(running, step, 1 + overshoot)
        taken[running] += 1
        logits, pullback = linearise(model, walk.result[running])
        check_logits(logits, labels[running])
    if trials:
        right = torch.zeros_like(labels, dtype=torch.bool)
        right[running] = logits.argmax(1) == labels[running]
        at = ((taken > 0) & ~right).nonzero()[:, 0]
        if len(at):
            where, found = rows(support, at), walk.result[at]
            walk.result[at], tried = shorten(
                model, images[at], where, found, labels[at], trials=trials, norm=norm
            )
            taken[at] += tried
    if tally is not None:
        tally.steps = taken
    return walk.result


DUAL = {"2": 2.0, "inf": 1.0, "1": torch.inf}
"""Order of the norm of gradients that turns a gap of logits into a distance."""


class Walk(NamedTuple):
    """Images on their way over the boundaries between their class and its rivals.

    `norm`, `least` and `near` (infinite: no limit) are parameters of `deepfool`.
    """

    model: Model
    clean: Float[Tensor, "n c *space"]
    labels: Int64[Tensor, " n"]
    support: Bool[Tensor, "n 1 *space"] | None
    rivals: Int64[Tensor, "n rivals"]  # classes that images may be led to, the largest clean logits first
    sizes: Float[Tensor, "n rivals"]  # of the gradient that leads to each, as last seen; NaN: not yet
    result: Float[Tensor, "n c *space"]  # where the images are
    total: Float[Tensor, "n c *space"] | None  # the steps so far; None: the overshoot is on every step
    norm: Norm
    least: float
    near: float

    def advance(self, places: Int64[Tensor, " r"], step: Float[Tensor, "r c *space"], factor: float) -> None:
        """Take a step, `factor` times as long as given, with the images in `places`."""
        start = self.result[places]
        if self.total is not None:
            self.total[places] += step
            start, step = self.clean[places], self.total[places]
        moved = start + factor * step
        self.result[places] = within(moved, self.clean[places], rows(self.support, places))

    def nearest_step(
        self,
        view: tuple[Tensor, Pullback],
        running: Int64[Tensor, " r"],
        right: Bool[Tensor, " r"],
        *,
        inside: bool,
    ) -> Float[Tensor, "s c *space"]:
        """The steps of the images still `right` to the nearest of their linearised boundaries; 0: none.

        All gradients that every one of them needs come from `view`, the logits of the `running` images and
        the way back to their gradients; those that need more are linearised once more, with others that need
        about as many. With `inside`, boundaries count only in [0, 1].
        """
        places = running[right]
        logits = view[0][right]
        gaps = logits.gather(1, self.labels[places, None]) - logits.gather(1, self.rivals[places])
        if not self.least:  # no distance would lead over the boundary of a class that ties
            gaps = torch.where(gaps > 0, gaps, torch.inf)
        order, counts = self.nearest_first(gaps, places)
        shared = int(counts.min())
        step = torch.zeros_like(self.result[places])
        distance = torch.full_like(gaps[:, 0], torch.inf)

        def look(view: tuple[Tensor, Pullback], rows_of: Tensor, among: Tensor, ranks: range) -> None:
            """The images `among` those still right are the rows `rows_of` of the view."""
            at, (logits, pullback) = places[among], view
            images, support = self.result[at], rows(self.support, at)
            for rank in ranks:
                column = order[among, rank]
                weights = torch.zeros_like(logits)
                weights[rows_of, self.rivals[at, column]], weights[rows_of, self.labels[at]] = 1, -1
                gradient = pullback(weights, keep=rank < ranks[-1])[rows_of]
                if support is not None:
                    gradient = gradient * support
                size = lengths(gradient, DUAL[self.norm]).flatten()
                self.sizes[at, column] = size
                gap = gaps[among, column]
                found, way = self.steps_over(images, support, gradient, gap, size, inside=inside)
                nearer = found < distance[among]
                distance[among[nearer]], step[among[nearer]] = found[nearer], way[nearer]

        everyone = torch.arange(len(counts), device=counts.device)
        look(view, right.nonzero()[:, 0], everyone, range(shared))
        for count in sorted({*counts.tolist()} - {shared}):
            among = (counts == count).nonzero()[:, 0]
            again = linearise(self.model, self.result[places[among]])
            look(again, torch.arange(len(among), device=among.device), among, range(shared, count))
        return step

    def nearest_first(
        self, gaps: Float[Tensor, "r rivals"], places: Int64[Tensor, " r"]
    ) -> tuple[Int64[Tensor, "r rivals"], Int64[Tensor, " r"]]:
        """The rivals of images, those whose boundaries seem nearest first; and how many of them are near.

        A rival's gap of logits, divided by the size of its gradient when last seen, stands for its distance,
        so that a step can miss the nearest boundary (docs/performance.md says what that costs and saves); at
        first all are near. Numbers of near rivals are rounded up to powers of two, or to all.
        """
        sizes = self.sizes[places]
        # A rival that no gradient led to is the last resort.
        distances = torch.where(sizes > 0, gaps / sizes, torch.inf)
        nearest = distances.amin(1, keepdim=True).clamp_min(torch.finfo(distances.dtype).tiny)
        seem_near = sizes.isnan() | (distances <= self.near * nearest)
        rounded = 2 ** seem_near.sum(1).log2().ceil().long()
        return distances.argsort(dim=1, stable=True), rounded.clamp_max(seem_near.shape[1])

    def steps_over(
        self,
        images: Float[Tensor, "r c *space"],
        support: Bool[Tensor, "r 1 *space"] | None,
        gradient: Float[Tensor, "r c *space"],
        gaps: Float[Tensor, " r"],
        size: Float[Tensor, " r"],
        *,
        inside: bool,
    ) -> tuple[Float[Tensor, " r"], Float[Tensor, "r c *space"]]:
        """Distances to the boundaries of linear functions (infinite: no way), and the steps over them."""
        if not inside:
            distances = torch.where(size > 0, gaps / size, torch.inf) + self.least
            direction = unit(gradient) if self.norm == "2" else gradient.sign()
            return distances, per_image(distances.nan_to_num(posinf=0), images) * direction
        rise = gaps + self.least * size
        step = step_inside(images, support, gradient, rise, self.norm)
        closed = (unit(gradient, DUAL[self.norm]) * step).flatten(1).sum(1) * size
        # Beyond the end of the range, the way is as long as if it went on.
        factor = (rise / closed).clamp_min(1).nan_to_num(nan=torch.inf, posinf=torch.inf)
        return lengths(step, float(self.norm)).flatten().clamp_min(self.least) * factor, step


OVERSHOOT = 0.01
"""How far the linearised boundary is overstepped, relative to the way there from the clean image."""

GAIN = 1e-3
"""An image whose perturbation would get shorter by no more than this fraction is left as it is."""


def shorten(
    model: Model,
    clean: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
    found: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    trials: int,
    norm: Norm,
) -> tuple[Float[Tensor, "n c *space"], Int64[Tensor, " n"]]:
    """Lead images that fool a network back towards the clean ones.

    The network is linearised at the best image so far, between the class that it is fooled into and the true
    one. The goal is the point of that boundary in [0, 1] that is nearest to the clean image, and a trial goes
    a fraction of the way there: half of it at first, twice as much after a trial that fooled the network, a
    third as much after any other. FAB takes the same step, but goes a tenth of the way at most, and follows
    other iterates than the best.

    Returns:
        The nearest images that fool the network, at worst those found before; and each one's trials.

    Source:
        Croce, Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack".
    """
    best, goal, trial = found.clone(), found.clone(), found
    length = lengths(found - clean, float(norm)).flatten()
    share, taken = torch.full_like(length, 0.25), torch.zeros_like(labels)
    running = torch.arange(len(clean), device=clean.device)
    for left in range(trials, -1, -1):
        logits, pullback = linearise(model, trial)
        check_logits(logits, labels[running])
        better = logits.argmax(1) != labels[running]
        at = running[better]
        # A trial is shorter than the best image since its goal is.
        best[at] = trial[better]
        length[at] = lengths(best[at] - clean[at], float(norm)).flatten()
        share[running] = torch.where(better, (2 * share[running]).clamp_max(1), share[running] / 3)
        if not left:
            break
        if len(at):
            weights = margin_weights(logits, labels[running])
            gradient, margin = pullback(weights)[better], (weights * logits).sum(1)[better]
            rise = (gradient * (best[at] - clean[at])).flatten(1).sum(1) - margin
            where, beyond = rows(support, at), (1 + OVERSHOOT) * rise.clamp_min(0)
            away = step_inside(clean[at], where, gradient, beyond, norm)
            goal[at] = within(clean[at] + away, clean[at], where)
        aim = lengths(goal[running] - clean[running], float(norm)).flatten()
        running = running[aim < (1 - GAIN) * length[running]]
        if not len(running):
            break
        taken[running] += 1
        trial = best[running] + per_image(share[running], clean) * (goal[running] - best[running])
        trial = trial.clamp(0, 1)  # rounding alone could lead out
    return best, taken

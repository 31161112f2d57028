"""FAB: the smallest perturbation, sought along the boundary between the network's classes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import BallNorm, lengths, per_image, rows, step_inside, unit
from medrobust.perturbations.gradients import Model, linearise, one_hot, predict
from medrobust.rng import generators_of

PRESETS = {
    "autoattack": Preset(
        {"targeted": True, "candidates": 10, "steps": 100, "restarts": 1},
        source="fra31/auto-attack, fab_base.py as its ensemble `standard` runs it: each of the nine "
        "likeliest wrong classes in turn",
    ),
    "croce-2020": Preset(
        {"targeted": False, "candidates": None, "steps": 100, "restarts": 5},
        source="Croce, Hein 2020, and fra31/auto-attack as its ensemble `plus` runs it: the nearest of all "
        "classes at every step",
    ),
}

SHORTEST = 1e-8
"""Below this, a way onto a boundary counts as so long: two ways of length 0 weigh the same."""

DUAL = {"inf": 1.0, "2": 2.0, "1": torch.inf}
"""Order of the norm of gradients that turns a gap of logits into a distance."""


def _passes(parameters: Mapping[str, Any]) -> float:
    """A step takes a forward pass, and one backward pass for each class that is considered."""
    rivals = (parameters["candidates"] or 10) - 1
    walk = 4 / 3 * rivals if parameters["targeted"] else 2 / 3 * (1 + rivals)
    return float(parameters["steps"] * parameters["restarts"] * walk)


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    presets=PRESETS,
    norms=("inf", "2", "1"),
    minimal=True,
    on_misclassified="keep",
    crafted_on="targets",
    passes=_passes,
    beyond_paper=True,
    summary="The smallest perturbation, sought along the boundary between classes.",
    source="Croce, Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack",
)
def fab(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["autoattack", "croce-2020"] | None = None,
    norm: BallNorm = "inf",
    steps: Annotated[int, Ge(1)] = 100,
    targeted: bool = False,
    candidates: Annotated[int, Ge(2)] | None = 10,
    restarts: Annotated[int, Ge(1)] = 1,
    overshoot: Annotated[Ratio, Ge(0), Le(1)] = 0.05,
    pull: Annotated[Ratio, Ge(0), Le(1)] = 0.1,
    back: Annotated[Ratio, Gt(0), Lt(1)] = 0.9,
) -> Float[Tensor, "n c *space"]:
    """Step from boundary to boundary of the linearised network, drawn to the clean image.

    A step goes onto the boundary by the shortest way inside [0, 1], which is found exactly, and a little
    towards the point of the boundary that is nearest to the clean image. From where an image fools the
    network it returns part of the way. The shortest perturbation counts; misclassified images stay as they
    are, and one that nothing fools is returned as it is last.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: One generator per image, for restarts.
        tally: Receives the steps of each image.
        preset: Parameters of a named source.
        norm: Distance to be minimised: the "inf", "2" or "1" norm over an image.
        steps: Steps of every walk.
        targeted: Walk to each of the candidates in turn, not to the nearest at every step: more walks, but a
            step needs only one gradient.
        candidates: Classes that are considered, those of the largest clean logits, the true one included;
            None: all.
        restarts: Walks, the later ones from a random point half as far away as the result so far.
        overshoot: How far a boundary is overstepped, relative to the way there.
        pull: Largest weight of the way from the clean image in a step.
        back: What is left of a perturbation that fools the network, before the next step.
    """
    logits = predict(model, images)
    check_logits(logits, labels)
    best, taken = images.clone(), torch.zeros_like(labels)
    at = (logits.argmax(1) == labels).nonzero()[:, 0]
    if not len(at):
        return best
    wanted, generators = rivals_of(logits[at], labels[at], candidates), generators_of(rngs, len(images))
    clean, where = images[at], rows(support, at)
    path = Path(model, clean, labels[at], where, norm, overshoot, pull, back)
    found, size = clean.clone(), torch.full_like(logits[at, 0], torch.inf)
    for goals in torch.split(wanted, 1, dim=1) if targeted else (wanted,):
        for restart in range(restarts):
            start = clean
            if restart:
                start = path.around(0.5 * (found - clean), [generators[place] for place in at.tolist()])
            tried, length = path.walk(start, goals, steps)
            taken[at] += steps
            # Until something fools the network, the last image is as good as any.
            better = (length < size) | size.isinf()
            found[better], size[better] = tried[better], length[better]
    best[at] = found
    if tally is not None:
        tally.steps = taken
    return best


def rivals_of(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], candidates: int | None
) -> Int64[Tensor, "n rivals"]:
    """The wrong classes among so many candidates (None: all), the largest logits first."""
    count = min(candidates or logits.shape[1], logits.shape[1]) - 1
    return logits.scatter(1, labels[:, None], -torch.inf).topk(count, dim=1).indices


class Path(NamedTuple):
    """Where images may be led, and how; `norm`, `overshoot`, `pull` and `back` are parameters of `fab`."""

    model: Model
    clean: Float[Tensor, "n c *space"]
    labels: Int64[Tensor, " n"]
    support: Bool[Tensor, "n 1 *space"] | None
    norm: BallNorm
    overshoot: float = 0.05
    pull: float = 0.1
    back: float = 0.9

    def walk(
        self, start: Float[Tensor, "n c *space"], rivals: Int64[Tensor, "n rivals"], steps: int
    ) -> tuple[Float[Tensor, "n c *space"], Float[Tensor, " n"]]:
        """Take steps onto the boundaries of the nearest rivals.

        Returns:
            The nearest images that fool the network, and their distances; the last images, and infinity,
            where none does.
        """
        here, best = start, start.clone()
        factor = 1 + self.overshoot
        shortest = torch.full_like(start.flatten(1)[:, 0], torch.inf)
        for _ in range(steps):
            gradient, gap = self.nearest_boundary(here, rivals)
            beyond = (gradient * (here - self.clean)).flatten(1).sum(1)
            on, near = self.onto(here, gradient, gap), self.onto(self.clean, gradient, gap + beyond)
            way, straight = (lengths(each, float(self.norm)).clamp_min(SHORTEST) for each in (on, near))
            weight = (way / (way + straight)).clamp_max(self.pull)
            change = (1 - weight) * (here - self.clean + factor * on) + weight * factor * near
            here = (self.clean + change).clamp(0, 1)
            fools = predict(self.model, here).argmax(1) != self.labels
            length = lengths(here - self.clean, float(self.norm)).flatten()
            better = fools & (length < shortest)
            kept = better | shortest.isinf()
            best[kept], shortest[better] = here[kept], length[better]
            here[fools] = self.clean[fools] + self.back * (here - self.clean)[fools]
        return best, shortest

    def nearest_boundary(
        self, here: Float[Tensor, "n c *space"], rivals: Int64[Tensor, "n rivals"]
    ) -> tuple[Float[Tensor, "n c *space"], Float[Tensor, " n"]]:
        """Gradient of the nearest rival's logit minus the label's, and what is missing of that difference."""
        logits, pullback = linearise(self.model, here)
        check_logits(logits, self.labels)
        gaps = logits.gather(1, self.labels[:, None]) - logits.gather(1, rivals)
        nearest, gap = torch.zeros_like(here), torch.zeros_like(gaps[:, 0])
        distance = torch.full_like(gap, torch.inf)
        for column in range(rivals.shape[1]):
            weights = one_hot(rivals[:, column], logits) - one_hot(self.labels, logits)
            gradient = pullback(weights, keep=column < rivals.shape[1] - 1)
            if self.support is not None:
                gradient = gradient * self.support
            size = lengths(gradient, DUAL[self.norm]).flatten()
            far = torch.where(size > 0, gaps[:, column].abs() / size, torch.inf)
            nearer = far < distance
            nearest[nearer], gap[nearer] = gradient[nearer], gaps[nearer, column]
            distance = torch.minimum(distance, far)
        return nearest, gap

    def onto(
        self,
        images: Float[Tensor, "n c *space"],
        gradient: Float[Tensor, "n c *space"],
        rise: Float[Tensor, " n"],
    ) -> Float[Tensor, "n c *space"]:
        """The shortest way inside [0, 1] along which a linear function rises by so much, or falls."""
        direction = per_image(torch.where(rise < 0, -1.0, 1.0), images)
        return step_inside(images, self.support, direction * gradient, rise.abs(), self.norm)

    def around(
        self, change: Float[Tensor, "n c *space"], rngs: Sequence[np.random.Generator]
    ) -> Float[Tensor, "n c *space"]:
        """Images as far from the clean ones as a change leads, in random directions; then clipped."""
        shape, order = tuple(self.clean.shape[1:]), float(self.norm)
        draws = [
            rng.uniform(-1, 1, shape) if self.norm == "inf" else rng.standard_normal(shape) for rng in rngs
        ]
        drawn = torch.from_numpy(np.stack(draws)).to(self.clean)
        if self.support is not None:
            drawn = drawn * self.support
        return (self.clean + lengths(change, order) * unit(drawn, order)).clamp(0, 1)

"""Perturbations that fool a network, made shorter along its boundary."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.perturbations.box import step_inside
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.gradients import Model, linearise
from medrobust.perturbations.norms import ORDER, Norm, lengths, per_image
from medrobust.perturbations.support import rows, within

OVERSHOOT = 0.01
"""By how much the linearised boundary is overstepped, relative to the way there from the clean image."""

GAIN = 1e-3
"""An image whose perturbation would get shorter by no more than this share is left as it is."""


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
    a share of the way there: half of it at first, twice as much after a trial that fooled the network, a
    third as much after any other. FAB takes the same step, but goes a tenth of the way at most, and follows
    other iterates than the best.

    Args:
        model: Network under attack.
        clean: Clean images in [0, 1].
        support: Where images may change; None: everywhere.
        found: Images to begin with.
        labels: True classes.
        trials: Largest number of trials.
        norm: Distance that is made small.

    Returns:
        The nearest images that fool the network, at worst those that it began with; and each one's trials.

    Source:
        Croce, Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack".
    """
    best, goal, trial = found.clone(), found.clone(), found
    length = lengths(found - clean, ORDER[norm]).flatten()
    share, taken = torch.full_like(length, 0.25), torch.zeros_like(labels)
    running = torch.arange(len(clean), device=clean.device)
    for left in range(trials, -1, -1):
        logits, pullback = linearise(model, trial)
        check_logits(logits, labels[running])
        better = logits.argmax(1) != labels[running]
        at = running[better]
        # A trial is shorter than the best image since its goal is.
        best[at] = trial[better]
        length[at] = lengths(best[at] - clean[at], ORDER[norm]).flatten()
        share[running] = torch.where(better, (2 * share[running]).clamp_max(1), share[running] / 3)
        if not left:
            break
        if len(at):
            rival = logits.scatter(1, labels[running, None], -torch.inf).argmax(1)
            one = torch.ones_like(logits)
            weights = torch.zeros_like(logits).scatter(1, rival[:, None], one)
            weights.scatter_(1, labels[running, None], -one)
            gradient, margin = pullback(weights)[better], (weights * logits).sum(1)[better]
            rise = (gradient * (best[at] - clean[at])).flatten(1).sum(1) - margin
            away = step_inside(
                clean[at], rows(support, at), gradient, (1 + OVERSHOOT) * rise.clamp_min(0), norm
            )
            goal[at] = within(clean[at] + away, clean[at], rows(support, at))
        aim = lengths(goal[running] - clean[running], ORDER[norm]).flatten()
        running = running[aim < (1 - GAIN) * length[running]]
        if not len(running):
            break
        taken[running] += 1
        trial = best[running] + per_image(share[running], clean) * (goal[running] - best[running])
        trial = trial.clamp(0, 1)  # but for rounding it is there
    return best, taken

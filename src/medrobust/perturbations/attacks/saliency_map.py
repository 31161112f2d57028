"""Saliency map attack: change the few entries that matter most for a target class, a little at a time."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.attacks.fgsm import smallest_flip
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import rows
from medrobust.perturbations.geometry import unit as normalised
from medrobust.perturbations.gradients import Model, cross_entropy_gradient, linearise, one_hot, predict
from medrobust.rng import generators_of

GoalChoice = Literal["gradient_attack", "random", "runner_up"]

GRADIENT_ATTACK_PARTS = 1000
"""The number of parts into which foolbox 0.8 divides its line along the gradient."""

PRESETS = {
    "foolbox-0.8": Preset(
        {
            "saliency": "entries",
            "unit": "entry",
            "target": "gradient_attack",
            "stop": "wrong",
            "theta": 0.1,
            "steps": 2000,
            "max_changes": 7,
            "max_share": 1.0,
            "entries_per_step": 1,
        },
        source="foolbox 0.8.0, foolbox/attacks/saliency.py with its default fast=True, in which entries "
        "only get darker. Its bug of returning the image of the gradient attack where that was closer "
        "(mended in 0.9.6) is left out",
        on_failure="clean",
    ),
    "papernot-2016": Preset(
        {
            "saliency": "pairs",
            "target": "random",
            "stop": "target",
            "theta": 1.0,
            "steps": 100_000,
            "max_changes": None,
            "max_share": 0.145,
        },
        source="Papernot et al. 2016: pairs on logits, theta 1, at most 14.5 % of the entries. The paper "
        "runs all target classes; one is drawn here. Its increasing and decreasing variants compete at "
        "every step",
    ),
}


def _check_pairs(parameters: Mapping[str, Any], task: Task) -> str | None:
    if parameters["saliency"] == "pairs" and parameters["entries_per_step"] != 1:
        return (
            "entries_per_step: must be 1 with saliency='pairs', where a step changes one pair; got "
            f"{parameters['entries_per_step']}."
        )
    return None


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    presets=PRESETS,
    norms=("0",),
    minimal=True,
    on_misclassified="keep",
    on_failure="clean",
    check=_check_pairs,
    passes=lambda parameters: min(500 / parameters["entries_per_step"], parameters["steps"]),
    revision=4,
    summary="Changes the few entries that matter most for a wrong class.",
    source="Papernot et al. 2016, The limitations of deep learning in adversarial settings; foolbox 0.8.0",
)
def saliency_map(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["foolbox-0.8", "papernot-2016"] | None = None,
    saliency: Literal["entries", "pairs"] = "entries",
    unit: Literal["entry", "pixel"] = "entry",
    target: GoalChoice = "gradient_attack",
    stop: Literal["wrong", "target"] = "wrong",
    theta: Annotated[Ratio, Gt(0), Le(1)] = 0.1,
    steps: Annotated[int, Ge(1)] = 2000,
    max_changes: Annotated[int, Ge(1)] | None = 7,
    max_share: Annotated[Ratio, Gt(0), Le(1)] = 1.0,
    entries_per_step: Annotated[int, Ge(1)] = 1,
) -> Float[Tensor, "n c *space"]:
    """Change few entries, or pixels, until the prediction changes; misclassified images stay as they are.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: One generator per image, for a random target.
        tally: Receives the steps of each image.
        preset: Parameters of a named source.
        saliency: "entries": darken the entries at which the target's cross-entropy rises most. "pairs":
            brighten or darken the two entries that together raise the target's logit and lower the others'
            most.
        unit: What changes as one: an "entry", that is one channel of a pixel, as in foolbox; or a "pixel"
            across its channels, as long as one of them can move: its salience is the sum over those. Below,
            entries then stand for pixels.
        target: Class to go to. "gradient_attack": the first wrong one along the gradient, a random one if
            there is none. "random": any wrong one. "runner_up": the wrong one with the largest logit.
        stop: An image is done when it is "wrong", or only when it is shown as the "target".
        theta: Change of an entry in one step.
        steps: Largest number of steps; an image that runs out of them, or of entries, is returned as it is
            then.
        max_changes: How often an entry may change; None: any number of times.
        max_share: Fraction of the entries (in the support) that may change.
        entries_per_step: How many entries change at once; above 1 is faster than any original and changes
            more entries.
    """
    logits = predict(model, images)
    check_logits(logits, labels)
    running = (logits.argmax(1) == labels).nonzero()[:, 0]
    generators = generators_of(rngs, len(images))
    goals = labels.clone()
    goals[running] = goal_classes(
        target,
        model,
        images[running],
        labels[running],
        logits[running],
        rows(support, running),
        [generators[place] for place in running.tolist()],
    )

    everywhere = torch.ones_like(images[:, :1] if unit == "pixel" else images, dtype=torch.bool)
    allowed = (everywhere if support is None else everywhere & support).flatten(1)
    quota = (max_share * allowed.sum(1)).long()
    at_once = 2 if saliency == "pairs" else entries_per_step
    changes = torch.zeros(allowed.shape, dtype=torch.int32, device=images.device)
    result, taken = images.clone(memory_format=torch.contiguous_format), torch.zeros_like(labels)
    units = result.view(len(images), -1, changes.shape[1])
    for _ in range(steps):
        if len(running) == 0:
            break
        before, usable = changes[running], allowed[running]
        if max_changes is not None:
            usable &= before.abs() < max_changes
        exhausted = (before != 0).sum(1) + at_once > quota[running]
        usable &= (before != 0) | ~exhausted[:, None]
        # A unit that got darker does not get brighter again, nor the other way round.
        brighter, darker = usable & (before >= 0), usable & (before <= 0)
        if saliency == "pairs":
            logits, places, signs = salient_pairs(model, result[running], goals[running], brighter, darker)
        else:
            logits, places, signs = salient_units(model, result[running], goals[running], darker, at_once)
        shown = logits.argmax(1)
        reached = shown == goals[running] if stop == "target" else shown != labels[running]
        # Images that are done, or that have no entry left, leave the batch.
        going = ~reached & signs.any(1)
        running, places, signs = running[going], places[going], signs[going]
        # Few entries change: the others are not touched.
        moved = units[running[:, None], :, places] + theta * signs[:, :, None]
        units[running[:, None], :, places] = moved.clamp(0, 1)
        changes[running[:, None], places] += signs
        taken[running] += 1
    if tally is not None:
        tally.steps = taken
    return result


def goal_classes(
    target: GoalChoice,
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    logits: Float[Tensor, "n k"],
    support: Bool[Tensor, "n 1 *space"] | None,
    rngs: Sequence[np.random.Generator],
) -> Int64[Tensor, " n"]:
    """The class that each image is led to, see `saliency_map`.

    The line of the "gradient_attack" follows the cross-entropy's gradient, scaled to a root mean square of 1,
    and ends at 1 times that, as in foolbox 0.8.
    """
    if target == "runner_up":
        return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    if target == "random":
        return _random_classes(labels, logits.shape[1], rngs)
    if len(images) == 0:
        return labels
    _, gradient = cross_entropy_gradient(model, images, labels)
    direction = normalised(gradient if support is None else torch.where(support, gradient, 0))
    direction = direction * math.sqrt(direction[0].numel())
    found = smallest_flip(model, images, labels, direction, support, eps=1.0, parts=GRADIENT_ATTACK_PARTS)[1]
    lost = (found == labels).nonzero()[:, 0]
    found[lost] = _random_classes(labels[lost], logits.shape[1], [rngs[place] for place in lost.tolist()])
    return found


def _random_classes(
    labels: Int64[Tensor, " n"], classes: int, rngs: Sequence[np.random.Generator]
) -> Int64[Tensor, " n"]:
    """Any class but the label, all equally likely."""
    drawn = torch.tensor([int(rng.integers(classes - 1)) for rng in rngs], dtype=torch.int64)
    drawn = drawn.to(labels.device)
    return drawn + (drawn >= labels)


Moves = tuple[Float[Tensor, "r k"], Int64[Tensor, "r m"], Int32[Tensor, "r m"]]
"""Logits of images; the units that a step changes, all different in each image; and 1 to brighten, -1 to
darken, 0 to leave them."""


def salient_units(
    model: Model,
    images: Float[Tensor, "r c *space"],
    goals: Int64[Tensor, " r"],
    darker: Bool[Tensor, "r u"],
    count: int,
) -> Moves:
    """Darken the `count` units at which the cross-entropy of the goal rises most, as foolbox 0.8 does.

    With its fast=True an entry only ever gets darker.
    """
    logits, gradient = cross_entropy_gradient(model, images, goals)
    rise = torch.where(darker, per_unit(gradient * (images > 0), darker.shape[1]), 0)
    values, places = rise.topk(min(count, rise.shape[1]), dim=1)
    return logits, places, -(values > 0).int()


def salient_pairs(
    model: Model,
    images: Float[Tensor, "r c *space"],
    goals: Int64[Tensor, " r"],
    brighter: Bool[Tensor, "r u"],
    darker: Bool[Tensor, "r u"],
) -> Moves:
    """Brighten or darken the pair of the largest salience, as Papernot et al. 2016 do, on logits.

    Two gradients are enough for any number of classes: of the goal's logit, and of the sum of the others.
    """
    logits, pullback = linearise(model, images)
    goal = one_hot(goals, logits)
    # Of largest magnitude 1 each: products of their entries would leave the range of float32.
    of_goal = normalised(pullback(goal, keep=True), torch.inf)
    of_others = normalised(pullback(1 - goal), torch.inf)
    if logits.shape[1] == 2:
        # Of (0, z), which stands for the one logit z, 0 has no gradient; relative to z it falls as z rises.
        of_goal = torch.where(_is_flat(of_goal), -of_others, of_goal)
        of_others = torch.where(_is_flat(of_others), -of_goal, of_others)
    up, salience_up = _best_pair_within(of_goal, -of_others, images < 1, brighter)
    down, salience_down = _best_pair_within(-of_goal, of_others, images > 0, darker)
    rising = salience_up >= salience_down
    pairs = torch.where(rising[:, None], up, down)
    signs = torch.where(rising, 1, -1) * (torch.maximum(salience_up, salience_down) > 0)
    return logits, pairs, signs[:, None].int().expand(-1, 2)


def _is_flat(gradient: Float[Tensor, "r c *space"]) -> Bool[Tensor, "r *ones"]:
    return (gradient == 0).flatten(1).all(1).reshape(-1, *[1] * (gradient.ndim - 1))


def _best_pair_within(
    gains: Float[Tensor, "r c *space"],
    losses: Float[Tensor, "r c *space"],
    movable: Bool[Tensor, "r c *space"],
    domain: Bool[Tensor, "r u"],
) -> tuple[Int64[Tensor, "r 2"], Float[Tensor, " r"]]:
    """The best pair of units in the domain that have an entry which can still move."""
    units = domain.shape[1]
    return best_pairs(
        per_unit(gains * movable, units),
        per_unit(losses * movable, units),
        domain & (per_unit(movable.float(), units) > 0),
    )


def per_unit(entries: Float[Tensor, "r c *space"], units: int) -> Float[Tensor, "r u"]:
    """The sum over the entries of each unit."""
    grouped = entries.reshape(len(entries), -1, units)
    return grouped[:, 0] if grouped.shape[1] == 1 else grouped.sum(1)


def best_pairs(
    gains: Float[Tensor, "n m"], losses: Float[Tensor, "n m"], domain: Bool[Tensor, "n m"]
) -> tuple[Int64[Tensor, "n 2"], Float[Tensor, " n"]]:
    """For every row, exactly, the pair of entries with the largest product of summed `gains` and `losses`.

    The pair p, q has the largest (a_p + a_q) (c_p + c_q) of those with both sums positive. An entry that two
    others exceed in a *and* in c can be left out: in any pair that holds it, one of the two can take its
    place. What remains are the first two Pareto layers, a few hundred of the 268,203 entries of a 299 x 299
    photo, and all pairs of those are tried. Sorting dominates: O(m log m).

    Args:
        gains: By how much the target's logit rises with each entry.
        losses: By how much the sum of the other logits falls with each entry.
        domain: Entries that may be chosen.

    Returns:
        The two entries, and the product, which is 0 (and the entries meaningless) where no pair has two
        positive sums.
    """
    a = torch.where(domain, gains, -torch.inf)
    c = torch.where(domain, losses, -torch.inf)
    kept = survivors(a, c)
    found = [best_pair(a[row], c[row], kept[row].nonzero()[:, 0]) for row in range(len(a))]
    pairs, products = zip(*found, strict=True)
    return torch.stack(pairs), torch.stack(products)


def survivors(a: Float[Tensor, "n m"], c: Float[Tensor, "n m"]) -> Bool[Tensor, "n m"]:
    """Entries that at most one other entry reaches in both `a` and `c`; of equal entries two are kept."""
    by_c = c.argsort(dim=1, descending=True, stable=True)
    order = by_c.gather(1, a.gather(1, by_c).argsort(dim=1, descending=True, stable=True))
    ordered = c.gather(1, order)
    # After sorting by a, an entry survives if it exceeds the second largest c before it. The second largest
    # so far is the largest of what was ever beaten or beat nothing: min(new, largest before).
    nothing = torch.full_like(ordered[:, :1], -torch.inf)
    largest_before = torch.cat([nothing, ordered.cummax(1).values[:, :-1]], dim=1)
    second = torch.minimum(ordered, largest_before).cummax(1).values
    second_before = torch.cat([nothing, second[:, :-1]], dim=1)
    return torch.zeros_like(ordered, dtype=torch.bool).scatter_(1, order, ordered > second_before)


def best_pair(
    a: Float[Tensor, " m"], c: Float[Tensor, " m"], kept: Int64[Tensor, " s"]
) -> tuple[Int64[Tensor, " 2"], Float[Tensor, ""]]:
    """Try all pairs of the entries in `kept`."""
    if len(kept) < 2:
        return torch.zeros(2, dtype=torch.int64, device=a.device), torch.zeros_like(a[0])
    gain = a[kept][:, None] + a[kept]
    loss = c[kept][:, None] + c[kept]
    valid = ((gain > 0) & (loss > 0)).triu(diagonal=1)
    products = torch.where(valid, gain * loss, 0)
    place = products.argmax()
    return kept[torch.stack([place // len(kept), place % len(kept)])], products.max()

"""The checks: of the network first, then of the attack."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import UNKNOWN, Task
from medrobust.errors import ModelError
from medrobust.perturbations.attacks.dag import BACKGROUND
from medrobust.perturbations.attacks.square import square
from medrobust.perturbations.checks import check_inputs, task_of
from medrobust.perturbations.entry import entry_of
from medrobust.perturbations.gradients import (
    Model,
    about,
    answer,
    finite,
    frozen,
    linearise,
    margin_weights,
    ordinary_mode,
    predict,
)
from medrobust.perturbations.outputs import SAME, depends_on_batch, relative_difference
from medrobust.perturbations.request import Request, request, solve_budget, targets_of
from medrobust.perturbations.selftest.binarisation import Features, binarisation, binarisation_passes
from medrobust.perturbations.selftest.probe import Outcome, Probe, Verdict, percent, plausible, verdict
from medrobust.rng import generator

SUM_OF_PROBABILITIES = 1e-3

MOST_USELESS = 0.1
"""Fraction of the gradient's entries that may be non-finite, and of images whose gradient may be zero."""

NOISE_DRAWS = 3
PART = 4
"""The attack is compared with itself at its budget, and its steps, divided by this."""

MANY_STEPS = 20
NETWORK_PASSES = 3.0

SQUARE = entry_of(square)
QUERIES = 100
"""Of the Square attack, which needs no gradient."""

NEAR_CHANCE = 0.1
"""Fraction of pixels that may stay right beyond chance: those that their place alone gives away."""

CHECKS: Mapping[str, str] = {
    "deterministic": "Two passes of the same images give the same logits, and so does each image alone.",
    "logits": "The network gives finite logits, not probabilities.",
    "gradients": "Nearly all entries of the gradient are finite, and it is zero for no image.",
    "noise": "The attack beats random noise of the same size.",
    "budget": "A larger budget makes it stronger.",
    "steps": "More steps never make it weaker.",
    "chance": "With a large budget the network does no better than chance.",
    "scores": "Random search by scores alone fools no more than it does.",
    "binarisation": "It finds adversarial examples that are known to exist.",
}
"""Every check and what passing it means, in their order."""


class Check(NamedTuple):
    """What one self-test saw.

    Attributes:
        name: One of `CHECKS`.
        passed: None where it does not apply, or where these images cannot tell.
        value: The number that was judged; None without one.
        seen: What was seen and, if it failed, what to do about it.
    """

    name: str
    passed: bool | None
    value: float | None
    seen: str


@ordinary_mode()
def selftest(
    wanted: Request | str,
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    spacing: Sequence[float] | None = None,
    features: Features | None = None,
) -> tuple[Check, ...]:
    """Test an attack on a network with a few images, as a rule 8 or more.

    The attack's entry in the catalogue decides which checks apply: whether it has a budget, takes steps, or
    looks for the smallest change. If a check of the network fails, the attack is not tried.

    Args:
        wanted: The attack as a study asks for it, or its name for its defaults. A budget that is not set is
            solved on these images.
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes, one per image or one per pixel.
        support: Where images may change; None: everywhere.
        rngs: One generator per image, copied for every attempt; None: a fixed set.
        spacing: Size of a pixel in mm, for targets; None where unknown.
        features: What the last layer of a classifier sees, `n d`; None: `model.features`, where there is one.

    Returns:
        One check for each of `CHECKS`, in that order.

    Raises:
        ValueError: A wrong argument.
        StudyError: An unknown attack, or one that is not for this task.
        ModelError: The network's output cannot be attacked.
    """
    check_inputs(images, labels, support)
    rngs = rngs or [generator(0, "selftest", place) for place in range(len(images))]
    if isinstance(wanted, str):
        wanted = request(wanted, task_of(labels))
    targets = targets_of(wanted, labels, copy.deepcopy(rngs), spacing)
    with frozen(model):
        probe = Probe(wanted, model, images, labels, support, rngs, targets)
        found = [Check(name, *look(probe)) for name, look in NETWORK.items()]
        if failed := ", ".join(check.name for check in found if check.passed is False):
            return (*found, *_not_made(f"Not run, because the network fails: {failed}."))
        if wanted.unsolved:
            wanted = wanted.with_budget(solve_budget(wanted, model, [(images, labels, support, rngs)]))
            probe = replace(probe, request=wanted)
        if probe.judged.any():
            attack = {
                "noise": _noise,
                "budget": _budget,
                "steps": _steps,
                "chance": _chance,
                "scores": _scores,
            }
            found += [Check(name, *look(probe)) for name, look in attack.items()]
        else:
            found += _not_made("There is nothing to change in these images.")[:-1]
        last = binarisation(probe, features)
        return (*found, Check("binarisation", *last))


def _not_made(why: str) -> list[Check]:
    """The checks of the attack, none of which was made."""
    return [Check(name, None, None, why) for name in list(CHECKS)[len(NETWORK) :]]


def passes(wanted: Request, task: Task) -> float:
    """Passes with gradient that all self-tests of an attack take per image, about; for estimates of time."""
    entry, parameters = wanted.perturbation, wanted.parameters
    once, steps = entry.passes(parameters), int(parameters.get("steps", 1))
    total = NETWORK_PASSES + NOISE_DRAWS + once * (1 if entry.budget is None else 2)
    if task is Task.CLASSIFICATION:
        total += binarisation_passes(wanted)
    if steps == 1:
        return total
    if entry.minimal:  # most images are done before their steps run out
        return total + once
    if task is Task.CLASSIFICATION and entry.needs == "gradient":
        total += QUERIES / 3
    return total + once / PART + once * max(1, MANY_STEPS / steps)


def _deterministic(probe: Probe) -> Verdict:
    first, second = (predict(probe.model, probe.images) for _ in range(2))
    difference = relative_difference(first, second)
    if difference > SAME:
        return (
            False,
            difference,
            f"Two passes of the same images differ by up to {difference:.3g} of the largest logit: the "
            "network is random even in evaluation mode. Remove the randomness, or attack its mean over "
            "many passes.",
        )
    try:
        mixed = depends_on_batch(
            partial(answer, probe.model),
            probe.images,
            alone=lambda place: partial(answer, about(probe.model, [place])),
        )
    except ModelError as error:
        return False, 1.0, f"An image alone is refused. {error}"
    if mixed:
        return (
            False,
            mixed,
            "The network's answer for an image depends on the other images of its batch: alone, logits "
            f"differ by up to {mixed:.2g} of the largest. Look for batch norm without running statistics, "
            "and for sums and normalisations over the whole batch: scores would change with its size.",
        )
    return True, difference, "Two passes give the same logits, and so does each image alone."


def _logits(probe: Probe) -> Verdict:
    logits = predict(probe.model, probe.images)
    sound = logits.isfinite().flatten(1).all(1)
    if not sound.all():
        share = 1 - float(sound.float().mean())
        return (
            False,
            share,
            f"The logits of {percent(share)} of the images are not finite. Its weights may have diverged, "
            "or its forward pass divides by 0 or takes its logarithm.",
        )
    span = float(logits.max() - logits.min())
    if logits.min() >= 0 and (logits.sum(1) - 1).abs().max() <= SUM_OF_PROBABILITIES:
        return (
            False,
            span,
            "The outputs are non-negative and sum to 1: they are probabilities, whose gradients vanish "
            "where the network is certain. Return the input of the softmax.",
        )
    return True, span, f"The outputs span {span:.3g} and are not probabilities."


def _gradients(probe: Probe) -> Verdict:
    if probe.request.perturbation.needs != "gradient":
        return None, None, "It follows no gradient."
    try:
        logits, pullback = linearise(probe.model, probe.images, as_is=True)
        if not bool(logits.isfinite().all()):
            return None, None, "The logits are not finite."
        gradient = pullback(margin_weights(logits, probe.labels))
    except ModelError as error:
        return False, 1.0, str(error)
    inside = torch.ones_like(gradient, dtype=torch.bool)
    if probe.support is not None:
        inside &= probe.support
    lost = float((inside & ~gradient.isfinite()).sum() / inside.sum().clamp_min(1))
    seen = f"{100 * lost:.3g} % of the gradient's entries are not finite"
    if lost > MOST_USELESS:
        return (
            False,
            lost,
            f"{seen}. Look for a root, a logarithm or a division at 0 in the network's forward pass.",
        )
    share = float((inside & (finite(gradient) != 0)).flatten(1).any(1).logical_not().float().mean())
    if share > MOST_USELESS:
        return (
            False,
            share,
            f"The gradient of {percent(share)} of the images is zero everywhere: attacks cannot see where "
            "to go. Remove rounding and thresholds from the forward pass, or pass their gradient on.",
        )
    found = f"{seen}, like those of a root at 0; attacks ignore them" if lost else "The gradient is finite"
    return True, share, f"{found}; it is zero for {percent(share)} of the images."


def _noise(probe: Probe) -> Verdict:
    """Against its own changes, shuffled over the support with random signs: every norm stays the same."""
    if torch.equal(probe.attacked, probe.images) and probe.attacked_outcome.success == 1:
        return None, None, "The network gets all of these wrong already."
    rngs = copy.deepcopy(probe.rngs)
    tried = [probe.outcome(shuffled(probe, rngs)) for _ in range(NOISE_DRAWS)]
    noise = Outcome(*(torch.stack(columns).mean(0) for columns in zip(*tried, strict=True)))
    attack = probe.attacked_outcome
    seen = f"It fools {percent(attack.success)}; its own changes, shuffled over the image, fool "
    return verdict(
        attack.beats(noise, probe.tolerance),
        attack.success - noise.success,
        seen + percent(noise.success),
        "it does no more than noise of the same size. Check the sign and the scale of its steps, and that "
        "normalisation is part of the network.",
    )


def shuffled(probe: Probe, rngs: Sequence[np.random.Generator]) -> Float[Tensor, "n c *space"]:
    """Noise with the norms of the attack (before clipping): its changes, shuffled and with random signs."""
    change = (probe.attacked - probe.images).cpu().numpy()
    moved = np.zeros_like(change)
    for place, rng in enumerate(rngs):
        inside = np.ones_like(change[place], dtype=bool)
        if probe.support is not None:
            inside &= probe.support[place].cpu().numpy()
        values = rng.permutation(change[place][inside])
        moved[place][inside] = values * rng.choice([-1, 1], values.shape)
    return (probe.images + torch.from_numpy(moved).to(probe.images)).clamp(0, 1)


def _budget(probe: Probe) -> Verdict:
    budget = probe.request.perturbation.budget
    if budget is None:
        return None, None, "It has no budget."
    value = float(probe.request.parameters[budget])
    made = probe.attack(**{budget: value / PART})
    weak, strong = probe.outcome(made), probe.attacked_outcome
    lead = strong.success - weak.success
    if probe.takes_steps:
        full = min(weak.success, strong.success) >= 1 - probe.tolerance
        grows = full or strong.beats(weak, probe.tolerance)
    else:
        # A single step soon overshoots what it fools: it must use its budget, and lose nothing.
        grows = lead >= -probe.tolerance and not torch.equal(made, probe.attacked)
    return verdict(
        grows,
        lead,
        f"It fools {percent(weak.success)} with {budget} = {value / PART:.4g} and {percent(strong.success)} "
        f"with {value:.4g}",
        "a larger budget does not help. Its steps may be too short to use it, or overshoot, or gradients do "
        "not point where the loss grows.",
    )


def _steps(probe: Probe) -> Verdict:
    steps = probe.request.parameters.get("steps", 1)
    if steps == 1:
        return None, None, "It takes one step."
    few = max(1, steps // PART)
    weak, strong = probe.outcome(probe.attack(steps=few)), probe.attacked_outcome
    lead = strong.success - weak.success
    return verdict(
        lead >= -probe.tolerance,
        lead,
        f"It fools {percent(weak.success)} with steps = {few} and {percent(strong.success)} with {steps}",
        f"more steps make it weaker by more than {percent(probe.tolerance)}. Its steps may be too large, or "
        "the wrong iterate is kept.",
    )


def _chance(probe: Probe) -> Verdict:
    entry, parameters = probe.request.perturbation, probe.request.parameters
    if entry.minimal:
        return None, None, "It looks for the smallest change."
    if not probe.takes_steps:
        return None, None, "One step cannot follow a curved boundary, however long it is."
    if probe.targets is not None:
        # Whether a given target can be reached is another question; one class everywhere can be.
        known = probe.labels != UNKNOWN
        probe = replace(probe, targets=torch.where(known, BACKGROUND, probe.labels))
    # The largest change there can be, in the norm of the attack.
    size = 1.0 if parameters.get("norm", "inf") == "inf" else math.sqrt(probe.images[0].numel())
    limits = {"step": size / 2} if entry.budget is None else {entry.budget: size, "step": None}
    made = probe.attack(**limits, steps=max(parameters["steps"], MANY_STEPS), stop_ssim=None)
    wrong = float(probe.outcome(made).wrong.nanmean())
    chance, passed = _against_chance(probe, wrong)
    return verdict(
        passed,
        wrong,
        f"Free to change the images at will, it makes {percent(wrong)} wrong; chance is {percent(chance)}",
        "gradients lead it nowhere. Look for masked gradients, try more steps, another loss or restarts.",
    )


def _scores(probe: Probe) -> Verdict:
    """Against the Square attack with the same budget."""
    entry, parameters = probe.request.perturbation, probe.request.parameters
    norm = entry.norm_of(parameters)
    if probe.labels.ndim > 1:
        return None, None, "Of several labels, a search lowers another loss than the attack climbs."
    if entry.needs != "gradient" or entry.budget is None or norm not in SQUARE.norms:
        return None, None, "It has no budget that attacks without a gradient could have too."
    if not probe.takes_steps:
        return None, None, "One step is no match for a search."
    if parameters.get("transfer"):
        return None, None, "Made to transfer, it does not follow the gradient of the images as they are."
    asked = {"name": SQUARE.name, "eps": parameters[entry.budget], "norm": norm, "steps": QUERIES}
    search = replace(probe, request=request(asked, task_of(probe.labels)))
    found, attack = probe.outcome(search.attacked), probe.attacked_outcome
    lead = attack.success - found.success
    return verdict(
        lead >= -probe.tolerance,
        lead,
        f"It fools {percent(attack.success)}; random search by scores, with {QUERIES} queries, fools "
        + percent(found.success),
        "gradients lead it astray, which is the sign of a masked gradient. Look for rounding, saturation and "
        "randomness in the network, and judge it by attacks without a gradient (square, rays, hopskipjump).",
    )


def _against_chance(probe: Probe, wrong: float) -> tuple[float, bool]:
    """The fraction that chance gets wrong, and whether the attacked network does no better.

    By chance, one image, or finding, in `classes` is right. Of pixels, a constant answer gets the most
    frequent class right.
    """
    if not task_of(probe.labels).has_maps:
        chance = 1 - 1 / predict(about(probe.model, [0]), probe.images[:1]).shape[1]
        return chance, plausible(wrong, int(probe.judged.sum()), chance)
    judged = probe.labels[probe.judged]
    chance = 1 - int(judged.bincount().max()) / len(judged)
    return chance, wrong >= chance - NEAR_CHANCE


NETWORK = {"deterministic": _deterministic, "logits": _logits, "gradients": _gradients}
"""The checks of the network; the others are of the attack."""

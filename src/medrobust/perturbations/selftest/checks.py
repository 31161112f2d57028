"""Checks of the network: without them, what an attack finds says nothing."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medrobust.errors import ModelError
from medrobust.outputs import depends_on_batch, relative_difference
from medrobust.perturbations.attacks.dag import BACKGROUND
from medrobust.perturbations.gradients import answer, ascent_weights, differentiate, finite, predict
from medrobust.perturbations.request import Request
from medrobust.perturbations.selftest.probe import Check, Outcome, Probe, not_asked, percent, plausible

SAME = 1e-4
"""Largest difference of two passes, relative to the largest logit: GPUs add in no fixed order."""

SUM_OF_PROBABILITIES = 1e-3

MOST_USELESS = 0.1
"""So many entries of the gradient may not be finite, and so many images may have none but zeros."""


def network_checks(probe: Probe) -> list[Check]:
    """Determinism, alone and in a batch, logits and gradients of the network under attack."""
    return [_deterministic(probe), _logits(probe), _gradients(probe)]


def _deterministic(probe: Probe) -> Check:
    first, second = (predict(probe.model, probe.images) for _ in range(2))
    difference = relative_difference(first, second)
    if difference > SAME:
        return Check(
            "deterministic",
            False,
            difference,
            f"Two passes of the same images differ by up to {difference:.3g} of the largest logit: the "
            "network is random also in evaluation mode. Take the randomness out, or attack its mean over "
            "many passes.",
        )
    try:
        mixed = depends_on_batch(partial(answer, probe.model), probe.images)
    except ModelError as error:
        return Check("deterministic", False, 1.0, f"An image alone is refused. {error}")
    if mixed:
        return Check(
            "deterministic",
            False,
            mixed,
            "The network's answer for an image depends on the other images of its batch: alone, logits "
            f"differ by up to {mixed:.2g} of the largest. Look for batch norm without running statistics, "
            "and for sums and normalisations over the whole batch: scores would change with its size.",
        )
    return Check(
        "deterministic", True, difference, "Two passes give the same logits, and so does each image alone."
    )


def _logits(probe: Probe) -> Check:
    logits = predict(probe.model, probe.images)
    finite = logits.isfinite().flatten(1).all(1)
    if not finite.all():
        share = 1 - float(finite.float().mean())
        return Check(
            "logits",
            False,
            share,
            f"The logits of {percent(share)} of the images are not finite. Its weights may have diverged, "
            "or its forward pass divides by 0 or takes its logarithm.",
        )
    probabilities = bool((logits >= 0).all()) and bool(
        ((logits.sum(1) - 1).abs() <= SUM_OF_PROBABILITIES).all()
    )
    span = float(logits.max() - logits.min())
    if probabilities:
        return Check(
            "logits",
            False,
            span,
            "The outputs are not negative and sum to 1: probabilities, whose gradients vanish where the "
            "network is sure. Return what goes into the softmax.",
        )
    return Check("logits", True, span, f"The outputs span {span:.3g} and are no probabilities.")


def _gradients(probe: Probe) -> Check:
    try:
        logits, pullback = differentiate(probe.model, probe.images)
        if not bool(logits.isfinite().all()):
            return not_asked("gradients", "The logits are not finite.")
        gradient = pullback(ascent_weights("margin", logits, probe.labels))
    except ModelError as error:
        return Check("gradients", False, 1.0, str(error))
    inside = torch.ones_like(gradient, dtype=torch.bool)
    if probe.support is not None:
        inside &= probe.support
    lost = float((inside & ~gradient.isfinite()).sum() / inside.sum().clamp_min(1))
    seen = f"{100 * lost:.3g} % of the gradient's entries are not finite"
    if lost > MOST_USELESS:
        return Check(
            "gradients",
            False,
            lost,
            f"{seen}. Look for a root, a logarithm or a division at 0 in the network's forward pass.",
        )
    share = float((inside & (finite(gradient) != 0)).flatten(1).any(1).logical_not().float().mean())
    if share > MOST_USELESS:
        return Check(
            "gradients",
            False,
            share,
            f"The gradient of {percent(share)} of the images is zero everywhere: attacks cannot see where to "
            "go. Take rounding and thresholds out of the forward pass, or pass their gradient on.",
        )
    found = f"{seen}, as those of a root at 0; attacks do without them" if lost else "The gradient is finite"
    return Check("gradients", True, share, f"{found}; it is zero for {percent(share)} of the images.")


NOISE_DRAWS = 3
PART = 4
"""The attack is held against itself with this part of its budget, and of its steps."""

MANY_STEPS = 20

NEAR_CHANCE = 0.1
"""So many pixels may stay right beyond chance: those that their place alone gives away."""


def attack_passes(wanted: Request) -> float:
    """Passes with gradient that these checks take per image, about; for estimates of time only."""
    entry, parameters = wanted.perturbation, wanted.parameters
    once, steps = entry.passes(parameters), int(parameters.get("steps", 1))
    passes = once * (1 if entry.budget is None else 2) + NOISE_DRAWS
    if steps == 1:
        return passes
    if entry.minimal:  # most images are done before their steps run out
        return passes + once
    return passes + once / PART + once * max(1, MANY_STEPS / steps)


def attack_checks(probe: Probe) -> list[Check]:
    """All checks of an attack but the binarisation test."""
    if not probe.judged.any():
        names = ("noise", "budget", "steps", "chance")
        return [not_asked(name, "There is nothing to change in these images.") for name in names]
    return [_noise(probe), _budget(probe), _steps(probe), _chance(probe)]


def _noise(probe: Probe) -> Check:
    """Against its own changes, shuffled over the support with random signs: every norm stays the same."""
    if torch.equal(probe.attacked, probe.images) and probe.attacked_outcome.success == 1:
        return not_asked("noise", "The network gets all of these wrong already.")
    rngs = copy.deepcopy(probe.rngs)
    tried = [probe.outcome(shuffled(probe, rngs)) for _ in range(NOISE_DRAWS)]
    noise = Outcome(*(torch.stack(columns).mean(0) for columns in zip(*tried, strict=True)))
    attack = probe.attacked_outcome
    lead = attack.success - noise.success
    seen = (
        f"It fools {percent(attack.success)}; its own changes, shuffled over the image, fool "
        f"{percent(noise.success)}"
    )
    if attack.beats(noise, probe.tolerance):
        return Check("noise", True, lead, f"{seen}.")
    return Check(
        "noise",
        False,
        lead,
        f"{seen}: it does no more than noise of the same size. Check the sign and the scale of its steps, "
        f"and that normalisation is part of the network.",
    )


def shuffled(probe: Probe, rngs: Sequence[np.random.Generator]) -> Float[Tensor, "n c *space"]:
    """Noise with the norms of the attack (before clipping): its changes at random places, signs at random."""
    change = (probe.attacked - probe.images).cpu().numpy()
    moved = np.zeros_like(change)
    for place, rng in enumerate(rngs):
        inside = np.ones_like(change[place], dtype=bool)
        if probe.support is not None:
            inside &= probe.support[place].cpu().numpy()
        values = rng.permutation(change[place][inside])
        moved[place][inside] = values * rng.choice([-1, 1], values.shape)
    return (probe.images + torch.from_numpy(moved).to(probe.images)).clamp(0, 1)


def _budget(probe: Probe) -> Check:
    budget = probe.request.perturbation.budget
    if budget is None:
        return not_asked("budget", "It has no budget.")
    value = float(probe.request.parameters[budget])
    made = probe.attack(**{budget: value / PART})
    weak, strong = probe.outcome(made), probe.attacked_outcome
    lead = strong.success - weak.success
    seen = (
        f"It fools {percent(weak.success)} with {budget} = {value / PART:.4g} and {percent(strong.success)}"
    )
    seen += f" with {value:.4g}"
    if probe.takes_steps:
        full = min(weak.success, strong.success) >= 1 - probe.tolerance
        grows = full or strong.beats(weak, probe.tolerance)
    else:
        # A single step soon overshoots what it fools: it must make something of its budget, and lose nothing.
        grows = lead >= -probe.tolerance and not torch.equal(made, probe.attacked)
    if grows:
        return Check("budget", True, lead, f"{seen}.")
    return Check(
        "budget",
        False,
        lead,
        f"{seen}: a larger budget does not help. Its steps may be too short to use it, or "
        "overshoot, or gradients do not point where the loss grows.",
    )


def _steps(probe: Probe) -> Check:
    steps = probe.request.parameters.get("steps", 1)
    if steps == 1:
        return not_asked("steps", "It takes one step.")
    few = max(1, steps // PART)
    weak, strong = probe.outcome(probe.attack(steps=few)), probe.attacked_outcome
    lead = strong.success - weak.success
    seen = f"It fools {percent(weak.success)} with steps = {few} and {percent(strong.success)} with {steps}"
    if lead >= -probe.tolerance:
        return Check("steps", True, lead, f"{seen}.")
    return Check(
        "steps",
        False,
        lead,
        f"{seen}: more steps make it weaker by more than {percent(probe.tolerance)}. Its steps may be too "
        f"large, or the wrong iterate is kept.",
    )


def _chance(probe: Probe) -> Check:
    entry, parameters = probe.request.perturbation, probe.request.parameters
    if entry.minimal:
        return not_asked("chance", "It looks for the smallest change.")
    if not probe.takes_steps:
        return not_asked("chance", "One step cannot follow a curved boundary, however long it is.")
    if probe.targets is not None:
        # Whether a target can be reached at all is another question; one class everywhere can be.
        probe = replace(probe, targets=torch.full_like(probe.targets, BACKGROUND))
    size = _whole_range(probe)
    limits = {"step": size / 2} if entry.budget is None else {entry.budget: size, "step": None}
    made = probe.attack(**limits, steps=max(parameters["steps"], MANY_STEPS), stop_ssim=None)
    wrong = float(probe.outcome(made).wrong.nanmean())
    chance, passed = _against_chance(probe, wrong)
    seen = f"Free to change the images at will, it makes {percent(wrong)} wrong; chance is {percent(chance)}"
    if passed:
        return Check("chance", True, wrong, f"{seen}.")
    return Check(
        "chance",
        False,
        wrong,
        f"{seen}: gradients lead it nowhere. Look for masked gradients, try more steps, another loss or "
        f"restarts.",
    )


def _against_chance(probe: Probe, wrong: float) -> tuple[float, bool]:
    """What chance gets wrong, and whether the attacked network does no better.

    Of images one in `classes` would be right by chance. Of pixels a constant answer gets right all of the
    most frequent class.
    """
    if probe.labels.ndim == 1:
        chance = 1 - 1 / predict(probe.model, probe.images[:1]).shape[1]
        return chance, plausible(wrong, len(probe.labels), chance)
    judged = probe.labels[probe.judged]
    chance = 1 - int(judged.bincount().max()) / len(judged)
    return chance, wrong >= chance - NEAR_CHANCE


def _whole_range(probe: Probe) -> float:
    """The largest change there can be, in the norm of the attack."""
    if probe.request.parameters.get("norm", "inf") == "inf":
        return 1.0
    return math.sqrt(probe.images[0].numel())

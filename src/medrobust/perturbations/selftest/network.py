"""Checks of the network: without them, what an attack finds says nothing."""

from functools import partial

import torch

from medrobust.errors import ModelError
from medrobust.outputs import depends_on_batch, relative_difference
from medrobust.perturbations.gradients import answer, ascent_weights, differentiate, finite, predict
from medrobust.perturbations.selftest.check import Check, not_asked, percent
from medrobust.perturbations.selftest.probe import Probe

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

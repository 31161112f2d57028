"""Checks of the network: without them, what an attack finds says nothing."""

import torch

from medrobust.errors import ModelError
from medrobust.perturbations.gradients import linearise, predict
from medrobust.perturbations.losses import Loss, ascent_weights
from medrobust.perturbations.selftest.check import Check, not_asked, percent
from medrobust.perturbations.selftest.probe import Probe

SAME = 1e-4
"""Largest difference of two passes, relative to the largest logit (and to 1): GPUs add in no fixed order."""

SUM_OF_PROBABILITIES = 1e-3
MOST_ZERO = 0.1


def network_checks(probe: Probe) -> list[Check]:
    """Determinism, logits and gradients of the network under attack."""
    return [_deterministic(probe), _logits(probe), _gradients(probe)]


def _deterministic(probe: Probe) -> Check:
    first, second = (predict(probe.model, probe.images) for _ in range(2))
    difference = float((first - second).abs().nan_to_num().max())
    passed = difference <= SAME * max(1.0, float(first.abs().nan_to_num().max()))
    if passed:
        return Check("deterministic", True, difference, "Two passes give the same logits.")
    return Check(
        "deterministic",
        False,
        difference,
        f"Two passes of the same images differ by up to {difference:.3g}: the network is random also in "
        "evaluation mode. Take the randomness out, or attack its mean over many passes.",
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
            f"The logits of {percent(share)} of the images are not finite. Its weights may have diverged.",
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
        logits, pullback = linearise(probe.model, probe.images)
    except ModelError as error:
        return Check("gradients", False, 1.0, str(error))
    if not bool(logits.isfinite().all()):
        return not_asked("gradients", "The logits are not finite.")
    gradient = pullback(ascent_weights(_climbed(probe), logits, probe.labels))
    if probe.support is not None:
        gradient = torch.where(probe.support, gradient, 0)
    finite = gradient.isfinite().flatten(1).all(1)
    if not finite.all():
        share = 1 - float(finite.float().mean())
        return Check(
            "gradients",
            False,
            share,
            f"The gradient of {percent(share)} of the images is not finite. Look for a division or a root at "
            "0 in the network's forward pass.",
        )
    share = float((gradient == 0).flatten(1).all(1).float().mean())
    if share > MOST_ZERO:
        return Check(
            "gradients",
            False,
            share,
            f"The gradient of {percent(share)} of the images is zero everywhere: attacks cannot see where to "
            "go. Take rounding and thresholds out of the forward pass (or pass their gradient on), and scale "
            "logits of 100 and more down.",
        )
    return Check("gradients", True, share, f"The gradient is finite, and zero for {percent(share)}.")


def _climbed(probe: Probe) -> Loss:
    """The loss whose gradient the attack needs: within a budget a loss is climbed, others work on logits."""
    if probe.request.perturbation.budget is None:
        return "margin"
    return "cross_entropy" if probe.request.parameters.get("loss", "") in ("", "cross_entropy") else "margin"

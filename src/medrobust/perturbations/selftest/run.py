"""All self-tests of an attack on a network."""

import copy
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.perturbations.checks import check_inputs
from medrobust.perturbations.gradients import Model, frozen, ordinary_mode
from medrobust.perturbations.request import Request, request, solve_budget, targets_of
from medrobust.perturbations.selftest.binarisation import Features, binarisation, binarisation_passes
from medrobust.perturbations.selftest.checks import attack_checks, attack_passes, network_checks
from medrobust.perturbations.selftest.probe import CHECKS, Check, Probe, not_asked
from medrobust.rng import generator

NETWORK_PASSES = 3.0


def passes(wanted: Request, task: Task) -> float:
    """Passes with gradient that all self-tests of an attack take per image, about."""
    binary = binarisation_passes(wanted) if task is Task.CLASSIFICATION else 0.0
    return NETWORK_PASSES + attack_passes(wanted) + binary


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

    What is asked depends on what the attack's entry in the catalogue says: whether it has a budget, takes
    steps, or looks for the smallest change. Where a check of the network fails, no attack is made.

    Args:
        wanted: The attack as a study asks for it, or its name for its defaults. A budget that is not set is
            solved on these images.
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes, one per image or one per pixel.
        support: Where images may change; None: everywhere.
        rngs: One generator per image, copied for every attempt; None: some that are always the same.
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
        task = Task.CLASSIFICATION if labels.ndim == 1 else Task.SEGMENTATION
        wanted = request({"name": wanted}, task)
    targets = targets_of(wanted, labels, copy.deepcopy(rngs), spacing)
    with frozen(model):
        found = network_checks(Probe(wanted, model, images, labels, support, rngs, targets))
        if any(check.passed is False for check in found):
            failed = ", ".join(check.name for check in found if check.passed is False)
            left = [name for name in CHECKS if name not in {check.name for check in found}]
            return (
                *found,
                *(not_asked(name, f"Not made, since the network fails: {failed}.") for name in left),
            )
        if wanted.unsolved:
            wanted = wanted.with_budget(solve_budget(wanted, model, [(images, labels, support, rngs)]))
        probe = Probe(wanted, model, images, labels, support, rngs, targets)
        found += attack_checks(probe)
        return (*found, binarisation(probe, features or getattr(model, "features", None)))

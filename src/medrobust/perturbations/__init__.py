"""Perturbations: pure functions `(model, images, labels, *, support=None, rngs=None, ...) -> images`.

Images are float32 in [0, 1] of shape `n c *space`, labels int64 `n` or `n *space`, logits `n k` or
`n k *space`. `support` is a bool mask `n 1 *space` outside of which nothing changes (None: everywhere);
`rngs` holds one NumPy generator per image (None: those of seed 0); `preset` stands for the parameters of a
named source, which explicit ones override. The result has the shape of the images and is detached. A wrong
argument raises `ValueError`, a network that cannot be attacked `ModelError`.

`PERTURBATIONS` is the catalogue.
"""

from medrobust.perturbations.attacks.dag import dag
from medrobust.perturbations.attacks.deepfool import deepfool
from medrobust.perturbations.attacks.fgsm import fgsm
from medrobust.perturbations.attacks.pgd import mi_fgsm, pgd, segpgd
from medrobust.perturbations.attacks.saliency_map import saliency_map
from medrobust.perturbations.catalogue import PERTURBATIONS
from medrobust.perturbations.contract import Finding, check_perturbation
from medrobust.perturbations.entry import (
    Perturbation,
    Preset,
    Tally,
    corruption,
    entry_of,
    is_perturbation,
    perturbation,
)
from medrobust.perturbations.geometry import support_of
from medrobust.perturbations.noise import clean, gaussian, rician
from medrobust.perturbations.request import (
    Request,
    add_noise,
    match_noise,
    parameters_of,
    perturb,
    request,
    requests,
    solve_budget,
    targets_of,
)
from medrobust.perturbations.strength import Solution

__all__ = [
    "PERTURBATIONS",
    "Finding",
    "Perturbation",
    "Preset",
    "Request",
    "Solution",
    "Tally",
    "add_noise",
    "check_perturbation",
    "clean",
    "corruption",
    "dag",
    "deepfool",
    "entry_of",
    "fgsm",
    "gaussian",
    "is_perturbation",
    "match_noise",
    "mi_fgsm",
    "parameters_of",
    "perturb",
    "perturbation",
    "pgd",
    "request",
    "requests",
    "rician",
    "saliency_map",
    "segpgd",
    "solve_budget",
    "support_of",
    "targets_of",
]

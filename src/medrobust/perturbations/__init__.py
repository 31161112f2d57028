"""Perturbations: pure functions `(model, images, labels, *, support=None, rngs=None, ...) -> images`.

Images are float32 in [0, 1] of shape `n c *space`, labels `n` or `n *space`, logits `n k` or `n k *space`;
`support` is a bool mask `n 1 *space` outside of which nothing changes; `rngs` holds one NumPy generator per
image. `PERTURBATIONS` is the catalogue.
"""

from medrobust.perturbations.budget import solve_budget
from medrobust.perturbations.catalogue import PERTURBATIONS
from medrobust.perturbations.clean import clean
from medrobust.perturbations.dag import dag
from medrobust.perturbations.deepfool import deepfool
from medrobust.perturbations.entry import Perturbation
from medrobust.perturbations.fgsm import fgsm
from medrobust.perturbations.grid import requests
from medrobust.perturbations.mi_fgsm import mi_fgsm
from medrobust.perturbations.noise import gaussian, match_noise, rician
from medrobust.perturbations.pgd import pgd
from medrobust.perturbations.presets import Preset
from medrobust.perturbations.request import Request, parameters_of, perturb, request, targets_of
from medrobust.perturbations.root import Solution
from medrobust.perturbations.saliency_map import saliency_map
from medrobust.perturbations.segpgd import segpgd
from medrobust.perturbations.support import support_of
from medrobust.perturbations.tally import Tally

__all__ = [
    "PERTURBATIONS",
    "Perturbation",
    "Preset",
    "Request",
    "Solution",
    "Tally",
    "clean",
    "dag",
    "deepfool",
    "fgsm",
    "gaussian",
    "match_noise",
    "mi_fgsm",
    "parameters_of",
    "perturb",
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

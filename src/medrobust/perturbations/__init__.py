"""Perturbations: pure functions `(model, images, labels, *, support=None, rngs=None, ...) -> images`.

Images are float32 in [0, 1] of shape `n c *space`. Labels are int64 `n`, `n findings` or `n *space`, logits
`n k`, `n 2 findings` (absent and present) or `n k *space`; a label of -1 is not known and counts nowhere.
`support` is a bool mask `n 1 *space` outside of which nothing changes (None: everywhere); `rngs` holds one
NumPy generator per image (None: those of seed 0); `preset` stands for the parameters of a named source, which
explicit ones override. The result has the shape of the images and is detached. A wrong argument raises
`ValueError`, a network that cannot be attacked `ModelError`.

`PERTURBATIONS` is the catalogue.
"""

from medrobust.perturbations.attacks.alma_prox import alma_prox, pdpgd
from medrobust.perturbations.attacks.apgd import apgd
from medrobust.perturbations.attacks.dag import dag
from medrobust.perturbations.attacks.deepfool import deepfool
from medrobust.perturbations.attacks.fab import fab
from medrobust.perturbations.attacks.fgsm import fgsm
from medrobust.perturbations.attacks.fmn import ddn, fmn
from medrobust.perturbations.attacks.hopskipjump import hopskipjump
from medrobust.perturbations.attacks.pgd import cospgd, mi_fgsm, pgd, segpgd
from medrobust.perturbations.attacks.rays import rays
from medrobust.perturbations.attacks.saliency_map import saliency_map
from medrobust.perturbations.attacks.sea import sea
from medrobust.perturbations.attacks.sigma_zero import sigma_zero
from medrobust.perturbations.attacks.square import square
from medrobust.perturbations.attacks.universal import universal
from medrobust.perturbations.attacks.worst_case import worst_case
from medrobust.perturbations.catalogue import PERTURBATIONS
from medrobust.perturbations.contract import Finding, check_perturbation
from medrobust.perturbations.corruptions import CORRUPTIONS, ORIENTATIONS, SUITES
from medrobust.perturbations.entry import (
    Extent,
    Moved,
    Perturbation,
    Preset,
    Tally,
    corruption,
    entry_of,
    is_perturbation,
    perturbation,
)
from medrobust.perturbations.geometry import support_of
from medrobust.perturbations.noise import clean, gaussian, random_signs, rician
from medrobust.perturbations.request import (
    Request,
    add_noise,
    aimed,
    fitted,
    match_noise,
    moved,
    parameters_of,
    perturb,
    place_of_finding,
    request,
    requests,
    solve_budget,
    targets_of,
)
from medrobust.perturbations.strength import Solution
from medrobust.perturbations.transforms import TRANSFORM_SUITES, TRANSFORMS

__all__ = [
    "CORRUPTIONS",
    "ORIENTATIONS",
    "PERTURBATIONS",
    "SUITES",
    "TRANSFORMS",
    "TRANSFORM_SUITES",
    "Extent",
    "Finding",
    "Moved",
    "Perturbation",
    "Preset",
    "Request",
    "Solution",
    "Tally",
    "add_noise",
    "aimed",
    "alma_prox",
    "apgd",
    "check_perturbation",
    "clean",
    "corruption",
    "cospgd",
    "dag",
    "ddn",
    "deepfool",
    "entry_of",
    "fab",
    "fgsm",
    "fitted",
    "fmn",
    "gaussian",
    "hopskipjump",
    "is_perturbation",
    "match_noise",
    "mi_fgsm",
    "moved",
    "parameters_of",
    "pdpgd",
    "perturb",
    "perturbation",
    "pgd",
    "place_of_finding",
    "random_signs",
    "rays",
    "request",
    "requests",
    "rician",
    "saliency_map",
    "sea",
    "segpgd",
    "sigma_zero",
    "solve_budget",
    "square",
    "support_of",
    "targets_of",
    "universal",
    "worst_case",
]

"""The catalogue of perturbations: adding one costs its own file and its name here."""

from medrobust.catalogue import Catalogue
from medrobust.perturbations.attacks.alma_prox import alma_prox, pdpgd
from medrobust.perturbations.attacks.apgd import apgd
from medrobust.perturbations.attacks.dag import DAG_A, DAG_B, DAG_C
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
from medrobust.perturbations.corruptions import CORRUPTIONS
from medrobust.perturbations.entry import Perturbation, entry_of
from medrobust.perturbations.noise import clean, gaussian, random_signs, rician
from medrobust.perturbations.transforms import TRANSFORMS

_NOISE = (gaussian, rician, random_signs)
_ATTACKS = (
    fgsm,
    deepfool,
    saliency_map,
    DAG_A,
    DAG_B,
    DAG_C,
    pgd,
    mi_fgsm,
    segpgd,
    apgd,
    cospgd,
    sea,
    fab,
    square,
    rays,
    hopskipjump,
    fmn,
    ddn,
    sigma_zero,
    alma_prox,
    pdpgd,
    universal,
    worst_case,
)

PERTURBATIONS: Catalogue[Perturbation] = Catalogue(
    "perturbation",
    "medrobust.perturbations",
    {entry.name: entry for entry in map(entry_of, (clean, *_NOISE, *_ATTACKS, *CORRUPTIONS, *TRANSFORMS))},
    entry_of,
)

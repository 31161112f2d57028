"""The catalogue of perturbations: adding one costs its own file and an entry here."""

from medrobust.core import Task
from medrobust.perturbations.clean import clean
from medrobust.perturbations.dag import PRESETS as DAG_PRESETS
from medrobust.perturbations.dag import dag
from medrobust.perturbations.deepfool import PRESETS as DEEPFOOL_PRESETS
from medrobust.perturbations.deepfool import deepfool
from medrobust.perturbations.entry import Perturbation
from medrobust.perturbations.fgsm import PRESETS as FGSM_PRESETS
from medrobust.perturbations.fgsm import check_line_search, fgsm
from medrobust.perturbations.mi_fgsm import mi_fgsm
from medrobust.perturbations.noise import gaussian, rician
from medrobust.perturbations.pgd import check_restarts, pgd
from medrobust.perturbations.saliency_map import PRESETS as SALIENCY_MAP_PRESETS
from medrobust.perturbations.saliency_map import check_pairs, saliency_map
from medrobust.perturbations.segpgd import segpgd
from medrobust.perturbations.targets import all_background, dilated, scattered

BOTH = (Task.CLASSIFICATION, Task.SEGMENTATION)
XIE = "Xie et al. 2017, Adversarial examples for semantic segmentation and object detection"
TYPES = "Paschali et al. 2018, Generalizability vs. robustness"

PERTURBATIONS: dict[str, Perturbation] = {
    "clean": Perturbation(
        function=clean,
        kind="clean",
        tasks=BOTH,
        revision=1,
        summary="The image as it is.",
        source="",
    ),
    "gaussian": Perturbation(
        function=gaussian,
        kind="noise",
        tasks=BOTH,
        revision=2,
        summary="Gaussian noise.",
        source="",
        budget="strength",
    ),
    "rician": Perturbation(
        function=rician,
        kind="noise",
        tasks=BOTH,
        revision=2,
        summary="Noise of a magnitude MR image.",
        source="Gudbjartsson and Patz 1995, The Rician distribution of noisy MRI data",
        budget="strength",
    ),
    "fgsm": Perturbation(
        function=fgsm,
        kind="attack",
        tasks=BOTH,
        revision=3,
        summary="One step along the sign of the gradient.",
        source="Goodfellow, Shlens, Szegedy 2015, Explaining and harnessing adversarial examples",
        presets=FGSM_PRESETS,
        budget="eps",
        default_ssim=0.98,
        whitebox=True,
        check=check_line_search,
    ),
    "deepfool": Perturbation(
        function=deepfool,
        kind="attack",
        tasks=(Task.CLASSIFICATION,),
        revision=4,
        summary="The shortest way over the nearest boundary of the linearised network.",
        source="Moosavi-Dezfooli, Fawzi, Frossard 2016, DeepFool",
        presets=DEEPFOOL_PRESETS,
        minimal=True,
        passes=lambda parameters: 10.0 + parameters["trials"],
        on_misclassified="keep",
    ),
    "saliency_map": Perturbation(
        function=saliency_map,
        kind="attack",
        tasks=(Task.CLASSIFICATION,),
        revision=3,
        summary="A few entries, those that matter most for a wrong class.",
        source="Papernot et al. 2016, The limitations of deep learning in adversarial settings; foolbox "
        "0.8.0",
        presets=SALIENCY_MAP_PRESETS,
        minimal=True,
        passes=lambda parameters: min(500 / parameters["entries_per_step"], parameters["steps"]),
        on_misclassified="keep",
        on_failure="clean",
        check=check_pairs,
    ),
    "dag_a": Perturbation(
        function=dag,
        kind="attack",
        tasks=(Task.SEGMENTATION,),
        revision=3,
        summary="Dense adversary generation, type A: everything is to be background.",
        source=f"{XIE}; {TYPES}",
        targets=all_background,
        presets=DAG_PRESETS,
        passes=lambda parameters: float(parameters["steps"]),
        whitebox=True,
    ),
    "dag_b": Perturbation(
        function=dag,
        kind="attack",
        tasks=(Task.SEGMENTATION,),
        revision=3,
        summary="Dense adversary generation, type B: scattered foreground pixels are to be one other class.",
        source=f"{XIE}; {TYPES}",
        targets=scattered,
        presets=DAG_PRESETS,
        passes=lambda parameters: float(parameters["steps"]),
    ),
    "dag_c": Perturbation(
        function=dag,
        kind="attack",
        tasks=(Task.SEGMENTATION,),
        revision=3,
        summary="Dense adversary generation, type C: one structure is to grow.",
        source=f"{XIE}; {TYPES}",
        targets=dilated,
        presets=DAG_PRESETS,
        passes=lambda parameters: float(parameters["steps"]),
    ),
    "pgd": Perturbation(
        function=pgd,
        kind="attack",
        tasks=BOTH,
        revision=2,
        summary="Projected gradient descent: many small steps within the budget.",
        source="Madry et al. 2018, Towards deep learning models resistant to adversarial attacks",
        budget="eps",
        default_ssim=0.98,
        passes=lambda parameters: float(parameters["steps"] * parameters["restarts"]),
        check=check_restarts,
        beyond_paper=True,
    ),
    "mi_fgsm": Perturbation(
        function=mi_fgsm,
        kind="attack",
        tasks=BOTH,
        revision=2,
        summary="Iterated FGSM with momentum, made to transfer.",
        source="Dong et al. 2018, Boosting adversarial attacks with momentum",
        budget="eps",
        default_ssim=0.98,
        passes=lambda parameters: float(parameters["steps"]),
        beyond_paper=True,
    ),
    "segpgd": Perturbation(
        function=segpgd,
        kind="attack",
        tasks=(Task.SEGMENTATION,),
        revision=2,
        summary="Projected gradient descent that turns right pixels first.",
        source="Gu et al. 2022, SegPGD: an effective and efficient adversarial attack for evaluating and "
        "boosting segmentation robustness",
        budget="eps",
        default_ssim=0.98,
        passes=lambda parameters: float(parameters["steps"]),
        beyond_paper=True,
    ),
}

"""What benchmarks of corruptions make of the scores at every severity.

Each is the number that the benchmark's own evaluator prints: MedMNIST-C's balanced errors relative to a
baseline network, and ROOD-MRI's means in which severity s weighs alpha^s.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Errors = Mapping[str, Sequence[float]]
"""Errors in [0, 1] at every severity, by corruption."""

ALPHA = 2 / 3


class Balanced(NamedTuple):
    """Errors relative to a baseline; 1: as bad as that.

    Attributes:
        be: Balanced error.
        relative: Relative balanced error: of what corruption adds to the clean error.
        of: Both by corruption.
    """

    be: float
    relative: float
    of: Mapping[str, tuple[float, float]]


def balanced_errors(
    errors: Errors, clean: float, baseline: Mapping[str, float], baseline_clean: float
) -> Balanced:
    """MedMNIST-C's balanced error and relative balanced error of a network.

    Args:
        errors: 1 - balanced accuracy at every severity, by corruption.
        clean: The same on clean images.
        baseline: Error of the baseline network under each corruption, a mean over severities.
        baseline_clean: The same on clean images.

    Returns:
        Unweighted means over the corruptions. NaN where the baseline makes no error, or none beyond its clean
        one: nothing is relative to that.

    Source:
        Di Salvo et al. 2024, MedMNIST-C, section 3.3.
    """
    of = {}
    for name, levels in errors.items():
        error, lost = float(np.mean(levels)), baseline[name] - baseline_clean
        of[name] = (
            error / baseline[name] if baseline[name] else float("nan"),
            (error - clean) / lost if lost else float("nan"),
        )
    means = np.mean([*of.values()], axis=0) if of else np.full(2, np.nan)
    return Balanced(float(means[0]), float(means[1]), of)


class Weighted(NamedTuple):
    """Weighted means over severities.

    Attributes:
        overall: Mean score over clean images and all severities.
        degradation: Mean loss from the clean score; above 0: worse than on clean images.
    """

    overall: float
    degradation: float


def weighted_scores(clean: float, scores: Sequence[float], *, higher_is_better: bool = True) -> Weighted:
    """ROOD-MRI's overall score and degradation under a corruption: severity s weighs (2/3)^s, clean images 1.

    Args:
        clean: Score on clean images, a mean over subjects.
        scores: The same at severities 1, 2, ...
        higher_is_better: False for distances, whose degradation has the other sign.

    Source:
        Boone et al. 2023, ROOD-MRI: Benchmarking the robustness of deep learning segmentation models to
        out-of-distribution and corrupted data in MRI, NeuroImage 278.
    """
    weights = ALPHA ** np.arange(1, len(scores) + 1)
    levels = np.asarray(scores, dtype=np.float64)
    sign = 1 if higher_is_better else -1
    return Weighted(
        float((clean + weights @ levels) / (1 + weights.sum())),
        float(sign * (weights @ (clean - levels)) / weights.sum()),
    )


ALEXNET: Mapping[str, Mapping[str, float]] = {
    "pathmnist": {
        "clean": 0.0883930, "pixelate": 0.2093420, "jpeg": 0.2470927, "defocus_blur": 0.4621260,
        "motion_blur": 0.3689077, "brightness_up": 0.4155158, "brightness_down": 0.2811688,
        "contrast_up": 0.2338926, "contrast_down": 0.1371869, "saturate": 0.3341144, "stain_deposit":
        0.2493083, "bubbles": 0.1081830,
    },
    "bloodmnist": {
        "clean": 0.0183693, "pixelate": 0.0597562, "jpeg": 0.1397619, "defocus_blur": 0.2239980,
        "motion_blur": 0.1845192, "brightness_up": 0.0694629, "brightness_down": 0.0790078,
        "contrast_up": 0.0521536, "contrast_down": 0.0796607, "saturate": 0.0347856, "stain_deposit":
        0.1853612, "bubbles": 0.1289883,
    },
    "dermamnist": {
        "clean": 0.3985776, "pixelate": 0.5105118, "jpeg": 0.4771630, "gaussian_noise": 0.7701614,
        "speckle_noise": 0.7688785, "impulse_noise": 0.7995552, "shot_noise": 0.8391552, "defocus_blur":
        0.7008318, "motion_blur": 0.6266415, "zoom_blur": 0.5277669, "brightness_up": 0.4473990,
        "brightness_down": 0.5772968, "contrast_up": 0.4304154, "contrast_down": 0.5398210,
        "black_corner": 0.7591458, "characters": 0.4461917,
    },
    "retinamnist": {
        "clean": 0.5582065, "pixelate": 0.6017003, "jpeg": 0.6795224, "gaussian_noise": 0.7040833,
        "speckle_noise": 0.6135259, "defocus_blur": 0.6882905, "motion_blur": 0.7075761,
        "brightness_down": 0.5844791, "contrast_down": 0.6092882,
    },
    "tissuemnist": {
        "clean": 0.3917787, "pixelate": 0.4927291, "jpeg": 0.5080701, "impulse_noise": 0.7970869,
        "gaussian_blur": 0.4805143, "brightness_up": 0.4618274, "brightness_down": 0.5198194,
        "contrast_up": 0.5026234, "contrast_down": 0.5369343,
    },
    "octmnist": {
        "clean": 0.2020000, "pixelate": 0.3124000, "jpeg": 0.2964000, "speckle_noise": 0.3860000,
        "defocus_blur": 0.3084000, "motion_blur": 0.4892000, "contrast_down": 0.4196000,
    },
    "breastmnist": {
        "clean": 0.1453634, "pixelate": 0.4612782, "jpeg": 0.2986216, "speckle_noise": 0.3870927,
        "motion_blur": 0.2590226, "brightness_up": 0.3197995, "brightness_down": 0.2112782,
        "contrast_down": 0.1586466,
    },
    "chestmnist": {
        "clean": 0.2839064, "pixelate": 0.4489507, "jpeg": 0.3457569, "gaussian_noise": 0.4768832,
        "speckle_noise": 0.4568789, "impulse_noise": 0.4855363, "shot_noise": 0.4926967,
        "gaussian_blur": 0.3176801, "brightness_up": 0.2993721, "brightness_down": 0.2971153,
        "contrast_up": 0.2875100, "contrast_down": 0.2954742, "gamma_up": 0.2874621, "gamma_down":
        0.2891642,
    },
    "pneumoniamnist": {
        "clean": 0.1008547, "pixelate": 0.2210256, "jpeg": 0.2798291, "gaussian_noise": 0.4414530,
        "speckle_noise": 0.3457265, "impulse_noise": 0.4581197, "shot_noise": 0.4106838,
        "gaussian_blur": 0.2730769, "brightness_up": 0.1464957, "brightness_down": 0.2782051,
        "contrast_up": 0.0952991, "contrast_down": 0.2374359, "gamma_up": 0.0960684, "gamma_down":
        0.1664103,
    },
    "organamnist": {
        "clean": 0.0500537, "pixelate": 0.0758973, "jpeg": 0.1023318, "gaussian_noise": 0.5588675,
        "speckle_noise": 0.5008977, "impulse_noise": 0.6005123, "shot_noise": 0.5704549,
        "gaussian_blur": 0.2334066, "brightness_up": 0.1476355, "brightness_down": 0.2646445,
        "contrast_up": 0.1097787, "contrast_down": 0.1268425, "gamma_up": 0.1036001, "gamma_down":
        0.1057709,
    },
    "organcmnist": {
        "clean": 0.0759678, "pixelate": 0.1216127, "jpeg": 0.1075448, "gaussian_noise": 0.5736544,
        "speckle_noise": 0.5130960, "impulse_noise": 0.5997780, "shot_noise": 0.5492477,
        "gaussian_blur": 0.3168955, "brightness_up": 0.1601185, "brightness_down": 0.2324272,
        "contrast_up": 0.0999184, "contrast_down": 0.1532740, "gamma_up": 0.1426418, "gamma_down":
        0.1239090,
    },
    "organsmnist": {
        "clean": 0.2430049, "pixelate": 0.3125942, "jpeg": 0.2699699, "gaussian_noise": 0.5889124,
        "speckle_noise": 0.5450100, "impulse_noise": 0.6010109, "shot_noise": 0.5519126,
        "gaussian_blur": 0.4466646, "brightness_up": 0.3598502, "brightness_down": 0.3592866,
        "contrast_up": 0.2871702, "contrast_down": 0.3128243, "gamma_up": 0.3025320, "gamma_down":
        0.3116016,
    },
}  # fmt: skip
"""Balanced errors of MedMNIST-C's AlexNet, means over severities, and on clean images. At 224 pixels only."""

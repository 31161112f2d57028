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
        "clean": 0.08839, "pixelate": 0.20934, "jpeg": 0.24709, "defocus_blur": 0.46213, "motion_blur":
        0.36891, "brightness_up": 0.41552, "brightness_down": 0.28117, "contrast_up": 0.23389,
        "contrast_down": 0.13719, "saturate": 0.33411, "stain_deposit": 0.24931, "bubbles": 0.10818,
    },
    "bloodmnist": {
        "clean": 0.01837, "pixelate": 0.05976, "jpeg": 0.13976, "defocus_blur": 0.22400, "motion_blur":
        0.18452, "brightness_up": 0.06946, "brightness_down": 0.07901, "contrast_up": 0.05215,
        "contrast_down": 0.07966, "saturate": 0.03479, "stain_deposit": 0.18536, "bubbles": 0.12899,
    },
    "dermamnist": {
        "clean": 0.39858, "pixelate": 0.51051, "jpeg": 0.47717, "gaussian_noise": 0.77016,
        "speckle_noise": 0.76888, "impulse_noise": 0.79956, "shot_noise": 0.83916, "defocus_blur":
        0.70083, "motion_blur": 0.62664, "zoom_blur": 0.52777, "brightness_up": 0.44740,
        "brightness_down": 0.57730, "contrast_up": 0.43042, "contrast_down": 0.53982, "black_corner":
        0.75915, "characters": 0.44619,
    },
    "retinamnist": {
        "clean": 0.55821, "pixelate": 0.60170, "jpeg": 0.67952, "gaussian_noise": 0.70408,
        "speckle_noise": 0.61353, "defocus_blur": 0.68829, "motion_blur": 0.70758, "brightness_down":
        0.58448, "contrast_down": 0.60929,
    },
    "tissuemnist": {
        "clean": 0.39178, "pixelate": 0.49273, "jpeg": 0.50807, "impulse_noise": 0.79709,
        "gaussian_blur": 0.48051, "brightness_up": 0.46183, "brightness_down": 0.51982, "contrast_up":
        0.50262, "contrast_down": 0.53693,
    },
    "octmnist": {
        "clean": 0.20200, "pixelate": 0.31240, "jpeg": 0.29640, "speckle_noise": 0.38600,
        "defocus_blur": 0.30840, "motion_blur": 0.48920, "contrast_down": 0.41960,
    },
    "breastmnist": {
        "clean": 0.14536, "pixelate": 0.46128, "jpeg": 0.29862, "speckle_noise": 0.38709, "motion_blur":
        0.25902, "brightness_up": 0.31980, "brightness_down": 0.21128, "contrast_down": 0.15865,
    },
    "chestmnist": {
        "clean": 0.28391, "pixelate": 0.44895, "jpeg": 0.34576, "gaussian_noise": 0.47688,
        "speckle_noise": 0.45688, "impulse_noise": 0.48554, "shot_noise": 0.49270, "gaussian_blur":
        0.31768, "brightness_up": 0.29937, "brightness_down": 0.29712, "contrast_up": 0.28751,
        "contrast_down": 0.29547, "gamma_up": 0.28746, "gamma_down": 0.28916,
    },
    "pneumoniamnist": {
        "clean": 0.10085, "pixelate": 0.22103, "jpeg": 0.27983, "gaussian_noise": 0.44145,
        "speckle_noise": 0.34573, "impulse_noise": 0.45812, "shot_noise": 0.41068, "gaussian_blur":
        0.27308, "brightness_up": 0.14650, "brightness_down": 0.27821, "contrast_up": 0.09530,
        "contrast_down": 0.23744, "gamma_up": 0.09607, "gamma_down": 0.16641,
    },
    "organamnist": {
        "clean": 0.05005, "pixelate": 0.07590, "jpeg": 0.10233, "gaussian_noise": 0.55887,
        "speckle_noise": 0.50090, "impulse_noise": 0.60051, "shot_noise": 0.57045, "gaussian_blur":
        0.23341, "brightness_up": 0.14764, "brightness_down": 0.26464, "contrast_up": 0.10978,
        "contrast_down": 0.12685, "gamma_up": 0.10360, "gamma_down": 0.10577,
    },
    "organcmnist": {
        "clean": 0.07597, "pixelate": 0.12161, "jpeg": 0.10754, "gaussian_noise": 0.57364,
        "speckle_noise": 0.51303, "impulse_noise": 0.59978, "shot_noise": 0.54925, "gaussian_blur":
        0.31690, "brightness_up": 0.16012, "brightness_down": 0.23243, "contrast_up": 0.09992,
        "contrast_down": 0.15327, "gamma_up": 0.14264, "gamma_down": 0.12391,
    },
    "organsmnist": {
        "clean": 0.24300, "pixelate": 0.31259, "jpeg": 0.26997, "gaussian_noise": 0.58891,
        "speckle_noise": 0.54501, "impulse_noise": 0.60101, "shot_noise": 0.55191, "gaussian_blur":
        0.44666, "brightness_up": 0.35985, "brightness_down": 0.35929, "contrast_up": 0.28717,
        "contrast_down": 0.31282, "gamma_up": 0.30253, "gamma_down": 0.31160,
    },
}  # fmt: skip
"""Balanced errors of MedMNIST-C's AlexNet, means over severities, and on clean images. At 224 pixels only."""

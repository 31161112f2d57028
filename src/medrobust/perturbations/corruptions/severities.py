"""The five steps of every family, as their sources have them.

MedMNIST-C has steps of its own for each of its twelve data sets, whose names end the presets' (the three
organ sets share theirs): Di Salvo, Doerrich and Ledig 2024, MedMNIST-C, with its code at 8acfd27. ImageNet-C:
Hendrycks and Dietterich 2019. ROOD-MRI: Boone et al. 2023, five equal steps from the neutral value.
MedFM-Robust: vfdv52/MedFM-Robust. TorchIO: the defaults of 1.2.1, in five equal steps. Where nobody has
published steps, those of medrobust are called so.

All are used as published, also where they are not in order: the black corner of MedMNIST-C is larger at
severity 4 than at 5, and its stain deposits on blood end with three equal steps.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from medrobust.perturbations.entry import Preset

SOURCES = {
    "medmnist-c": "Di Salvo et al. 2024, MedMNIST-C (medmnistc 0.1.0)",
    "imagenet-c": "Hendrycks and Dietterich 2019, Benchmarking neural network robustness",
    "rood-mri": "Boone et al. 2023, ROOD-MRI",
    "medfm-robust": "MedFM-Robust (vfdv52/MedFM-Robust)",
    "torchio": "Pérez-García et al. 2021, TorchIO (1.2.1)",
    "medrobust": "medrobust: nobody has published steps",
}
"""By the beginning of a preset's name."""

Steps = Mapping[str, Iterable[Any]]

_UP, _DOWN = (1.1, 1.2, 1.3, 1.4, 1.5), (0.9, 0.8, 0.7, 0.6, 0.5)
_NOISE, _IMPULSE = (0.04, 0.08, 0.12, 0.18, 0.26), (0.01, 0.03, 0.06, 0.09, 0.17)
_SPECKLE, _SHOT = (0.05, 0.15, 0.2, 0.35, 0.45), (60, 25, 18, 10, 5)
_CONTRAST_UP, _CONTRAST_DOWN = (1.1, 1.2, 1.3, 1.4, 1.6), (0.9, 0.8, 0.7, 0.6, 0.4)
_HIGHLIGHTS = (0.15, 0.25, 0.4, 0.55, 0.7)
_JPEG, _PIXELS = (50, 30, 15, 10, 7), (0.3, 0.25, 0.2, 0.15, 0.1)


def _kernels(*sizes: int) -> Steps:
    """Gaussian kernels of odd sizes, with the sigma that torchvision gives them."""
    sigmas = [0.3 * ((size - 1) / 2 - 1) + 0.8 for size in sizes]
    return {
        "sigma": sigmas,
        "truncate": [(size - 1) / 2 / sigma for size, sigma in zip(sizes, sigmas, strict=True)],
    }


def _pairs(first: str, second: str, *pairs: tuple[float, float]) -> Steps:
    ones, others = zip(*pairs, strict=True)
    return {first: ones, second: others}


def _discs(*pairs: tuple[float, float]) -> Steps:
    return _pairs("radius", "alias", *pairs)


def _motion(*pairs: tuple[float, float]) -> Steps:
    return _pairs("radius", "sigma", *pairs)


def _bubbles(*pairs: tuple[float, float]) -> Steps:
    return _pairs("radius", "number", *pairs)


STEPS: Mapping[str, Mapping[str, Steps]] = {
    "gaussian_noise": {
        "medmnist-c-derma": {"sd": _NOISE},
        "medmnist-c-retina": {"sd": (0.04, 0.08, 0.12, 0.16, 0.2)},
        "medmnist-c-chest": {"sd": _NOISE},
        "medmnist-c-pneumonia": {"sd": (0.04, 0.05, 0.06, 0.07, 0.08)},
        "medmnist-c-organ": {"sd": (0.04, 0.08, 0.12, 0.16, 0.2)},
        "imagenet-c": {"sd": (0.08, 0.12, 0.18, 0.26, 0.38)},
    },
    "speckle_noise": {
        "medmnist-c-derma": {"sd": _SPECKLE},
        "medmnist-c-retina": {"sd": (0.1, 0.15, 0.2, 0.25, 0.3)},
        "medmnist-c-oct": {"sd": (0.15, 0.3, 0.4, 0.5, 0.6)},
        "medmnist-c-breast": {"sd": (0.1, 0.15, 0.2, 0.25, 0.3)},
        "medmnist-c-chest": {"sd": _SPECKLE},
        "medmnist-c-pneumonia": {"sd": (0.05, 0.07, 0.1, 0.15, 0.2)},
        "medmnist-c-organ": {"sd": (0.05, 0.1, 0.2, 0.3, 0.4)},
        "imagenet-c": {"sd": (0.15, 0.2, 0.35, 0.45, 0.6)},
    },
    "shot_noise": {
        "medmnist-c-derma": {"photons": _SHOT},
        "medmnist-c-chest": {"photons": _SHOT},
        "medmnist-c-pneumonia": {"photons": (300, 200, 150, 100, 80)},
        "medmnist-c-organ": {"photons": (200, 100, 50, 25, 15)},
        "imagenet-c": {"photons": (60, 25, 12, 5, 3)},
    },
    "impulse_noise": {
        "medmnist-c-derma": {"share": _IMPULSE},
        "medmnist-c-tissue": {"share": (0.01, 0.015, 0.02, 0.025, 0.03)},
        "medmnist-c-chest": {"share": _IMPULSE},
        "medmnist-c-pneumonia": {"share": (0.005, 0.01, 0.013, 0.017, 0.02)},
        "medmnist-c-organ": {"share": (0.01, 0.02, 0.03, 0.05, 0.08)},
        "imagenet-c": {"share": (0.03, 0.06, 0.09, 0.17, 0.27)},
    },
    "rician_noise": {"rood-mri": {"share": (0.16, 0.32, 0.48, 0.64, 0.8)}},
    "low_dose": {"medfm-robust": {"sd": (0.03, 0.06, 0.09, 0.12, 0.15)}},
    "lognormal_speckle": {"medfm-robust": {"sigma": (0.08, 0.15, 0.25, 0.35, 0.5)}},
    "gaussian_blur": {
        "medmnist-c-chest": _kernels(3, 5, 7, 9, 11),
        "medmnist-c-pneumonia": _kernels(3, 5, 7, 9, 11),
        "medmnist-c-tissue": _kernels(13, 15, 17, 21, 25),
        "medmnist-c-organ": _kernels(11, 13, 15, 17, 21),
        "medfm-robust": {"sigma": (0.5, 1, 1.5, 2, 3)},
    },
    "smoothing": {"rood-mri": {"sd_mm": (0.8, 1.6, 2.4, 3.2, 4.0)}},
    "defocus_blur": {
        "medmnist-c-derma": _discs((4, 0.1), (5, 0.2), (6, 0.3), (7, 0.4), (8, 0.5)),
        "medmnist-c-path": _discs((3, 0.1), (4, 0.1), (5, 0.2), (6, 0.2), (7, 0.3)),
        "medmnist-c-blood": _discs((2, 0.01), (3, 0.1), (4, 0.1), (5, 0.1), (6, 0.1)),
        "medmnist-c-retina": _discs((4, 0.1), (5, 0.2), (6, 0.3), (7, 0.4), (8, 0.5)),
        "medmnist-c-oct": _discs((0.5, 0.6), (1, 0.5), (1.5, 0.1), (2, 0.5), (2.5, 0.1)),
        "imagenet-c": _discs((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    },
    "motion_blur": {
        "medmnist-c-derma": _motion((10, 5), (15, 5), (15, 8), (15, 12), (20, 15)),
        "medmnist-c-path": _motion((5, 5), (10, 5), (15, 5), (15, 8), (15, 12)),
        "medmnist-c-blood": _motion((3, 3), (5, 5), (10, 5), (10, 7), (10, 9)),
        "medmnist-c-retina": _motion((8, 5), (15, 5), (15, 8), (15, 12), (20, 15)),
        "medmnist-c-oct": _motion((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "medmnist-c-breast": _motion((5, 5), (9, 7), (9, 10), (13, 10), (17, 12)),
        "imagenet-c": _motion((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    },
    "zoom_blur": {
        "medmnist-c-derma": _pairs(
            "largest", "step", (1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)
        ),
    },
    "anisotropic_sampling": {"rood-mri": {"factor": (2.8, 4.6, 6.4, 8.2, 10.0)}},
    "pixelate": {
        "medmnist-c-derma": {"factor": (0.7, 0.5, 0.4, 0.3, 0.25)},
        "medmnist-c-path": {"factor": (0.8, 0.6, 0.4, 0.3, 0.25)},
        "medmnist-c-blood": {"factor": (0.6, 0.5, 0.4, 0.3, 0.25)},
        "medmnist-c-retina": {"factor": (0.8, 0.6, 0.5, 0.4, 0.35)},
        "medmnist-c-tissue": {"factor": (0.4, 0.3, 0.2, 0.15, 0.1)},
        "medmnist-c-oct": {"factor": _PIXELS},
        "medmnist-c-breast": {"factor": _PIXELS},
        "medmnist-c-chest": {"factor": _PIXELS},
        "medmnist-c-pneumonia": {"factor": (0.8, 0.7, 0.6, 0.5, 0.4)},
        "medmnist-c-organ": {"factor": (0.7, 0.6, 0.5, 0.4, 0.35)},
        "imagenet-c": {"factor": (0.6, 0.5, 0.4, 0.3, 0.25)},
    },
    "jpeg": {
        "medmnist-c-derma": {"quality": (30, 20, 15, 10, 7)},
        "medmnist-c-path": {"quality": _JPEG},
        "medmnist-c-blood": {"quality": _JPEG},
        "medmnist-c-retina": {"quality": (30, 25, 20, 10, 5)},
        "medmnist-c-tissue": {"quality": (25, 20, 15, 10, 7)},
        "medmnist-c-oct": {"quality": (30, 15, 10, 7, 5)},
        "medmnist-c-breast": {"quality": _JPEG},
        "medmnist-c-chest": {"quality": _JPEG},
        "medmnist-c-pneumonia": {"quality": _JPEG},
        "medmnist-c-organ": {"quality": _JPEG},
        "imagenet-c": {"quality": (25, 18, 15, 10, 7)},
        "medfm-robust": {"quality": (90, 70, 50, 30, 10)},
    },
    "brightness_up": {
        "medmnist-c-derma": {"factor": _UP},
        "medmnist-c-path": {"factor": (1.1, 1.15, 1.2, 1.22, 1.25)},
        "medmnist-c-blood": {"factor": (1.1, 1.2, 1.3, 1.35, 1.4)},
        "medmnist-c-tissue": {"factor": (1.3, 1.4, 1.5, 1.6, 1.7)},
        "medmnist-c-breast": {"factor": (1.4, 1.5, 1.6, 1.8, 2.0)},
        "medmnist-c-chest": {"factor": _UP},
        "medmnist-c-pneumonia": {"factor": _UP},
        "medmnist-c-organ": {"factor": (1.2, 1.3, 1.4, 1.5, 1.6)},
    },
    "brightness_down": {
        "medmnist-c-derma": {"factor": _DOWN},
        "medmnist-c-path": {"factor": (0.85, 0.8, 0.75, 0.72, 0.7)},
        "medmnist-c-blood": {"factor": _DOWN},
        "medmnist-c-retina": {"factor": _DOWN},
        "medmnist-c-tissue": {"factor": (0.8, 0.7, 0.6, 0.5, 0.4)},
        "medmnist-c-breast": {"factor": (0.55, 0.5, 0.45, 0.4, 0.3)},
        "medmnist-c-chest": {"factor": _DOWN},
        "medmnist-c-pneumonia": {"factor": _DOWN},
        "medmnist-c-organ": {"factor": (0.8, 0.75, 0.7, 0.65, 0.6)},
    },
    "contrast_up": {
        "medmnist-c-derma": {"factor": _CONTRAST_UP},
        "medmnist-c-path": {"factor": _CONTRAST_UP},
        "medmnist-c-blood": {"factor": (1.1, 1.15, 1.2, 1.25, 1.3)},
        "medmnist-c-tissue": {"factor": _CONTRAST_UP},
        "medmnist-c-chest": {"factor": _CONTRAST_UP},
        "medmnist-c-pneumonia": {"factor": _CONTRAST_UP},
        "medmnist-c-organ": {"factor": (1.3, 1.4, 1.6, 1.7, 1.8)},
    },
    "contrast_down": {
        "medmnist-c-derma": {"factor": (0.8, 0.7, 0.6, 0.5, 0.4)},
        "medmnist-c-path": {"factor": (0.8, 0.7, 0.6, 0.55, 0.5)},
        "medmnist-c-blood": {"factor": _DOWN},
        "medmnist-c-retina": {"factor": _CONTRAST_DOWN},
        "medmnist-c-tissue": {"factor": _CONTRAST_DOWN},
        "medmnist-c-oct": {"factor": (0.6, 0.4, 0.3, 0.2, 0.15)},
        "medmnist-c-breast": {"factor": _CONTRAST_DOWN},
        "medmnist-c-chest": {"factor": _CONTRAST_DOWN},
        "medmnist-c-pneumonia": {"factor": _CONTRAST_DOWN},
        "medmnist-c-organ": {"factor": (0.8, 0.7, 0.6, 0.55, 0.5)},
    },
    "gamma_up": {
        "medmnist-c-chest": {"gamma": _CONTRAST_UP},
        "medmnist-c-pneumonia": {"gamma": _CONTRAST_UP},
        "medmnist-c-organ": {"gamma": (1.3, 1.4, 1.6, 1.8, 2.0)},
        "rood-mri": {"gamma": (1.4, 1.8, 2.2, 2.6, 3.0), "rescale": (True,) * 5},
    },
    "gamma_down": {
        "medmnist-c-chest": {"gamma": _CONTRAST_DOWN},
        "medmnist-c-pneumonia": {"gamma": _CONTRAST_DOWN},
        "medmnist-c-organ": {"gamma": _CONTRAST_DOWN},
        "rood-mri": {"gamma": (0.86, 0.72, 0.58, 0.44, 0.3), "rescale": (True,) * 5},
    },
    "bias_field": {
        "rood-mri": {"coefficient": (0.3, 0.6, 0.9, 1.2, 1.5)},
        "torchio": {"coefficient": (0.1, 0.2, 0.3, 0.4, 0.5)},
    },
    "hu_shift": {"medrobust": {"shift": (0.025, 0.05, 0.075, 0.1, 0.125)}},
    "hu_scale": {"medrobust": {"change": (0.05, 0.1, 0.15, 0.2, 0.25)}},
    "vignette": {"medfm-robust": {"strength": (0.1, 0.2, 0.3, 0.4, 0.5)}},
    "uneven_illumination": {"medrobust": {"strength": (0.15, 0.3, 0.45, 0.6, 0.75)}},
    "saturate": {
        "medmnist-c-path": {"added": (0.05, 0.1, 0.15, 0.2, 0.25)},
        "medmnist-c-blood": {"added": (0.05, 0.1, 0.15, 0.17, 0.2)},
    },
    "stain_shift": {"medrobust": {"sigma": (0.05, 0.1, 0.15, 0.2, 0.25)}},
    "ghosting": {
        "rood-mri": {"intensity": (0.5, 1.0, 1.5, 2.0, 2.5), "ghosts": (3, 5, 7, 9, 11)},
        "torchio": {"intensity": (0.5, 0.625, 0.75, 0.875, 1.0), "ghosts": (7,) * 5},
    },
    "spikes": {"torchio": {"intensity": (1.0, 1.5, 2.0, 2.5, 3.0)}},
    "rigid_motion": {
        "rood-mri": {
            "translation_mm": (2, 4, 6, 8, 10),
            "rotation": (1, 2, 3, 4, 5),
            "movements": (2, 4, 6, 8, 10),
        },
    },
    "line_motion": {
        "medfm-robust": {"shift": (2, 5, 10, 18, 30), "share": (0.15, 0.3, 0.45, 0.6, 0.8)},
    },
    "gibbs_ringing": {"medrobust": {"alpha": (0.4, 0.55, 0.65, 0.75, 0.85)}},
    "affine": {
        "rood-mri": {"translation_mm": (8, 16, 24, 32, 40), "rotation": (6, 12, 18, 24, 30)},
    },
    "elastic": {"rood-mri": {"displacement_mm": (6, 12, 18, 24, 30)}},
    "rotation": {"medfm-robust": {"degrees": (5, 10, 15, 20, 25)}},
    "shrinking": {"medfm-robust": {"factor": (0.95, 0.9, 0.85, 0.8, 0.75)}},
    "translation": {"medfm-robust": {"shift": (5, 10, 15, 20, 25)}},
    "row_shift": {"medfm-robust": {"shift": (0.02, 0.04, 0.06, 0.1, 0.15), "blocks": (1, 2, 3, 4, 5)}},
    "black_corner": {"medmnist-c-derma": {"radius": (1.1, 1.05, 1.0, 0.9, 0.95)}},
    "characters": {
        "medmnist-c-derma": {
            "words": (1, 2, 3, 4, 6),
            "letters": (6, 7, 8, 9, 10),
            "scale": (0.14, 0.15, 0.16, 0.17, 0.18),
        },
    },
    "bubbles": {
        "medmnist-c-path": _bubbles((7, 15), (10, 15), (12, 15), (15, 20), (17, 25)),
        "medmnist-c-blood": _bubbles((5, 10), (7, 10), (10, 10), (12, 12), (15, 12)),
    },
    "stain_deposit": {
        "medmnist-c-path": {"spots": (1, 2, 3, 4, 5)},
        "medmnist-c-blood": {"spots": (1, 2, 3, 3, 3)},
    },
    "metal_streaks": {
        "medfm-robust": {"strength": (0.15, 0.3, 0.45, 0.6, 0.75), "streaks": (12, 16, 20, 24, 28)},
    },
    "acoustic_shadow": {"medfm-robust": {"strength": (0.3, 0.45, 0.55, 0.7, 0.85)}},
    "reverberation": {"medfm-robust": {"strength": (0.12, 0.18, 0.25, 0.35, 0.45)}},
    "specular_highlights": {
        "medfm-robust-endoscopy": {
            "strength": _HIGHLIGHTS,
            "spots": [int(2 + 8 * each) for each in _HIGHLIGHTS],
            "width": [2**0.5 * (0.02 + 0.03 * each) for each in _HIGHLIGHTS],  # of the root of a Gaussian
        },
        "medfm-robust-dermoscopy": {
            "strength": (0.3, 0.6, 0.9, 1.2, 1.5),
            "spots": (1,) * 5,
            "width": [1 / (10 - step) for step in range(1, 6)],
        },
    },
    "blood": {"medfm-robust": {"share": (0.02, 0.05, 0.1, 0.18, 0.28)}},
    "over_exposure": {"medfm-robust": {"share": (0.01, 0.03, 0.06, 0.1, 0.15)}},
    "hair": {"medfm-robust": {"strokes": (3, 6, 9, 12, 15), "thickness": (1, 2, 2, 3, 3)}},
    "vessel_shadows": {"medfm-robust": {"share": (0.03, 0.05, 0.08, 0.12, 0.18)}},
    "blink": {"medfm-robust": {"bands": (1, 2, 3, 4, 6)}},
}
"""Parameters at severities 1 to 5, by family and preset."""


def presets_of(family: str) -> dict[str, Preset]:
    """The presets of a family."""
    made = {}
    for name, steps in STEPS[family].items():
        source = next(text for start, text in SOURCES.items() if name.startswith(start))
        severities = tuple(
            dict(zip(steps, values, strict=True)) for values in zip(*steps.values(), strict=True)
        )
        made[name] = Preset({}, source, severities=severities)
    return made

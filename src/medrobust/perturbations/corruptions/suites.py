"""Which families, with which preset, stand for a kind of image."""

from collections.abc import Mapping
from typing import Any

ORIENTATIONS: tuple[Mapping[str, Any], ...] = (
    {"name": "flip", "label": "flip_horizontal", "axis": -1},
    {"name": "flip", "label": "flip_renamed", "axis": -1, "rename_sides": True},
    {"name": "flip", "label": "flip_vertical", "axis": -2},
    {"name": "quarter_turns", "label": "turned_90", "turns": 1},
    {"name": "quarter_turns", "label": "turned_180", "turns": 2},
    {"name": "swapped_axes"},
)
"""Wrong orientations, in every suite: they have no severity, and tools fail on them silently.

The one that renames sides differs from that before it where label maps have sides only."""


def _medmnist(data: str, *families: str, **others: str) -> dict[str, str]:
    return dict.fromkeys(families, f"medmnist-c-{data}") | others


_LIGHT = ("brightness_up", "brightness_down", "contrast_up", "contrast_down")
_NOISE = ("gaussian_noise", "speckle_noise", "impulse_noise", "shot_noise")
_STORED = ("pixelate", "jpeg")

SUITES: Mapping[str, Mapping[str, str]] = {
    "mri": dict.fromkeys(
        [
            *("affine", "anisotropic_sampling", "bias_field", "gamma_down", "gamma_up", "elastic"),
            *("ghosting", "rigid_motion", "rician_noise", "smoothing"),
        ],
        "rood-mri",
    )
    | {"spikes": "torchio", "line_motion": "medfm-robust", "gibbs_ringing": "medrobust"},
    "dermoscopy": _medmnist(
        "derma",
        *_STORED,
        *_NOISE,
        "defocus_blur",
        "motion_blur",
        "zoom_blur",
        *_LIGHT,
        "black_corner",
        "characters",
    ),
    "xray": _medmnist("chest", *_STORED, *_NOISE, "gaussian_blur", *_LIGHT, "gamma_up", "gamma_down"),
    "ct": _medmnist(
        "organ",
        *_STORED,
        *_NOISE,
        "gaussian_blur",
        *_LIGHT,
        "gamma_up",
        "gamma_down",
        hu_shift="medrobust",
        hu_scale="medrobust",
        low_dose="medfm-robust",
        metal_streaks="medfm-robust",
    ),
    "fundus": _medmnist(
        "retina",
        *_STORED,
        "gaussian_noise",
        "speckle_noise",
        "defocus_blur",
        "motion_blur",
        "brightness_down",
        "contrast_down",
        vignette="medfm-robust",
        uneven_illumination="medrobust",
    ),
    "histology": _medmnist(
        "path",
        *_STORED,
        "defocus_blur",
        "motion_blur",
        *_LIGHT,
        "saturate",
        "stain_deposit",
        "bubbles",
        stain_shift="medrobust",
    ),
    "ultrasound": _medmnist(
        "breast",
        *_STORED,
        "speckle_noise",
        "motion_blur",
        "brightness_up",
        "brightness_down",
        "contrast_down",
        lognormal_speckle="medfm-robust",
        acoustic_shadow="medfm-robust",
        reverberation="medfm-robust",
    ),
    "microscopy": _medmnist(
        "blood", *_STORED, "defocus_blur", "motion_blur", *_LIGHT, "saturate", "stain_deposit", "bubbles"
    ),
    "oct": _medmnist(
        "oct",
        *_STORED,
        "speckle_noise",
        "defocus_blur",
        "motion_blur",
        "contrast_down",
        lognormal_speckle="medfm-robust",
        vessel_shadows="medfm-robust",
        blink="medfm-robust",
        row_shift="medfm-robust",
    ),
    "endoscopy": {
        **dict.fromkeys(("gaussian_blur", "jpeg", "vignette", "over_exposure", "blood"), "medfm-robust"),
        "motion_blur": "imagenet-c",
        "gaussian_noise": "imagenet-c",
        "specular_highlights": "medfm-robust-endoscopy",
    },
}
"""The preset of each family, by suite."""

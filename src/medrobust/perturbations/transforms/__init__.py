"""Plausible transforms whose worst case is looked for: adding one costs its function and its name here."""

from collections.abc import Mapping

from medrobust.perturbations.entry import Perturbation, entry_of
from medrobust.perturbations.transforms.geometry import affine_search, deformation_search
from medrobust.perturbations.transforms.intensity import (
    bias_field_search,
    colour_search,
    contrast_search,
    illumination_search,
    stain_search,
)
from medrobust.perturbations.transforms.kspace import motion_search

TRANSFORMS: tuple[Perturbation, ...] = tuple(
    map(
        entry_of,
        (
            bias_field_search,
            affine_search,
            deformation_search,
            illumination_search,
            colour_search,
            stain_search,
            contrast_search,
            motion_search,
        ),
    )
)

_PLACE = ("affine_search", "deformation_search")
_PHOTOGRAPH = (*_PLACE, "illumination_search", "contrast_search", "colour_search")

TRANSFORM_SUITES: Mapping[str, tuple[str, ...]] = {
    "mri": ("bias_field_search", *_PLACE, "contrast_search", "motion_search"),
    "ct": (*_PLACE, "contrast_search"),
    "xray": (*_PLACE, "contrast_search"),
    "oct": (*_PLACE, "illumination_search", "contrast_search"),
    "endoscopy": _PHOTOGRAPH,
    "ultrasound": (*_PLACE, "illumination_search", "contrast_search"),
    "dermoscopy": _PHOTOGRAPH,
    "fundus": _PHOTOGRAPH,
    "microscopy": _PHOTOGRAPH,
    "histology": (*_PLACE, "illumination_search", "contrast_search", "stain_search"),
}
"""The transforms that fit a kind of images."""

"""Corruptions: what happens to medical images on their way, without anybody's intent.

`CORRUPTIONS` holds the entries of the catalogue; `SUITES` says which belong to a kind of image.
"""

from medrobust.perturbations.corruptions.blur import (
    anisotropic_sampling,
    defocus_blur,
    gaussian_blur,
    motion_blur,
    smoothing,
    zoom_blur,
)
from medrobust.perturbations.corruptions.colour import saturate, stain_shift
from medrobust.perturbations.corruptions.compression import jpeg, pixelate
from medrobust.perturbations.corruptions.geometry import (
    affine,
    elastic,
    flip,
    quarter_turns,
    rotation,
    row_shift,
    shrinking,
    swapped_axes,
    translation,
)
from medrobust.perturbations.corruptions.intensity import (
    bias_field,
    brightness_down,
    brightness_up,
    contrast_down,
    contrast_up,
    gamma_down,
    gamma_up,
    hu_scale,
    hu_shift,
    uneven_illumination,
    vignette,
)
from medrobust.perturbations.corruptions.kspace import (
    ghosting,
    gibbs_ringing,
    line_motion,
    rigid_motion,
    spikes,
)
from medrobust.perturbations.corruptions.noise import (
    gaussian_noise,
    impulse_noise,
    lognormal_speckle,
    low_dose,
    rician_noise,
    shot_noise,
    speckle_noise,
)
from medrobust.perturbations.corruptions.optics import (
    blink,
    blood,
    hair,
    over_exposure,
    specular_highlights,
    vessel_shadows,
)
from medrobust.perturbations.corruptions.overlays import (
    acoustic_shadow,
    black_corner,
    bubbles,
    characters,
    metal_streaks,
    reverberation,
    stain_deposit,
)
from medrobust.perturbations.corruptions.suites import ORIENTATIONS, SUITES

__all__ = ["CORRUPTIONS", "ORIENTATIONS", "SUITES"]

CORRUPTIONS = (
    *(gaussian_noise, shot_noise, impulse_noise, speckle_noise, rician_noise, low_dose, lognormal_speckle),
    *(gaussian_blur, smoothing, defocus_blur, motion_blur, zoom_blur, anisotropic_sampling),
    *(pixelate, jpeg),
    *(brightness_up, brightness_down, contrast_up, contrast_down, gamma_up, gamma_down),
    *(bias_field, hu_shift, hu_scale, vignette, uneven_illumination),
    *(saturate, stain_shift),
    *(ghosting, spikes, gibbs_ringing, rigid_motion, line_motion),
    *(black_corner, characters, bubbles, stain_deposit, metal_streaks, acoustic_shadow),
    *(reverberation, specular_highlights, over_exposure, blood, hair, vessel_shadows, blink),
    *(affine, elastic, rotation, shrinking, translation, row_shift, flip, quarter_turns, swapped_axes),
)

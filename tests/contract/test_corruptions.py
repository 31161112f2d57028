"""What every corruption keeps, at each severity of each preset and between them."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from medrobust.core import UNKNOWN, Task
from medrobust.metrics.similarity import ssim
from medrobust.perturbations import CORRUPTIONS, PERTURBATIONS, entry_of, moved, request
from medrobust.perturbations.geometry import per_image
from perturbation_cases import make_rngs

ENTRIES = {entry.name: entry for entry in map(entry_of, CORRUPTIONS)}
LABELS = torch.zeros(4, dtype=torch.int64)


def pictures(side=64):
    """Smooth images in colour, with an edge."""
    rough = torch.from_numpy(np.random.default_rng(0).random((4, 3, 6, 6), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(rough, (side, side), mode="bicubic").clamp(0, 1)
    smooth[..., 10:30, 20:40] *= 0.4
    return smooth


def make(entry, images, labels=LABELS, **parameters):
    asked = request({"load": entry, "label": "asked", **parameters}, Task.CLASSIFICATION)
    return moved(asked, images, labels, rngs=make_rngs(4))


@pytest.mark.parametrize(
    ("name", "preset"), [(name, preset) for name, entry in ENTRIES.items() for preset in entry.presets]
)
def test_every_severity_of_every_preset_makes_images(name, preset):
    entry = ENTRIES[name]
    images = pictures()
    results = [make(entry, images, preset=preset, severity=step).images for step in range(1, 6)]
    for result in results:
        assert result.isfinite().all()
        assert 0 <= result.min() <= result.max() <= 1
    assert not torch.equal(results[-1], images)


ORDERED = [
    name
    for name, entry in ENTRIES.items()
    if entry.extent is not None and name not in ("ghosting", "black_corner", "jpeg", "defocus_blur")
]
"""SSIM falls with the severity.

Ghosts grow fainter the more there are; MedMNIST-C's black corner is larger at severity 4 than at 5; a JPEG of
less quality may happen to look more alike; and discs of half a pixel do nothing.
"""


@pytest.mark.parametrize("name", ORDERED)
def test_severities_are_in_order_on_average(name):
    entry = ENTRIES[name]
    images = pictures(side=96)
    for preset in entry.presets:
        seen = [
            ssim(images, make(entry, images, preset=preset, severity=step).images).mean()
            for step in range(1, 6)
        ]
        assert all(later <= earlier + 2e-3 for earlier, later in pairwise(seen)), preset
        assert seen[-1] < seen[0] - 2e-3 or preset.endswith("blood"), preset


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.extent])
def test_the_neutral_end_changes_nothing_and_the_other_the_most(name):
    entry = ENTRIES[name]
    images = pictures()
    others = {"rotation": 0} if name == "rigid_motion" else {}
    seen = []
    for share in (0, 0.5, 1):
        made = make(entry, images, **{entry.budget: entry.extent.at(share)}, **others)
        seen.append(ssim(images, made.images).mean().item())
    # A JPEG of quality 100 has 8 bits, and bubbles have a smallest radius.
    assert seen[0] >= {"jpeg": 0.99, "bubbles": 0.5}.get(name, 1 - 1e-4)
    assert seen[2] < seen[0] - 0.01


FLAT = [
    *("gaussian_blur", "smoothing", "defocus_blur", "motion_blur", "zoom_blur", "anisotropic_sampling"),
    *("pixelate", "jpeg", "gibbs_ringing", "rigid_motion", "ghosting", "line_motion", "contrast_down"),
]


@pytest.mark.parametrize("name", FLAT)
def test_a_flat_image_stays_flat(name):
    """What averages or moves an image finds nothing to average or move; blurring keeps the mean."""
    entry = ENTRIES[name]
    flat = torch.full((4, 3, 48, 48), 0.4)
    changed = (make(entry, flat, severity=5).images - flat).abs()
    # JPEG and Pillow's mean round to 8 bits, the former the mean of a block to steps of two.
    assert changed.max() <= {"jpeg": 2.01 / 255, "contrast_down": 1.01 / 255}.get(name, 2e-5)


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.moves_labels])
def test_label_maps_move_with_the_image(name):
    """An image that shows its own label map still does so; what came from outside is unknown and invalid."""
    entry = ENTRIES[name]
    labels = torch.zeros(4, 40, 44, dtype=torch.int64)
    labels[:, 10:25, 8:30], labels[:, 12:18, 10:20] = 1, 2
    images = per_image(torch.tensor([1.0, 0.5, 0.2, 0.9]), labels[:, None]) * labels[:, None] / 2
    strength = {"severity": 1} if entry.severities else {}
    asked = request({"load": entry, "label": "asked", **strength}, Task.CLASSIFICATION)
    made = moved(asked, images, labels, rngs=make_rngs(4), spacing=(2.0, 2.0))
    shown = made.images / images.amax((1, 2, 3), keepdim=True) * 2
    off = (shown[:, 0] - made.labels).abs()[made.valid]
    assert (off > 0.51).float().mean() < 0.01
    assert torch.equal(made.labels == UNKNOWN, ~made.valid)
    assert set(made.labels.unique().tolist()) <= {UNKNOWN, 0, 1, 2}
    assert made.valid.any()


@pytest.mark.parametrize("name", list(ENTRIES))
def test_images_that_do_not_fit_are_refused(name):
    entry = ENTRIES[name]
    grey, volume = torch.full((4, 1, 16, 16), 0.5), torch.full((4, 1, 12, 12, 12), 0.5)
    for images, fits in ((grey, not entry.colour), (volume, 3 in entry.dimensions)):
        strength = {"severity": 3} if entry.severities else {}
        if fits:
            assert make(entry, images, **strength).images.shape == images.shape
            continue
        with pytest.raises(
            ValueError, match=rf"images: {name} (needs red, green and blue|takes images of 2)"
        ):
            make(entry, images, **strength)


@pytest.mark.parametrize("name", ["smoothing", "rigid_motion", "affine", "elastic"])
def test_millimetres_are_pixels_times_their_size(name):
    entry = ENTRIES[name]
    images = pictures()
    preset = next(iter(entry.presets))
    step = entry.presets[preset].severities[0]
    halved = {key: value / 2 if key.endswith("_mm") else value for key, value in step.items()}
    asked = [
        request({"load": entry, "label": "asked", **given}, Task.CLASSIFICATION) for given in (step, halved)
    ]
    whole = moved(asked[0], images, LABELS, rngs=make_rngs(4), spacing=(2.0, 2.0)).images
    half = moved(asked[1], images, LABELS, rngs=make_rngs(4)).images
    assert torch.allclose(whole, half, atol=1e-5)


@pytest.mark.parametrize("name", ["defocus_blur", "gaussian_blur", "motion_blur", "translation", "bubbles"])
def test_pixels_are_those_of_an_image_with_a_side_of_224(name):
    """Twice the size, twice the radius: a larger image changes as much."""
    entry = ENTRIES[name]
    small, large = pictures(side=112), pictures(side=224)
    seen = [
        ssim(
            torch.nn.functional.interpolate(images, (112, 112), mode="area"),
            torch.nn.functional.interpolate(make(entry, images, severity=5).images, (112, 112), mode="area"),
        ).mean()
        for images in (small, large)
    ]
    assert seen[0].item() == pytest.approx(seen[1].item(), abs=0.06)


def test_the_width_of_a_blur_is_that_of_an_image_with_a_side_of_224():
    point = torch.zeros(4, 1, 112, 112)
    point[..., 56, 56] = 1
    blurred = make(ENTRIES["gaussian_blur"], point, sigma=8.0, truncate=8.0).images[0, 0]
    away = torch.arange(112) - 56
    assert float((blurred.sum(0) * away**2).sum()) == pytest.approx(4.0**2, rel=0.01)


def test_a_suite_of_somebody_elses_function_needs_nothing_more():
    def darker(images, severity, rngs):
        return images * (1 - 0.1 * severity)

    entry = entry_of(darker)
    assert (entry.role, entry.budget, entry.severities, entry.extent) == ("corruption", "severity", 0, None)
    assert (entry.dimensions, entry.colour, entry.moves_labels) == ((2, 3), False, False)
    images = pictures()
    assert torch.allclose(make(entry, images, severity=2).images, images * 0.8)


def test_corruptions_are_in_the_catalogue():
    assert {name for name, entry in PERTURBATIONS.items() if entry.role == "corruption"} == set(ENTRIES)

"""Template, intensities and scanner of the phantom brains."""

import sys

import numpy as np
import pytest

from medrobust.data.phantoms.brains import (
    HIGH,
    INTENSITIES,
    LOW,
    PAIRED,
    TISSUE,
    TISSUES,
    Ellipsoid,
    draw_intensities,
    frame,
    inside,
    majority,
    normalised,
    pooled,
    rician,
    template,
    tissue_maps,
)
from medrobust.data.scans.structures import STRUCTURES
from medrobust.errors import DataError
from medrobust.rng import generator

CENTROIDS = {
    "thalamus": (0.585, 0.484, 0.504),
    "caudate": (0.593, 0.639, 0.545),
    "putamen": (0.675, 0.597, 0.479),
    "pallidum": (0.638, 0.571, 0.463),
    "hippocampus": (0.677, 0.474, 0.371),
    "amygdala": (0.654, 0.570, 0.343),
    "lateral ventricle": (0.605, 0.490, 0.549),
    "cerebellar cortex": (0.681, 0.262, 0.190),
}
"""Fractions of the labelled box (left, anterior, superior), means of 30 scans of the challenge."""


def test_sides_are_mirror_images() -> None:
    pytest.importorskip("nilearn")
    mirror = np.array([TISSUE[swap(name)] for name in TISSUES])
    left, right = template()[: -LOW[0]], template()[1 - LOW[0] :]
    assert np.array_equal(left[::-1], mirror[right])


def swap(name: str) -> str:
    sides = {"left": "right", "right": "left"}
    return " ".join(sides.get(word, word) for word in name.split())


def test_template_is_surrounded_by_air_and_holds_every_tissue() -> None:
    pytest.importorskip("nilearn")
    parts = template()
    assert parts.shape == tuple(HIGH - LOW + 1)
    assert set(np.unique(parts)) == set(range(len(TISSUES)))
    assert not any(parts.take(end, axis).any() for axis in range(3) for end in (0, -1))


@pytest.mark.parametrize("name", CENTROIDS)
def test_structures_lie_where_they_do_in_real_brains(name) -> None:
    pytest.importorskip("nilearn")
    parts = template()
    box = np.argwhere((parts > 0) & (parts < len(STRUCTURES)))
    low, high = box.min(0), box.max(0)
    fraction = (np.argwhere(parts == TISSUE[f"left {name}"]).mean(0) - low) / (high - low)
    fraction[0] = 1 - fraction[0]
    assert fraction == pytest.approx(CENTROIDS[name], abs=0.05)


def test_missing_nilearn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(DataError, match=r"nilearn, which is not installed\. Run: pip install 'medr"):
        tissue_maps()


@pytest.mark.parametrize("ellipsoid", PAIRED.values(), ids=PAIRED)
def test_axes_are_orthonormal(ellipsoid) -> None:
    assert frame(ellipsoid) @ frame(ellipsoid).T == pytest.approx(np.eye(3), abs=1e-12)


def test_volume_of_an_ellipsoid() -> None:
    ellipsoid = Ellipsoid((30, 0, 0), (20, 10, 5), (0.3, 0.9, -0.2))
    assert inside(ellipsoid).sum() == pytest.approx(4 / 3 * np.pi * 20 * 10 * 5, rel=0.01)


def test_both_sides_draw_one_intensity() -> None:
    assert set(INTENSITIES) == {tissue.removeprefix("left ").removeprefix("right ") for tissue in TISSUES}
    for values in draw_intensities(generator(0)):
        for name in PAIRED:
            assert values[TISSUE[f"left {name}"]] == values[TISSUE[f"right {name}"]]


def test_pooling_and_majority() -> None:
    tissues = np.zeros((2, 2, 4), np.uint8)
    tissues[:, :, 2] = 7
    tissues[0, 0, 3] = 9
    tissues[0, 0, 0] = 5
    assert pooled(tissues, 2).ravel().tolist() == [5, 37]
    assert majority(tissues, 2).ravel().tolist() == [0, 7]
    assert np.array_equal(majority(tissues, 1), tissues)


def test_rician_noise_of_nothing_is_rayleigh() -> None:
    noise = rician(np.zeros((40, 40, 40), np.float32), 0.1, generator(0))
    assert noise.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)
    assert noise.min() > 0


def test_normalisation_looks_at_the_brain_only() -> None:
    image = np.linspace(1, 2, 1000, dtype=np.float32).reshape(10, 10, 10)
    brain = image < 1.5
    result = normalised(image, brain)
    assert (result[~brain] == 0).all()
    assert result.max() == 1
    assert (result[brain] == 1).sum() == 3

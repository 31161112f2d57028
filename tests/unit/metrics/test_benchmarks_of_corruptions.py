"""Numbers of benchmarks of corruptions, by hand and as their own evaluators print them."""

import math

import pytest

from medrobust.metrics.corruptions import ALEXNET, balanced_errors, weighted_scores
from medrobust.perturbations import PERTURBATIONS

ERRORS = {"pixelate": [0.2, 0.3, 0.4, 0.5, 0.6], "jpeg": [0.1, 0.1, 0.2, 0.2, 0.4]}
BASELINE = {"pixelate": 0.5, "jpeg": 0.25}


def test_errors_relative_to_a_baseline():
    found = balanced_errors(ERRORS, 0.1, BASELINE, 0.05)
    assert found.of["pixelate"] == pytest.approx((0.4 / 0.5, 0.3 / 0.45))
    assert found.of["jpeg"] == pytest.approx((0.2 / 0.25, 0.1 / 0.2))
    assert found.be == pytest.approx((0.8 + 0.8) / 2)
    assert found.relative == pytest.approx((0.3 / 0.45 + 0.5) / 2)


def test_a_baseline_is_as_bad_as_itself():
    own = {name: sum(levels) / 5 for name, levels in ERRORS.items()}
    found = balanced_errors(ERRORS, 0.1, own, 0.1)
    assert (found.be, found.relative) == pytest.approx((1, 1))


def test_nothing_is_relative_to_no_error():
    found = balanced_errors({"jpeg": [0.1]}, 0.0, {"jpeg": 0.2}, 0.2)
    assert found.be == pytest.approx(0.5)
    assert math.isnan(found.relative)
    assert math.isnan(balanced_errors({"jpeg": [0.1]}, 0.0, {"jpeg": 0.0}, 0.1).be)
    assert math.isnan(balanced_errors({}, 0.0, {}, 0.1).be)


def test_severities_weigh_two_thirds_of_the_one_before():
    found = weighted_scores(0.9, [0.8, 0.6, 0.5, 0.4, 0.3])
    weights = [2 / 3, 4 / 9, 8 / 27, 16 / 81, 32 / 243]
    assert sum(weights) == pytest.approx(1.736626, abs=1e-6)  # as the reference prints it
    levels = [0.8, 0.6, 0.5, 0.4, 0.3]
    total = sum(w * m for w, m in zip(weights, levels, strict=True))
    assert found.overall == pytest.approx((0.9 + total) / (1 + sum(weights)))
    assert found.degradation == pytest.approx(0.9 - total / sum(weights))
    distance = weighted_scores(2.0, [3.0, 4.0], higher_is_better=False)
    assert distance.degradation == pytest.approx((2 / 3 * 1 + 4 / 9 * 2) / (10 / 9))


@pytest.mark.parametrize("data", ALEXNET)
def test_the_published_errors_are_of_our_families(data):
    families = ALEXNET[data].keys() - {"clean"}
    assert families <= PERTURBATIONS.keys()
    ours = data.removesuffix("mnist")
    ours = "organ" if ours.startswith("organ") else ours
    for family in families:
        assert f"medmnist-c-{ours}" in PERTURBATIONS[family].presets

"""How a study and Python ask for corruptions: by severity, preset, parameter and suite."""

import json

import numpy as np
import pytest
import torch

import own_perturbations
from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.perturbations import PERTURBATIONS, SUITES, add_noise, moved, perturb, request, requests
from medrobust.perturbations.corruptions.geometry import affine, flip
from medrobust.perturbations.corruptions.noise import gaussian_noise
from medrobust.rng import generator
from medrobust.study.config import Corruptions

PHOTO, SCAN = Task.CLASSIFICATION, Task.SEGMENTATION
IMAGES = torch.from_numpy(np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32))
LABELS = torch.zeros(2, dtype=torch.int64)


def rngs():
    return [generator(0, "corruption", place) for place in range(2)]


@pytest.mark.parametrize(
    ("item", "parameters", "preset", "severity"),
    [
        ({"severity": 2}, {"sd": 0.08}, "medmnist-c-derma", 2),
        ({"severity": 2, "preset": "imagenet-c"}, {"sd": 0.12}, "imagenet-c", 2),
        ({"severity": 2, "sd": 0.08}, {"sd": 0.08}, "medmnist-c-derma", 2),
        ({"sd": "1/4"}, {"sd": 0.25}, None, None),
    ],
)
def test_a_severity_stands_for_parameters(item, parameters, preset, severity):
    asked = request({"name": "gaussian_noise", **item}, PHOTO)
    assert (asked.parameters, asked.preset, asked.severity) == (parameters, preset, severity)
    again = request(asked.written, PHOTO)
    assert (again, again.recipe) == (asked, asked.recipe)
    plain = request({"name": "gaussian_noise", **parameters}, PHOTO)
    assert plain.recipe == asked.recipe  # the same images, whoever asks
    given = {"sd": parameters["sd"]} if severity is None else {"preset": preset, "severity": severity}
    by_hand = gaussian_noise(None, IMAGES, LABELS, rngs=rngs(), **given)
    assert torch.equal(by_hand, perturb(asked, None, IMAGES, LABELS, rngs=rngs()))
    json.dumps(asked.facts)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({}, "perturbations.gaussian_noise: needs a severity from 1 to 5, or sd"),
        ({"preset": "imagenet-c"}, "needs a severity from 1 to 5, or sd"),
        ({"severity": 6}, "gaussian_noise.severity: must be a whole number from 1 to 5, got 6"),
        ({"severity": True}, "severity: must be a whole number from 1 to 5, got True"),
        ({"severity": "high"}, "severity: must be a whole number from 1 to 5, got 'high'"),
        ({"severity": 3, "preset": "medmnist-c"}, "Unknown preset 'medmnist-c'. Did you mean 'medmnist-c-"),
        ({"severity": 3, "sd": 0.5}, r"sd: is 0.12 at severity 3 of medmnist-c-derma; got 0.5"),
        ({"severity": [1, 9]}, "severity: must be a whole number from 1 to 5, got 9"),
        ({"sd": 99}, "sd: .* less than or equal to 10"),
        ({"sd": {"ssim": 1.5}}, r"sd: must be a number or \{ssim: s\} with s in \(0, 1\)"),
        ({"severity": {"ssim": []}}, r"severity: must be numbers or \{ssim: \[s, ...\]\}"),
    ],
)
def test_what_cannot_be_asked_for(item, message):
    with pytest.raises(StudyError, match=message):
        requests({"name": "gaussian_noise", **item}, PHOTO)


def test_python_is_told_the_same():
    with pytest.raises(ValueError, match="gaussian_noise: needs a severity from 1 to 5, or sd"):
        gaussian_noise(None, IMAGES, LABELS)
    with pytest.raises(ValueError, match="severity: must be a whole number from 1 to 5, got 0"):
        gaussian_noise(None, IMAGES, LABELS, severity=0)
    with pytest.raises(ValueError, match="axis: images have 2 dimensions, got axis -3"):
        flip(None, IMAGES, LABELS, axis=-3)


def test_a_list_of_severities_is_a_curve():
    points = requests({"name": "jpeg", "preset": "imagenet-c", "severity": [1, 3]}, PHOTO)
    assert [(each.label, each.curve, each.severity) for each in points] == [
        ("jpeg-1", "jpeg", 1),
        ("jpeg-3", "jpeg", 3),
    ]
    assert [each.parameters["quality"] for each in points] == [25, 15]
    by_parameter = requests({"name": "jpeg", "quality": [25, 15]}, PHOTO)
    assert [each.label for each in by_parameter] == ["jpeg-25", "jpeg-15"]
    own = requests({"load": "own_perturbations:blur", "severity": [1, 5]}, PHOTO)
    assert [each.severity for each in own] == [1, 5]
    assert {type(each.severity) for each in (*points, *own)} == {int}


def test_a_severity_may_be_a_similarity():
    points = requests({"name": "gaussian_noise", "severity": {"ssim": [0.9, 0.8]}}, PHOTO)
    assert [(each.label, each.curve, each.ssim) for each in points] == [
        ("gaussian_noise-ssim0.9", "gaussian_noise", 0.9),
        ("gaussian_noise-ssim0.8", "gaussian_noise", 0.8),
    ]
    assert all(each.unsolved for each in points)
    assert requests(points[0].written, PHOTO) == (points[0],)
    moving = requests({"name": "affine", "severity": {"ssim": [0.9]}}, SCAN)
    assert [each.severity for each in moving] == [1, 2, 3, 4, 5]


def test_a_strength_of_zero_may_be_the_strongest():
    points = requests({"name": "brightness_down", "severity": {"ssim": [0.9]}}, PHOTO)
    made = add_noise(points[0], IMAGES, LABELS, torch.tensor([0.0, 1.0]))
    assert not made[0].any()
    assert torch.equal(made[1], IMAGES[1])


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_can_be_asked_for(name):
    asked = [each for item in Corruptions(suite=name).items() for each in requests(item, PHOTO)]
    assert len({each.label for each in asked}) == len(asked)
    assert {each.severity for each in asked} == {None, 1, 2, 3, 4, 5}
    assert {each.perturbation.role for each in asked} == {"corruption"}
    assert len([each for each in asked if each.severity is None]) == 6
    mine = (
        (3, 64, 64)
        if name in ("dermoscopy", "fundus", "histology", "microscopy", "endoscopy")
        else (1, 64, 64)
    )
    assert not [each.name for each in asked if each.perturbation.misfit(mine[0], len(mine) - 1)]


def test_an_unknown_suite_is_told_the_nearest():
    with pytest.raises(StudyError, match=r"corruptions.suite: Unknown suite 'xrays'. Did you mean 'xray'"):
        list(Corruptions(suite="xrays").items())


def test_volumes_have_a_suite():
    fits = {name: not PERTURBATIONS[name].misfit(1, 3) for name in SUITES["mri"]}
    assert all(fits.values())


def test_labels_move_or_stay():
    maps = (IMAGES[:, 0] > 0.5).long()
    still = moved(request({"name": "gaussian_noise", "sd": 0.1}, SCAN), IMAGES, maps, rngs=rngs())
    assert torch.equal(still.labels, maps)
    assert still.valid.all()
    asked = request({"name": "flip"}, PHOTO)
    turned = moved(asked, IMAGES, maps)
    assert torch.equal(turned.labels, maps.flip(-1))
    with pytest.raises(ValueError, match="flip: moves labels with the pixels; `moved` returns both"):
        perturb(asked, None, IMAGES, maps)
    assert torch.equal(perturb(asked, None, IMAGES, LABELS), IMAGES.flip(-1))
    images, labels, valid = affine(None, IMAGES, maps, rngs=rngs(), translation_mm=8.0)
    assert torch.equal(labels == -1, ~valid)
    assert images.shape == IMAGES.shape


def test_support_is_ignored():
    asked = request({"load": own_perturbations.speckle, "severity": 3}, PHOTO)
    nowhere = torch.zeros_like(IMAGES[:, :1], dtype=torch.bool)
    assert not torch.equal(perturb(asked, None, IMAGES, LABELS, support=nowhere, rngs=rngs()), IMAGES)

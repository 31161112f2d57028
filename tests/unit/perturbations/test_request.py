import json

import pytest
import torch
from torch import nn

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.metrics.similarity import ssim
from medrobust.perturbations import PERTURBATIONS, fgsm, perturb, request, solve_budget, targets_of
from medrobust.perturbations.attacks.deepfool import PRESETS as DEEPFOOL
from medrobust.perturbations.attacks.saliency_map import PRESETS as SALIENCY_MAP
from medrobust.rng import generator

CLASSIFICATION, SEGMENTATION = Task.CLASSIFICATION, Task.SEGMENTATION


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 18 * 18, 3))


def batch(n=4):
    images = torch.rand(n, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    return images, network()(images).argmax(1)


def test_defaults_are_resolved_and_ready_for_json():
    wanted = request({"name": "deepfool"}, CLASSIFICATION)
    assert (wanted.label, wanted.name, wanted.on_misclassified, wanted.on_failure) == (
        "deepfool",
        "deepfool",
        "keep",
        "last",
    )
    assert wanted.parameters == {
        "steps": 50,
        "overshoot": 0.02,
        "overshoot_on": "sum",
        "candidates": 10,
        "least": 1e-4,
        "norm": "2",
        "near": 1.5,
        "trials": 8,
    }
    assert json.loads(json.dumps(wanted.parameters)) == wanted.parameters


def test_preset_then_explicit_parameters_and_policies():
    wanted = request({"name": "deepfool", "preset": "foolbox-0.8", "steps": 7}, CLASSIFICATION)
    assert (wanted.parameters["steps"], wanted.parameters["overshoot_on"], wanted.on_failure) == (
        7,
        "step",
        "clean",
    )
    other = request(
        {"name": "deepfool", "preset": "foolbox-0.8", "on_failure": "last", "on_misclassified": "drop"},
        CLASSIFICATION,
    )
    assert (other.on_failure, other.on_misclassified) == ("last", "drop")


def test_the_defaults_are_the_default_presets():
    deepfool = request({"name": "deepfool"}, CLASSIFICATION).parameters
    assert deepfool == {**DEEPFOOL["moosavi-2016"].parameters, "near": 1.5, "trials": 8}
    assert (
        request({"name": "saliency_map"}, CLASSIFICATION).parameters == SALIENCY_MAP["foolbox-0.8"].parameters
    )


def test_fractions_targets_and_labels():
    wanted = request({"name": "dag_c", "label": "grow-6.mm", "step": "4/255", "radius_mm": 4}, SEGMENTATION)
    assert wanted.label == "grow-6.mm"
    assert wanted.parameters["step"] == 4 / 255
    assert wanted.parameters["radius_mm"] == 4
    assert wanted.ssim is None
    assert not wanted.unsolved


@pytest.mark.parametrize(
    ("entry", "task", "message"),
    [
        ({"name": "fsgm"}, CLASSIFICATION, "Unknown perturbation 'fsgm'. Did you mean 'fgsm'"),
        ({}, CLASSIFICATION, "Unknown perturbation 'None'"),
        (
            {"name": "dag_a"},
            CLASSIFICATION,
            "dag_a is not for classification; these are: .*deepfool, .*fgsm",
        ),
        ({"name": "deepfool"}, SEGMENTATION, "deepfool is not for segmentation"),
        ({"name": "deepfool", "step": 3}, CLASSIFICATION, "Unknown key 'step'. Did you mean 'steps'"),
        ({"name": "dag_a", "share": 0.1}, SEGMENTATION, "Unknown key 'share'"),
        ({"name": "dag_b", "rngs": 3}, SEGMENTATION, "Unknown key 'rngs'"),
        (
            {"name": "deepfool", "steps": 0},
            CLASSIFICATION,
            "deepfool.steps: .*greater than or equal to 1; got 0",
        ),
        ({"name": "dag_b", "share": 1.5}, SEGMENTATION, "share: .*less than or equal to 1; got 1.5"),
        (
            {"name": "dag_b", "preset": "xie-2018"},
            SEGMENTATION,
            "Unknown preset 'xie-2018'. Did you mean 'xie-2017'",
        ),
        (
            {"name": "deepfool", "on_misclassified": "skip"},
            CLASSIFICATION,
            "deepfool.on_misclassified: must be one of attack, keep, drop",
        ),
        (
            {"name": "deepfool", "on_failure": 3},
            CLASSIFICATION,
            "deepfool.on_failure: must be one of last, clean; got 3",
        ),
        ({"name": "deepfool", "label": "a b"}, CLASSIFICATION, "label: may hold letters, digits"),
        ({"name": "deepfool", "label": ""}, CLASSIFICATION, "label: may hold letters, digits"),
        ({"name": "fgsm", "eps": {"ssim": 1.2}}, CLASSIFICATION, r"eps: must be a number or \{ssim: s\}"),
        ({"name": "fgsm", "eps": {"mse": 0.2}}, CLASSIFICATION, r"eps: must be a number or \{ssim: s\}"),
        ({"name": "fgsm", "eps": {"ssim": "high"}}, CLASSIFICATION, r"eps: must be a number or \{ssim: s\}"),
        ({"name": "fgsm", "eps": 2}, CLASSIFICATION, "eps: .*less than or equal to 1; got 2"),
        ({"name": "fgsm", "eps": 0.1, "line_search": 10}, SEGMENTATION, "line_search: is for classification"),
        (
            {"name": "saliency_map", "preset": "papernot-2016", "entries_per_step": 8},
            CLASSIFICATION,
            "entries_per_step: must be 1 with saliency='pairs', .*; got 8",
        ),
        (
            {"name": "gaussian", "strength": -1},
            CLASSIFICATION,
            "strength: .*greater than or equal to 0; got -1",
        ),
    ],
)
def test_what_cannot_be_is_refused(entry, task, message):
    with pytest.raises(StudyError, match=message):
        request(entry, task)


def test_budget_is_given_or_solved():
    given = request({"name": "fgsm", "eps": "2/255"}, CLASSIFICATION)
    assert (given.parameters["eps"], given.ssim, given.unsolved) == (2 / 255, None, False)
    default = request({"name": "fgsm"}, CLASSIFICATION)
    assert (default.ssim, default.unsolved) == (0.98, True)
    asked = request({"name": "fgsm", "eps": {"ssim": 0.9}}, CLASSIFICATION)
    assert (asked.ssim, asked.unsolved, "eps" in asked.parameters) == (0.9, True, False)
    assert asked.with_budget(0.01).parameters["eps"] == 0.01
    assert not asked.with_budget(0.01).unsolved
    preset = request({"name": "fgsm", "preset": "foolbox-0.8"}, CLASSIFICATION)
    assert (preset.parameters["eps"], preset.ssim) == (1.0, None)
    with pytest.raises(ValueError, match="deepfool: has no budget"):
        request({"name": "deepfool"}, CLASSIFICATION).with_budget(1)


@pytest.mark.parametrize("goal", [0.99, 0.9])
def test_solved_budget_has_the_wanted_mean_ssim(goal):
    images, labels = batch(8)
    wanted = request({"name": "fgsm", "eps": {"ssim": goal}}, CLASSIFICATION)
    support = torch.zeros_like(images, dtype=torch.bool)
    support[..., 3:17] = True
    support[0] = False
    parts = [(images[k : k + 3], labels[k : k + 3], support[k : k + 3], None) for k in (0, 3, 6)]
    eps = solve_budget(wanted, network(), iter(parts))
    made = fgsm(network(), images, labels, support=support, eps=eps)
    assert ssim(images, made, support).nanmean().item() == pytest.approx(goal, abs=2e-4)
    assert eps == float(f"{eps:.4g}")


def test_budget_of_an_attack_that_draws_is_solved_on_the_same_draws_every_time():
    images, labels = batch(4)
    rngs = [generator(0, "budget", number) for number in range(4)]
    wanted = request({"name": "pgd", "eps": {"ssim": 0.97}, "steps": 3}, CLASSIFICATION)
    eps = solve_budget(wanted, network(), [(images, labels, None, rngs)])
    made = perturb(wanted.with_budget(eps), network(), images, labels, rngs=rngs)
    assert ssim(images, made).mean().item() == pytest.approx(0.97, abs=2e-4)


def test_a_budget_in_the_l2_norm_may_exceed_1():
    images, labels = batch(4)
    wanted = request({"name": "pgd", "norm": "2", "eps": {"ssim": 0.8}, "steps": 3}, CLASSIFICATION)
    eps = solve_budget(wanted, network(), [(images, labels, None, None)])
    assert eps > 1
    made = perturb(wanted.with_budget(eps), network(), images, labels)
    assert ssim(images, made).mean().item() == pytest.approx(0.8, abs=2e-4)


def test_budget_out_of_reach_is_refused():
    flat = torch.full((2, 1, 20, 20), 0.5)
    wanted = request({"name": "fgsm", "eps": {"ssim": 0.5}}, CLASSIFICATION)
    nowhere = torch.zeros(2, 1, 20, 20, dtype=torch.bool)
    nowhere[..., 10, 10] = True
    dead = network()
    with torch.no_grad():
        dead[0].weight.zero_()
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(StudyError, match=r"fgsm: no eps up to 1 gives an SSIM of 0.5; the nearest is 1.0000"):
        solve_budget(wanted, dead, [(flat, labels, nowhere, None)])
    with pytest.raises(ValueError, match=r"needs an SSIM to solve for and cases, got 0\.5 and 0"):
        solve_budget(wanted, dead, [])


def test_unsolved_budget_cannot_be_used():
    images, labels = batch()
    with pytest.raises(ValueError, match=r"fgsm: its eps is not set; use solve_budget"):
        perturb(request({"name": "fgsm"}, CLASSIFICATION), network(), images, labels)
    with pytest.raises(ValueError, match="gaussian: its strength is not set"):
        perturb(request({"name": "gaussian"}, CLASSIFICATION, control=True), None, images, labels)


def test_noise_of_a_given_ssim_is_solved_for_every_image():
    images, labels = batch()
    wanted = request({"name": "gaussian", "strength": {"ssim": 0.9}}, CLASSIFICATION)
    made = perturb(wanted, None, images, labels, rngs=[generator(0, k) for k in range(4)])
    assert ((ssim(images, made) - 0.9).abs() < 0.005).all()


def test_targets_are_made_from_the_request():
    labels = torch.zeros(2, 20, 20, dtype=torch.int64)
    labels[:, 5:15, 5:15] = 1
    rngs = [generator(0, k) for k in range(2)]
    grown = targets_of(request({"name": "dag_c", "radius_mm": 2}, SEGMENTATION), labels, rngs, (2.0, 2.0))
    assert (grown == 1).sum() == 2 * (100 + 40)
    assert targets_of(request({"name": "fgsm"}, SEGMENTATION), labels, None) is None
    assert (targets_of(request({"name": "dag_a"}, SEGMENTATION), labels, None) == 0).all()


def test_given_targets_are_used():
    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Conv2d(1, 3, 3, padding=1)
    labels = model(images).argmax(1)
    wanted = request({"name": "dag_a"}, SEGMENTATION)
    assert torch.equal(perturb(wanted, model, images, labels, targets=labels), images)
    assert not torch.equal(perturb(wanted, model, images, labels), images)


def test_only_noise_and_deepfool_like_attacks_declare_what_they_are():
    kinds = {name: entry.role for name, entry in PERTURBATIONS.items()}
    assert [name for name, kind in kinds.items() if kind == "noise"] == ["gaussian", "rician", "random_signs"]
    assert {"deepfool", "saliency_map"} <= {name for name, entry in PERTURBATIONS.items() if entry.minimal}
    assert [name for name, entry in PERTURBATIONS.items() if entry.crafted_on == "both"] == ["fgsm", "dag_a"]


def test_an_attack_may_have_fewer_cases_than_the_study():
    asked = request({"name": "deepfool", "cases": 40}, CLASSIFICATION)
    assert asked.cases == 40
    assert request(asked.written, CLASSIFICATION).cases == 40
    assert asked.recipe == request("deepfool", CLASSIFICATION).recipe


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"name": "deepfool", "cases": 0}, r"deepfool\.cases: must be a whole number of at least 1; got 0"),
        ({"name": "deepfool", "cases": True}, r"deepfool\.cases: must be a whole number"),
        ({"name": "gaussian", "strength": 0.1, "cases": 9}, r"gaussian\.cases: is for attacks"),
        (
            {"name": "fgsm", "ladder": "2/255", "cases": 9},
            r"fgsm\.cases: is for attacks outside of the ladder",
        ),
    ],
)
def test_cases_that_make_no_sense_are_refused(item, message):
    with pytest.raises(StudyError, match=message):
        request(item, CLASSIFICATION)


def test_unknown_preset_of_a_function_is_refused():
    images, labels = batch()
    with pytest.raises(ValueError, match=r"Unknown preset 'foolbox'\. Did you mean 'foolbox-0.8'"):
        fgsm(network(), images, labels, preset="foolbox")

"""Perturbations of strangers pass the contract if they keep what they declare, else learn what they break."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import own_perturbations
from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.perturbations import (
    check_perturbation,
    corruption,
    entry_of,
    fgsm,
    is_perturbation,
    perturb,
    perturbation,
    request,
    requests,
)
from medrobust.perturbations.contract import RULES, smooth_batch, smooth_network
from own_perturbations import BROKEN, SOUND

CLASSIFICATION = Task.CLASSIFICATION


@pytest.mark.parametrize("name", SOUND)
def test_what_keeps_its_promises_passes(name: str) -> None:
    assert check_perturbation(f"own_perturbations:{name}") == ()


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_one_is_told_which(name: str) -> None:
    rule, says = BROKEN[name]
    found = {finding.rule: finding.says for finding in check_perturbation(f"own_perturbations:{name}")}
    assert says in found[rule]
    assert found[rule].endswith((".", ")"))


def test_every_rule_is_broken_by_something() -> None:
    assert {*RULES, "facts"} - {rule for rule, _ in BROKEN.values()} == {"acts"}
    assert [each.rule for each in check_perturbation(lambda model, images, labels: images.clone())] == [
        "acts"
    ]


def test_facts_are_read_off_a_plain_function() -> None:
    entry = entry_of(own_perturbations.step_along_the_sign)
    assert (entry.role, entry.needs, entry.budget, entry.norms) == ("attack", "gradient", "eps", ("inf",))
    assert (entry.tasks, entry.revision, entry.is_ours) == (tuple(Task), 1, False)
    assert entry.summary == "A plain function: no facts, no types, no support, and torch's own autograd."
    blur = entry_of(own_perturbations.blur)
    assert (blur.role, blur.needs, blur.budget, blur.norms) == ("corruption", "nothing", "severity", ())
    assert entry_of(fgsm).name == "fgsm"
    assert entry_of(fgsm, "other").name == "fgsm"
    assert all(map(is_perturbation, (fgsm, entry, own_perturbations.blur, own_perturbations.raises)))
    assert not any(map(is_perturbation, (7, print, request, perturbation)))


@pytest.mark.parametrize(
    ("item", "parameters"),
    [
        ({"load": "own_perturbations:steepest", "label": "mine", "eps": "4/8"}, {"eps": 0.5}),
        ({"load": own_perturbations.steepest}, {"eps": 0.5}),
        (own_perturbations.step_along_the_sign, {"eps": 0.03}),
        ({"load": "own_perturbations:step_along_the_sign", "eps": "8/255"}, {"eps": 8 / 255}),
        ({"load": "own_perturbations:blur", "severity": 3}, {"severity": 3}),
        ({"load": "own_perturbations:speckle", "severity": 5}, {"severity": 5, "scale": 0.02}),
        ({"load": "own_perturbations:stripes", "amplitude": 0.2}, {"amplitude": 0.2}),
        ({"name": "gaussian", "strength": 0.05}, {"strength": 0.05}),
    ],
)
def test_a_study_asks_for_them_like_for_ours(item: Any, parameters: dict[str, Any]) -> None:
    wanted = request(item, CLASSIFICATION)
    assert wanted.parameters == parameters
    again = request(wanted.written, CLASSIFICATION)
    assert (again.label, again.parameters, again.recipe) == (wanted.label, wanted.parameters, wanted.recipe)
    network = smooth_network(CLASSIFICATION)
    images, labels = smooth_batch(CLASSIFICATION, network)
    made = perturb(wanted, network, images, labels)
    assert not torch.equal(made, images)
    assert torch.equal(made, perturb(again, network, images, labels))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            {"load": "own_perturbations:steepest", "eps": 11},
            "perturbations.own_perturbations:steepest.eps: .* 10",
        ),
        ({"load": "own_perturbations:steepest", "epss": 1}, "Unknown key 'epss'. Did you mean 'eps'"),
        ({"load": "own_perturbations:one_entry", "name": "x"}, "takes `name` or `load`, got both"),
        ({"load": "own_perturbations:nothing"}, "cannot be imported: AttributeError"),
        (
            {"load": "own_perturbations:BROKEN"},
            r"must be a function \(model, images, labels, \*, ...\) -> images",
        ),
        ({"load": "own_perturbations:blur"}, "severity: this key is required"),
        ({"load": "own_perturbations:blur", "severity": 6}, "less than or equal to 5; got 6"),
        ({"load": "own_perturbations:blur", "severity": {"ssim": 0.9}}, "severity: must be a number; got"),
        (
            {"load": own_perturbations.fails_on_flat_networks, "eps": [0.1, 0.1]},
            "budgets must differ in their first 4 digits",
        ),
        ({"given": "mine 3fa2"}, "'mine 3fa2' was given in Python. Give it again"),
        ({"load": lambda model, images, labels: images}, "label: may hold letters, digits.*got '<lambda>'"),
    ],
)
def test_what_a_study_cannot_ask_for(item: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        requests(item, CLASSIFICATION)


def test_a_list_of_severities_is_a_curve() -> None:
    points = requests({"load": "own_perturbations:blur", "severity": [1, 3, 5]}, CLASSIFICATION)
    assert [(point.label, point.curve, point.parameters["severity"]) for point in points] == [
        ("blur-1", "blur", 1),
        ("blur-3", "blur", 3),
        ("blur-5", "blur", 5),
    ]


def test_results_of_other_code_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def mine(model, images, labels, eps=0.1):\n    return (images + eps).clamp(0, 1)\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "changing_attack.py").write_text(text)
    wanted = request({"load": "changing_attack:mine"}, CLASSIFICATION)
    before = wanted.recipe
    (tmp_path / "changing_attack.py").write_text(text + "# another version\n")
    assert {key for key, value in wanted.recipe.items() if value != before[key]} == {"code"}
    sys.modules.pop("changing_attack")


def test_a_function_of_a_notebook_counts_by_its_source() -> None:
    def mine(model: object, images: torch.Tensor, labels: torch.Tensor, eps: float = 0.1) -> torch.Tensor:
        return (images + eps).clamp(0, 1)

    shift = 0.1

    def depends(model: object, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (images + shift).clamp(0, 1)

    wanted = request(mine, CLASSIFICATION)
    assert wanted.written == {
        "given": f"mine {wanted.recipe['code'][:12]}",
        "label": "mine",
        "on_misclassified": "attack",
        "on_failure": "last",
        "crafted_on": "surrogates",
        "eps": 0.1,
    }
    with pytest.raises(StudyError, match="'depends' cannot be read, or uses variables of a function"):
        request(depends, CLASSIFICATION).recipe  # noqa: B018


def test_what_moves_labels_can_be_asked_for_in_any_task() -> None:
    @perturbation(role="corruption", needs="nothing", moves_labels=True, budget="severity")
    def flip(model, images, labels, *, severity: int = 1):  # type: ignore[no-untyped-def]
        valid = torch.ones_like(images[:, 0], dtype=torch.bool)
        return images.flip(-1), labels.flip(-1) if labels.ndim > 2 else labels.clone(), valid

    assert check_perturbation(flip) == ()
    assert request(flip, Task.SEGMENTATION).perturbation.moves_labels


def test_facts_that_do_not_exist_are_refused() -> None:
    with pytest.raises(StudyError, match=r"@perturbation: Unknown fact 'nroms'. Did you mean 'norms'\?"):
        perturbation(nroms=("inf",))
    with pytest.raises(StudyError, match=r"must take \(model, images, labels, \*, ...\), but .* takes \(x\)"):
        perturbation()(lambda x: x)


def test_a_corruption_keeps_its_parameters_and_draws() -> None:
    images, labels = smooth_batch(CLASSIFICATION, smooth_network(CLASSIFICATION))
    function = corruption(own_perturbations.speckle)
    made = function(None, images, labels, severity=2)
    assert torch.equal(made, function(None, images, labels, severity=2))
    assert not torch.equal(made, function(None, images, labels, severity=2, scale=0.1))

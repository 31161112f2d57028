"""Who attacks whom: surrogates, the other networks of a study, or nobody."""

from pathlib import Path
from typing import Any

import pytest
import torch

import made_studies
from medrobust.core import Role
from medrobust.errors import StudyError
from medrobust.running.check import check_networks
from medrobust.running.plan import Plan, cells_of, make_plan
from medrobust.running.setup import set_up
from medrobust.storage import RunFolder
from medrobust.study.reading import read_study

STUDY: dict[str, Any] = {
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 100, "size": 32},
    "split": {"rule": "patient", "test": 0.4},
    "models": [
        {"name": name, "load": f"fitted_networks:{kind}", "train": True}
        for name, kind in (("a", "coarse"), ("b", "fine"), ("c", "coarse"))
    ],
    "perturbations": [
        {"name": "fgsm", "eps": "2/255"},
        {"name": "pgd", "eps": "2/255"},
        {"name": "gaussian", "label": "weak", "strength": 0.01},
    ],
}


def planned(folder: Path, **keys: Any) -> Plan:
    setup = set_up(read_study(STUDY | keys), RunFolder(folder), data_dir=None, device=torch.device("cpu"))
    return make_plan(setup)


def cells(plan: Plan) -> set[tuple[str, str, str, str]]:
    return {
        (cell.image_set.perturbation, cell.image_set.role, cell.columns["source"], cell.target.id.name)
        for cell in cells_of(plan.sets, plan.setup.targets)
    }


def test_others_attack_a_network_and_never_itself(tmp_path: Path) -> None:
    plan = planned(tmp_path, surrogates="others")
    assert [network.id.role for network in plan.setup.networks] == [Role.TARGET] * 3
    pairs = [(source, target) for source in "abc" for target in "abc" if source != target]
    expected = {
        (label, "transfer", source, target)
        for label in ("fgsm", "pgd", "gaussian@fgsm", "gaussian@pgd")
        for source, target in pairs
    }
    expected |= {("fgsm", "whitebox", name, name) for name in "abc"}
    expected |= {
        (label, role, "", name) for label, role in (("clean", "clean"), ("weak", "noise")) for name in "abc"
    }
    assert cells(plan) == expected
    assert len({images.name for images in plan.sets}) == len(plan.sets)


def test_none_attacks_each_network_itself_with_noise_as_its_control(tmp_path: Path) -> None:
    plan = planned(tmp_path, surrogates="none")
    expected = {
        (label, "whitebox", name, name)
        for label in ("fgsm", "pgd", "gaussian@fgsm", "gaussian@pgd")
        for name in "abc"
    }
    expected |= {
        (label, role, "", name) for label, role in (("clean", "clean"), ("weak", "noise")) for name in "abc"
    }
    assert cells(plan) == expected
    assert [images.perturbation for images in plan.shown] == ["clean", "gaussian@fgsm", "fgsm", "pgd"]
    assert {images.perturbation for images in plan.tested} == {"fgsm", "pgd"}


def test_copies_that_are_trained_apart_by_default(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert [network.id.role for network in plan.setup.networks] == [Role.TARGET] * 3 + [Role.SURROGATE] * 3
    assert {("fgsm", "transfer", source, target) for source in "abc" for target in "abc"} <= cells(plan)


def test_roles_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.surrogates: with `others` .*'a' is the only one"):
        read_study(STUDY | {"models": STUDY["models"][:1], "surrogates": "others"})
    (tmp_path / "a.safetensors").touch()
    weights = {"a": str(tmp_path / "a.safetensors")}
    with pytest.raises(StudyError, match=r"with `models: none` no surrogate is made"):
        read_study(STUDY | {"surrogates": {"models": "none", "weights": weights}})
    with pytest.raises(StudyError, match="surrogates"):
        read_study(STUDY | {"surrogates": "nobody"})


def test_one_network_under_two_names_does_not_attack_itself(tmp_path: Path) -> None:
    twins = [{"name": name, "load": "fitted_networks:coarse", "weights": "{}"} for name in "ab"]
    made_studies.classification(tmp_path)
    weights = next(tmp_path.rglob("*.safetensors"))
    models = [entry | {"weights": str(weights)} for entry in twins]
    keys = {"models": models, "surrogates": "others", "split": {"test": "all"}}
    setup = set_up(
        read_study(STUDY | keys), RunFolder(tmp_path / "run"), data_dir=None, device=torch.device("cpu")
    )
    with pytest.raises(StudyError, match="'a-target-s0' and 'b-target-s0' are the same network"):
        check_networks(setup, print)

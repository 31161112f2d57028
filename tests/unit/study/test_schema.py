import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from medrobust.core import Task
from medrobust.data import DATASETS
from medrobust.perturbations import PERTURBATIONS
from medrobust.perturbations.request import OWN_KEYS
from medrobust.study.schema import study_schema
from medrobust.study.templates import demo_study, template

STUDIES = sorted((Path(__file__).parents[3] / "studies").glob("*.yaml"))
VALIDATOR = Draft202012Validator(study_schema())


def study(**keys: Any) -> dict[str, Any]:
    return {"task": "segmentation", "data": {"name": "phantom_brains"}, "models": [{"name": "unet"}]} | keys


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(study_schema())


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_are_valid(path: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_every_key_of_an_attack_beside_its_parameters_is_known() -> None:
    """What a study may say of any attack, and what the study of a run folder says of it."""
    own = {"label": "a", "finding": "nodule", "cases": 9, "ladder": "2/255", "on_failure": "clean"}
    policies = {"on_misclassified": "drop", "crafted_on": "both"}
    assert {"name", "load", "given", "preset", *own, *policies} == set(OWN_KEYS)
    VALIDATOR.validate(study(perturbations=[{"name": "mi_fgsm", "preset": "ti-fgsm"} | own | policies]))


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.SEGMENTATION])
def test_the_demo_is_valid(task: Task) -> None:
    VALIDATOR.validate(demo_study(task))


@pytest.mark.parametrize("task", list(Task))
def test_the_template_is_valid(task: Task) -> None:
    VALIDATOR.validate(yaml.safe_load(template(task)))


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_data_set_has_a_valid_template(name: str) -> None:
    content = yaml.safe_load(template(DATASETS[name].task, name))
    VALIDATOR.validate(content)
    assert content["data"]["name"] == name


@pytest.mark.parametrize(
    "wrong",
    [
        study(modles=[]),
        study(data={"name": "phantom_brain"}),
        study(data={"name": "phantom_brains", "subjects": 0}),
        study(perturbations=[{"name": "dag_a", "stps": 3}]),
        study(perturbations=[{"name": "dag_a", "steps": 0}]),
        study(perturbations=[{"name": "dag_b", "share": 1.5}]),
        study(perturbations=[{"name": "pgd", "step": 0}]),
        study(perturbations=[{"name": "gaussian"}]),
        study(training={"recipe": "slow"}),
        study(models=[{"name": "unet", "input": {"chanels": 1}}]),
        study(models=[{"name": "unet", "input": {"window": {"overlap": 0.5}}}]),
        study(models=[{"name": "unet", "output": {"kind": "softmax"}}]),
        study(models=[{"name": "unet", "weights": {"prefix": "net."}}]),
        study(data={"name": "malc2012", "root": "x", "intensity": {"centre": 40}}),
    ],
)
def test_what_cannot_be_is_marked(wrong: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(wrong)


def test_a_window_is_given_by_its_two_keys() -> None:
    window = {"centre": 40, "width": 400}
    VALIDATOR.validate(study(data={"name": "malc2012", "root": "x", "intensity": window}))


def test_budgets_may_be_lists() -> None:
    def grid(eps: Any, name: str = "pgd", **keys: Any) -> dict[str, Any]:
        return study(perturbations=[{"name": name, "eps": eps, **keys}])

    for right in (grid(["0.5/255", 0.01]), grid(0.1, curve="c"), grid(["1/255"], name="fgsm")):
        VALIDATOR.validate(right)
    for wrong in (
        grid([]),
        grid(["1/255", "1/255"]),
        grid([{"ssim": 0.9}]),
        grid(["a"]),
    ):
        assert not VALIDATOR.is_valid(wrong)
    assert not VALIDATOR.is_valid(study(noise={"name": "rician", "strength": [0.1]}))


def test_transforms_are_searched_in_one_way_or_several() -> None:
    def searched(**keys: Any) -> dict[str, Any]:
        return study(perturbations=[{"name": "bias_field_search", **keys}])

    several = study(transforms={"suite": "mri", "search": ["worst"], "families": ["motion_search"]})
    for right in (
        several,
        searched(),
        searched(search="worst"),
        searched(search=["random", "worst"], passes=4),
    ):
        VALIDATOR.validate(right)
    for wrong in (searched(search="best"), searched(search=[]), searched(strength=[0.1]), searched(passes=3)):
        assert not VALIDATOR.is_valid(wrong)
    assert not VALIDATOR.is_valid(study(transforms={"suite": "mri", "severity": 1}))


def test_every_data_set_attack_and_noise_is_offered() -> None:
    properties = study_schema()["properties"]
    assert {one["title"] for one in properties["data"]["anyOf"]} == {*DATASETS, "load"}
    offered = properties["perturbations"]["items"]["anyOf"] + properties["noise"]["anyOf"][:-1]
    assert {one["title"] for one in offered} == {*PERTURBATIONS, "load"} - {"clean"}


def test_every_reference_leads_somewhere():
    schema = study_schema()
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert "Window" in references
    assert references <= schema["$defs"].keys()

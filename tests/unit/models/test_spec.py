import json

import pytest

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.models import MODELS, model_spec, recipe

SEGMENTATION, CLASSIFICATION = Task.SEGMENTATION, Task.CLASSIFICATION


def test_defaults_are_filled_in():
    spec = model_spec({"name": "unet"}, SEGMENTATION)
    assert (spec.name, spec.architecture, spec.weights, spec.train) == ("unet", "unet", "none", True)
    assert spec.parameters == {"width": 19, "levels": 4, "keep_probability": 1.0}


def test_a_parameter_overrides_its_preset():
    spec = model_spec({"name": "wide", "architecture": "unet", "preset": "paper", "width": 40}, SEGMENTATION)
    assert spec.architecture == "unet"
    assert spec.parameters == {**MODELS["unet"].presets["paper"], "width": 40}


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.presets])
def test_every_preset_resolves(name):
    for preset in MODELS[name].presets:
        assert json.dumps(recipe(model_spec({"name": name, "preset": preset}, MODELS[name].task)))


def test_any_network_of_timm_is_known():
    assert model_spec({"name": "resnet18"}, CLASSIFICATION).parameters["keep_probability"] == 0.8


@pytest.mark.parametrize(
    ("entry", "task", "message"),
    [
        ({"preset": "small"}, SEGMENTATION, "every item needs a `name`"),
        ({"name": "une"}, SEGMENTATION, "Unknown model 'une'. Did you mean 'unet'"),
        ({"name": "resnet18x"}, CLASSIFICATION, "Did you mean 'resnet18"),
        ({"name": "unet"}, CLASSIFICATION, "'unet' is a network for segmentation"),
        ({"name": "unet", "preset": "smal"}, SEGMENTATION, "Unknown preset 'smal'. Did you mean 'small'"),
        ({"name": "unet", "widht": 8}, SEGMENTATION, "Unknown key 'widht'. Did you mean 'width'"),
        ({"name": "unet", "wieghts": "a"}, SEGMENTATION, "Did you mean 'weights'"),
        ({"name": "unet", "width": 0}, SEGMENTATION, "models.unet.width.*greater than or equal to 1; got 0"),
        ({"name": "unet", "classes": 3}, SEGMENTATION, "Unknown key 'classes'"),
        ({"name": "unet", "weights": "imagenet"}, SEGMENTATION, "for networks of timm only"),
        ({"name": "unet", "weights": "nowhere.pt"}, SEGMENTATION, "there is no file 'nowhere.pt'"),
        ({"name": "unet", "train": False}, SEGMENTATION, "would keep random weights"),
        ({"name": "unet", "train": "no"}, SEGMENTATION, "train must be true or false, got 'no'"),
        ({"name": "unet", "input": {"size": 0}}, SEGMENTATION, "input.size"),
        ({"name": "unet", "input": {"chanels": 1}}, SEGMENTATION, "Did you mean 'channels'"),
        ({"name": "unet", "input": 3}, SEGMENTATION, "input must hold keys"),
        ({"name": "a", "load": "made_networks"}, SEGMENTATION, "must be `package.module:function`"),
        ({"name": "a", "load": "no.where:make"}, SEGMENTATION, "there is no Python module 'no.where'"),
        ({"name": "a", "load": "made_networks:x", "width": 3}, SEGMENTATION, "Unknown key 'width'"),
        ({"name": "a", "load": "made_networks:x", "preset": "small"}, SEGMENTATION, "Unknown key 'preset'"),
        (
            {"name": "resnet18", "weights": "package:no-such-thing"},
            CLASSIFICATION,
            "'no-such-thing' is not installed",
        ),
        (
            {"name": "resnet18", "weights": "package:pydantic"},
            CLASSIFICATION,
            "must hold one weights file, but it holds 0",
        ),
    ],
)
def test_what_cannot_be_is_said(entry, task, message):
    with pytest.raises(StudyError, match=message):
        model_spec(entry, task)


def test_networks_with_weights_of_their_own_are_not_trained(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"x")
    weights = str(tmp_path / "w.pt")
    assert not model_spec({"name": "unet", "weights": weights}, SEGMENTATION).train
    assert not model_spec({"name": "a", "load": "made_networks:classifier"}, CLASSIFICATION).train
    assert model_spec({"name": "a", "load": "made_networks:classifier", "train": True}, CLASSIFICATION).train
    assert model_spec({"name": "unet", "weights": weights, "train": True}, SEGMENTATION).train
    assert model_spec({"name": "resnet18", "weights": "imagenet"}, CLASSIFICATION).train


def test_the_recipe_follows_contents_and_not_names(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)

    def of(name, **entry):
        return recipe(model_spec({"name": name, "architecture": "unet", **entry}, SEGMENTATION))

    assert of("x", weights=str(tmp_path / "a")) == of("y", weights=str(tmp_path / "b"))
    assert of("x", weights=str(tmp_path / "a")) != of("x", weights=str(tmp_path / "c"))
    assert of("x", width=8) != of("x", width=9)
    assert of("x", input={"mean": 0.5}) != of("x")
    json.dumps(of("x"))


def test_the_recipe_of_a_loaded_network_follows_its_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_nets_for_recipe.py").write_text("def make(): pass\n")
    spec = model_spec({"name": "mine", "load": "my_nets_for_recipe:make"}, CLASSIFICATION)
    before = recipe(spec)
    (tmp_path / "my_nets_for_recipe.py").write_text("def make(): return 1\n")
    assert recipe(spec) != before

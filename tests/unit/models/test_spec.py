import json

import pytest
import torch
from torch import nn

from made_networks import classifier
from medrobust.core import Task
from medrobust.errors import ModelError, StudyError
from medrobust.models import MODELS, Network, as_written, build, model_spec, recipe

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
        ({"name": "unet", "weights": {"prefix": "net."}}, SEGMENTATION, "weights.file: this key is required"),
        ({"name": "unet", "weights": {"file": "a", "prefx": "b"}}, SEGMENTATION, "Did you mean 'prefix'"),
        (
            {"name": "resnet18", "weights": {"file": "imagenet", "prefix": "net."}},
            CLASSIFICATION,
            "weights.file must be the path of a file where `prefix` or `ignore` is given, got 'imagenet'",
        ),
        ({"name": "unet", "train": False}, SEGMENTATION, "would keep random weights"),
        ({"name": "unet", "train": "no"}, SEGMENTATION, "train must be true or false, got 'no'"),
        ({"name": "unet", "input": {"size": 0}}, SEGMENTATION, "input.size"),
        ({"name": "unet", "input": {"chanels": 1}}, SEGMENTATION, "Did you mean 'channels'"),
        ({"name": "unet", "input": 3}, SEGMENTATION, "input must hold keys"),
        ({"name": "a", "load": "made_networks"}, SEGMENTATION, "must be `package.module:function`"),
        ({"name": "a", "load": "no.where:make"}, SEGMENTATION, "there is no Python module 'no.where'"),
        ({"name": "a", "load": "made_networks:x"}, SEGMENTATION, "`made_networks:x` cannot be imported"),
        (
            {"name": "a", "load": "made_networks:_ONE"},
            SEGMENTATION,
            "is made by a function or class.*Sequential",
        ),
        ({"name": "a", "load": "made_networks:broken", "width": 3}, SEGMENTATION, "Unknown key 'width'"),
        ({"name": "a", "load": "made_networks:broken", "preset": "b"}, SEGMENTATION, "Unknown preset 'b'"),
        (
            {"name": "a", "load": nn.Flatten(), "input": {"size": 3}},
            SEGMENTATION,
            "says everything else itself",
        ),
        ({"name": "a", "given": "nets.Small 3fa2"}, SEGMENTATION, r"given in Python \(nets.Small 3fa2\)"),
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


def test_a_network_given_in_python_is_known_by_its_weights_and_settings():
    body = classifier(2, 3)
    entry = {"name": "mine", "load": Network(body, mean=0.5)}
    spec = model_spec(entry, CLASSIFICATION)
    assert (spec.architecture, spec.train, spec.load) == (
        "torch.nn.modules.container.Sequential",
        False,
        None,
    )
    assert json.dumps(recipe(spec))
    assert recipe(spec) == recipe(model_spec(entry, CLASSIFICATION))
    for other in (Network(body, mean=0.4), Network(classifier(2, 3), mean=0.5)):
        assert recipe(model_spec({"name": "mine", "load": other}, CLASSIFICATION)) != recipe(spec)
    assert as_written(entry)["given"].startswith("torch.nn.modules.container.Sequential ")
    assert as_written({"name": "unet", "width": 3}) == {"name": "unet", "width": 3}


def test_a_network_given_in_python_stays_as_it_is():
    body = classifier(2, 3).double().train()
    network = build(
        model_spec({"name": "a", "load": body}, CLASSIFICATION), classes=2, channels=3, shape=(8, 8)
    )
    assert network.assumed == ("Its weights were torch.float64; they are used as float32.",)
    assert body.training
    assert {weight.dtype for weight in body.parameters()} == {torch.float64}
    assert all(weight.requires_grad for weight in body.parameters())


def test_what_cannot_be_copied_is_said():
    class Session(nn.Identity):
        def __deepcopy__(self, memo):
            raise TypeError("cannot pickle a session")

    spec = model_spec({"name": "a", "load": Session()}, CLASSIFICATION)
    with pytest.raises(ModelError, match=r"models.a cannot be copied: TypeError.*lambda images: network"):
        build(spec, classes=2, channels=3, shape=(8, 8))

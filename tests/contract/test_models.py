"""Every network of the catalogue keeps the contract of `models.Network`."""

import inspect
from typing import Annotated, Any, get_args, get_origin

import pytest
import torch

from made_data import squares, stripes
from medrobust.core import NetworkId, Role, Task
from medrobust.models import MODELS, Network, model_spec, prepare
from medrobust.models.spec import SUPPLIED
from medrobust.parameters import parameter_model
from medrobust.running.setup import fresh_network

SIDE = {"inception_v3": 75, "inception_v4": 75}
"""Smallest side that a network takes, where it is not 32."""

names = pytest.mark.parametrize("name", list(MODELS))
_built: dict[str, Network] = {}


def network_of(name: str) -> Network:
    """The network with its smallest preset, made once."""
    if name not in _built:
        _built[name] = prepare(fresh(name), torch.device("cpu"))
    return _built[name]


def fresh(name: str, seed: int = 0) -> Network:
    architecture = MODELS[name]
    preset = {"preset": "tiny"} if "tiny" in architecture.presets else {}
    spec = model_spec({"name": name, **preset}, architecture.task)
    side = SIDE.get(name, 32)
    make = squares if architecture.task is Task.SEGMENTATION else stripes
    return fresh_network(
        spec, make(shape=(side, side)), network_id=NetworkId(name, Role.TARGET, seed), seed=seed
    )


def images_of(name: str, n: int = 2, height: int = 0, width: int = 0) -> torch.Tensor:
    channels = 1 if MODELS[name].task is Task.SEGMENTATION else 3
    side = SIDE.get(name, 32)
    generator = torch.Generator().manual_seed(0)
    return torch.rand((n, channels, height or side, width or side), generator=generator)


@names
def test_logits(name: str) -> None:
    network, images = network_of(name), images_of(name)
    logits = network(images)
    expected = (3, *images.shape[2:]) if MODELS[name].task is Task.SEGMENTATION else (2,)
    assert logits.shape == (2, *expected)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


@names
def test_odd_sizes(name: str) -> None:
    side = SIDE.get(name, 32)
    images = images_of(name, 1, side + 4, side + 7)
    logits = network_of(name)(images)
    if MODELS[name].task is Task.SEGMENTATION:
        assert logits.shape[2:] == images.shape[2:]


@names
def test_features(name: str) -> None:
    features = network_of(name).features(images_of(name))
    assert features.ndim == 2
    assert len(features) == 2
    assert features.std() > 0


@names
def test_the_gradient_reaches_the_image_and_leaves_the_network_as_it_was(name: str) -> None:
    network = network_of(name)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    images = images_of(name).requires_grad_()
    (gradient,) = torch.autograd.grad(network(images).square().sum(), images)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


@names
def test_the_same_images_give_the_same_bits(name: str) -> None:
    images = images_of(name)
    assert torch.equal(network_of(name)(images), network_of(name)(images))


@names
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    images = images_of(name, 3)
    together = network_of(name)(images)
    torch.testing.assert_close(together[1:2], network_of(name)(images[1:2]), atol=1e-4, rtol=1e-4)


@names
def test_weights_depend_on_the_seed_only(name: str) -> None:
    one, other = (dict(fresh(name, seed).named_parameters()) for seed in (0, 1))
    known = dict(network_of(name).named_parameters())
    assert all(torch.equal(one[key], known[key]) for key in known)
    assert any(not torch.equal(one[key], other[key]) for key in known)


@names
def test_its_parameters_have_ranges_and_its_presets_exist(name: str) -> None:
    architecture = MODELS[name]
    model = parameter_model(name, architecture.build, without=SUPPLIED)
    for parameter in inspect.signature(architecture.build).parameters.values():
        if parameter.name not in SUPPLIED and parameter.kind is parameter.KEYWORD_ONLY:
            assert is_bounded(parameter.annotation), parameter.name
    for preset in architecture.presets.values():
        assert preset.keys() <= model.model_fields.keys()


def is_bounded(annotation: Any) -> bool:
    """Whether every number in an annotation has a range."""
    if get_origin(annotation) is Annotated:
        return len(get_args(annotation)) > 1
    inner = [part for part in get_args(annotation) if part is not Ellipsis]
    return annotation not in (int, float) and all(is_bounded(part) for part in inner)


@names
def test_what_lists_show(name: str) -> None:
    assert MODELS[name].summary
    assert MODELS[name].source
    assert MODELS[name].revision >= 1

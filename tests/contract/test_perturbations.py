"""What DESIGN asks of every perturbation, run on every entry of the catalogue and every preset."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.metrics.similarity import linf
from medrobust.perturbations import PERTURBATIONS, Tally, parameters_of, perturb, request
from medrobust.rng import generator

SIZE = 14
CLASSES = 4


class Smooth(nn.Module):
    """A small smooth network with what can be left changed: dropout and batch norm."""

    def __init__(self, task, channels=1, dimensions=2, classes=CLASSES):
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
        first, last = convolution(channels, 6, 3, padding=1), convolution(6, classes, 3, padding=1)
        self.body = nn.Sequential(first, norm(6), nn.Tanh(), nn.Dropout(0.5), last)
        self.pool = task == Task.CLASSIFICATION
        self.register_buffer("centre", torch.zeros(classes))
        self.register_buffer("scale", torch.ones(classes))

    def forward(self, images):
        logits = self.body(images)
        if self.pool:
            logits = logits.flatten(2).mean(2)
        shape = (-1, *[1] * (logits.ndim - 2))
        return (logits - self.centre.view(shape)) / self.scale.view(shape)


def make_network(task, channels=1, dimensions=2, classes=CLASSES):
    """Its logits have mean 0 and deviation 1 on random images, so that every class is predicted."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        network = Smooth(task, channels, dimensions, classes)
        images = torch.rand(32, channels, *[SIZE if dimensions == 2 else 6] * dimensions)
        network.train()(images)
        logits = network.eval()(images).movedim(1, 0).flatten(1)
        network.centre += logits.mean(1)
        network.scale *= logits.std(1)
    return network


def make_batch(task, network, n=3, channels=1, space=(SIZE, SIZE)):
    draw = np.random.default_rng(3)
    images = torch.from_numpy(draw.random((n, channels, *space), dtype=np.float32))
    with torch.no_grad():
        labels = network(images).argmax(1)
    return images, labels


def make_rngs(n):
    return [generator(0, "contract", number) for number in range(n)]


def left_half(images):
    support = torch.zeros_like(images[:, :1], dtype=torch.bool)
    support[..., : images.shape[-1] // 2] = True
    return support


def entries():
    for name, entry in PERTURBATIONS.items():
        for task in entry.tasks:
            for preset in [None, *entry.presets]:
                if (name, task, preset) != ("fgsm", Task.SEGMENTATION, "foolbox-0.8"):
                    yield pytest.param(name, task, preset, id=f"{name}-{task}-{preset or 'default'}")


def ask(name, task, preset=None):
    wanted = {"name": name, **({"preset": preset} if preset else {})}
    budget = PERTURBATIONS[name].budget
    if budget and not preset:
        wanted[budget] = 0.05
    if name == "dag_c":
        wanted["radius_mm"] = 2
    if name.startswith("dag"):
        wanted["steps"] = 8
    if name == "saliency_map":
        wanted["steps"] = 40
    return request(wanted, task)


every = pytest.mark.parametrize(("name", "task", "preset"), list(entries()))
each = pytest.mark.parametrize(
    ("name", "task"),
    [pytest.param(n, t, id=f"{n}-{t}") for n, entry in PERTURBATIONS.items() for t in entry.tasks],
)


@every
def test_keeps_shape_range_and_support(name, task, preset):
    network = make_network(task)
    images, labels = make_batch(task, network)
    before, support = images.clone(), left_half(images)
    result = perturb(ask(name, task, preset), network, images, labels, support=support, rngs=make_rngs(3))
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.device == images.device
    assert not result.requires_grad
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(images, before)
    assert result.data_ptr() != images.data_ptr()
    outside = (result != images) & ~support
    assert not outside.any()
    assert (result != images).any() == (name != "clean")


@every
def test_network_leaves_as_it_came(name, task, preset):
    network = make_network(task)
    network.body[3].train()
    network.body[1].train()
    frozen = next(network.parameters())
    frozen.requires_grad_(False)
    network.body[4].weight.grad = torch.ones_like(network.body[4].weight)
    state, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    grads = [None if weight.grad is None else weight.grad.clone() for weight in network.parameters()]
    wanted = [weight.requires_grad for weight in network.parameters()]
    images, labels = make_batch(task, make_network(task))
    perturb(ask(name, task, preset), network, images, labels, rngs=make_rngs(3))
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert [module.training for module in network.modules()] == modes
    assert [weight.requires_grad for weight in network.parameters()] == wanted
    for weight, grad in zip(network.parameters(), grads, strict=True):
        assert (weight.grad is None) == (grad is None)
        assert grad is None or torch.equal(weight.grad, grad)
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
        assert not module._forward_pre_hooks


@each
def test_network_leaves_as_it_came_after_an_error(name, task):
    network = make_network(task).train()
    network.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    images, labels = make_batch(task, make_network(task))
    if PERTURBATIONS[name].kind == "attack":
        with pytest.raises(RuntimeError, match="out of memory"):
            perturb(ask(name, task), network, images, labels, rngs=make_rngs(3))
    assert all(module.training for module in network.modules())
    assert all(weight.requires_grad for weight in network.parameters())


@every
def test_depends_on_its_generators_only(name, task, preset):
    network = make_network(task)
    images, labels = make_batch(task, network)
    wanted = ask(name, task, preset)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = perturb(wanted, network, images, labels, rngs=make_rngs(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    torch.manual_seed(2)
    assert torch.equal(perturb(wanted, network, images, labels, rngs=make_rngs(3)), first)


@every
def test_an_image_alone_gives_what_it_gave_in_a_batch(name, task, preset):
    network = make_network(task)
    images, labels = make_batch(task, network, n=4)
    wanted = ask(name, task, preset)
    together = perturb(wanted, network, images, labels, support=left_half(images), rngs=make_rngs(4))
    for place in range(4):
        one = slice(place, place + 1)
        alone = perturb(
            wanted,
            network,
            images[one],
            labels[one],
            support=left_half(images)[one],
            rngs=make_rngs(4)[one],
        )
        # An entry whose gradient is about zero may go the other way; hardly any does on a smooth network.
        assert ((alone - together[one]).abs() > 1e-4).float().mean() <= 0.01


@each
@pytest.mark.parametrize(("channels", "space"), [(3, (11, 17)), (1, (5, 6, 7)), (2, (13, 12))])
@pytest.mark.parametrize("classes", [2, 3])
def test_any_channels_size_and_dimension(name, task, channels, space, classes):
    shape = {"channels": channels, "dimensions": len(space), "classes": classes}
    network = make_network(task, **shape)
    images, labels = make_batch(task, network, n=2, channels=channels, space=space)
    result = perturb(ask(name, task), network, images, labels, rngs=make_rngs(2))
    assert result.shape == images.shape
    assert result.isfinite().all()


@each
def test_memory_layout_does_not_matter(name, task):
    network = make_network(task, channels=3)
    images, labels = make_batch(task, network, channels=3)
    plain = perturb(ask(name, task), network, images, labels, rngs=make_rngs(3))
    transposed = images.transpose(2, 3).contiguous().transpose(2, 3)
    for same in (images.to(memory_format=torch.channels_last), transposed):
        result = perturb(ask(name, task), network, same, labels, rngs=make_rngs(3))
        assert ((result - plain).abs() > 1e-4).float().mean() <= 0.01


@each
def test_nothing_changes_where_support_is_empty(name, task):
    network = make_network(task)
    images, labels = make_batch(task, network)
    nowhere = torch.zeros_like(images[:, :1], dtype=torch.bool)
    result = perturb(ask(name, task), network, images, labels, support=nowhere, rngs=make_rngs(3))
    assert torch.equal(result, images)


@pytest.mark.parametrize("name", [n for n, entry in PERTURBATIONS.items() if entry.kind == "attack"])
def test_where_there_is_no_gradient_images_stay_where_the_attack_begins(name):
    task = PERTURBATIONS[name].tasks[0]
    network = make_network(task)
    with torch.no_grad():
        network.body[0].weight.zero_()
    images, labels = make_batch(task, network)
    wanted = ask(name, task)
    if "random_start" in wanted.parameters:
        wanted = replace(wanted, parameters={**wanted.parameters, "random_start": False})
    result = perturb(wanted, network, images, labels, rngs=make_rngs(3))
    assert torch.equal(result, images)


BAD_INPUTS = {
    "half": (lambda x, y: (x.half(), y), "images: must be float32, got torch.float16"),
    "range": (
        lambda x, y: (x * 255, y),
        r"images: must be finite and lie in \[0, 1\], got values from .* to 2",
    ),
    "nan": (lambda x, y: (x.where(x < 0.9, torch.nan), y), "images: must be finite"),
    "rank": (lambda x, y: (x[0], y), "images: must have the shape"),
    "empty": (lambda x, y: (x[:0], y[:0]), "nothing empty"),
    "float labels": (lambda x, y: (x, y.float()), "labels: must be int64"),
    "fewer labels": (lambda x, y: (x, y[:-1]), r"labels: must have the shape \(3,\)"),
    "negative label": (lambda x, y: (x, y - 9), "labels: must be class numbers from 0 on, got -"),
}


@each
@pytest.mark.parametrize("fault", BAD_INPUTS)
def test_wrong_input_says_what_to_do(name, task, fault):
    network = make_network(task)
    change, message = BAD_INPUTS[fault]
    images, labels = change(*make_batch(task, network))
    with pytest.raises(ValueError, match=message):
        call(name, task, network, images, labels)


@each
def test_wrong_support_says_what_to_do(name, task):
    network = make_network(task)
    images, labels = make_batch(task, network)
    for support in (images[:, :1], left_half(images)[:2], left_half(images)[:, 0]):
        with pytest.raises(
            ValueError, match=r"support: must be a bool tensor of shape \(3, 1, 14, 14\); got"
        ):
            call(name, task, network, images, labels, support=support)


@pytest.mark.parametrize("name", [n for n, entry in PERTURBATIONS.items() if entry.kind == "attack"])
def test_a_network_that_does_not_fit_is_refused(name):
    task = PERTURBATIONS[name].tasks[-1]
    network = make_network(task)
    images, labels = make_batch(task, network)
    with pytest.raises(ValueError, match=r"labels: the network has 4 classes, 0 to 3, got 9"):
        call(name, task, network, images, labels + 9 - labels.max())
    for broken, message in [
        (lambda x: network(x)[:, :1], "one logit"),
        (lambda x: network(x)[:1], "logits of shape"),
        (lambda x: network(x) * torch.nan, "not finite"),
    ]:
        with pytest.raises(ModelError, match=message):
            call(name, task, broken, images, labels)


def call(name, task, network, images, labels, support=None):
    """The function itself, with targets that fit whatever the images and labels are."""
    wanted = ask(name, task)
    entry = PERTURBATIONS[name]
    parameters = {
        key: value for key, value in wanted.parameters.items() if key in ("eps", "strength", "steps")
    }
    if entry.targets:
        parameters["targets"] = torch.zeros_like(labels)
    return entry.function(network, images, labels, support=support, rngs=make_rngs(3), **parameters)


@pytest.mark.parametrize(
    ("name", "task"), [(n, t) for n, e in PERTURBATIONS.items() if e.budget == "eps" for t in e.tasks]
)
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.1])
def test_budget_is_kept_and_used(name, task, eps):
    network = make_network(task)
    images, labels = make_batch(task, network)
    result = perturb(request({"name": name, "eps": eps}, task), network, images, labels, rngs=make_rngs(3))
    assert linf(images, result).tolist() == pytest.approx([eps] * 3, abs=1e-6)


@pytest.mark.parametrize("name", [n for n, entry in PERTURBATIONS.items() if entry.minimal])
def test_minimal_attacks_fool_images_and_keep_the_wrong_ones(name):
    task = Task.CLASSIFICATION
    network = make_network(task)
    images, labels = make_batch(task, network, n=8)
    labels[0] = (labels[0] + 1) % CLASSES
    tally = Tally()
    result = perturb(request({"name": name}, task), network, images, labels, rngs=make_rngs(8), tally=tally)
    fooled = (network(result).argmax(1) != labels).float().mean()
    # Entries that only get darker cannot change every prediction of a network that averages.
    assert fooled >= (0.5 if name == "saliency_map" else 1)
    assert torch.equal(result[0], images[0])
    assert tally.steps[0] == 0
    assert (tally.steps[1:] > 0).all()


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_entry_is_complete(name):
    entry = PERTURBATIONS[name]
    assert entry.summary.endswith(".")
    assert entry.source or entry.kind != "attack"
    assert entry.revision >= 1
    schema = parameters_of(name).model_json_schema()
    assert schema["additionalProperties"] is False
    assert entry.budget is None or entry.budget in schema["properties"]
    for preset in entry.presets.values():
        assert set(preset.parameters) <= set(schema["properties"])
        assert preset.source

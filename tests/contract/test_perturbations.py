"""What DESIGN asks of every perturbation, run on every entry of the catalogue and every preset."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.metrics.similarity import linf
from medrobust.perturbations import PERTURBATIONS, Tally, parameters_of, perturb, request
from perturbation_cases import CLASSES, ask, each, every, left_half, make_batch, make_network, make_rngs


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


@every
def test_modes_that_were_left_wrong_do_not_matter(name, task, preset):
    """Dropout and batch norm in training mode give what the network gives in evaluation mode."""
    network = make_network(task)
    images, labels = make_batch(task, network)
    wanted = ask(name, task, preset)
    expected = perturb(wanted, network, images, labels, rngs=make_rngs(3))
    assert torch.equal(perturb(wanted, network.train(), images, labels, rngs=make_rngs(3)), expected)


@each
def test_network_leaves_as_it_came_after_an_error(name, task):
    network = make_network(task).train()
    network.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("it is odd")))
    images, labels = make_batch(task, make_network(task))
    if PERTURBATIONS[name].kind == "attack":
        with pytest.raises(ModelError, match="RuntimeError: it is odd"):
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

"""Networks as people write and call them are attacked like the plain one, or refused in one sentence."""

import copy
import re
import warnings
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.perturbations import PERTURBATIONS
from perturbation_cases import (
    apply,
    ask,
    each_of_networks,
    every,
    left_half,
    make_batch,
    make_network,
    make_rngs,
    plain,
    trial,
)

N = 3
ATTACKS = [name for name, entry in PERTURBATIONS.items() if entry.role == "attack"]
BY_GRADIENT = [name for name in ATTACKS if PERTURBATIONS[name].needs == "gradient"]


def of_all_tasks(names):
    return pytest.mark.parametrize(
        ("name", "task"), [pytest.param(n, t, id=f"{n}-{t}") for n in names for t in PERTURBATIONS[n].tasks]
    )


attacks, attacks_by_gradient = of_all_tasks(ATTACKS), of_all_tasks(BY_GRADIENT)


class Wrapped(nn.Module):
    """A network with something done to its input and to its output."""

    def __init__(self, network, before=lambda x: x, after=lambda x, logits: logits):
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, images):
        return self.after(images, self.network(self.before(images)))


def output(change):
    return lambda network: Wrapped(network, after=lambda x, logits: change(logits))


def checkpointed(network):
    """Batch norm, which attacks compute in their own way, is computed once more on the way back."""
    norm = nn.BatchNorm2d(1, affine=False, eps=0).eval()
    return lambda images: checkpoint(lambda x: network(norm(x)), images, use_reentrant=False)


def script(network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that it is out of date
        return torch.jit.trace(network, torch.rand(2, 1, 14, 14), check_trace=False)


def by_hand(network):
    """A module without parameters of its own, called as a function."""
    return lambda images: network(images)


WRITTEN = {
    "dict": output(lambda logits: {"loss": None, "logits": logits}),
    "tuple": output(lambda logits: (logits, -logits)),
    "in place": lambda network: Wrapped(network, lambda x: x.sub_(0.5).div_(0.25).mul_(0.25).add_(0.5)),
    "function": by_hand,
    "compiled part": lambda network: Wrapped(torch.compile(network, backend="aot_eager")),
    "TorchScript": script,
    "checkpoint": checkpointed,
    "parallel": nn.DataParallel,
    "double": lambda network: copy.deepcopy(network).double(),
}


@attacks
@pytest.mark.parametrize("kind", WRITTEN)
def test_however_a_network_is_written_it_is_attacked_as_the_plain_one(name, task, kind):
    network = make_network(task)
    images, labels = make_batch(task, network)
    before = images.clone()
    made = apply(ask(name, task), WRITTEN[kind](network), images, labels, rngs=make_rngs(N))
    assert close(made, plain(name, task))
    assert torch.equal(images, before)


@every
def test_a_network_of_low_precision_takes_images_of_full_precision(name, task, preset):
    tried = trial(name, task, preset)
    network, images, labels = tried.network, tried.images, tried.labels
    result = apply(tried.asked, network.half(), images, labels, rngs=make_rngs(N))
    assert result.dtype == torch.float32
    assert whole(result)
    assert not torch.equal(result, images) or name == "clean"


def inference_images(images):
    with torch.inference_mode():
        return images.clone()


CALLED = {
    "no_grad": (torch.no_grad, torch.clone),
    "inference mode": (torch.inference_mode, torch.clone),
    "inference mode and images": (torch.inference_mode, inference_images),
    "inference images": (nullcontext, inference_images),
    "gradient wanted": (nullcontext, lambda images: images.clone().requires_grad_(True)),
}


@each_of_networks
@pytest.mark.parametrize("kind", CALLED)
def test_the_mode_of_the_caller_does_not_matter(name, task, kind):
    tried = trial(name, task)
    network, images, labels = tried.network, tried.images, tried.labels
    mode, made = CALLED[kind]
    with mode():
        seen = made(images), labels.clone(), left_half(images) | True
        result = apply(tried.request, network, *seen[:2], support=seen[2], rngs=make_rngs(N))
    assert torch.equal(result, plain(name, task))
    assert not result.requires_grad


def scaled(network, scale):
    return output(lambda logits: scale * logits)(network)


@attacks
@pytest.mark.parametrize(("some", "more"), [(2.0**-40, 2.0**-66), (2.0**40, 2.0**66)])
def test_the_scale_of_logits_does_not_matter_once_they_are_saturated(name, task, some, more):
    network = make_network(task)
    images, labels = make_batch(task, network)
    results = [
        apply(ask(name, task), scaled(network, scale), images, labels, rngs=make_rngs(N))
        for scale in (some, more)
    ]
    assert close(*results)
    assert (results[0] != images).flatten(1).any(1).all()


@pytest.mark.parametrize("scale", [1.0, 1e20])
@attacks
def test_one_logit_is_attacked_as_two(name, task, scale):
    network = make_network(task, classes=2)
    images, labels = make_batch(task, network)
    single = output(lambda logits: torch.stack([0 * logits[:, 0], scale * (logits[:, 1] - logits[:, 0])], 1))
    double = output(lambda logits: scale / 2 * (logits - logits.flip(1)))
    results = [
        apply(ask(name, task), made(network), images, labels, rngs=make_rngs(N)) for made in (single, double)
    ]
    assert close(*results)


def corner(place):
    """The logits hang on one entry, black, in a way that torch cannot differentiate."""
    return {
        "NaN": lambda x, logits: logits + (0 * place(x).sqrt()).sum(),
        "infinite": lambda x, logits: logits + logits.detach() * place(x).sqrt().sum(),
    }


PLACES = {"inside": lambda x: x[..., :1, :1], "outside": lambda x: x[..., :1, -1:]}


@attacks_by_gradient
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["NaN", "infinite"])
@pytest.mark.parametrize("norm", ["inf", "2"])
def test_an_entry_without_a_finite_gradient_is_one_entry_only(name, task, place, kind, norm):
    wanted = ask(name, task)
    if norm == "2" and "norm" not in wanted.parameters:
        return
    wanted = replace(wanted, parameters=wanted.parameters | ({"norm": norm} if norm == "2" else {}))
    network = make_network(task)
    images, labels = make_batch(task, network)
    PLACES[place](images).zero_()
    labels = network(images).argmax(1)
    rooted = Wrapped(network, after=corner(PLACES[place])[kind])
    support = left_half(images)
    result = apply(wanted, rooted, images, labels, support=support, rngs=make_rngs(N))
    assert whole(result)
    assert not ((result != images) & ~support).any()
    fewest_entries = wanted.perturbation.norm_of(wanted.parameters) == "0"
    assert (result != images).flatten(1).sum(1).min() > 1 or fewest_entries
    if place == "outside":
        expected = apply(wanted, network, images, labels, support=support, rngs=make_rngs(N))
        assert close(result, expected)


@of_all_tasks([name for name in BY_GRADIENT if name != "worst_case"])  # which ends with a search by scores
def test_without_any_finite_gradient_images_stay_where_the_attack_begins(name, task):
    network = make_network(task)
    images, labels = make_batch(task, network)
    wanted = ask(name, task)
    if "random_start" in wanted.parameters:
        wanted = replace(wanted, parameters=wanted.parameters | {"random_start": False})
    rooted = Wrapped(network, after=lambda x, logits: logits + (x - x).sqrt().sum())
    assert torch.equal(apply(wanted, rooted, images, labels, rngs=make_rngs(N)), images)


def detached(network):
    return output(torch.Tensor.detach)(network)


def raising(network):
    def raise_it(logits):
        raise KeyError("shape")

    return output(raise_it)(network)


def forgetful(network):
    weight = nn.Parameter(torch.zeros(1))
    return lambda images: network(images).detach() + weight


class NoWay(torch.autograd.Function):
    """A step of a network that nobody wrote the derivative of."""

    @staticmethod
    def forward(context, logits):
        return logits.clone()

    @staticmethod
    def backward(context, weights):
        raise NotImplementedError("no derivative")


WITHOUT_GRADIENT = {
    "detached": (detached, "look for torch.no_grad, .detach, NumPy"),
    "input left out": (forgetful, "look for torch.no_grad, .detach, NumPy"),
    "NumPy": (
        lambda network: Wrapped(network, lambda x: torch.from_numpy(x.numpy())),
        r"cannot be run on images of shape \(\d, 1, 14, 14\): RuntimeError: Can't call numpy",
    ),
    "derivative": (output(NoWay.apply), "cannot be differentiated: NotImplementedError: no derivative"),
}
REFUSED = {
    "raises": (raising, r"cannot be run on images of shape \(\d, 1, 14, 14\): KeyError"),
    "boxes": (output(lambda logits: [{"boxes": logits, "labels": logits}]), "The network detects objects"),
    "nothing": (output(lambda logits: None), "must return its logits as a tensor, got NoneType"),
    "several": (output(lambda logits: {"a": logits, "b": logits}), "a dict with the entries 'a', 'b'"),
    "not finite": (output(lambda logits: logits / 0), "returns non-finite logits"),
}


@attacks
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_attacked_is_refused_in_a_sentence(name, task, kind):
    refuse(name, task, *REFUSED[kind])


@attacks_by_gradient
@pytest.mark.parametrize("kind", WITHOUT_GRADIENT)
def test_what_cannot_be_differentiated_is_refused_in_a_sentence(name, task, kind):
    refuse(name, task, *WITHOUT_GRADIENT[kind])


def refuse(name, task, make, said):
    network = make_network(task)
    images, labels = make_batch(task, network)
    if PERTURBATIONS[name].targets:
        labels = (labels + 1) % 4
    with pytest.raises(ModelError, match=said) as raised:
        apply(ask(name, task), make(network), images, labels, rngs=make_rngs(N))
    assert re.fullmatch(r"[A-Z].*\.", str(raised.value))


def test_memory_that_runs_out_is_not_the_networks_fault():
    network = make_network(Task.CLASSIFICATION)
    images, labels = make_batch(Task.CLASSIFICATION, network)

    def full(images):
        raise torch.OutOfMemoryError("allocate less")

    with pytest.raises(torch.OutOfMemoryError, match="allocate less"):
        apply(ask("fgsm", Task.CLASSIFICATION), full, images, labels)


def close(result, expected):
    """But for entries whose gradient is about zero, which rounding may turn."""
    return ((result - expected).abs() > 1e-4).float().mean() <= 0.01


def whole(images):
    return images.isfinite().all() and images.min() >= 0 and images.max() <= 1

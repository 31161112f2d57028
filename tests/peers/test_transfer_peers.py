"""Parts that make attacks transfer are those of other libraries: the same draws give the same images.

In float64, on a smooth network: in float32 the sign of a slope that is about zero is rounding. All images get
the same draws, since libraries draw once for a whole batch. Skipped where a library is not installed; `make
bench-test` installs them all.
"""

import random
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from medrobust.perturbations import mi_fgsm
from medrobust.rng import generator
from peer_attacks import torchattack_transfer, torchattacks_transfer

pytestmark = pytest.mark.filterwarnings("ignore")

EPS, STEPS = 0.06, 4


@pytest.fixture(autouse=True)
def all_float64():
    """Libraries keep losses and budgets in torch's own precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def draws():
    return generator(0, "draws")


def subject(size=32, n=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(3, 6, 5, stride=3),
            nn.Tanh(),
            nn.Conv2d(6, 5, 5, stride=3),
            nn.AdaptiveAvgPool2d(2),
        ]
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(20, 4)).double()
    for weight in network.parameters():
        weight.data.mul_(3).requires_grad_(False)
    images = torch.from_numpy(generator(0, "images").random((n, 3, size, size)))
    return network, images, network(images).argmax(1)


def ours(network, images, labels, *, steps=STEPS, **options):
    rngs = [draws() for _ in images]
    # The attack itself: only what checks its arguments asks for float32.
    return mi_fgsm.__wrapped__(network, images, labels, eps=EPS, steps=steps, rngs=rngs, **options)


def same(made, expected):
    assert (made - expected).abs().max() <= 1e-6


def uniform_by(rng):
    """Stands for torch's: an image gets what the generator gives, and so do all others."""

    def uniform(self, low=0.0, high=1.0):
        shape = self.shape[1:] if self.ndim == 4 else self.shape
        return self.copy_(torch.from_numpy(rng.uniform(low, high, tuple(shape))).expand_as(self))

    return uniform


def needs(name):
    return pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")


@needs("torchattacks")
@pytest.mark.parametrize("part", ["mi", "ni", "si_ni", "ti"])
def test_parts_without_draws(part):
    transfer = {"mi": (), "ni": ["ni"], "si_ni": ["si", "ni"], "ti": ["ti"]}[part]
    network, images, labels = subject()
    if part == "ti":  # which can only be had with resized images, and has a kernel in float32
        import torchattacks

        attack = torchattacks.TIFGSM(network, EPS, EPS / STEPS, STEPS, decay=1.0, diversity_prob=0.0)
        attack.stacked_kernel = attack.stacked_kernel.double()
        expected = attack(images, labels)
    else:
        expected = torchattacks_transfer(part, network, images, labels, eps=EPS, steps=STEPS)
    same(ours(network, images, labels, transfer=transfer), expected)


@needs("torchattacks")
@pytest.mark.parametrize("part", ["vmi", "vni"])
def test_neighbours(monkeypatch, part):
    network, images, labels = subject()
    transfer = {"vmi": {"neighbours": 4}} | ({"ni": {}} if part == "vni" else {})
    made = ours(network, images, labels, transfer=transfer)
    monkeypatch.setattr(torch.Tensor, "uniform_", uniform_by(draws()))
    same(made, torchattacks_transfer(part, network, images, labels, eps=EPS, steps=STEPS, N=4))


@needs("torchattacks")
def test_resized_and_padded_images(monkeypatch):
    network, images, labels = subject()
    made = ours(network, images, labels, transfer={"di": {"rate": 0.9, "probability": 0.7}})
    rng, given, chances = draws(), [], []
    for _ in range(STEPS):
        chances.append(rng.random())
        given += [28, 0, 0]
        if chances[-1] < 0.7:
            given[-3] = int(rng.integers(28, 32))
            given[-2:] = [int(rng.integers(32 - given[-3] + 1)) for _ in range(2)]
    assert min(chances) < 0.7 < max(chances)
    monkeypatch.setattr(torch, "randint", lambda **_: torch.tensor([given.pop(0)]))
    monkeypatch.setattr(torch, "rand", lambda _: torch.tensor([chances.pop(0)]))
    options = {"resize_rate": 0.9, "diversity_prob": 0.7}
    same(made, torchattacks_transfer("di", network, images, labels, eps=EPS, steps=STEPS, **options))
    assert given == chances == []


@needs("torchattack")
def test_admix(monkeypatch):
    """The library mixes in images of the batch, as they are by then; it is given others."""
    import torchattack

    network, images, labels = subject()
    others = images.flip(-1)
    rng, copies = draws(), []
    for _ in range(STEPS):
        copies.append([int(rng.integers(len(others))) for _ in range(2)])

    def admix(self, seen):
        return torch.cat([seen + 0.2 * others[[place]] for place in copies.pop(0)])

    monkeypatch.setattr(torchattack.Admix, "admix", admix)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    expected = torchattack_transfer(
        "admix", network, images, labels, eps=EPS, steps=STEPS, size=2, num_classes=4
    )
    monkeypatch.undo()
    same(ours(network, images, labels, transfer={"admix": {"partners": 2}}, others=others), expected)


@needs("torchattack")
def test_spectra(monkeypatch):
    """The library knows images of 224 pixels only, and has no momentum."""
    network, images, labels = subject(224, 2)
    made = ours(network, images, labels, steps=2, decay=0.0, transfer={"ssm": {"copies": 2}})
    rng = draws()
    monkeypatch.setattr(
        torch, "randn", lambda *shape, device: torch.from_numpy(rng.standard_normal(shape[1:])).expand(shape)
    )
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.from_numpy(rng.random(x.shape[1:])).expand_as(x))
    options = {"eps": EPS, "steps": 2, "decay": 0.0, "num_spectrum": 2}
    same(made, torchattack_transfer("ssm", network, images, labels, **options))


@needs("torchattack")
def test_blocks(monkeypatch):
    network, images, labels = subject()
    made = ours(network, images, labels, transfer={"bsr": {"copies": 3}})
    rng = draws()

    def shuffle(items):
        items[:] = [items[place] for place in rng.permutation(len(items))]

    monkeypatch.setattr(random, "shuffle", shuffle)
    monkeypatch.setattr(np.random, "uniform", lambda _, size: rng.uniform(1, 2, size))
    monkeypatch.setattr(torch.Tensor, "uniform_", uniform_by(rng))
    same(made, torchattack_transfer("bsr", network, images, labels, eps=EPS, steps=STEPS, num_scale=3))

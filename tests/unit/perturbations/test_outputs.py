"""Which part of what a network returns are the logits, and whether it answers images one by one."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from medrobust.errors import ModelError
from medrobust.perturbations.outputs import depends_on_batch, main_output

LOGITS, OTHER = torch.ones(2, 3), torch.zeros(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, OTHER),
        [LOGITS, OTHER],
        ([LOGITS], OTHER),
        {"logits": LOGITS, "loss": OTHER},
        OrderedDict(out=LOGITS, aux=OTHER),
        {"anything": LOGITS},
        {"out": (LOGITS, OTHER)},
        SimpleNamespace(logits=LOGITS, loss=OTHER),
    ],
)
def test_logits_are_found(output):
    assert main_output(output) is LOGITS


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        ({"a": LOGITS, "b": OTHER}, r"a dict with the entries 'a', 'b'"),
        ({}, "with the entries none"),
        ((), "got tuple"),
        (None, "got NoneType"),
        (LOGITS.numpy(), "got ndarray"),
    ],
)
def test_what_could_be_anything_is_refused(output, seen):
    with pytest.raises(ModelError, match=seen):
        main_output(output)


def images(n=5):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network(*, norm):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


MIXING = {
    "batch norm": network(norm=nn.BatchNorm2d(8, track_running_stats=False)),
    "batch mean": lambda x: (x - x.mean(0)).mean((2, 3)),
    "batch norm of all entries": lambda x: (x / x.norm()).mean((2, 3)),
    "softmax over images": lambda x: x.mean((2, 3)).softmax(0),
    "deviation, NaN for one image": lambda x: (x / (x - x.mean(0)).norm(dim=0)).mean((2, 3)),
    "rows left out": lambda x: x.mean((2, 3))[:1],
    "a shift by one image": lambda x: x.roll(1, 0).mean((2, 3)),
}

SINGLE = {
    "batch norm": network(norm=nn.BatchNorm2d(8)),
    "instance norm": network(norm=nn.InstanceNorm2d(8)),
    "group norm": network(norm=nn.GroupNorm(2, 8)),
    "half precision": lambda x: network(norm=nn.GroupNorm(2, 8)).half()(x.half()),
    "a tuple": lambda x: (network(norm=nn.BatchNorm2d(8))(x), None),
    "one logit, squeezed": lambda x: x.mean((1, 2, 3)).squeeze(),
    "constant": lambda x: torch.zeros(len(x), 2),
    "NaN": lambda x: x.mean((2, 3)) / 0 - torch.inf,
    "class numbers": lambda x: x.mean((2, 3)).argmax(1),
    "in place": lambda x: x.sub_(0.5).mean((2, 3)),
    "random": lambda x: functional.dropout(x, 0.5).mean((2, 3)),
}


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_networks_that_mix_images_are_told(name, scale):
    assert depends_on_batch(lambda x: scale * MIXING[name](x), images()) > 0.01


@pytest.mark.parametrize("name", SINGLE)
def test_networks_that_do_not_are_not(name):
    seen = images()
    assert depends_on_batch(SINGLE[name], seen) == 0
    assert torch.equal(seen, images())


def test_the_difference_is_relative_to_the_largest_logit():
    def lonely(x):
        """Logits up to 8; alone they are one higher."""
        return torch.tensor([-8.0, 4.0]).expand(len(x), 2) + (len(x) == 1)

    assert depends_on_batch(lonely, images()) == pytest.approx(1 / 8)


def test_one_image_says_nothing():
    assert depends_on_batch(MIXING["batch norm"], images(1)) == 0


def test_what_the_network_raises_is_raised():
    with pytest.raises(ValueError, match="Expected more than 1 value"):
        depends_on_batch(lambda x: functional.batch_norm(x.mean((2, 3)), None, None, training=True), images())

"""APGD takes the steps of its published code, as other libraries hold it: the same images are seen.

In float64, on smooth networks and from the same start: in float32 the sign of a slope that is about zero is
rounding. Skipped where a library is not installed; `make bench-test` installs them all.
"""

import pytest
import torch
from torch import nn

from medrobust.perturbations.attacks.apgd import ascend, stages, towards
from medrobust.perturbations.attacks.pgd import climb
from medrobust.perturbations.geometry import Ball
from medrobust.perturbations.gradients import cosine_weights

pytestmark = pytest.mark.filterwarnings("ignore")

EPS = {"inf": 0.03, "2": 0.5, "1": 4.0}


@pytest.fixture(autouse=True)
def all_float64():
    """Libraries keep losses and budgets in torch's own precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Watched(nn.Module):
    """Writes down the images that a network is shown."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.network(images)


@pytest.fixture(scope="module")
def smooth():
    """A network of curved boundaries and images that it gets right."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5)
        )
        images = torch.rand(24, 2, 12, 12, dtype=torch.float64)
    for weight in network.parameters():
        weight.data.mul_(4)
    network = network.double().eval()
    return network, images, network(images).argmax(1)


def compare(ours, theirs):
    assert len(ours) == len(theirs)
    assert not torch.allclose(theirs[-1], theirs[0], atol=1e-3)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).abs().max() <= 1e-6


@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
@pytest.mark.parametrize("steps", [7, 100])
def test_every_iterate_is_that_of_torchattacks(smooth, norm, loss, steps):
    torchattacks = pytest.importorskip("torchattacks")
    network, images, labels = smooth
    theirs, ours = Watched(network), Watched(network)
    # Where the label's logit is the third largest, dlr is 1, its gradient rounding: no image gets so far.
    eps, name = (EPS[norm], "ce") if loss == "cross_entropy" else (EPS[norm] / 16, "dlr")
    attack = torchattacks.APGD(theirs, norm=f"L{norm}", eps=eps, steps=steps, loss=name)
    # The published code takes the loss before the first step for 0, which is a rise only from below.
    ratio = attack.dlr_loss
    attack.dlr_loss = lambda logits, labels: ratio(logits, labels) + 2
    attack(images, labels)
    seen = [each for each in theirs.seen if len(each) == len(images)][1:]  # after the clean images
    seen = seen[: steps + 1]
    ball = Ball(images, None, eps, norm)
    ascend(ours, seen[0], labels, ball, towards(loss), steps=steps, all_steps=True)
    compare(ours.seen, seen)


@pytest.mark.parametrize("steps", [20, 100])
def test_every_iterate_in_the_sum_of_magnitudes_is_that_of_adv_lib(smooth, steps):
    attacks = pytest.importorskip("adv_lib.attacks")
    network, images, labels = smooth
    theirs, ours = Watched(network), Watched(network)
    attacks.apgd(
        theirs, images, labels, EPS["1"], norm=1, n_iter=steps, loss_function="ce", use_large_reps=True
    )
    ball = Ball(images, None, EPS["1"], "1")
    stages(ours, theirs.seen[0], labels, ball, towards("cross_entropy"), steps=steps, all_steps=True)
    compare(ours.seen, theirs.seen)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_every_iterate_of_cospgd_is_that_of_its_authors_package(norm):
    functions = pytest.importorskip("cospgd").functions
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 5, 3, padding=1))
        images = torch.rand(4, 2, 12, 12)
    for weight in network.parameters():
        weight.data.mul_(4)
    labels = network(images).argmax(1)
    eps, step = (0.03, 0.01) if norm == "inf" else (0.5, 0.1)
    eps, step = torch.tensor(eps), torch.tensor(step)
    seen = [functions.init_linf(images, float(eps)) if norm == "inf" else functions.init_l2(images, eps)]
    move = functions.step_inf if norm == "inf" else functions.step_l2
    for _ in range(30):
        leaf = seen[-1].clone().requires_grad_()
        logits = network(leaf)
        loss = nn.functional.cross_entropy(logits, labels, reduction="none")
        loss = functions.cospgd_scale(logits, labels, loss, num_classes=5).mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        seen.append(move(seen[-1], eps, gradient, images, step, False))
    ours = Watched(network)
    ball = Ball(images, None, float(eps), norm)
    made = climb(
        ours, seen[0], labels, ball, lambda number, *of: cosine_weights(*of), step=float(step), steps=30
    )
    compare([*ours.seen, made], seen)

"""Adversarial training: closed forms on linear networks, what stays as it is, and exact resumption."""

import csv
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from made_data import squares
from medrobust.core import NetworkId, Role, Task, silent
from medrobust.metrics import dice
from medrobust.models import model_spec
from medrobust.perturbations import perturb, request, support_of
from medrobust.rng import generator
from medrobust.running.adversarial import adversarial_loss, divergence, statistics_kept, worst_images
from medrobust.running.regimes import make_loss
from medrobust.running.setup import fresh_network
from medrobust.running.train import train
from medrobust.storage import RunFolder
from medrobust.study.training import Adversarial, TrainingConfig

EPS = 0.02
PLAIN = make_loss(Task.CLASSIFICATION, torch.ones(2))


class Linear(nn.Module):
    """Two classes: the logit of the second is a weighted sum of the pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(1, 12, 12))

    def forward(self, images):
        score = (images * self.weight).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


def rngs(n):
    return [generator(0, "start", place) for place in range(n)]


def batch(n=6):
    torch.manual_seed(1)
    return 0.2 + 0.6 * torch.rand(n, 1, 12, 12), torch.arange(n) % 2


@pytest.mark.parametrize(
    ("method", "given"), [("pgd", {}), ("pgd", {"steps": 3}), ("fast", {"step": 3 * EPS})]
)
def test_a_linear_network_descends_its_loss_at_the_corner_of_the_ball(method, given):
    # Its worst image is known: every pixel by eps against the class, wherever the climb begins.
    images, labels = batch()
    network, how = Linear(), Adversarial(method=method, eps=EPS, **given)
    loss = adversarial_loss(network, network, images, labels, PLAIN, how, rngs(6))
    margin = (1 - 2 * labels) * (images * network.weight).flatten(1).sum(1) + EPS * network.weight.abs().sum()
    expected = F.softplus(margin).mean()
    torch.testing.assert_close(loss, expected)
    found, known = (torch.autograd.grad(each, network.weight)[0] for each in (loss, expected))
    torch.testing.assert_close(found, known, atol=1e-5, rtol=1e-4)


def test_trades_adds_the_divergence_at_the_farthest_corner():
    images, labels = batch()
    network, how = Linear(), Adversarial(method="trades", eps=EPS, beta=3.0)
    network.weight.data /= 10
    worst = worst_images(network, images, labels, PLAIN, how, rngs(6))
    clean, reach = network(images)[:, 1], EPS * network.weight.abs().sum()
    corners = torch.stack([(clean + reach), (clean - reach)])
    torch.testing.assert_close((network(worst)[:, 1] - clean).abs(), reach.expand(6))
    assert all((corners[:, place] - network(worst)[place, 1]).abs().min() < 1e-4 for place in range(6))
    loss = adversarial_loss(network, network, images, labels, PLAIN, how, rngs(6))
    p, q = clean.sigmoid(), network(worst)[:, 1].sigmoid()
    kl = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    torch.testing.assert_close(loss, PLAIN(network(images), labels) + 3 * kl)


def test_fast_takes_one_step_of_a_quarter_more_than_the_budget_from_a_random_start():
    images, labels = batch()
    network, how = Linear(), Adversarial(method="fast", eps="5/255")
    worst = worst_images(network, images, labels, PLAIN, how, rngs(6))
    start = torch.stack([torch.from_numpy(rng.uniform(-5 / 255, 5 / 255, (1, 12, 12))) for rng in rngs(6)])
    direction = ((1 - 2 * labels)[:, None, None, None] * network.weight.detach()).sign()
    expected = (start.float() + 1.25 * 5 / 255 * direction).clamp(-5 / 255, 5 / 255)
    torch.testing.assert_close(worst - images, expected, atol=1e-6, rtol=0)


def test_a_black_background_stays_and_other_pixels_stay_in_the_ball():
    images, labels = batch()
    images[:, :, :5] = 0
    for method in ("fast", "pgd", "trades"):
        worst = worst_images(Linear(), images, labels, PLAIN, Adversarial(method=method, eps=0.3), rngs(6))
        assert (worst[:, :, :5] == 0).all()
        assert (worst - images).abs().max() <= 0.3 + 1e-6
        assert 0 <= worst.min() < worst.max() <= 1


def test_unknown_pixels_have_no_divergence():
    clean, tried, labels = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4).long()
    labels[:, :2] = -1
    tried[:, :, 2:] = clean[:, :, 2:]
    assert divergence(clean, tried, labels) == pytest.approx(0, abs=1e-6)
    assert divergence(clean, tried, labels + 1) > 0.1


def test_a_climb_leaves_running_statistics_alone():
    network = nn.Sequential(nn.BatchNorm2d(1, momentum=None), Linear(), nn.BatchNorm1d(2)).train()
    before = deepcopy(network.state_dict())
    images, labels = batch()
    with statistics_kept(network):
        network(images)
    worst_images(network, images, labels, PLAIN, Adversarial(method="pgd", eps=EPS), rngs(6))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network(images)
    assert network[0].num_batches_tracked == 1


class Killed(BaseException):
    pass


def kill(done, note):
    if note.startswith("epoch 2/"):
        raise Killed


def trained(folder, progress=silent, **adversarial):
    """A U-Net that was trained on squares, and its card."""
    data, name = squares(), NetworkId("unet", Role.TARGET, 0)
    network = fresh_network(
        model_spec({"name": "unet", "preset": "tiny"}, data.task), data, network_id=name, seed=0
    )
    config = TrainingConfig(epochs=2, batch_size=8, adversarial=adversarial)
    common = {"network_id": name, "seed": 0, "folder": RunFolder(folder), "device": torch.device("cpu")}
    cases = (data.cases[6:], data.cases[:6])
    return network, train(network, data, *cases, config=config, progress=progress, **common)


def test_a_training_goes_on_after_a_kill_and_logs_both_attacks(tmp_path):
    _, straight = trained(tmp_path / "straight", method="fast", eps="4/255")
    with pytest.raises(Killed):
        trained(tmp_path / "killed", kill, method="fast", eps="4/255")
    for _ in ("goes on", "is found again"):
        _, again = trained(tmp_path / "killed", method="fast", eps="4/255")
        assert again == straight
    assert straight["identity"]["regime"]["adversarial"]["eps"] == pytest.approx(4 / 255)
    with (tmp_path / "straight" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["epoch", "loss", "score", "learning_rate", "one_step", "several_steps"]
    assert 0 <= float(rows[-1]["several_steps"]) <= float(rows[-1]["one_step"]) + 0.05


def test_the_scores_under_attack_are_those_of_the_network_that_is_used(tmp_path):
    # Few steps leave the running statistics of batch norm behind: the last epoch's network is another one.
    network, card = trained(tmp_path, method="fast", eps="4/255")
    validation = [squares().read(case) for case in squares().cases[:6]]
    images, labels = (torch.from_numpy(np.stack(part)) for part in zip(*validation, strict=True))
    found = {}
    for name, item in {"one_step": {"name": "fgsm"}, "several_steps": {"name": "pgd", "steps": 10}}.items():
        asked = request(item | {"eps": "4/255"}, Task.SEGMENTATION)
        attacked = perturb(asked, network, images, labels, support=support_of(images, "auto"))
        answers = network(attacked).argmax(1).flatten(1)
        found[name] = dice(labels.reshape(1, -1), answers.reshape(1, -1), classes=3)[0, 1:].mean()
    assert {name: card[name] for name in found} == pytest.approx(found, abs=0.01)
    assert abs(card["curve"][-1]["several_steps"] - found["several_steps"]) > 0.05

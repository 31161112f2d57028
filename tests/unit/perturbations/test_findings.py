"""Attacks on several findings at once, and on one of them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy

import medrobust as mr
from medrobust.core import UNKNOWN, Task
from medrobust.errors import ModelError, StudyError
from medrobust.perturbations import (
    Tally,
    aimed,
    deepfool,
    fgsm,
    mi_fgsm,
    perturb,
    perturbation,
    pgd,
    request,
    saliency_map,
    targets_of,
)
from medrobust.perturbations.contract import smooth_network
from medrobust.perturbations.gradients import cross_entropy_gradient, fraction_wrong, predict
from medrobust.perturbations.selftest import selftest

LABELS = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]])


@pytest.fixture
def network() -> torch.nn.Module:
    return smooth_network(Task.MULTILABEL, classes=3)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((4, 1, 12, 12), dtype=np.float32))


def loss_of(
    network: torch.nn.Module, images: torch.Tensor, finding: slice | int = slice(None)
) -> torch.Tensor:
    return bce(network.values(images)[:, finding], LABELS[:, finding].float(), reduction="none").detach()


def test_two_logits_are_a_sigmoid(network: torch.nn.Module, images: torch.Tensor) -> None:
    logits, values = network(images), network.values(images)
    assert logits.shape == (4, 2, 3)
    torch.testing.assert_close(logits.softmax(1)[:, 1], values.sigmoid())
    torch.testing.assert_close(cross_entropy(logits, LABELS), bce(values, LABELS.float()))
    assert torch.equal(logits.argmax(1), (values > 0).long())


def test_the_gradient_is_that_of_the_binary_cross_entropy(
    network: torch.nn.Module, images: torch.Tensor
) -> None:
    leaf = images.clone().requires_grad_(True)
    (wanted,) = torch.autograd.grad(bce(network.values(leaf), LABELS.float(), reduction="sum"), leaf)
    _, found = cross_entropy_gradient(network, images, LABELS)
    # Each image's gradient has a positive factor.
    torch.testing.assert_close(*(torch.nn.functional.normalize(g.flatten(1)) for g in (found, wanted)))
    step = fgsm(network, images, LABELS, eps=0.01) - images
    inside = (images > 0.01) & (images < 0.99)
    assert torch.equal(step.sign()[inside], wanted.sign()[inside])


@pytest.mark.parametrize("attack", [fgsm, pgd, mi_fgsm])
def test_attacks_raise_the_loss_and_turn_findings(attack, network, images) -> None:
    attacked = attack(network, images, LABELS, eps=0.2)
    assert (loss_of(network, attacked).mean(1) > loss_of(network, images).mean(1)).all()
    seen = network(images).argmax(1)
    turned = fraction_wrong(predict(network, attack(network, images, seen, eps=0.2)).argmax(1), seen)
    assert turned.mean() > 0.5


def test_a_label_that_is_not_known_counts_nothing(network: torch.nn.Module, images: torch.Tensor) -> None:
    some = LABELS.clone()
    some[:, 1] = UNKNOWN
    leaf = images.clone().requires_grad_(True)
    loss = bce(network.values(leaf)[:, [0, 2]], LABELS[:, [0, 2]].float(), reduction="sum")
    (wanted,) = torch.autograd.grad(loss, leaf)
    _, found = cross_entropy_gradient(network, images, some)
    torch.testing.assert_close(*(torch.nn.functional.normalize(g.flatten(1)) for g in (found, wanted)))
    assert fraction_wrong(1 - LABELS, some).tolist() == [1, 1, 1, 1]
    assert fraction_wrong(LABELS, torch.full_like(LABELS, UNKNOWN)).isnan().all()
    kept = pgd(network, images, torch.full_like(LABELS, UNKNOWN), eps=0.1, random_start=False)
    assert torch.equal(kept, images)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_one_finding_is_turned_whatever_becomes_of_the_others(loss, network, images) -> None:
    asked = request({"name": "pgd", "eps": 0.1, "steps": 5, "loss": loss, "finding": "b"}, Task.MULTILABEL)
    labels = aimed(asked, LABELS, ("a", "b", "c"))
    assert labels.tolist() == [[UNKNOWN, label, UNKNOWN] for label in LABELS[:, 1].tolist()]
    alone = perturb(asked, network, images, labels)
    everything = perturb(asked, network, images, LABELS)
    assert (loss_of(network, alone, 1) > loss_of(network, everything, 1)).all()
    numbered = request({"name": "pgd", "eps": 0.1, "finding": 1}, Task.MULTILABEL)
    assert torch.equal(aimed(numbered, LABELS, ("a", "b", "c")), labels)
    unaimed = request({"name": "pgd", "eps": 0.1, "steps": 5, "loss": loss}, Task.MULTILABEL)
    assert asked.recipe != unaimed.recipe
    assert asked.written["finding"] == "b"


NAMES = ("a", "b", "c")
ABOUT_B = request({"name": "deepfool", "finding": "b"}, Task.MULTILABEL)


@pytest.mark.parametrize("attack", [deepfool, saliency_map])
def test_one_boundary_is_that_of_a_classifier_of_one_finding(attack, network, images) -> None:
    seen = network(images).argmax(1)
    labels = aimed(ABOUT_B, seen, NAMES)
    labels[2] = UNKNOWN
    support = torch.ones_like(images, dtype=torch.bool)
    support[..., :2] = False
    tally, alone = Tally(), Tally()
    some = [0, 1, 3]
    wanted = attack(
        lambda shown: network(shown)[:, :, 1],
        images[some],
        seen[some, 1],
        support=support[some],
        tally=alone,
    )
    found = attack(network, images, labels, support=support, tally=tally)
    assert torch.equal(found[some], wanted)
    assert torch.equal(found[2], images[2])
    assert tally.steps.tolist() == [*alone.steps[:2].tolist(), 0, int(alone.steps[2])]
    assert alone.steps.min() > 0
    nothing = attack(network, images, torch.full_like(labels, UNKNOWN), tally=tally)
    assert torch.equal(nothing, images)
    assert tally.steps.tolist() == [0] * 4


def test_an_attack_of_ones_own_on_one_finding_takes_what_it_needs(network, images) -> None:
    @perturbation(tasks=(Task.CLASSIFICATION, Task.MULTILABEL), one_finding=True)
    def darker_where_present(model, images, labels, *, eps=0.1):
        return images - eps * (labels > 0).float().view(-1, 1, 1, 1)

    made = darker_where_present(network, images, aimed(ABOUT_B, LABELS, NAMES))
    assert (images - made).flatten(1).amax(1).tolist() == pytest.approx([0, 0, 0.1, 0.1])


def test_deepfool_finds_the_nearest_point_of_the_boundary_of_a_linear_finding(images) -> None:
    weights = torch.randn(3, 144, generator=torch.Generator().manual_seed(0))
    grey = 0.4 + 0.2 * images
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3))
    with torch.no_grad():
        plain[1].weight.copy_(weights)
        plain[1].bias.sub_(plain(grey).mean(0))
    logits = plain(grey)[:, 1].detach()
    attacked = mr.attack(plain, grey, (plain(grey) > 0).long(), "deepfool", finding=1)
    distances = logits.abs() / weights[1].norm()
    assert attacked.success.all()
    assert ((attacked.l2 / distances > 1) & (attacked.l2 / distances < 1.03)).all()


def test_what_is_refused(network: torch.nn.Module, images: torch.Tensor) -> None:
    with pytest.raises(StudyError, match=r"dag_a is not for multilabel; these are: .*deepfool, fab, fgsm"):
        request("dag_a", Task.MULTILABEL)
    with pytest.raises(StudyError, match=r"deepfool\.finding: deepfool leads an image over one boundary"):
        request("deepfool", Task.MULTILABEL)
    with pytest.raises(ValueError, match="labels: this attack turns one finding, but 3 are known"):
        deepfool(network, images, LABELS)
    with pytest.raises(ModelError, match=r"one logit per finding; .*findings=True"):
        deepfool(network.values, images, aimed(ABOUT_B, LABELS, NAMES))
    with pytest.raises(StudyError, match=r"pgd\.loss: 'dlr' needs at least 3 classes, and a finding"):
        request({"name": "pgd", "eps": 0.1, "loss": "dlr"}, Task.MULTILABEL)
    with pytest.raises(StudyError, match=r"finding: is for attacks on networks for several labels at once"):
        request({"name": "pgd", "eps": 0.1, "finding": "mass"}, Task.CLASSIFICATION)
    asked = request({"name": "pgd", "eps": 0.1, "finding": "mas"}, Task.MULTILABEL)
    with pytest.raises(StudyError, match=r"pgd\.finding: Unknown finding 'mas'. Did you mean 'mass'\?"):
        aimed(asked, LABELS, ("effusion", "mass", "nodule"))
    with pytest.raises(ModelError, match=r"one logit per finding; .*findings=True"):
        fgsm(network.values, images, LABELS, eps=0.1)
    with pytest.raises(ValueError, match=r"labels: must be class numbers from 0 on, or -1 where"):
        fgsm(network, images, LABELS - 2, eps=0.1)


def test_the_selftests_pass_on_a_sound_network(network: torch.nn.Module, images: torch.Tensor) -> None:
    asked = request({"name": "pgd", "eps": 0.1, "steps": 10}, Task.MULTILABEL)
    found = {check.name: check.passed for check in selftest(asked, network, images, LABELS)}
    assert False not in found.values()
    assert found["noise"]
    assert found["chance"]


def test_one_call_attacks_a_plain_module(network: torch.nn.Module, images: torch.Tensor) -> None:
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3))
    one = mr.attack(plain, images, LABELS, "pgd", eps=0.2, finding=2)
    before = (plain(images)[:, 2] > 0).long() != LABELS[:, 2]
    after = (plain(one.images)[:, 2] > 0).long() != LABELS[:, 2]
    assert torch.equal(one.success, after)
    assert after.sum() > before.sum()
    assert set(one.fooled.tolist()) <= {0.0, 1.0}
    every = mr.attack(plain, images, LABELS, "fgsm", eps=0.2)
    assert ((3 * every.fooled) % 1 == 0).all()


@pytest.mark.parametrize("name", ["fgsm", "pgd", "segpgd", "dag_a", "dag_b", "dag_c"])
def test_pixels_that_are_not_known_are_neither_attacked_nor_counted(name: str) -> None:
    network = smooth_network(Task.SEGMENTATION)
    images = torch.from_numpy(np.random.default_rng(1).random((3, 1, 12, 12), dtype=np.float32))
    labels = network(images).argmax(1)
    unknown = torch.zeros_like(labels, dtype=torch.bool)
    unknown[:, :, 6:] = True
    budget = {"step": 0.02, "steps": 3} if name.startswith("dag") else {"eps": 0.05}
    asked = request(
        {"name": name, **budget, **({"min_pixels": 1} if name == "dag_c" else {})}, Task.SEGMENTATION
    )
    some = torch.where(unknown, UNKNOWN, labels)
    targets = targets_of(asked, some, None)
    if targets is not None:
        assert torch.equal(targets[unknown], some[unknown])
    attacked = perturb(asked, network, images, some, targets=targets)
    # Two pixels beyond the last known one, the gradient of two 3 x 3 kernels ends.
    far = slice(8, None)
    moved = (attacked - images)[..., far].abs().max()
    assert moved == 0 if name in ("fgsm", "dag_a", "dag_b", "dag_c") else moved <= 0.05 + 1e-6
    assert fraction_wrong(torch.where(unknown, 1 - labels.clamp_max(1), labels), some).max() == 0

from typing import ClassVar

import pytest
import torch
from torch import nn

from medrobust.errors import ModelError
from medrobust.perturbations import Tally, dag, deepfool, fgsm, saliency_map
from medrobust.perturbations.attacks.deepfool import shorten
from medrobust.rng import generator


class Counting(nn.Module):
    """Counts the images that it is shown."""

    def __init__(self, classes=5):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, classes))
        self.images_seen = []

    def forward(self, images):
        self.images_seen.append(len(images))
        return self.body(images)


def batch(model, n=10):
    images = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = model(images).argmax(1)
    model.images_seen.clear()
    return images, labels


def test_finished_images_leave_the_batch():
    model = Counting()
    images, labels = batch(model)
    tally = Tally()
    deepfool(model, images, labels, tally=tally, overshoot=0.0, trials=0)
    # One look at all, then one after each step of each image.
    assert sum(model.images_seen) == 10 + int(tally.steps.sum())
    model.images_seen.clear()
    deepfool(model, images, labels, tally=tally, overshoot=0.2)
    # One look more at all that were fooled, and one at each trial.
    assert sum(model.images_seen) == 20 + int(tally.steps.sum())
    assert ((tally.steps > 1) & (tally.steps < 9)).all()
    model.images_seen.clear()
    saliency_map(model, images, labels, target="runner_up", tally=tally)
    assert tally.steps.min() < tally.steps.max()
    # One look at all, then a gradient for each step and one more to see that it was enough.
    assert sum(model.images_seen) == 10 + int(tally.steps.sum()) + 10
    model.images_seen.clear()
    fgsm(model, images, labels, preset="foolbox-0.8")
    assert sum(model.images_seen) < 10 * 1000


class Passing(torch.autograd.Function):
    """Changes nothing and counts the images that a gradient passes through."""

    seen: ClassVar[list[int]] = []

    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        Passing.seen.append(len(gradient))
        return gradient


def bent(offsets):
    """A network whose boundaries are bent, and whose logits are shifted by `offsets`."""
    network = Counting(len(offsets))

    def model(images):
        return 3 * torch.tanh(network(Passing.apply(images)) * 2) + torch.tensor(offsets)

    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return model, images, model(images).argmax(1)


def test_deepfool_takes_gradients_of_near_rivals_only():
    model, images, labels = bent([0.0, 0.0, 0.0, -90.0, -90.0, -90.0])
    tally = Tally()
    Passing.seen.clear()
    result = deepfool(model, images, labels, tally=tally, trials=0)
    taken = int(tally.steps.sum())
    assert taken > 12
    later = sum(Passing.seen) - 5 * 12  # the first step looks at all rivals
    # Then one gradient for each image that took the step before, fooled by it or not.
    assert taken - 12 <= later <= taken
    Passing.seen.clear()
    assert torch.allclose(deepfool(model, images, labels, near=None, trials=0), result, atol=1e-6)
    assert sum(Passing.seen) == 5 * (12 + later)


@pytest.mark.parametrize("norm", ["2", "inf"])
def test_deepfool_finds_the_same_without_the_far_rivals(norm):
    model, images, labels = bent([0.0] * 8)
    result = deepfool(model, images, labels, norm=norm)
    assert torch.allclose(deepfool(model, images, labels, norm=norm, near=None), result, atol=1e-6)


def test_fgsm_takes_one_pass():
    model = Counting()
    images, labels = batch(model)
    fgsm(model, images, labels, eps=0.1)
    assert model.images_seen == [10]


def test_dag_takes_one_pass_per_step_and_image():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Conv2d(1, 3, 3, padding=1)
    seen = []
    model.register_forward_hook(lambda _, inputs, output: seen.append(len(output)))
    images = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    labels = model(images).argmax(1)
    targets = labels.clone()
    targets[1:, 3, 3] = (labels[1:, 3, 3] + 1) % 3
    seen.clear()
    tally = Tally()
    dag(model, images, labels, targets=targets, tally=tally)
    assert tally.n_active.tolist() == [0, 1, 1, 1]
    assert tally.steps[0] == 0
    assert 0 < tally.steps[1:].min() < 200
    # A pass for each step, and one more to see that there is nothing left to do.
    assert sum(seen) == int(tally.steps.sum() + (tally.steps < 200).sum())


def test_random_target_classes_are_other_classes_with_equal_chances():
    from medrobust.perturbations.attacks.saliency_map import goal_classes

    labels = torch.arange(5).repeat(200)
    logits = torch.zeros(1000, 5)
    rngs = [generator(0, place) for place in range(1000)]
    drawn = goal_classes("random", nn.Identity(), torch.zeros(1000, 1, 1, 1), labels, logits, None, rngs)
    assert (drawn != labels).all()
    shares = torch.bincount((drawn - labels) % 5, minlength=5) / 1000
    assert (shares[1:] - 0.25).abs().max() < 0.05


def test_the_target_of_the_gradient_attack_is_the_first_wrong_class_on_its_line():
    from medrobust.perturbations.attacks.saliency_map import goal_classes

    model, first = Counting(), []
    with torch.no_grad():
        model.body[-1].weight *= 0.3
    images, labels = batch(model)
    leaf = images.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    found = goal_classes("gradient_attack", model, images, labels, model(images), None, [])
    for place in range(10):
        direction = gradient[place] / gradient[place].square().mean().sqrt()
        steps = torch.arange(1, 1001).view(-1, 1, 1, 1) / 1000
        shown = model((images[place] + steps * direction).clamp(0, 1)).argmax(1)
        wrong = (shown != labels[place]).nonzero()[:, 0]
        assert found[place] == shown[wrong[0]]
        first.append(int(wrong[0]))
    assert max(first) > 150  # Far enough along the line to tell its length.


@pytest.mark.parametrize("attack", [deepfool, saliency_map])
def test_attacks_on_one_class_refuse_label_maps(attack):
    model = Counting()
    images, _ = batch(model)
    with pytest.raises(
        ValueError, match=r"one class per image or one answer per finding, got labels of shape \(10, 8, 8\)"
    ):
        attack(model, images, torch.zeros(10, 8, 8, dtype=torch.int64))


def test_options_that_exclude_each_other_are_refused():
    model = Counting()
    images, labels = batch(model)
    with pytest.raises(ValueError, match=r"entries_per_step: must be 1 with saliency='pairs', .*; got 2"):
        saliency_map(model, images, labels, saliency="pairs", entries_per_step=2)
    with pytest.raises(ValueError, match="line_search: is for classification"):
        fgsm(model, images, torch.zeros(10, 8, 8, dtype=torch.int64), eps=0.1, line_search=3)


def test_wrong_targets_are_refused():
    model = nn.Conv2d(1, 3, 3, padding=1)
    images, labels = torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match="targets: must be int64"):
        dag(model, images, labels, targets=labels.float())
    with pytest.raises(ValueError, match="targets: must have the shape"):
        dag(model, images, labels, targets=labels[:1])
    with pytest.raises(ValueError, match="targets: need one class per pixel"):
        dag(model, images, labels, targets=labels[:, 0, 0])
    with pytest.raises(ValueError, match="labels: this attack needs one class per pixel"):
        dag(model, images, labels[:, 0, 0], targets=labels)
    with pytest.raises(ValueError, match="the network has 3 classes, 0 to 2, got 7"):
        dag(model, images, labels, targets=labels + 7)


def test_a_network_without_gradients_is_refused():
    model = Counting()
    images, labels = batch(model)
    with pytest.raises(ModelError, match="does not depend on its input, or cannot be differentiated"):
        fgsm(lambda x: model(x).detach(), images, labels, eps=0.1)


def test_a_network_in_training_mode_is_attacked_in_evaluation_mode():
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3))
    images = torch.rand(4, 1, 8, 8)
    labels = model.eval()(images).argmax(1)
    expected = fgsm(model, images, labels, eps=0.1)
    assert torch.equal(fgsm(model.train(), images, labels, eps=0.1), expected)
    assert model.training


def test_reduced_precision_of_the_network_works():
    model = Counting()
    images, labels = batch(model)
    for attack, options in [(fgsm, {"eps": 0.05}), (deepfool, {}), (saliency_map, {"steps": 5})]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = attack(model, images, labels, **options)
        assert result.dtype == torch.float32
        assert not torch.equal(result, images)


class Squeezed(nn.Module):
    """Drops every dimension of one, also that of the batch."""

    def __init__(self):
        super().__init__()
        self.body = Counting().body

    def forward(self, images):
        return self.body(images).squeeze()


@pytest.mark.parametrize("trials", [0, 8])
def test_deepfool_says_what_is_wrong_when_the_last_image_loses_its_batch(trials):
    model = Squeezed()
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % 5  # so that the second image goes on alone
    with pytest.raises(ModelError, match=r"must return logits of shape .* for labels of shape \(1,\)"):
        deepfool(model, images, labels, trials=trials)
    with pytest.raises(ModelError, match=r"must return logits of shape .* for labels of shape \(1,\)"):
        shorten(model, images[:1], None, images[1:], labels[:1], trials=2, norm="2")


def test_deepfool_attacks_a_network_with_one_steep_entry():
    """The gradient of a root is infinite at a black pixel."""
    model = Counting()
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    images[:, 0, 0, 0] = 0

    def rooted(x):
        return model(x.sqrt())

    labels = rooted(images).argmax(1)
    for preset in (None, "moosavi-2016"):
        result = deepfool(rooted, images, labels, preset=preset)
        assert result.isfinite().all()
        assert (rooted(result).argmax(1) != labels).all()


def test_pairs_attack_a_network_of_one_logit_as_one_of_two() -> None:
    weights = torch.randn(25, generator=torch.Generator().manual_seed(3))
    images = torch.rand(4, 1, 5, 5, generator=torch.Generator().manual_seed(4))

    def logit(shown: torch.Tensor) -> torch.Tensor:
        return shown.flatten(1) @ weights - 0.5 * weights.sum()

    def one(shown: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros(len(shown)), logit(shown)], 1)

    def two(shown: torch.Tensor) -> torch.Tensor:
        return torch.stack([-logit(shown), logit(shown)], 1)

    labels = one(images).argmax(1)
    attacked = saliency_map(one, images, labels, preset="papernot-2016")
    assert torch.equal(attacked, saliency_map(two, images, labels, preset="papernot-2016"))
    assert (attacked != images).flatten(1).any(1).all()

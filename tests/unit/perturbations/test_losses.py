"""Weights of the logits: gradients in float64, closed forms, and what each loss is blind to."""

from typing import get_args

import pytest
import torch
from torch.nn import functional

from medrobust.core import UNKNOWN
from medrobust.perturbations.gradients import (
    LOSSES,
    DenseLoss,
    cosine_weights,
    cross_entropy_weights,
    loss_of_each,
    margin,
    targeted_loss_of_each,
    targeted_weights,
)
from medrobust.rng import generator

LOGITS = torch.tensor([[2.0, 1.0, -1.0, 0.5], [0.0, 3.0, 2.5, -2.0]])
LABELS = torch.tensor([0, 0])


def cross_entropy(logits, labels):
    return functional.cross_entropy(logits, labels, reduction="none")


def rivalry(logits, labels):
    own = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits.masked_fill(~own, 0).sum(1)


def dlr(logits, labels):
    ordered = logits.sort(dim=1, descending=True).values
    return rivalry(logits, labels) / (ordered[:, 0] - ordered[:, 2])


def still_right(logits, labels):
    return (logits.argmax(1) == labels).double()


def by_class(labels):
    """One by the number of pixels of each pixel's class in its image."""
    counts = torch.stack([(image == image[..., None, None]).sum((-1, -2)) for image in labels])
    return 1 / counts.double()


def jensen_shannon(logits, labels):
    p, q = logits.softmax(1), functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits)
    m = (p + q) / 2
    return ((p * (p / m).log()).sum(1) - (q * m.log()).sum(1)) / 2


def minus_dice(logits, labels):
    p, q = logits.softmax(1), functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits)
    each = 2 * (p * q).sum((2, 3)) / (p + q).sum((2, 3))
    there = q.sum((2, 3)) > 0
    there[:, 0] &= ~there[:, 1:].any(1)
    return -(each * there).sum(1) / there.sum(1)


VALUES = {
    "cross_entropy": cross_entropy,
    "margin": rivalry,
    "dlr": dlr,
    "balanced_cross_entropy": lambda z, y: cross_entropy(z, y) * by_class(y),
    "masked_cross_entropy": lambda z, y: cross_entropy(z, y) * still_right(z, y),
    "masked_balanced_cross_entropy": lambda z, y: cross_entropy(z, y) * still_right(z, y) * by_class(y),
    "jensen_shannon": jensen_shannon,
    "dice": minus_dice,
}
# Where the label's logit is the third largest, dlr is 1 whatever the others are: what is left is rounding.
NOTHING = dict.fromkeys(VALUES, 0.0) | {"dlr": 1e-6}
DENSE = get_args(DenseLoss)
OF_LABELS = [loss for loss in LOSSES if loss not in DENSE]


def reference(loss, logits, labels):
    """torch's own gradient in float64, each image's divided by its largest magnitude; 0 where that is 0.

    None of these losses sees what all logits have in common: the weights of a label add up to 0.
    """
    leaf = logits.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(VALUES[loss](leaf, labels).sum(), leaf)
    gradient = gradient / gradient.abs().max()
    own = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).bool()
    others = gradient.masked_fill(own, 0)
    return scaled(torch.where(own, -others.sum(1, keepdim=True), others), NOTHING[loss])


def scaled(weights, nothing=0.0):
    largest = weights.flatten(1).abs().amax(1)
    largest = largest.masked_fill(largest <= nothing, torch.inf)
    return weights / largest.view(-1, *[1] * (weights.ndim - 1))


def drawn(space, classes, scale):
    draw = generator(0, "losses")
    logits = torch.from_numpy(draw.standard_normal((40, classes, *space))) * scale
    return logits.float(), torch.from_numpy(draw.integers(0, classes, (40, *space)))


@pytest.mark.parametrize("space", [(), (3, 2)])
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("scale", [1e-20, 1e-5, 1.0, 10.0, 80.0])
@pytest.mark.parametrize("loss", OF_LABELS)
def test_weights_are_the_direction_of_the_gradient(loss, classes, scale, space):
    if loss == "dlr" and classes < 3:
        return
    logits, labels = drawn(space, classes, scale)
    weights = LOSSES[loss](logits, labels)
    expected = reference(loss, logits, labels)
    assert (expected != 0).any()
    assert torch.allclose(scaled(weights, NOTHING[loss]).double(), expected, atol=1e-5, rtol=1e-3)
    assert loss == "dlr" or weights.abs().flatten(1).amax(1).min() > 0.2


@pytest.mark.parametrize("scale", [1e3, 1e20, 1e30])
def test_a_network_that_is_sure_pulls_towards_its_rival(scale):
    """The true weights are exp(-1000) and less, of which none is left even in float64."""
    weights = LOSSES["cross_entropy"](scale * LOGITS, LABELS)
    assert weights.tolist() == [[-1, 1, 0, 0], [-1, 1, 0, 0]]


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 17.0, 1e4, 1e20, 1e30])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_one_logit_is_two(loss, scale):
    """(0, z) and (-z / 2, z / 2) have equal probabilities, and so equal gradients with respect to z."""
    single, labels = drawn((), 2, scale)
    z = single[:, :1]
    weights = LOSSES[loss](torch.cat([torch.zeros_like(z), z], 1), labels)
    assert torch.equal(weights, LOSSES[loss](torch.cat([-z / 2, z / 2], 1), labels))
    assert weights.tolist() == [[1.0, -1.0] if label else [-1.0, 1.0] for label in labels.tolist()]


def test_sure_pixels_weigh_less_than_others_of_their_image():
    logits = torch.tensor([[[0.0, 20.0], [0.0, -20.0]], [[50.0, 60.0], [0.0, 0.0]]])
    weights = LOSSES["cross_entropy"](logits, torch.zeros(2, 2, dtype=torch.int64))
    assert weights[0, 1].tolist() == pytest.approx([1, 2 * 4.248354e-18], rel=1e-5)
    assert weights[1, 1].tolist() == pytest.approx([1, 4.539993e-5], rel=1e-4)
    assert torch.equal(weights[:, 0], -weights[:, 1])


def test_labels_that_do_not_count_leave_the_others_as_they_are():
    logits = torch.tensor([[[0.0, 200.0], [9.0, 0.0]]])
    labels = torch.zeros(1, 2, dtype=torch.int64)
    only_sure = cross_entropy_weights(logits, labels, torch.tensor([[0.0, 1.0]]))
    assert only_sure.tolist() == [[[0, -1], [0, 1]]]
    assert not cross_entropy_weights(logits, labels, torch.zeros(1, 2)).any()
    half = cross_entropy_weights(logits[..., :1].expand(1, 2, 2), labels, torch.tensor([[1.0, 0.5]]))
    assert half[0, 1].tolist() == pytest.approx([1, 0.5])


def test_margin_pulls_the_largest_rival_and_pushes_the_truth():
    weights = LOSSES["margin"](LOGITS, LABELS)
    assert weights.tolist() == [[-1, 1, 0, 0], [-1, 1, 0, 0]]
    assert margin(LOGITS, LABELS).tolist() == [-1, 3]


@pytest.mark.parametrize("scale", [1e-30, 1e-24, 1e-3, 1e3, 1e30])
def test_dlr_does_not_see_the_scale_of_the_logits(scale):
    expected = reference("dlr", LOGITS, LABELS).float()
    weights = LOSSES["dlr"](scale * LOGITS, LABELS)
    assert torch.allclose(scaled(weights, NOTHING["dlr"]), expected, atol=1e-5)


@pytest.mark.parametrize(
    "logits", [[0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 5.0, 1.0], [1e-30, 1e-30, 1e-30, -1e-30]]
)
@pytest.mark.parametrize("loss", OF_LABELS)
def test_ties_still_push_the_truth(loss, logits):
    weights = LOSSES[loss](torch.tensor([logits]), torch.tensor([0]))
    assert weights.isfinite().all()
    assert weights[0, 0] <= -0.5
    assert float(weights.sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", OF_LABELS)
def test_pixels_are_labels_like_any_other(loss):
    pixels = LOGITS.T[None, :, :, None]
    weights = LOSSES[loss](pixels, LABELS[None, :, None])
    assert weights.shape == pixels.shape
    assert torch.allclose(
        scaled(weights, NOTHING[loss]), reference(loss, pixels, LABELS[None, :, None]).float(), atol=1e-6
    )
    assert torch.allclose(weights.sum(1), torch.zeros(1, 2, 1), atol=1e-6)


def test_dlr_does_not_see_a_class_that_is_masked():
    weights = LOSSES["dlr"](functional.pad(LOGITS, (0, 1), value=-1e9), LABELS)
    expected = functional.pad(reference("dlr", LOGITS, LABELS).float(), (0, 1))
    assert torch.allclose(scaled(weights, NOTHING["dlr"]), expected, atol=1e-5)


def test_dlr_needs_three_classes():
    with pytest.raises(
        ValueError, match=r"loss: 'dlr' needs at least 3 classes, the network has 2; use 'margin'"
    ):
        LOSSES["dlr"](LOGITS[:, :2], LABELS)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 10.0])
@pytest.mark.parametrize("loss", DENSE)
def test_weights_of_label_maps_are_the_direction_of_the_gradient(loss, classes, scale):
    logits, labels = drawn((3, 2), classes, scale)
    logits, labels = logits.double(), labels % (1 + torch.arange(40) % classes).view(-1, 1, 1)
    weights = LOSSES[loss](logits, labels)
    leaf = logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(VALUES[loss](leaf, labels).sum(), leaf)
    assert (gradient != 0).any()
    assert torch.allclose(scaled(weights), scaled(gradient), atol=1e-9)
    padded = functional.pad(labels, (0, 1), value=UNKNOWN)
    more = LOSSES[loss](functional.pad(logits, (0, 1), value=7.0), padded)
    assert torch.allclose(scaled(more[..., :-1]), scaled(gradient), atol=1e-9)
    assert not more[..., -1].any()


@pytest.mark.parametrize("loss", DENSE)
def test_weights_of_label_maps_do_not_vanish_where_the_network_is_sure(loss):
    logits = torch.tensor([[[200.0, 300.0], [0.0, 0.0]], [[-400.0, -500.0], [0.0, 0.0]]])[..., None]
    labels = torch.tensor([[0, 1], [1, 0]])[..., None]
    labels = labels if loss != "dice" else torch.tensor([[0, 0], [1, 1]])[..., None]
    weights = LOSSES[loss](logits, labels)
    assert weights.isfinite().all()
    assert (weights[0].abs().amax() > 0.1) == (not loss.startswith("masked") or (labels[0] == 0).any())


def test_cosine_weights_pixels_by_the_cosine_of_their_probabilities_and_the_truth():
    logits, labels = drawn((3, 2), 4, 3.0)
    logits = logits.double()
    chances = logits.softmax(1)
    cosines = chances.gather(1, labels[:, None])[:, 0] / chances.norm(dim=1)
    leaf = logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((cross_entropy(leaf, labels) * cosines).sum(), leaf)
    assert torch.allclose(scaled(cosine_weights(logits, labels)), scaled(gradient), atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
def test_weights_towards_a_target_are_the_direction_of_their_gradient(classes):
    logits, labels = drawn((), classes, 2.0)
    logits, targets = logits.double(), (labels + 1) % classes
    leaf = logits.clone().requires_grad_(True)
    value = leaf.gather(1, targets[:, None])[:, 0] - leaf.gather(1, labels[:, None])[:, 0]
    if classes > 3:
        ordered = leaf.sort(dim=1, descending=True).values
        value = value / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert torch.allclose(scaled(targeted_weights(logits, labels, targets)), scaled(gradient), atol=1e-9)
    assert torch.allclose(targeted_loss_of_each(logits, labels, targets), value.detach(), atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_larger_loss_is_a_larger_number(loss):
    logits, labels = drawn((3, 2) if loss in DENSE else (), 4, 3.0)
    track = {"masked_cross_entropy": "cross_entropy", "jensen_shannon": "cross_entropy"}.get(loss, loss)
    track = "balanced_cross_entropy" if track == "masked_balanced_cross_entropy" else track
    labels = labels[:1].expand_as(labels)
    values = VALUES[track](logits.double(), labels).reshape(len(labels), -1).sum(1)
    order, expected = (  # dlr is 1 wherever the label comes third
        each.round(decimals=9).argsort(stable=True)
        for each in (loss_of_each(loss, logits.double(), labels), values)
    )
    assert torch.equal(order, expected)


def test_a_cross_entropy_that_is_zero_in_float32_still_falls():
    logits = torch.tensor([[150.0, 0.0, 0.0], [151.0, 0.0, 0.0]])
    labels = torch.zeros(2, dtype=torch.int64)
    assert not cross_entropy(logits, labels).any()
    first, second = loss_of_each("cross_entropy", logits, labels).tolist()
    assert first > second

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from made_data import squares, stripes
from medrobust.core import Case, Task
from medrobust.rng import generator
from medrobust.running.augment import moved
from medrobust.running.batches import batches, stack
from medrobust.running.regimes import class_weights, make_loss, soft_dice_loss
from medrobust.running.train import epoch_cases, refresh_batch_norm, score, validation_counts
from medrobust.study.training import Augmentation

CPU = torch.device("cpu")
STILL = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0, "flip": False}


def test_batches_hold_every_case_once_in_order():
    data = squares()
    found = list(batches(data, data.cases, 5, CPU))
    assert [case for batch in found for case in batch.cases] == list(data.cases)
    assert [len(batch.images) for batch in found] == [5, 5, 5, 5, 4]
    alone = stack(data, data.cases[7:8], CPU)
    assert torch.equal(found[1].images[2:3], alone.images)
    assert torch.equal(found[1].labels[2:3], alone.labels)
    assert (alone.images.dtype, alone.labels.dtype) == (torch.float32, torch.int64)


def test_photos_have_one_label_each():
    data = stripes()
    assert stack(data, data.cases[:3], CPU).labels.tolist() == [0, 1, 0]


def test_batches_of_nothing():
    assert list(batches(squares(), [], 3, CPU)) == []
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        batches(squares(), [], 0, CPU)


def test_errors_of_a_reader_reach_the_caller():
    data = squares()
    with pytest.raises(AttributeError):
        list(batches(data, [None], 1, CPU))


@given(
    scans=st.integers(1, 5),
    slices=st.integers(1, 9),
    limit=st.none() | st.integers(1, 6),
    at_once=st.integers(1, 8),
)
@settings(deadline=None)
def test_epoch_cases_are_whole_batches_of_few_slices(scans, slices, limit, at_once):
    cases = [Case(f"{s}-{i}", f"{s}", f"{s}") for s in range(scans) for i in range(slices)]
    kept = epoch_cases(cases, limit, at_once, generator(0))
    assert len(set(kept)) == len(kept) > 0
    possible = scans * min(limit or slices, slices)
    assert len(kept) == (possible // at_once * at_once or possible)
    assert all(sum(case.scan_id == f"{s}" for case in kept) <= (limit or slices) for s in range(scans))


def test_epochs_differ():
    cases = squares().cases
    assert epoch_cases(cases, 2, 1, generator(0, 1)) != epoch_cases(cases, 2, 1, generator(0, 2))


def test_no_movement_changes_nothing():
    images, labels = torch.rand(2, 3, 9, 7), torch.randint(0, 4, (2, 9, 7))
    same, same_labels = moved(images, labels, Augmentation(**STILL), generator(0))
    torch.testing.assert_close(same, images)
    assert torch.equal(same_labels, labels)


@pytest.mark.parametrize("space", [(24, 16), (10, 12, 14)])
def test_labels_move_with_the_image(space):
    labels = torch.zeros(4, *space, dtype=torch.int64)
    labels[:, 3:8, 4:9] = 1
    images, maps = moved(labels[:, None].float(), labels, Augmentation(rotation=30, shift=0.1), generator(1))
    assert set(maps.unique().tolist()) <= {0, 1}
    assert ((images[:, 0] > 0.5) == maps.bool()).float().mean() > 0.99
    assert not torch.equal(maps, labels)
    assert not torch.equal(maps[0], maps[1])


def test_a_rotation_keeps_lengths_in_oblong_images():
    """A disc stays a disc; in coordinates from -1 to 1 it would become an ellipse."""
    row, column = np.mgrid[:60, :30]
    disc = torch.from_numpy((row - 29.5) ** 2 + (column - 14.5) ** 2 < 100).long()[None]
    _, turned = moved(disc[:, None].float(), disc, Augmentation(**STILL | {"rotation": 90}), generator(3))
    assert (turned != disc).float().mean() < 0.02


def test_shift_is_a_share_of_the_side_and_fills_with_background():
    labels = torch.ones(64, 40, 20, dtype=torch.int64)
    _, maps = moved(labels[:, None].float(), labels, Augmentation(**STILL | {"shift": 0.25}), generator(0))
    missing = 1 - maps.float().amax(2).mean(1)
    assert 0.2 < missing.max() <= 0.25


def test_half_of_the_images_are_reflected_left_to_right():
    images = torch.rand(1, 1, 6, 8).expand(40, 1, 6, 8)
    flipped, _ = moved(images, torch.zeros(40).long(), Augmentation(**STILL | {"flip": True}), generator(0))
    reflected = [torch.allclose(image, images[0].flip(-1), atol=1e-5) for image in flipped]
    kept = [torch.allclose(image, images[0], atol=1e-5) for image in flipped]
    assert 10 < sum(reflected) < 30
    assert sum(reflected) + sum(kept) == 40


def test_photos_are_continued_by_reflection():
    images = torch.full((8, 1, 12, 12), 0.7)
    found, _ = moved(images, torch.zeros(8).long(), Augmentation(rotation=45), generator(0))
    torch.testing.assert_close(found, images)


def test_movements_depend_on_the_generator_only():
    images, labels = torch.rand(2, 1, 9, 7), torch.zeros(2).long()
    first, _ = moved(images, labels, Augmentation(), generator(0, "a"))
    again, _ = moved(images, labels, Augmentation(), generator(0, "a"))
    other, _ = moved(images, labels, Augmentation(), generator(0, "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_class_weights_of_photos():
    data = stripes(cases=6)
    cases = data.cases[:5]
    assert class_weights(data, cases).tolist() == pytest.approx([0.5 / 0.6, 0.5 / 0.4])


def test_class_weights_of_pixels():
    """Both squares have 36 of 360 pixels, background the other 288."""
    data = squares()
    assert class_weights(data, data.cases).tolist() == pytest.approx([36 / 288, 1, 1])


def test_a_structure_that_is_never_there_weighs_nothing():
    data = squares()
    more = type(data)(**{**vars(data), "classes": (*data.classes, "absent")})
    assert class_weights(more, data.cases)[3] == 0


def test_the_loss_of_photos_is_weighted_cross_entropy():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    weights = torch.tensor([1.0, 2.0, 0.5])
    terms = -logits.log_softmax(1)[range(6), labels] * weights[labels]
    expected = terms.sum() / weights[labels].sum()
    torch.testing.assert_close(make_loss(Task.CLASSIFICATION, weights)(logits, labels), expected)


def test_the_loss_of_slices_adds_dice_over_the_batch():
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    weights = torch.tensor([1.0, 2.0, 0.5])
    truth = F.one_hot(labels, 3).movedim(-1, 1).float()
    shown = logits.softmax(1)
    overlap = 2 * (truth * shown).sum((0, 2, 3)) / (truth.sum((0, 2, 3)) + shown.sum((0, 2, 3)))
    expected = F.cross_entropy(logits, labels, weight=weights) + (1 - overlap).mean()
    found = make_loss(Task.SEGMENTATION, weights)(logits, labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Shown(nn.Module):
    """Predicts what the images show: brightness 0, 0.5 and 1 are the classes 0, 1, 2."""

    def forward(self, images):
        return F.one_hot((images[:, 0] * 2).round().long(), 3).movedim(-1, 1).float()


def test_slices_of_a_scan_are_pooled_before_dice():
    data = squares(scans=2, slices=3)
    network = Shown().train()
    counts = validation_counts(network, data, data.cases, ["s0", "s1"], 2, CPU)
    assert network.training
    assert counts[..., 0].sum(1).tolist() == [3 * 360, 3 * 360]
    expected = []
    for scan in ("s0", "s1"):
        batch = stack(data, [case for case in data.cases if case.scan_id == scan], CPU)
        shown = network(batch.images).argmax(1)
        both = [((shown == k) & (batch.labels == k)).sum() for k in (1, 2)]
        sizes = [(shown == k).sum() + (batch.labels == k).sum() for k in (1, 2)]
        expected.append(float(sum(2 * b / s for b, s in zip(both, sizes, strict=True)) / 2))
    assert score(counts, ["p0", "p1"], Task.SEGMENTATION) == pytest.approx(np.mean(expected))


def test_absent_structures_do_not_count():
    counts = torch.tensor([[[9, 9, 9], [4, 4, 2], [0, 3, 0]]])
    assert score(counts, ["p0"], Task.SEGMENTATION) == 0.5


def test_balanced_accuracy_counts_classes_equally():
    counts = torch.zeros(4, 3, 3, dtype=torch.int64)
    counts[0, 0], counts[1, 1] = torch.tensor([8, 9, 8]), torch.tensor([2, 1, 1])
    assert score(counts, ["p0"] * 4, Task.CLASSIFICATION) == 0.75


def test_batch_norm_gets_the_mean_of_all_batches_and_dropout_stays_off():
    data = squares()
    network = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(1)).train()
    refresh_batch_norm(network, data, data.cases, 4, CPU)
    images = stack(data, data.cases, CPU).images
    assert float(network[1].running_mean) == pytest.approx(float(images.mean()), rel=1e-4)
    assert float(network[1].running_var) == pytest.approx(float(images.var()), rel=1e-2)
    assert network[1].momentum == 0.1
    assert network.training


def test_networks_without_batch_norm_are_left_alone():
    network = nn.Linear(2, 2).train()
    refresh_batch_norm(network, squares(), squares().cases, 4, CPU)
    assert network.training


@pytest.mark.parametrize("shape", [(3, 4, 6, 5), (2, 3, 4, 5, 3)])
def test_the_soft_dice_loss_is_monais(shape):
    from monai.losses.dice import DiceLoss

    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=rng).requires_grad_()
    labels = torch.randint(shape[1], (shape[0], *shape[2:]), generator=rng)
    expected = DiceLoss(to_onehot_y=True, softmax=True, batch=True)(logits, labels[:, None])
    ours = soft_dice_loss(logits, labels)
    torch.testing.assert_close(ours, expected)
    for one, other in zip(
        torch.autograd.grad(ours, logits), torch.autograd.grad(expected, logits), strict=True
    ):
        torch.testing.assert_close(one, other)

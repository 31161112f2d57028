"""Weights of the logits: closed forms, and what each loss is blind to."""

import pytest
import torch

from medrobust.perturbations.losses import LOSSES, ascent_weights, dlr

LOGITS = torch.tensor([[2.0, 1.0, -1.0, 0.5], [0.0, 3.0, 2.5, -2.0]])
LABELS = torch.tensor([0, 0])


def test_cross_entropy_pulls_by_the_probabilities():
    expected = LOGITS.softmax(1)
    expected[:, 0] -= 1
    assert torch.allclose(ascent_weights("cross_entropy", LOGITS, LABELS), expected)


def test_margin_pulls_the_largest_rival_and_pushes_the_truth():
    weights = ascent_weights("margin", LOGITS, LABELS)
    assert weights.tolist() == [[-1, 1, 0, 0], [-1, 1, 0, 0]]


def test_dlr_does_not_see_the_scale_of_the_logits():
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([-1 / 1.5, 3 / 3])
    assert torch.allclose(dlr(1000 * LOGITS, LABELS), dlr(LOGITS, LABELS))
    assert torch.allclose(
        ascent_weights("dlr", 1000 * LOGITS, LABELS) * 1000, ascent_weights("dlr", LOGITS, LABELS), atol=1e-5
    )
    # The cross-entropy of such logits has no gradient left that float32 could tell from 0.
    assert ascent_weights("cross_entropy", 1000 * LOGITS, LABELS)[0].abs().max() == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_pixels_are_labels_like_any_other(loss):
    pixels = LOGITS.T[None, :, :, None]
    weights = ascent_weights(loss, pixels, LABELS[None, :, None])
    assert weights.shape == pixels.shape
    assert torch.allclose(weights[0, :, :, 0].T, ascent_weights(loss, LOGITS, LABELS))
    assert torch.allclose(weights.sum(1), torch.zeros(1, 2, 1), atol=1e-6)


def test_dlr_needs_three_classes():
    with pytest.raises(
        ValueError, match=r"loss: 'dlr' needs at least 3 classes, the network has 2; use 'margin'"
    ):
        ascent_weights("dlr", LOGITS[:, :2], LABELS)

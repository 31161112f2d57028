import pytest
import torch

from medrobust.perturbations import support_of
from medrobust.perturbations.geometry import within


def brain(n=2, channels=1, size=20, stripped=True):
    images = torch.full((n, channels, size, size), 0.5)
    if stripped:
        images[:, :, :3] = 0
    images[:, :, 10:12, 10:12] = 0
    return images


def test_auto_is_the_filled_foreground_of_stripped_images_only():
    stripped, whole = brain(), brain(stripped=False)
    expected = torch.ones(2, 1, 20, 20, dtype=torch.bool)
    expected[:, :, :3] = False
    assert torch.equal(support_of(stripped), expected)
    assert support_of(whole).all()
    mixed = support_of(torch.cat([stripped[:1], whole[:1]]), "auto")
    assert torch.equal(mixed[0], expected[0])
    assert mixed[1].all()


@pytest.mark.parametrize(("zeros", "stripped"), [(19, False), (20, True)])
def test_five_percent_of_zeros_count_as_stripped(zeros, stripped):
    images = torch.full((1, 1, 20, 20), 0.5)
    images.view(-1)[:zeros] = 0
    assert bool(support_of(images).all()) != stripped


def test_image_and_foreground():
    assert support_of(brain(), "image").all()
    assert support_of(torch.zeros(1, 1, 5, 5), "image").all()
    assert not support_of(torch.zeros(1, 1, 5, 5), "foreground").any()
    few = torch.full((1, 1, 20, 20), 0.5)
    few[0, 0, 0, 0] = 0
    assert support_of(few, "foreground").sum() == 399


def test_a_pixel_is_zero_only_if_all_its_channels_are():
    images = torch.zeros(1, 3, 8, 8)
    images[:, 1, 2:6, 2:6] = 0.3
    assert support_of(images).sum() == 16


def test_volumes():
    images = torch.zeros(1, 1, 6, 7, 8)
    images[..., 1:5, 1:6, 1:7] = 1
    images[..., 3, 3, 3] = 0
    assert support_of(images).sum() == 4 * 5 * 6


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode: must be 'auto', 'image' or 'foreground', got 'brain'"):
        support_of(brain(), "brain")


def test_within_clips_and_keeps_what_is_outside():
    clean = torch.full((1, 1, 2, 2), 0.5)
    support = torch.tensor([[[[True, True], [False, False]]]])
    made = torch.tensor([[[[2.0, -1.0], [2.0, 0.1]]]])
    assert within(made, clean, support).flatten().tolist() == [1, 0, 0.5, 0.5]
    assert within(made, clean, None).flatten().tolist() == pytest.approx([1, 0, 1, 0.1])

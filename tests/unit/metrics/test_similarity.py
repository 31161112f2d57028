import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrobust.metrics.similarity import l0, l2, linf, mean_over, mse, ssim, ssim_map

sizes = st.integers(11, 20)


@given(
    height=sizes, width=sizes, channels=st.integers(1, 3), seed=st.integers(0, 2**31), level=st.floats(0, 1)
)
@settings(max_examples=30, deadline=None)
def test_ssim_of_an_image_with_itself_is_exactly_one(height, width, channels, seed, level):
    image = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed)) * level
    assert (ssim(image, image) == 1).all()
    assert (ssim_map(image, image) == 1).all()


@given(seed=st.integers(0, 2**31), noise=st.floats(0.001, 1))
@settings(max_examples=30, deadline=None)
def test_ssim_is_symmetric_bounded_and_below_one(seed, noise):
    draw = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 1, 16, 13, generator=draw)
    other = (image + noise * torch.randn(image.shape, generator=draw)).clamp(0, 1)
    values = ssim_map(image, other)
    assert torch.allclose(values, ssim_map(other, image), atol=1e-5)
    assert values.min() >= -1 - 1e-5
    assert values.max() <= 1 + 1e-6
    assert (ssim(image, other) < 1).all()


def test_images_of_a_batch_do_not_mix():
    draw = torch.Generator().manual_seed(0)
    images, others = torch.rand(3, 2, 12, 14, generator=draw), torch.rand(3, 2, 12, 14, generator=draw)
    for measure in (ssim, mse, l0, l2, linf):
        alone = torch.cat([measure(images[k : k + 1], others[k : k + 1]) for k in range(3)])
        assert torch.allclose(measure(images, others), alone, atol=1e-6), measure.__name__


def test_full_support_is_the_whole_image():
    draw = torch.Generator().manual_seed(0)
    images, others = torch.rand(3, 1, 15, 14, generator=draw), torch.rand(3, 1, 15, 14, generator=draw)
    everywhere = torch.ones_like(images, dtype=torch.bool)
    assert torch.allclose(ssim(images, others, everywhere), ssim(images, others), atol=1e-6)


def test_empty_support_is_undefined():
    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    support = torch.zeros(2, 1, 12, 12, dtype=torch.bool)
    support[1, 0, 6, 6] = True
    result = ssim(images, images, support)
    assert result[0].isnan()
    assert result[1] == 1


def test_border_takes_no_part():
    values = torch.ones(1, 1, 13, 13)
    values[..., 5:-5, 5:-5] = 0.5
    assert mean_over(values).item() == 0.5


def test_reduced_precision_around_it_changes_nothing():
    draw = torch.Generator().manual_seed(0)
    images, others = torch.rand(1, 1, 15, 14, generator=draw), torch.rand(1, 1, 15, 14, generator=draw)
    expected = ssim(images, others)
    with torch.autocast("cpu"):
        assert torch.equal(ssim(images, others), expected)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"others: must have the shape of images, \(1, 1, 12, 12\); got"):
        ssim(torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 12, 13))
    with pytest.raises(ValueError, match=r"at least 11 pixels along every axis, got \(10, 12\)"):
        ssim(torch.zeros(1, 1, 10, 12), torch.zeros(1, 1, 10, 12))

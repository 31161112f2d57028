"""SSIM against scikit-image, norms against NumPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from medrobust.metrics.similarity import l0, l2, linf, mean_over, mse, ssim, ssim_map

SHAPES = [(1, 11, 11), (3, 32, 41), (1, 64, 64), (1, 14, 12, 13), (2, 11, 15, 20)]


def reference(image, other):
    value, values = structural_similarity(
        image.astype(np.float64),
        other.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        win_size=11,
        data_range=1,
        channel_axis=0,
        full=True,
    )
    return value, values.mean(0)


def pair(shape, smooth, noise, dtype=np.float32):
    rng = np.random.default_rng(1)
    image = rng.random(shape)
    if (
        smooth
    ):  # Bright and hardly varying: local variances are lost in float32 unless they are taken with care.
        image = np.stack([gaussian_filter(channel, 4) for channel in image])
        image = 0.9 + 0.1 * (image - image.min()) / np.ptp(image)
    other = np.clip(image + noise * rng.standard_normal(shape), 0, 1)
    return image.astype(dtype), other.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise", [0.3, 0.03, 0.003, 1e-4])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_equals_scikit_image(shape, smooth, noise, dtype):
    image, other = pair(shape, smooth, noise, dtype)
    expected, expected_map = reference(image, other)
    tensors = torch.from_numpy(image)[None], torch.from_numpy(other)[None]
    assert ssim(*tensors).item() == pytest.approx(expected, abs=2e-7)
    assert np.abs(ssim_map(*tensors)[0, 0].numpy() - expected_map).max() < (
        1e-5 if dtype == np.float32 else 1e-12
    )


def test_mean_over_a_support_is_the_mean_of_the_inner_map():
    image, other = pair((3, 32, 41), False, 0.1)
    _, expected = reference(image, other)
    support = np.random.default_rng(2).random((32, 41)) < 0.3
    inner = (slice(5, -5), slice(5, -5))
    values = ssim_map(torch.from_numpy(image)[None], torch.from_numpy(other)[None])
    result = mean_over(values, torch.from_numpy(support)[None, None])
    assert result.item() == pytest.approx(expected[inner][support[inner]].mean(), abs=1e-6)


def test_norms_equal_numpy():
    image, other = pair((3, 9, 7), False, 0.1)
    other[0, :4] = image[0, :4]
    tensors = torch.from_numpy(image)[None], torch.from_numpy(other)[None]
    difference = (image.astype(np.float64) - other).ravel()
    assert mse(*tensors).item() == pytest.approx(np.mean(difference**2), rel=1e-5)
    assert l0(*tensors).item() == np.linalg.norm(difference, 0)
    assert l2(*tensors).item() == pytest.approx(np.linalg.norm(difference), rel=1e-5)
    assert linf(*tensors).item() == pytest.approx(np.linalg.norm(difference, np.inf), rel=1e-6)

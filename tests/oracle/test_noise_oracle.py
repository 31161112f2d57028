"""Noise against the moments of its distribution."""

import pytest
import scipy.stats
import torch

from medrobust.perturbations import gaussian, rician
from medrobust.rng import generator

LABEL = torch.zeros(1, dtype=torch.int64)


def noisy(noise, level, strength):
    images = torch.full((1, 1, 300, 300), level)
    return noise(None, images, LABEL, rngs=[generator(0, "oracle")], strength=strength).double()


@pytest.mark.parametrize("level", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("strength", [0.01, 0.05])
def test_rician_has_the_moments_of_rice(level, strength):
    values = noisy(rician, level, strength)
    expected = scipy.stats.rice(level / strength, scale=strength)
    error = expected.std() / 300
    assert values.mean().item() == pytest.approx(expected.mean(), abs=4 * error)
    assert values.std().item() == pytest.approx(expected.std(), rel=0.02)
    assert scipy.stats.kstest(values.flatten()[::30].numpy(), expected.cdf).pvalue > 0.001


@pytest.mark.parametrize("strength", [0.01, 0.1])
def test_gaussian_has_the_moments_of_the_normal_distribution(strength):
    values = noisy(gaussian, 0.5, strength)
    assert values.mean().item() == pytest.approx(0.5, abs=4 * strength / 300)
    assert values.std().item() == pytest.approx(strength, rel=0.02)
    assert (
        scipy.stats.kstest(values.flatten()[::30].numpy(), scipy.stats.norm(0.5, strength).cdf).pvalue > 0.001
    )

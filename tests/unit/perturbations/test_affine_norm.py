import pytest
import torch
from torch import nn
from torch.nn import functional

from medrobust.perturbations.gradients import AffineNorm, cross_entropy_gradient, linearise


@pytest.fixture
def norms(monkeypatch):
    """Counts torch's own batch norms."""
    calls = []
    own = torch.batch_norm
    monkeypatch.setattr(torch, "batch_norm", lambda *args: calls.append(1) or own(*args))
    return calls


def filled(norm, seed=0):
    """A batch norm that has seen something."""
    draw = torch.Generator().manual_seed(seed)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        if tensor is not None:
            with torch.no_grad():
                tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.1)
    return norm.eval()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("affine", [True, False])
def test_it_is_the_batch_norm_of_torch_in_value_and_gradient(norms, dimensions, affine):
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
    norm = filled(kind(4, affine=affine, eps=1e-3))
    images = torch.rand(2, 4, *[5] * dimensions, requires_grad=True)
    weights = torch.rand(2, 4, *[5] * dimensions)
    expected = norm(images)
    with AffineNorm():
        found = norm(images)
    assert len(norms) == 1
    assert torch.allclose(found, expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(found, images, weights)
    assert torch.allclose(gradient, torch.autograd.grad(expected, images, weights)[0], atol=1e-6)


def test_statistics_of_the_batch_are_left_to_torch(norms):
    images = torch.rand(8, 3, 4, 4)
    for norm in (nn.BatchNorm2d(3).train(), nn.BatchNorm2d(3, track_running_stats=False).eval()):
        expected = functional.batch_norm(images, None, None, norm.weight, norm.bias, True)
        norms.clear()
        with AffineNorm():
            assert torch.equal(norm(images), expected)
        assert len(norms) == 1


def test_reduced_precision_is_left_to_torch(norms):
    norm = filled(nn.BatchNorm2d(3))
    with AffineNorm():
        norm(torch.rand(1, 3, 4, 4).bfloat16())
    assert len(norms) == 1


def test_attacks_use_it_and_only_they_do(norms):
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), filled(nn.BatchNorm2d(3)), nn.Flatten(), nn.Linear(12, 2)
    ).eval()
    images, labels = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    logits, _ = linearise(network, images)
    cross_entropy_gradient(network, images, labels)
    assert not norms
    assert torch.allclose(network(images), logits, atol=1e-6)
    assert len(norms) == 1

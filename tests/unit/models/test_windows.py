"""Sliding windows against MONAI's, against the whole image, and against plain autograd."""

import gc
import weakref
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from medrobust.errors import ModelError
from medrobust.models import Network
from medrobust.models.windows import SlidingWindow, middle, padded, stitched
from medrobust.perturbations.gradients import linearise

LAYERS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def segmenter(space: int, kernel: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(space)
        body = nn.Sequential(
            LAYERS[space](1, 4, kernel, padding=kernel // 2),
            NORMS[space](4),
            nn.Tanh(),
            LAYERS[space](4, 3, kernel, padding=kernel // 2),
        )
        body[1].running_mean.uniform_(-1, 1)
        body[1].running_var.uniform_(0.5, 2)
    return body.eval()


def images_of(*shape: int) -> Tensor:
    return torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("shape", "size", "overlap"),
    [
        ((20, 31), (8, 8), 0.5),
        ((20, 31), (8, 16), 0.25),
        ((20, 31), (7, 32), 0.9),
        ((5, 31), (9, 8), 0.0),
        ((9, 9), (9, 9), 0.5),
        ((12, 9, 17), (8, 8, 8), 0.5),
        ((12, 3, 17), (8, 8, 6), 0.6),
    ],
)
def test_windows_are_those_of_monai(shape, size, overlap):
    infer = pytest.importorskip("monai.inferers").sliding_window_inference
    body, images = segmenter(len(shape)), images_of(*shape)
    network = Network(body, window={"size": size, "overlap": overlap})
    with torch.inference_mode():
        expected = infer(images, size, 2, body, overlap=overlap, mode="gaussian")
        torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "size"), [((20, 31), (8, 8)), ((33, 9), (7, 16)), ((12, 9, 17), (8, 8, 6))]
)
def test_windows_are_those_of_nnunet(shape, size):
    ours = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    places = ours.compute_steps_for_sliding_window
    body, images = segmenter(len(shape)), images_of(*shape)
    whole = padded(images, size)
    weights = ours.compute_gaussian(size, dtype=torch.float32, device=torch.device("cpu"))
    total, expected = torch.zeros(whole.shape[2:]), torch.zeros(2, 3, *whole.shape[2:])
    with torch.inference_mode():
        for corner in product(*places(whole.shape[2:], size, 0.5)):
            place = (..., *(slice(start, start + side) for start, side in zip(corner, size, strict=True)))
            expected[place] += weights * body(whole[place])
            total[place] += weights
        network = Network(body, window={"size": size, "like": "nnunet"})
        cropped = (expected / total)[middle(shape, whole.shape[2:])]
        torch.testing.assert_close(network(images), cropped, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("like", ["monai", "nnunet"])
@pytest.mark.parametrize(("shape", "size"), [((20, 31), (8, 8)), ((5, 31), (8, 6)), ((12, 9, 17), (7, 8, 6))])
def test_windows_run_backwards_where_the_networks_own_images_do(like, shape, size):
    """Neither the steps nor the padding nor nnU-Net's weights are the same from both ends."""
    body, images, there = segmenter(len(shape)), images_of(*shape), [2, len(shape) + 1]

    def mirrored(window):
        return body(window.flip(there)).flip(there)

    said = {"size": size, "overlap": 0.4, "like": like}
    backwards = SlidingWindow(**said, backwards=[axis - 2 for axis in there])
    with torch.inference_mode():
        expected = stitched(body, images.flip(there), SlidingWindow(**said)).flip(there)
        torch.testing.assert_close(stitched(mirrored, images, backwards), expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(stitched(mirrored, images, SlidingWindow(**said)), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(17, 23), (9, 12, 10)])
def test_the_gradient_is_that_of_the_whole_where_windows_hold_all_that_is_seen(shape):
    """A kernel of one pixel sees nothing of what a window cuts off."""
    body, images = segmenter(len(shape), kernel=1), images_of(*shape)
    weights = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    for model in (Network(body, window={"size": 8}), Network(body, window={"size": 8, "overlap": 0.0})):
        logits, pullback = linearise(model, images)
        whole, of_whole = linearise(body, images)
        torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(pullback(weights), of_whole(weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(17, 23), (5, 20), (9, 12, 10)])
def test_the_gradient_is_that_of_autograd_through_the_same_stitching(shape):
    body, images = segmenter(len(shape)).requires_grad_(False), images_of(*shape)
    first, second = (images.clone().requires_grad_() for _ in range(2))
    window, weights = SlidingWindow(size=8), torch.randn(2, 3, *shape)
    plain = stitched(body, first, window, recompute=False)
    again = stitched(body, second, window)
    torch.testing.assert_close(again, plain)
    for _ in range(2):  # a graph that is kept gives its gradient twice
        expected = torch.autograd.grad(plain, first, weights, retain_graph=True)
        found = torch.autograd.grad(again, second, weights, retain_graph=True)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_weights_is_that_of_autograd():
    body, images = segmenter(2), images_of(17, 23)
    network = Network(body, window={"size": 8})
    loss = network(images).square().mean()
    weights = list(body.parameters())
    found = torch.autograd.grad(loss, weights)
    plain = stitched(body, images, SlidingWindow(size=8), recompute=False).square().mean()
    for own, expected in zip(found, torch.autograd.grad(plain, weights), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-6)
    loss = network.train()(images).square().mean()
    loss.backward()
    assert all(weight.grad is not None for weight in weights)


def most_bytes_kept(length: int, recompute: bool) -> int:
    """Of the tensors that autograd keeps at a time, on the way there and back."""
    body = segmenter(3).requires_grad_(False)
    images = torch.rand(1, 1, 8, 8, length).requires_grad_()
    now = most = 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal now, most
            self.tensor = tensor
            size = tensor.nbytes if tensor.shape[0] == 1 and tensor.ndim == 5 else 0  # no weights
            now += size
            most = max(most, now)
            weakref.finalize(self, free, size)

    def free(size: int) -> None:
        nonlocal now
        now -= size

    window = SlidingWindow(size=8)
    with saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        maps = stitched(lambda part: body(part), images, window, recompute=recompute)
        (gradient,) = torch.autograd.grad(maps.sum(), images)
    assert gradient.any()
    del maps
    gc.collect()
    return most - images.nbytes


def test_activations_do_not_grow_with_the_image():
    """Besides the image itself, those of one window at a time."""
    one, eight = most_bytes_kept(16, recompute=True), most_bytes_kept(128, recompute=True)
    assert one > 0
    assert eight <= one
    assert most_bytes_kept(128, recompute=False) > 5 * eight


def test_networks_may_work_in_place_and_in_reduced_precision():
    body = segmenter(2).requires_grad_(False)
    plain = Network(body, window={"size": 8})
    in_place = Network(lambda images: body(images.sub_(0.5).add_(0.5)), window={"size": 8}).eval()
    images = images_of(20, 12)
    torch.testing.assert_close(in_place(images), plain(images))
    assert torch.equal(images, images_of(20, 12))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, pullback = linearise(plain, images)
    exact, of_exact = linearise(plain, images)
    torch.testing.assert_close(logits, exact, rtol=0.1, atol=0.05)
    reduced = pullback(torch.ones_like(logits))
    assert 0 < (reduced - of_exact(torch.ones_like(logits))).abs().max() < 0.1


def test_features_are_the_mean_of_those_of_windows():
    body, images = segmenter(2), images_of(16, 8)
    network = Network(body, window={"size": 8, "overlap": 0.0})
    parts = [Network(body).features(part) for part in images.split(8, 2)]
    torch.testing.assert_close(network.features(images), (parts[0] + parts[1]) / 2)


def test_maps_of_a_window_get_its_size():
    body = nn.Conv2d(1, 2, 3, stride=2, padding=1)
    assert Network(body, window={"size": 8})(images_of(20, 12)).shape == (2, 2, 20, 12)


def test_what_cannot_be_stitched_is_said():
    classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with pytest.raises(ModelError, match=r"input\.window: the network returns an output of shape \(2, 2\)"):
        Network(classifier, window={"size": 8})(images_of(20, 12))
    with pytest.raises(ModelError, match=r"input\.window\.size must have 2 sides"):
        Network(segmenter(2), window={"size": (8, 8, 8)})(images_of(20, 12))


def test_a_network_without_a_gradient_is_noticed():
    network = Network(lambda images: images.detach().expand(-1, 2, -1, -1) * 1, window={"size": 8}).eval()
    images = images_of(20, 12).requires_grad_()
    assert torch.autograd.grad(network(images).sum(), images, allow_unused=True) == (None,)

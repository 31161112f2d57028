"""Whether a network does what a study will ask of it, seen before anything is trained or attacked."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NoReturn, TypeVar

import torch
from torch import Tensor

from medrobust.core import Task
from medrobust.errors import ModelError, reason
from medrobust.models.network import Network
from medrobust.outputs import depends_on_batch, relative_difference

IMAGES = 3
"""An odd number, so that layers that take pairs are found."""

SAME = 1e-4
"""Largest difference of two passes, relative to the largest logit: GPUs add in no fixed order."""

SUM_OF_PROBABILITIES = 1e-4

MOST_NAMED = 3
"""Tensors that a message names."""

_PROBABILITIES = ("SigmoidBackward", "SoftmaxBackward")
_RESHAPES = (
    "View",
    "UnsafeView",
    "Permute",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Alias",
    "Slice",
    "Select",
    "Clone",
    "Clamp",
    "ToCopy",
    "T",
)

Result = TypeVar("Result")


def check_network(
    network: Network, name: str, *, task: Task, classes: int, channels: int, shape: tuple[int, ...]
) -> None:
    """See that a network gives differentiable logits of the right shape, each image's its own.

    It is shown a few made-up images of the real size, together, again, and one by one. Its weights, buffers
    and mode stay as they are, and so do the global generators.

    Args:
        network: In eval mode, in the layout and on the device that it will be used in.
        name: What the study calls it, for messages.
        task: The study's task.
        classes: Number of classes of the data.
        channels: Channels of the study's images.
        shape: Spatial shape of the study's images.

    Raises:
        ModelError: It fails; returns no logits, probabilities, another number of classes, maps for
            classification or none for segmentation, or values that are not finite; has no gradient with
            respect to the image; gives an image other logits in a second pass or beside other images; or
            changes its weights or buffers.
    """
    where, maps = f"models.{name}", len(shape) if task is Task.SEGMENTATION else 0
    images = made_up_images(IMAGES, channels, shape).to(network.mean.device)
    with kept_generators(images.device), _kept_state(network, where), _stirred(network):
        _check_output(network, images.clone().requires_grad_(), classes, maps, where)
        _check_passes(network, images, where)


def made_up_images(count: int, channels: int, shape: tuple[int, ...]) -> Tensor:
    """Noise of different brightness: where images of a batch are mixed, it shows."""
    noise = torch.rand((count, channels, *shape), generator=torch.Generator().manual_seed(0))
    return noise * torch.linspace(0.4, 1, count).view(-1, *[1] * (noise.ndim - 1))


def kept_generators(device: torch.device) -> AbstractContextManager[None]:
    """Leave torch's global generators as they are found."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def _kept_state(network: Network, where: str) -> Iterator[None]:
    """Put weights and buffers back, and refuse a network that changes them in evaluation mode."""
    body, changed = network.body, []

    def state() -> dict[str, Tensor]:
        return {**dict(body.named_parameters()), **dict(body.named_buffers())}

    before = {name: value.detach().clone() for name, value in state().items()}
    try:
        yield
    finally:
        for name, value in state().items():
            # What has another shape now is something that a network keeps to save time.
            former = before.get(name)
            if former is None or value.shape != former.shape:
                continue
            if ((value != former) & ~value.isnan()).any():
                changed.append(name)
                value.data.copy_(former)
    if changed:
        raise ModelError(
            f"{where} changes its {', '.join(changed[:MOST_NAMED])} in evaluation mode, so it is a "
            "different network after every batch. Let it change weights and buffers in training mode only."
        )


@contextmanager
def _stirred(network: Network) -> Iterator[None]:
    """Other weights in place of zeros, for a while.

    A last layer, or the end of a residual branch, that starts at zero hides all that goes on before it.
    """
    stirred = [weight for weight in network.parameters() if not weight.any()]
    with torch.no_grad():
        for weight in stirred:
            weight.normal_(0, 0.1)
        try:
            yield
        finally:
            for weight in stirred:
                weight.zero_()


def _check_output(network: Network, images: Tensor, classes: int, maps: int, where: str) -> None:
    """See that several images give logits, and that these have a gradient."""
    with torch.enable_grad():
        output = _tried(lambda: network.returned(images), images, where)
        _check_differentiable(output.grad_fn is not None, where)
        _refuse_activation(output, where)
        logits = _tried(lambda: network.raw(images), images, where)
        _check_shape(logits, output, classes, maps, where)
        _check_values(logits, where)
        (gradient,) = _tried(
            lambda: torch.autograd.grad(network(images).sum(), images, allow_unused=True), images, where
        )
        _check_differentiable(gradient is not None, where)


def _check_passes(network: Network, images: Tensor, where: str) -> None:
    """See that an image's logits are the same in every pass and in any company.

    TF32 would round batches of different sizes differently.
    """
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        first, second = (_tried(lambda: network(images.clone()), images, where) for _ in range(2))
        _tried(lambda: network(images[:1].clone()), images[:1], where)
        mixed = _tried(lambda: depends_on_batch(network, images), images, where)
    difference = relative_difference(first, second)
    if difference > SAME:
        raise ModelError(
            f"{where} returns different logits for the same images (they differ by {100 * difference:.3g} % "
            "of the largest): something in it is random in evaluation mode too, such as dropout with "
            "training=True, added noise or a random crop. Scores would depend on chance and on the size of "
            "batches. Remove the randomness from evaluation mode."
        )
    if mixed > 0:
        raise ModelError(
            f"{where} returns different logits for an image alone and in a batch (they differ by "
            f"{100 * mixed:.3g} % of the largest): something in it mixes the images of a batch, such as "
            "batch norm without running statistics (track_running_stats=False), or a normalisation or "
            "attention along the batch axis. Scores would depend on the size of batches. Process each "
            "image independently in evaluation mode."
        )


def _tried(work: Callable[[], Result], images: Tensor, where: str) -> Result:
    try:
        return work()
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    # Whatever the network raises says that it cannot take these images.
    except Exception as error:
        batch = "a single image" if len(images) == 1 else f"{len(images)} images"
        raise ModelError(
            f"{where} cannot take {batch} of {images.shape[1]} channels and size {tuple(images.shape[2:])}: "
            f"{reason(error)}. Batches hold one image or any number of them; a network that is made for "
            "images of another size or with other channels needs input.size and input.channels."
        ) from error


def _check_differentiable(differentiable: bool, where: str) -> None:
    if not differentiable:
        raise ModelError(
            f"{where} has no gradient with respect to the image, so it cannot be attacked. Remove no_grad, "
            "inference_mode, detach, NumPy, argmax and the like from its forward pass."
        )


def _refuse_activation(output: Tensor, where: str) -> None:
    """Refuse what a sigmoid or softmax gives, also where it was reshaped or clamped afterwards."""
    node = output.grad_fn
    while node and node.next_functions and node.name().startswith(_RESHAPES) and node.next_functions[0][0]:
        node = node.next_functions[0][0]
    if node and node.name().startswith(_PROBABILITIES):
        _refuse_probabilities(node.name().partition("Backward")[0].lower(), where)


def _refuse_probabilities(seen: str, where: str) -> NoReturn:
    raise ModelError(
        f"{where} returns probabilities ({seen}), but attacks need logits, and networks that give several "
        "labels at once are not supported: a case has one class. Return the input of the last activation."
    )


def _check_shape(logits: Tensor, output: Tensor, classes: int, maps: int, where: str) -> None:
    if logits.ndim != 2 + maps:
        expected = "(n, classes)" + (" and the image's size" if maps else "")
        raise ModelError(
            f"{where} must return logits of shape {expected}, got {tuple(output.shape)} for {IMAGES} images."
        )
    if logits.shape[1] != classes and not (logits.shape[1] == 1 and classes == 2):
        raise ModelError(
            f"{where} returns {logits.shape[1]} classes, but the data have {classes}. "
            "Use a network for these classes."
        )


def _check_values(logits: Tensor, where: str) -> None:
    if not logits.isfinite().all():
        raise ModelError(
            f"{where} returns non-finite values for made-up images in [0, 1]. Look for NaN in its weights, "
            "and for a division, root or logarithm at 0, an overflow, or a class masked with -inf (-1e4 "
            "does the same) in its forward pass."
        )
    sums = logits.sum(1)
    if logits.shape[1] > 1 and logits.min() >= 0 and (sums - 1).abs().max() <= SUM_OF_PROBABILITIES:
        _refuse_probabilities("never negative, with the sum 1", where)

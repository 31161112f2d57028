"""Whether a network does what a study needs, checked before anything is trained or attacked."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from medrobust.core import Task
from medrobust.errors import ModelError, reason
from medrobust.models.build import build
from medrobust.models.network import Network
from medrobust.models.spec import model_spec
from medrobust.perturbations.outputs import SAME, depends_on_batch, relative_difference

IMAGES = 3
"""An odd number, so that layers that take pairs are noticed."""

SUM_OF_PROBABILITIES = 1e-4

TRIED = [(3, (64, 64)), (1, (64, 64)), (3, (32, 32)), (3, (224, 224)), (1, (32, 32, 32))]
"""Channels and sizes of images that a network of unknown purpose is tried on."""

_ACTIVATIONS = ("SigmoidBackward", "SoftmaxBackward")
_RESHAPES = ("View", "UnsafeView", "Permute", "Transpose", "TBackward", "Squeeze", "Unsqueeze", "Alias")
_PARTS_AND_COPIES = ("Slice", "Select", "Clone", "Clamp", "ToCopy")


def check_network(
    network: Network, name: str, *, task: Task, classes: int, channels: int, shape: tuple[int, ...]
) -> None:
    """Check that a network returns differentiable logits of the right shape, for each image its own.

    It is shown a few made-up images of the real size, together, again, and one by one. Its weights, buffers
    and mode stay as they are, and so do the global generators.

    Args:
        network: In evaluation mode, in the layout and on the device that it will be used in.
        name: What the study calls it, for messages.
        task: The study's task.
        classes: Number of classes of the data.
        channels: Channels of the study's images.
        shape: Spatial shape of the study's images.

    Raises:
        ModelError: It fails; returns no logits, probabilities, another number of classes, maps for
            classification or none for segmentation, or values that are not finite; has no gradient with
            respect to the image; returns other logits for an image in a second pass or beside other images;
            or changes its weights or buffers.
    """
    images = made_up_images(IMAGES, channels, shape).to(network.mean.device)
    try:
        with kept_generators(images.device), _kept_state(network), _stirred(network):
            _check_logits(network, images.clone().requires_grad_(), task, classes)
            _check_passes(network, images)
    except ModelError as error:
        raise ModelError(f"models.{name}: {error}") from error.__cause__


def check_builder(load: str) -> tuple[str, ...]:
    """What is wrong with a function that makes a network, where the study is not known yet.

    Args:
        load: `package.module:function`, as in a study.

    Returns:
        A message; none if its networks can be judged and attacked.

    Raises:
        StudyError: It cannot be imported.
    """
    spec, wrong = model_spec({"name": "network", "load": load}, Task.CLASSIFICATION), ""
    for channels, shape in TRIED:
        try:
            network, other = (build(spec, classes=3, channels=channels, shape=shape) for _ in range(2))
            images = made_up_images(IMAGES, channels, shape)
            with torch.no_grad(), _telling_why(images):
                logits = network.raw(images)
        except ModelError as error:
            wrong = wrong or str(error)  # it may be made for other images
            continue
        if {*map(id, network.parameters())} & {*map(id, other.parameters())}:
            return ("It returns the same weights in every call. Let it make a new network each time.",)
        task = Task.CLASSIFICATION if logits.ndim == 2 else Task.SEGMENTATION
        try:
            check_network(
                network, "network", task=task, classes=logits.shape[1], channels=channels, shape=shape
            )
        except ModelError as error:
            wrong = str(error)
            break
        return ()
    return (wrong.removeprefix("models.network: ").removeprefix("models.network."),)


def made_up_images(count: int, channels: int, shape: tuple[int, ...]) -> Tensor:
    """Noise of different brightness, which shows where images of a batch are mixed."""
    noise = torch.rand((count, channels, *shape), generator=torch.Generator().manual_seed(0))
    return noise * torch.linspace(0.4, 1, count).view(-1, *[1] * (noise.ndim - 1))


def kept_generators(device: torch.device) -> AbstractContextManager[None]:
    """Leave torch's global generators as they are found."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def _kept_state(network: Network) -> Iterator[None]:
    """Restore weights and buffers, and refuse a network that changes them in evaluation mode."""
    body, changed = network.body, []

    def state() -> dict[str, Tensor]:
        return {**dict(body.named_parameters()), **dict(body.named_buffers())}

    before = {name: value.detach().clone() for name, value in state().items()}
    try:
        yield
    finally:
        for name, value in state().items():
            former = before.get(name)
            # What changes its shape is a cache.
            if former is None or value.shape != former.shape:
                continue
            if ((value != former) & ~value.isnan()).any():
                changed.append(name)
                value.data.copy_(former)
    if changed:
        raise ModelError(
            f"It changes its {', '.join(changed[:3])} in evaluation mode, so it is a different "
            "network after every batch. Let it change weights and buffers in training mode only."
        )


@contextmanager
def _stirred(network: Network) -> Iterator[None]:
    """Replace weights that are all zero, for a while.

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


@contextmanager
def _telling_why(images: Tensor) -> Iterator[None]:
    """Turn whatever a network raises into the message that it cannot take these images."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        batch = "a single image" if len(images) == 1 else f"{len(images)} images"
        raise ModelError(
            f"It cannot take {batch} with {images.shape[1]} channels and size {tuple(images.shape[2:])}: "
            f"{reason(error)}. Batches hold one image or any number of them; a network that is made for "
            "images of another size or with other channels needs input.size and input.channels."
        ) from error


def _check_logits(network: Network, images: Tensor, task: Task, classes: int) -> None:
    """Check that a batch yields logits for the task, and that these have a gradient."""
    with torch.enable_grad(), _telling_why(images):
        output = network.returned(images)
        if output.grad_fn is None:
            raise ModelError(NO_GRADIENT)
        _refuse_activation(output)
        logits = network.raw(images)
        _check_values(logits, output, images.ndim if task is Task.SEGMENTATION else 2, classes)
        (gradient,) = torch.autograd.grad(network(images).sum(), images, allow_unused=True)
        if gradient is None:
            raise ModelError(NO_GRADIENT)


NO_GRADIENT = (
    "It has no gradient with respect to the image, so it cannot be attacked. Remove no_grad, inference_mode, "
    "detach, NumPy, argmax and the like from its forward pass."
)


def _refuse_activation(output: Tensor) -> None:
    """Refuse the output of a sigmoid or softmax, even if it was reshaped or clamped afterwards."""
    node = output.grad_fn
    kept = _RESHAPES + _PARTS_AND_COPIES
    while node and node.next_functions and node.name().startswith(kept) and node.next_functions[0][0]:
        node = node.next_functions[0][0]
    if node and node.name().startswith(_ACTIVATIONS):
        raise _probabilities(node.name().partition("Backward")[0].lower())


def _probabilities(seen: str) -> ModelError:
    return ModelError(
        f"It returns probabilities ({seen}), but attacks need logits. Return the input of the last "
        "activation. (Several labels at once are not supported: a case has one class.)"
    )


def _check_values(logits: Tensor, output: Tensor, axes: int, classes: int) -> None:
    """Check that logits have the right shape, are finite, and are not probabilities."""
    if logits.ndim != axes:
        expected = "(n, classes)" + (" and the image's size" if axes > 2 else "")
        raise ModelError(
            f"It must return logits of shape {expected}, got {tuple(output.shape)} for {IMAGES} images."
        )
    if logits.shape[1] != classes and not (logits.shape[1] == 1 and classes == 2):
        raise ModelError(
            f"It returns {logits.shape[1]} classes, but the data have {classes}. "
            "Use a network for these classes."
        )
    if not logits.isfinite().all():
        raise ModelError(
            "It returns non-finite values for made-up images in [0, 1]. Look for NaN in its weights, and for "
            "a division, root or logarithm at 0, an overflow, or a class masked with -inf (-1e4 does the "
            "same) in its forward pass."
        )
    sums = logits.sum(1)
    if logits.shape[1] > 1 and logits.min() >= 0 and (sums - 1).abs().max() <= SUM_OF_PROBABILITIES:
        raise _probabilities("never negative, with the sum 1")


def _check_passes(network: Network, images: Tensor) -> None:
    """Check that an image's logits are the same in every pass and in any company.

    TF32 would round batches of different sizes differently.
    """
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        with _telling_why(images):
            first, second = (network(images.clone()) for _ in range(2))
        with _telling_why(images[:1]):
            network(images[:1].clone())
        with _telling_why(images):
            mixed = depends_on_batch(network, images)
    difference = relative_difference(first, second)
    if difference > SAME:
        raise ModelError(
            f"It returns different logits for the same images (they differ by {100 * difference:.3g} % of "
            "the largest): something in it is random in evaluation mode too, such as dropout with "
            "training=True, added noise or a random crop. Scores would depend on chance and on the size of "
            "batches. Remove the randomness from evaluation mode."
        )
    if mixed > 0:
        raise ModelError(
            "It returns different logits for an image alone and in a batch (they differ by "
            f"{100 * mixed:.3g} % of the largest): something in it mixes the images of a batch, such as "
            "batch norm without running statistics (track_running_stats=False), or a normalisation or "
            "attention along the batch axis. Scores would depend on the size of batches. Process each image "
            "independently in evaluation mode."
        )

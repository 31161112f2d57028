"""One pass of two dummy images through a network tells early whether it fits the study."""

import torch
from torch import Tensor

from medrobust.core import Task
from medrobust.errors import ModelError, reason
from medrobust.models.network import Network

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
    "Clone",
    "T",
)


def check_output(network: Network, name: str, *, task: Task, channels: int, shape: tuple[int, ...]) -> None:
    """See that a network returns differentiable logits of the right shape.

    Args:
        network: In eval mode.
        name: What the study calls it, for messages.
        task: The study's task.
        channels: Channels of the study's images.
        shape: Spatial shape of the study's images.

    Raises:
        ModelError: It fails, or returns several outputs, probabilities, another number of classes, maps for
            classification or none for segmentation, or has no gradient with respect to the image.
    """
    where = f"models.{name}"
    images = (
        torch.linspace(0, 1, 2 * channels * torch.Size(shape).numel())
        .view(2, channels, *shape)
        .requires_grad_()
    )
    output = _run(network, images, where)
    if not isinstance(output, Tensor):
        raise ModelError(
            f"{where} must return one tensor of logits, got {type(output).__name__}. "
            "In eval mode, return its main output only."
        )
    _check_kind(output, where)
    single = output.unsqueeze(1) if output.ndim == 1 else output
    _check_shape(single, network.classes, len(shape) if task is Task.SEGMENTATION else 0, where)


def _run(network: Network, images: Tensor, where: str) -> object:
    try:
        with torch.enable_grad():
            return network.body(network.prepared(images))
    # Whatever the network raises says that it cannot take these images.
    except Exception as error:
        raise ModelError(
            f"{where} cannot take images of {images.shape[1]} channels and size {tuple(images.shape[2:])}: "
            f"{reason(error)}. Set input.channels and input.size."
        ) from error


def _check_kind(output: Tensor, where: str) -> None:
    node = output.grad_fn
    if node is None:
        raise ModelError(
            f"{where} has no gradient with respect to the image, so it cannot be attacked. "
            "Take no_grad out of it."
        )
    while node.next_functions and node.name().startswith(_RESHAPES) and node.next_functions[0][0]:
        node = node.next_functions[0][0]
    if node.name().startswith(_PROBABILITIES):
        raise ModelError(
            f"{where} returns probabilities ({node.name().partition('Backward')[0].lower()}), but attacks "
            "need logits, and networks that give several labels at once are not supported: a case has "
            "one class. Return what goes into the last activation."
        )


def _check_shape(logits: Tensor, classes: int, maps: int, where: str) -> None:
    if logits.ndim != 2 + maps or len(logits) != 2:
        expected = "(n, classes)" + (" and the image's size" if maps else "")
        raise ModelError(
            f"{where} must return logits of shape {expected}, got {tuple(logits.shape)} for 2 images."
        )
    if logits.shape[1] != classes and not (logits.shape[1] == 1 and classes == 2):
        raise ModelError(
            f"{where} returns {logits.shape[1]} classes, but the data have {classes}. "
            "Use a network for these classes."
        )

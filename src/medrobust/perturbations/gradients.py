"""Gradients with respect to the input; the network leaves as it came."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from medrobust.errors import ModelError
from medrobust.perturbations.affine_norm import AffineNorm
from medrobust.perturbations.checks import check_logits

Model = Callable[[Tensor], Tensor]
"""Gives logits `n k` or `n k *space` for images `n c *space` in [0, 1]; usually a module."""


@runtime_checkable
class Pullback(Protocol):
    """Turns weights of the logits into the gradient of their weighted sum with respect to the images."""

    def __call__(self, weights: Tensor, *, keep: bool = False) -> Tensor:
        """The gradient; `keep` if another call follows."""
        ...


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Put a module into evaluation mode, and its parameters out of the graph, while it is under attack.

    Dropout would make the attack chase a moving target, batch norm would learn from it, and activations would
    be kept for gradients of weights that nobody asks for. A module that `models.prepare` made ready is not
    touched.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    training = [module for module in modules if module.training]
    free = [
        weight for module in modules for weight in module.parameters(recurse=False) if weight.requires_grad
    ]
    for module in training:
        module.training = False
    for weight in free:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for weight in free:
            weight.requires_grad_(True)


def predict(model: Model, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *outspace"]:
    """Logits, without a graph."""
    with torch.no_grad():
        return model(images).float()


def linearise(
    model: Model, images: Float[Tensor, "n c *space"]
) -> tuple[Float[Tensor, "n k *outspace"], Pullback]:
    """One forward pass, and the way back from its output to its input.

    Returns:
        Logits, and a function that gives sum_j w_j d logit_j / d image of every image for weights w of the
        logits' shape. Images do not interact in evaluation mode, so no image's gradient depends on the
        others. Only the last call may go without `keep=True`, which keeps the graph for another one.

    Raises:
        ModelError: The output does not depend on the input in a way that can be differentiated.
    """
    leaf = images.detach().requires_grad_(True)
    with torch.enable_grad(), AffineNorm():
        logits = model(leaf).float()
    if not logits.requires_grad:
        raise ModelError(
            "The network's output cannot be differentiated with respect to its input; remove torch.no_grad, "
            ".detach or NumPy from its forward."
        )

    def pullback(weights: Tensor, *, keep: bool = False) -> Tensor:
        (gradient,) = torch.autograd.grad(logits, leaf, weights, retain_graph=keep)
        return gradient

    return logits.detach(), pullback


def one_hot(
    classes: Int64[Tensor, "n *outspace"], logits: Float[Tensor, "n k *outspace"]
) -> Float[Tensor, "n k *outspace"]:
    """1 at each class, 0 elsewhere, in the shape of the logits: the weights that single out a logit."""
    return torch.zeros_like(logits).scatter_(1, classes[:, None], 1)


def cross_entropy_gradient(
    model: Model, images: Float[Tensor, "n c *space"], labels: Int64[Tensor, "n *labelspace"]
) -> tuple[Float[Tensor, "n k *labelspace"], Float[Tensor, "n c *space"]]:
    """Logits, and the gradient of every image's cross-entropy, summed over pixels in segmentation.

    Raises:
        ModelError: The network's output cannot be attacked.
        ValueError: A label that the network has no class for.
    """
    logits, pullback = linearise(model, images)
    check_logits(logits, labels)
    return logits, pullback(logits.softmax(1) - one_hot(labels, logits))

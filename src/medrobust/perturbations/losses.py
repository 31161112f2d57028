"""Losses that untargeted attacks raise, given as the weights of the logits in their gradient."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

Loss = Literal["cross_entropy", "margin", "dlr"]

DLR_CLASSES = 3
"""The difference of logits ratio divides by the gap to the third largest logit."""


def ascent_weights(
    loss: Loss, logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n k *labelspace"]:
    """Gradient of a loss, summed over labels, with respect to the logits.

    Args:
        loss: Its name.
        logits: Of the network under attack.
        labels: True classes.

    Raises:
        ValueError: The loss needs more classes than there are.
    """
    if loss == "dlr" and logits.shape[1] < DLR_CLASSES:
        raise ValueError(
            f"loss: 'dlr' needs at least {DLR_CLASSES} classes, the network has {logits.shape[1]}; use "
            "'margin'."
        )
    leaf = logits.detach().requires_grad_(True)
    with torch.enable_grad():
        total = LOSSES[loss](leaf, labels).sum()
    (weights,) = torch.autograd.grad(total, leaf)
    return weights


def cross_entropy(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n *labelspace"]:
    """Cross-entropy of every label."""
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n *labelspace"]:
    """Largest wrong logit minus the right one; above 0 where the prediction is wrong.

    Source: Carlini, Wagner 2017, "Towards evaluating the robustness of neural networks".
    """
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return (others.amax(1, keepdim=True) - own)[:, 0]


def dlr(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n *labelspace"]:
    """The margin over the gap between the largest and the third largest logit: the scale drops out.

    Source: Croce, Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks".
    """
    largest = logits.topk(DLR_CLASSES, dim=1).values
    return margin(logits, labels) / (largest[:, 0] - largest[:, -1] + torch.finfo(logits.dtype).eps)


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
}

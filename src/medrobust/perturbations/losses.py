"""Losses that untargeted attacks raise, given as the weights of the logits in their gradient.

The weights of an image, in segmentation those of all its pixels, share one positive factor, chosen so that
the largest is about 1: an attack asks which way to go and not how steep it is, and the true weights of a
network that is sure, exp(-100) or less, are 0 in float32.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from medrobust.perturbations.norms import per_image

Loss = Literal["cross_entropy", "margin", "dlr"]

DLR_CLASSES = 3
"""The difference of logits ratio divides by the gap to the third largest logit."""


def ascent_weights(
    loss: Loss, logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n k *labelspace"]:
    """Gradient of a loss, summed over the labels of each image, with respect to the logits.

    Args:
        loss: Its name.
        logits: Of the network under attack, finite.
        labels: True classes.

    Returns:
        That gradient but for a positive factor for each image.

    Raises:
        ValueError: The loss needs more classes than there are.
    """
    if loss == "dlr" and logits.shape[1] < DLR_CLASSES:
        raise ValueError(
            f"loss: 'dlr' needs at least {DLR_CLASSES} classes, the network has {logits.shape[1]}; use "
            "'margin'."
        )
    return LOSSES[loss](logits, labels)


def cross_entropy_weights(
    logits: Float[Tensor, "n k *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    shares: Float[Tensor, "n *labelspace"] | None = None,
) -> Float[Tensor, "n k *labelspace"]:
    """Of the cross-entropy: the probabilities of the other classes, and minus their sum for the label.

    Args:
        logits: Of the network under attack.
        labels: True classes.
        shares: How much each label counts, at least 0; None: all count the same.
    """
    logs = logits.log_softmax(1)
    if shares is not None:
        logs = logs + shares.log()[:, None]
    logs = logs.scatter(1, labels[:, None], -torch.inf)
    # Where no label counts, all are -inf, and so all weights 0.
    largest = logs.flatten(1).amax(1).clamp_min(torch.finfo(logs.dtype).min)
    others = (logs - per_image(largest, logs)).exp()
    return others.scatter(1, labels[:, None], -others.sum(1, keepdim=True))


def margin_weights(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n k *labelspace"]:
    """Of the `margin`: 1 for the largest wrong logit, the first of equal ones, and -1 for the right one."""
    return one_hot(_rivals(logits, labels), logits) - one_hot(labels, logits)


def dlr_weights(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n k *labelspace"]:
    """Of the margin over the gap between the largest and the third largest logit: the scale drops out.

    A gap is at least what float32 resolves in logits of the size of these three.

    Source: Croce, Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks".
    """
    largest, ranked = logits.topk(DLR_CLASSES, dim=1)
    spread = one_hot(ranked[:, 0], logits) - one_hot(ranked[:, -1], logits)
    kinds = torch.finfo(logits.dtype)
    resolved = kinds.eps * largest.abs().amax(1, keepdim=True)
    gaps = (largest[:, :1] - largest[:, -1:] + resolved).clamp_min(kinds.tiny)
    weights = margin_weights(logits, labels) - margin(logits, labels)[:, None] / gaps * spread
    return weights * (per_image(gaps.flatten(1).amin(1), gaps) / gaps)


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy_weights,
    "margin": margin_weights,
    "dlr": dlr_weights,
}


def margin(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n *labelspace"]:
    """Largest wrong logit minus the right one; above 0 where the prediction is wrong.

    Source: Carlini, Wagner 2017, "Towards evaluating the robustness of neural networks".
    """
    chosen = torch.stack([_rivals(logits, labels), labels], 1)
    values = logits.gather(1, chosen)
    return values[:, 0] - values[:, 1]


def one_hot(
    classes: Int64[Tensor, "n *labelspace"], logits: Float[Tensor, "n k *labelspace"]
) -> Float[Tensor, "n k *labelspace"]:
    """1 at each class, 0 elsewhere, in the shape of the logits: the weights that single out a logit."""
    return torch.zeros_like(logits).scatter_(1, classes[:, None], 1)


def _rivals(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Int64[Tensor, "n *labelspace"]:
    """The class of the largest wrong logit."""
    return logits.scatter(1, labels[:, None], -torch.inf).max(1).indices

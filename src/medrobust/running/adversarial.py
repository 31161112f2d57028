"""Adversarial training: images that are as bad as a budget allows for the network as it is at this step.

Each step of training first climbs its own loss within the budget, for the batch and in training mode as the
step itself, and then descends at the images that it found (TRADES: at both). Running statistics of batch norm
see only what is descended at.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from medrobust.core import UNKNOWN
from medrobust.perturbations import support_of
from medrobust.perturbations.geometry import Ball
from medrobust.running.regimes import Loss
from medrobust.study.training import Adversarial

START = 1e-3
"""Standard deviation of the start of TRADES: at the clean image the divergence has no gradient."""


def adversarial_loss(
    network: nn.Module,
    module: nn.Module,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    criterion: Loss,
    how: Adversarial,
    rngs: Sequence[np.random.Generator],
) -> Float[Tensor, ""]:
    """The loss to descend: at the worst images, or of TRADES at the clean ones and their distance from these.

    Args:
        network: The network that is climbed, in training mode.
        module: The same as it is trained, in its precision and on all devices.
        images: Clean images in [0, 1].
        labels: True classes.
        criterion: The loss of the training.
        how: Method, budget and steps.
        rngs: One generator per image, for the start.

    Source:
        fast: Wong, Rice, Kolter 2020, Fast is better than free, algorithm 3. pgd: Madry et al. 2018, Towards
        deep learning models resistant to adversarial attacks, equation 2.1. trades: Zhang et al. 2019,
        Theoretically principled trade-off between robustness and accuracy, equation 5 and algorithm 1.
    """
    worst = worst_images(network, images, labels, criterion, how, rngs)
    if how.method != "trades":
        return criterion(module(worst), labels)
    logits = module(images)
    return criterion(logits, labels) + how.weight * divergence(logits, module(worst), labels)


@torch.enable_grad()
def worst_images(
    network: nn.Module,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    criterion: Loss,
    how: Adversarial,
    rngs: Sequence[np.random.Generator],
) -> Float[Tensor, "n c *space"]:
    """Images within the budget at which the loss is high, or of TRADES the distance from the clean answer."""
    ball = Ball(images, support_of(images, how.support or "auto"), how.eps, "inf")
    with statistics_kept(network):
        if how.method != "trades":
            return climb(lambda tried: criterion(network(tried), labels), ball.random_images(rngs), ball, how)
        drawn = np.stack([rng.standard_normal(images.shape[1:], dtype=np.float32) for rng in rngs])
        start = ball.project(images + START * torch.from_numpy(drawn).to(images))
        clean = network(images).detach()
        return climb(lambda tried: divergence(clean, network(tried), labels), start, ball, how)


def climb(
    loss: Callable[[Tensor], Tensor], start: Float[Tensor, "n c *space"], ball: Ball, how: Adversarial
) -> Float[Tensor, "n c *space"]:
    """Steps along the sign of the gradient of a loss, projected into the ball after each."""
    images = start
    for _ in range(how.n_steps):
        images = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(images), images)
        images = ball.project(images.detach() + how.length * ball.steepest(gradient))
    return images


def divergence(
    clean: Float[Tensor, "n k *maps"], tried: Float[Tensor, "n k *maps"], labels: Int64[Tensor, "n *maps"]
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of the answers at clean images from those at others.

    A mean over images, findings or pixels, of those whose label is known.
    """
    each = F.kl_div(tried.float().log_softmax(1), clean.float().softmax(1), reduction="none").sum(1)
    known = labels != UNKNOWN
    return (each * known).sum() / known.sum().clamp_min(1)


GAP, FRACTION, NOTHING = 0.2, 0.5, 0.05


def overfitting(method: str, one_step: float | None, several_steps: float | None) -> str | None:
    """What to say of a network that has learned to answer single steps only, or not even these.

    None where it has learned more. It answers single steps only where several steps of the same budget leave
    so much less of the score than one (`GAP`), and less than a `FRACTION` of it; not even these where they
    leave less than `NOTHING`.
    """
    if one_step is None or several_steps is None:
        return None
    if one_step - several_steps <= GAP or several_steps >= FRACTION * one_step:
        if several_steps >= NOTHING:
            return None
        return (
            f"has not learned its defence: trained with {method}, it keeps a score of {several_steps:.2f} "
            f"under PGD with the budget of its training on a few validation cases ({one_step:.2f} under "
            "FGSM). Train longer or on more images, or within a smaller budget."
        )
    return (
        f"has overfitted to single steps: trained with {method}, it keeps a score of {one_step:.2f} under "
        f"FGSM on a few validation cases, and {several_steps:.2f} under PGD with the same budget "
        "(catastrophic overfitting, Wong et al. 2020). It is not robust: train with pgd, a shorter step, a "
        "smaller budget, or fewer epochs."
    )


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Normalise by the batch, as in training, and leave running statistics as they are."""
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._NormBase)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked

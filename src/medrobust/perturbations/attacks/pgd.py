"""Projected gradient descent: many small steps up the loss that never leave the budget."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.attacks.transfer import Transfer, guide, misfit, passes
from medrobust.perturbations.entry import Preset, perturbation
from medrobust.perturbations.geometry import Ball, Norm, per_image, unit
from medrobust.perturbations.gradients import (
    LOSSES,
    Loss,
    Model,
    check_loss,
    cosine_weights,
    cross_entropy_weights,
    fraction_wrong,
    predict,
)
from medrobust.rng import generators_of

REACH = 2.5
"""Length of all steps together, in budgets, so that images can cross the ball (Madry et al. 2018)."""

Weigh = Callable[[int, Tensor, Tensor], Tensor]
"""Weights of the logits in the ascent, for the number of the step, logits and labels."""


def _check_parameters(parameters: Mapping[str, Any], task: Task) -> str | None:
    if parameters["restarts"] > 1 and not parameters["random_start"]:
        return (
            "restarts: must be 1 with random_start=False, which makes all attempts the same; got "
            f"{parameters['restarts']}."
        )
    if parameters["loss"] == "dlr" and task == Task.MULTILABEL:
        return "loss: 'dlr' needs at least 3 classes, and a finding has two answers; use 'margin'."
    if "ni" in parameters["transfer"]:
        return "transfer: 'ni' looks ahead along the momentum, and pgd has none; use mi_fgsm."
    return check_loss(parameters["loss"], task) or misfit(parameters, task)


@perturbation(
    norms=("inf", "2"),
    uses_whole_budget=True,
    default_ssim=0.98,
    beyond_paper=True,
    revision=2,
    passes=lambda parameters: parameters["restarts"] * passes(parameters["transfer"], parameters["steps"]),
    check=_check_parameters,
    mixes=lambda parameters: "admix" in parameters["transfer"],
    summary="Projected gradient descent: many small steps within the budget.",
    source="Madry et al. 2018, Towards deep learning models resistant to adversarial attacks",
)
def pgd(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    others: Float[Tensor, "m c *space"] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    steps: Annotated[int, Ge(1)] = 20,
    step: Annotated[Ratio, Gt(0)] | None = None,
    loss: Loss = "cross_entropy",
    random_start: bool = True,
    restarts: Annotated[int, Ge(1)] = 1,
    transfer: Transfer = (),
) -> Float[Tensor, "n c *space"]:
    """Climb the loss in steps of a fixed norm, projected back into the budget after each.

    All steps are taken, also after the prediction is wrong: a deeper minimum transfers better.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes, one per image, finding or pixel.
        support: Where images may change.
        rngs: One generator per image, for random starts and parts that draw.
        others: Images that `admix` mixes in.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        steps: Number of steps.
        step: Norm of one step; None: 2.5 eps / steps.
        loss: What is climbed: "cross_entropy", "margin" (largest wrong logit minus the right one), "dlr" (the
            margin in units of the logits' spread; three classes or more); of label maps also the
            cross-entropy with all classes alike ("balanced_cross_entropy") or of pixels still right
            ("masked_cross_entropy", "masked_balanced_cross_entropy"), "jensen_shannon" or "dice" (of
            probabilities, mean over structures).
        random_start: Start at a random point within the budget, not at the clean image.
        restarts: Attempts; the one with the most wrong labels is kept, the first of equal ones. An image
            whose labels are all wrong is not tried again.
        transfer: Parts that make it transfer, see `mi_fgsm`; "ni" needs momentum.
    """
    ball = Ball(images, support, float(eps), norm)
    size = REACH * float(eps) / steps if step is None else float(step)
    generators = generators_of(rngs, len(images))

    def weigh(number: int, logits: Tensor, labels: Tensor) -> Tensor:
        return LOSSES[loss](logits, labels)

    def attempt(index: Int64[Tensor, " r"]) -> Float[Tensor, "r c *space"]:
        here, drawn = ball.rows(index), [generators[place] for place in index.tolist()]
        start = here.random_images(drawn) if random_start else here.clean
        parts: dict[str, Any] = {"transfer": transfer, "loss": loss, "rngs": drawn, "others": others}
        return climb(model, start, labels[index], here, weigh, step=size, steps=steps, **parts)

    result = attempt(torch.arange(len(images), device=images.device))
    for _ in range(restarts - 1):
        wrong = fraction_wrong(predict(model, result).max(1).indices, labels)
        left = (wrong < 1).nonzero()[:, 0]
        if len(left) == 0:
            break
        tried = attempt(left)
        better = fraction_wrong(predict(model, tried).max(1).indices, labels[left]) > wrong[left]
        result[left[better]] = tried[better]
    return result


def climb(
    model: Model,
    start: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    ball: Ball,
    weigh: Weigh,
    *,
    step: float,
    steps: int,
    **parts: Any,
) -> Float[Tensor, "n c *space"]:
    """Take steps of a fixed norm along the gradient of the weighted logits, projected into the ball.

    The gradient may have `parts`, see `guide`.
    """
    gradient_of, result = guide(model, labels, ball, weigh, **parts), start
    for number in range(steps):
        result = ball.project(result + step * ball.steepest(gradient_of(number, result)))
    return result


MI_PRESETS = {
    "di-fgsm": Preset(
        {"transfer": {"di": {}}},
        source="Xie et al. 2019, M-DI2-FGSM, as in TransferAttack: half of "
        "the images resized to up to 1.1 of their size, padded, and resized back",
    ),
    "ti-fgsm": Preset(
        {"transfer": {"ti": {}}},
        source="Dong et al. 2019, as in TransferAttack: a Gaussian of 15 pixels, sampled from -3 to 3",
    ),
    "si-ni-fgsm": Preset({"transfer": {"si": {}, "ni": {}}}, source="Lin et al. 2020: five brightnesses"),
    "vmi-fgsm": Preset({"transfer": {"vmi": {}}}, source="Wang, He 2021: 20 neighbours within 1.5 budgets"),
    "vni-fgsm": Preset({"transfer": {"vmi": {}, "ni": {}}}, source="Wang, He 2021: VMI on NI-FGSM"),
    "admix": Preset(
        {"transfer": {"admix": {}}},
        source="Wang et al. 2021: three partners at a fifth of their "
        "strength, five brightnesses of each. Partners are validation images of any class, not of the batch",
    ),
    "ssm": Preset(
        {"transfer": {"ssm": {}}},
        source="Long et al. 2022, with momentum: 20 spectra, noise as large as the budget",
    ),
    "bsr": Preset(
        {"transfer": {"bsr": {}}},
        source="Wang et al. 2024, as in TransferAttack: 20 copies (the text of "
        "the paper: 10) of 3 x 3 blocks, turned by up to 24 degrees",
    ),
}


@perturbation(
    norms=("inf", "2"),
    uses_whole_budget=True,
    default_ssim=0.98,
    presets=MI_PRESETS,
    beyond_paper=True,
    revision=2,
    passes=lambda parameters: passes(parameters["transfer"], parameters["steps"]),
    check=misfit,
    mixes=lambda parameters: "admix" in parameters["transfer"],
    summary="Iterated FGSM with momentum, made to transfer.",
    source="Dong et al. 2018, Boosting adversarial attacks with momentum",
)
def mi_fgsm(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    others: Float[Tensor, "m c *space"] | None = None,
    preset: Literal["di-fgsm", "ti-fgsm", "si-ni-fgsm", "vmi-fgsm", "vni-fgsm", "admix", "ssm", "bsr"]
    | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    steps: Annotated[int, Ge(1)] = 10,
    decay: Annotated[float, Ge(0)] = 1.0,
    transfer: Transfer = (),
) -> Float[Tensor, "n c *space"]:
    """Step along the accumulated gradients of the cross-entropy, each scaled to an L1 norm of 1.

    Made for attacks on networks that the attacker does not know, which is what transfer measures.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes, one per image, finding or pixel.
        support: Where images may change.
        rngs: One generator per image, for parts that draw.
        others: Images that `admix` mixes in.
        preset: Parameters of a named source.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        steps: Number of steps, each of norm eps / steps.
        decay: Factor on the accumulated gradient at each step; 0: plain iterated FGSM.
        transfer: Parts that make it transfer farther, in any order, by name or with their options, such
            as `["di", "ti"]` or `{"bsr": {"copies": 10}}`. "admix", "si", "ssm", "bsr" and "di" add up the
            gradients at changed versions of an image, each at all those of the part before; "ti" blurs the
            sum, "ni" takes it a step ahead along the momentum, "vmi" steadies it by those around the image
            before. See `medrobust.perturbations.attacks.transfer`.
    """
    ball, step = Ball(images, support, float(eps), norm), float(eps) / steps

    def weigh(number: int, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy_weights(logits, labels)

    parts: dict[str, Any] = {"transfer": transfer, "rngs": generators_of(rngs, len(images)), "others": others}
    gradient_of = guide(model, labels, ball, weigh, **parts)
    entries = per_image(ball.supported(torch.ones_like(images)).flatten(1).sum(1), images)
    result, velocity = images, torch.zeros_like(images)
    for number in range(steps):
        # Those who look ahead count momentum in gradients of mean magnitude 1.
        ahead = velocity * entries if norm == "inf" else ball.steepest(velocity)
        gradient = gradient_of(number, result, step * decay * ahead)
        velocity = decay * velocity + unit(ball.supported(gradient), 1)
        result = ball.project(result + step * ball.steepest(velocity))
    return result.clone()


@perturbation(
    tasks=(Task.SEGMENTATION,),
    norms=("inf", "2"),
    uses_whole_budget=True,
    default_ssim=0.98,
    beyond_paper=True,
    revision=2,
    summary="Projected gradient descent that first turns the pixels still right.",
    source="Gu et al. 2022, SegPGD: an effective and efficient adversarial attack for evaluating and "
    "boosting segmentation robustness",
)
def segpgd(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *space"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    steps: Annotated[int, Ge(1)] = 20,
    step: Annotated[Ratio, Gt(0)] | None = None,
    random_start: bool = True,
) -> Float[Tensor, "n c *space"]:
    """Climb the cross-entropy, at first of correct pixels only, then more and more of wrong ones too.

    In step t of T (counted from 0), correct pixels weigh 1 - t / 2T and wrong pixels t / 2T.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1], 2D or 3D.
        labels: True class of every pixel.
        support: Where images may change.
        rngs: One generator per image, for random starts.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        steps: Number of steps.
        step: Norm of one step; None: 2.5 eps / steps.
        random_start: Start at a random point within the budget, not at the clean image.
    """
    ball = Ball(images, support, float(eps), norm)
    size = REACH * float(eps) / steps if step is None else float(step)

    def weigh(
        number: int, logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
    ) -> Float[Tensor, "n k *space"]:
        of_wrong = number / (2 * steps)
        correct = logits.max(1).indices == labels
        return cross_entropy_weights(logits, labels, torch.where(correct, 1 - of_wrong, of_wrong))

    start = ball.random_images(generators_of(rngs, len(images))) if random_start else images
    return climb(model, start, labels, ball, weigh, step=size, steps=steps)


COSPGD_PRESETS = {
    "cospgd-0.1.3": Preset(
        {"eps": 0.03, "step": 0.01, "random_start": True},
        source="PyPI cospgd 0.1.3, attack_implementations.py, and the loop of its README. There, a label "
        "beyond the classes, such as 255, becomes the last class; here labels of -1 count nowhere",
    )
}


@perturbation(
    tasks=(Task.SEGMENTATION,),
    norms=("inf", "2"),
    uses_whole_budget=True,
    default_ssim=0.98,
    beyond_paper=True,
    crafted_on="targets",
    presets=COSPGD_PRESETS,
    summary="Projected gradient descent in which pixels weigh less the more wrong they are.",
    source="Agnihotri, Jung, Keuper 2024, CosPGD: an efficient white-box adversarial attack for pixel-wise "
    "prediction tasks",
)
def cospgd(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *space"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    preset: Literal["cospgd-0.1.3"] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    steps: Annotated[int, Ge(1)] = 20,
    step: Annotated[Ratio, Gt(0)] | None = None,
    random_start: bool = True,
) -> Float[Tensor, "n c *space"]:
    """Climb the cross-entropy of pixels that weigh by the cosine of their probabilities and the truth.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1], 2D or 3D.
        labels: True class of every pixel.
        support: Where images may change.
        rngs: One generator per image, for random starts.
        preset: Parameters of a named source.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        steps: Number of steps.
        step: Norm of one step; None: 2.5 eps / steps.
        random_start: Start at a random point within the budget, not at the clean image.
    """
    ball = Ball(images, support, float(eps), norm)
    size = REACH * float(eps) / steps if step is None else float(step)
    start = ball.random_images(generators_of(rngs, len(images))) if random_start else images
    return climb(
        model, start, labels, ball, lambda number, *seen: cosine_weights(*seen), step=size, steps=steps
    )

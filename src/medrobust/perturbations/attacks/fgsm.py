"""Fast gradient sign method: one step of a fixed size along the sign of the gradient."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.entry import Preset, perturbation
from medrobust.perturbations.geometry import rows, within
from medrobust.perturbations.gradients import Model, cross_entropy_gradient, predict

PRESETS = {
    "foolbox-0.8": Preset(
        {"eps": 1.0, "line_search": 1000},
        source="foolbox 0.8.0, foolbox/attacks/gradientsign.py: not one step size, but the smallest of "
        "1,000 that flips",
        on_misclassified="keep",
        on_failure="clean",
    )
}


def _check_line_search(parameters: Mapping[str, Any], task: Task) -> str | None:
    if parameters["line_search"] and task != Task.CLASSIFICATION:
        return (
            f"line_search: is for classification, where an image flips as a whole; got "
            f"{parameters['line_search']}. Set it to 0."
        )
    return None


@perturbation(
    norms=("inf",),
    uses_whole_budget=True,
    default_ssim=0.98,
    presets=PRESETS,
    crafted_on="both",
    check=_check_line_search,
    passes=lambda parameters: 1.0,
    revision=3,
    summary="One step along the sign of the gradient.",
    source="Goodfellow, Shlens, Szegedy 2015, Explaining and harnessing adversarial examples",
)
def fgsm(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    preset: Literal["foolbox-0.8"] | None = None,
    eps: Annotated[Ratio, Ge(0), Le(1)],
    line_search: Annotated[int, Ge(0)] = 0,
) -> Float[Tensor, "n c *space"]:
    """Move every entry by `eps` in the direction that raises the cross-entropy.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes, one per image, finding or pixel.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        preset: Parameters of a named source.
        eps: Largest change of an entry, in [0, 1].
        line_search: 0: one step of `eps`. Otherwise `eps` is divided into so many equal parts, and the fewest
            that change the prediction are taken, or all if none do. For classification.
    """
    _, gradient = cross_entropy_gradient(model, images, labels)
    direction = gradient.sign()
    if not line_search:
        return within(images + eps * direction, images, support)
    return smallest_flip(model, images, labels, direction, support, eps=eps, parts=line_search)[0]


def smallest_flip(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    direction: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
    *,
    eps: float,
    parts: int,
) -> tuple[Float[Tensor, "n c *space"], Int64[Tensor, " n"]]:
    """Go along `direction` in equal parts until the prediction is wrong, or to the end of the line.

    Returns:
        The images, and the classes predicted for them. Images that flip leave the batch.
    """
    result, predictions = images.clone(), predict(model, images).argmax(1)
    running = (predictions == labels).nonzero()[:, 0]
    for part in range(1, parts + 1):
        if len(running) == 0:
            break
        clean = images[running]
        moved = within(clean + eps * part / parts * direction[running], clean, rows(support, running))
        result[running] = moved
        predictions[running] = predict(model, moved).argmax(1)
        running = running[predictions[running] == labels[running]]
    return result, predictions

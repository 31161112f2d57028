"""Saliency map attack: change the few entries that matter most for a target class, a little at a time."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_classification, check_inputs, check_logits
from medrobust.perturbations.gradients import Model, frozen, ordinary_mode, predict
from medrobust.perturbations.presets import Preset, accepts_preset
from medrobust.perturbations.salience import Choice, Limits, Unit, salient_pairs, salient_units
from medrobust.perturbations.support import rows
from medrobust.perturbations.tally import Tally
from medrobust.perturbations.wrong_class import CLASS_CHOICES, some

PRESETS = {
    "foolbox-0.8": Preset(
        {
            "saliency": "entries",
            "unit": "entry",
            "target": "gradient_attack",
            "stop": "wrong",
            "theta": 0.1,
            "steps": 2000,
            "max_changes": 7,
            "max_share": 1.0,
            "entries_per_step": 1,
        },
        source="foolbox 0.8.0, foolbox/attacks/saliency.py with its default fast=True, in which entries "
        "only get darker. Its bug of returning the image of the gradient attack where that was closer "
        "(mended in 0.9.6) is left out",
        on_failure="clean",
    ),
    "papernot-2016": Preset(
        {
            "saliency": "pairs",
            "target": "random",
            "stop": "target",
            "theta": 1.0,
            "steps": 100_000,
            "max_changes": None,
            "max_share": 0.145,
        },
        source="Papernot et al. 2016: pairs on logits, theta 1, at most 14.5 % of the entries. The paper "
        "runs all target classes; one is drawn here. Its increasing and decreasing variants compete at "
        "every step",
    ),
}


@accepts_preset(PRESETS)
@ordinary_mode()
def saliency_map(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    saliency: Literal["entries", "pairs"] = "entries",
    unit: Unit = "entry",
    target: Literal["gradient_attack", "random", "runner_up"] = "gradient_attack",
    stop: Literal["wrong", "target"] = "wrong",
    theta: Annotated[Ratio, Gt(0), Le(1)] = 0.1,
    steps: Annotated[int, Ge(1)] = 2000,
    max_changes: Annotated[int, Ge(1)] | None = 7,
    max_share: Annotated[Ratio, Gt(0), Le(1)] = 1.0,
    entries_per_step: Annotated[int, Ge(1)] = 1,
) -> Float[Tensor, "n c *space"]:
    """Change few entries, or pixels, until the prediction changes; images already wrong are kept.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change; None: everywhere.
        rngs: One generator per image, for a random target.
        tally: Is told the steps of each image.
        saliency: "entries": darken the entries at which the target's cross-entropy rises most. "pairs":
            brighten or darken the two entries that together raise the target's logit and lower the others'
            most.
        unit: What changes as one: an "entry", that is one channel of a pixel, as in foolbox; or a "pixel"
            across its channels, as long as one of them can move: its salience is the sum over those. Below,
            entries then stand for pixels.
        target: Class to go to. "gradient_attack": the first wrong one along the gradient, a random one if
            there is none.
        stop: An image is done when it is "wrong", or only when it is shown as the "target".
        theta: Change of an entry in one step.
        steps: Largest number of steps.
        max_changes: How often an entry may change; None: any number of times.
        max_share: Share of the entries (in the support) that may change.
        entries_per_step: How many entries change at once; above 1 is faster than any original and changes
            more entries.

    Returns:
        Attacked images; the last iterate where the steps, or the entries, ran out.

    Raises:
        ValueError: A wrong argument.
        ModelError: The network's output cannot be attacked.

    Source:
        Papernot et al. 2016, "The limitations of deep learning in adversarial settings"; foolbox 0.8.0 (see
        the presets).
    """
    check_inputs(images, labels, support)
    check_classification(labels)
    if saliency == "pairs" and entries_per_step != 1:
        raise ValueError(f"entries_per_step: must be 1 with saliency='pairs', got {entries_per_step}.")
    choose = salient_pairs if saliency == "pairs" else partial(salient_units, count=entries_per_step)
    at_once = 2 if saliency == "pairs" else entries_per_step
    limits = Limits.of(
        images, support, unit=unit, max_changes=max_changes, max_share=max_share, at_once=at_once
    )
    with frozen(model):
        logits = predict(model, images)
        check_logits(logits, labels)
        right = (logits.argmax(1) == labels).nonzero()[:, 0]
        goals = labels.clone()
        goals[right] = CLASS_CHOICES[target](
            model, images[right], labels[right], logits[right], rows(support, right), some(rngs, right)
        )
        result, taken = walk(
            model, images, labels, goals, right, limits, choose, stop=stop, theta=theta, steps=steps
        )
    if tally is not None:
        tally.steps = taken
    return result


def check_pairs(parameters: Mapping[str, Any], task: Task, where: str) -> None:
    """Refuse several entries per step where a pair is one step."""
    if parameters["saliency"] == "pairs" and parameters["entries_per_step"] != 1:
        raise StudyError(
            f"{where}.entries_per_step: must be 1 with saliency: pairs, got {parameters['entries_per_step']}."
        )


def walk(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    goals: Int64[Tensor, " n"],
    running: Int64[Tensor, " r"],
    limits: Limits,
    choose: Choice,
    *,
    stop: Literal["wrong", "target"],
    theta: float,
    steps: int,
) -> tuple[Float[Tensor, "n c *space"], Int64[Tensor, " n"]]:
    """Change entries step by step; images that are done, or that no entry is left for, leave the batch.

    Returns:
        The images, and the steps that each of them took.
    """
    result, taken = images.clone(memory_format=torch.contiguous_format), torch.zeros_like(labels)
    changes = torch.zeros(limits.allowed.shape, dtype=torch.int32, device=images.device)
    units = result.view(len(images), -1, changes.shape[1])
    for _ in range(steps):
        if len(running) == 0:
            break
        brighter, darker = limits.domains(changes[running], running)
        logits, (places, signs) = choose(model, result[running], goals[running], brighter, darker)
        shown = logits.argmax(1)
        reached = shown == goals[running] if stop == "target" else shown != labels[running]
        going = ~reached & signs.any(1)
        running, places, signs = running[going], places[going], signs[going]
        # Few entries change: the others are not touched.
        moved = units[running[:, None], :, places] + theta * signs[:, :, None]
        units[running[:, None], :, places] = moved.clamp(0, 1)
        changes[running[:, None], places] += signs
        taken[running] += 1
    return result, taken

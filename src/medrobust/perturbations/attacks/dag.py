"""Dense adversary generation: lead every pixel of a segmentation to a class of one's choice."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import UNKNOWN, Task
from medrobust.metrics.similarity import ssim
from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_logits, check_targets
from medrobust.perturbations.entry import Preset, Tally, entry_of, perturbation
from medrobust.perturbations.geometry import Norm, rows, unit, within
from medrobust.perturbations.gradients import Model, linearise
from medrobust.perturbations.targets import all_background, dilated, scattered

BACKGROUND = 0

PRESETS = {
    "xie-2017": Preset(
        {
            "step": 0.5 / 255,
            "steps": 200,
            "norm": "inf",
            "active": "all",
            "competitor": "predicted",
            "clip": "end",
            "stop_share": 0.01,
            "stop_of": "foreground",
        },
        source="cihangxie/DAG, the code of Xie et al. 2017: all pixels that are not yet the target, against "
        "the predicted class, until no more are left than 1 % of the number of foreground pixels. The "
        "paper's text takes still correct pixels against the true class; the code is what its numbers came "
        "from. It never clips; here the result must lie in [0, 1], and only the result is clipped",
    ),
    "ifl-camp-2019": Preset(
        {
            "step": 0.5,
            "steps": 20,
            "norm": "2",
            "active": "correct",
            "competitor": "true",
            "pull": "background",
            "include_background": False,
        },
        source="IFL-CAMP/dense_adversarial_generation_pytorch, attack/dag.py with the step of its example. "
        "Its pull to the target vanishes unless the target is the background, so that types B and C only "
        "push away from the truth. Its norm runs over the whole batch; here over each image. It also pulls "
        "wrong pixels to the background, which is left out. It clips after every step",
    ),
    "adv-lib": Preset(
        {
            "step": 0.5,
            "steps": 200,
            "norm": "inf",
            "active": "all",
            "competitor": "predicted",
            "clip": "seen",
            "stop_share": 0.01,
        },
        source="adv-lib 0.2.8, segmentation/dense_adversary.py: its step of 0.5 is in units of [0, 1], 255 "
        "times that of Xie. It clips what the network sees and not the perturbation. It stops at 1 % of all "
        "pixels, before the first step of most targets of types B and C; here at 1 % of those to be changed. "
        "It returns the clean image where it does not get there; here the last iterate",
    ),
}


@perturbation(
    tasks=(Task.SEGMENTATION,),
    presets=PRESETS,
    revision=3,
    source="Xie et al. 2017, Adversarial examples for semantic segmentation and object detection; "
    "Paschali et al. 2018, Generalizability vs. robustness",
)
def dag(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *space"],
    *,
    targets: Int64[Tensor, "n *space"],
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["xie-2017", "ifl-camp-2019", "adv-lib"] | None = None,
    step: Annotated[Ratio, Gt(0)] = 0.5 / 255,
    steps: Annotated[int, Ge(1)] = 200,
    norm: Norm = "inf",
    active: Literal["changed", "all", "correct"] = "changed",
    competitor: Literal["predicted", "true"] = "predicted",
    pull: Literal["always", "background"] = "always",
    include_background: bool = True,
    clip: Literal["step", "seen", "end"] = "step",
    stop_share: Annotated[Ratio, Ge(0), Lt(1)] = 0.0,
    stop_of: Literal["changed", "foreground"] = "changed",
    stop_ssim: Annotated[Ratio, Gt(0), Lt(1)] | None = None,
) -> Float[Tensor, "n c *space"]:
    """Raise the targets' logits over their competitors' at all active pixels, in steps of a fixed norm.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1], 2D or 3D.
        labels: True class of every pixel.
        targets: Class that every pixel is to be shown as; see `medrobust.perturbations.targets`.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        tally: Receives the steps of each image, and the number of its pixels that were active at first.
        preset: Parameters of a named source.
        step: Norm of one step on images in [0, 1].
        steps: Largest number of steps; an image that runs out of them is returned as it is then.
        norm: Norm that a step has in each image: "inf", the largest entry, or "2".
        active: Pixels that take part. "changed": the target differs from the truth and is not yet shown.
            "all": the target is not yet shown, also where it is the truth. "correct": the truth, which is not
            the target, is still shown.
        competitor: Logit that is lowered: of the "predicted" or of the "true" class.
        pull: Where the target's logit is raised: "always", or only where the target is the "background".
        include_background: Whether pixels whose truth is the background (0) take part.
        clip: Where images are kept in [0, 1]. "step": after every step. "seen": what the network sees; the
            perturbation itself is not clipped, and an entry outside [0, 1] gets no gradient. "end": only the
            result; the network sees images that leave [0, 1].
        stop_share: An image is done when no more active pixels are left than this fraction of `stop_of`.
        stop_of: The pixels to be "changed", or those of the "foreground", whose truth is not the background.
        stop_ssim: An image is done before a step takes its SSIM (over the support) below this; None: never.
    """
    check_targets(targets, labels, images)
    known = labels != UNKNOWN
    foreground = known & (labels != BACKGROUND)
    eligible = known & (foreground | include_background)
    changed = eligible & (targets != labels)
    if active != "all":
        eligible = changed
    enough = stop_share * (changed if stop_of == "changed" else foreground).flatten(1).sum(1)
    result, running = images.clone(), torch.arange(len(images), device=images.device)
    n_active, taken = torch.zeros_like(running), torch.zeros_like(running)
    for number in range(steps):
        here, where = result[running], rows(support, running)
        truth, wanted = labels[running].clamp_min(0), targets[running].clamp_min(0)  # unknown: not eligible
        seen = here.clamp(0, 1) if clip == "seen" else here
        logits, pullback = linearise(model, seen)
        if number == 0:
            check_logits(logits, torch.maximum(labels, targets))
        # On CPUs argmax over channels takes four times as long as max, as much as half a network.
        shown = logits.max(1).indices
        pixels = eligible[running] & (shown == truth if active == "correct" else shown != wanted)
        n_pixels = pixels.flatten(1).sum(1)
        if number == 0:
            n_active = n_pixels
        going = n_pixels > enough[running]
        if not going.any():
            break
        pulled = pixels if pull == "always" else pixels & (wanted == BACKGROUND)
        rivals = shown if competitor == "predicted" else truth
        weights = torch.zeros_like(logits)
        weights.scatter_add_(1, wanted[:, None], pulled[:, None].to(logits.dtype))
        weights.scatter_add_(1, rivals[:, None], -pixels[:, None].to(logits.dtype))
        movable = here == seen if where is None else (here == seen) & where
        direction = unit(torch.where(movable, pullback(weights), 0), float(norm))
        moved = here + step * direction
        if clip == "step":
            moved = within(moved, images[running], where)
        going &= (moved != here).flatten(1).any(1)
        if stop_ssim is not None:
            going &= ssim(images[running], moved.clamp(0, 1), where) >= stop_ssim
        running = running[going]
        result[running] = moved[going]
        taken[running] += 1
        if len(running) == 0:
            break
    if tally is not None:
        tally.steps, tally.n_active = taken, n_active
    return within(result, images, support)


DAG_A, DAG_B, DAG_C = (
    replace(entry_of(dag), name=name, targets=targets, summary=f"Dense adversary generation, {summary}")
    for name, targets, summary in (
        ("dag_a", all_background, "type A: everything becomes background."),
        ("dag_b", scattered, "type B: scattered foreground pixels become one other class."),
        ("dag_c", dilated, "type C: one structure grows."),
    )
)
DAG_A = replace(DAG_A, crafted_on="both")
"""The three types of the paper, which differ in their targets only."""

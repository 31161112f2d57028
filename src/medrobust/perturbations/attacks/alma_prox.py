"""The smallest change of an entry that makes nearly all pixels of a segmentation wrong: ALMA-prox and PDPGD.

Every pixel is a constraint: its true logit must not lead. Both weigh the constraints while a step down their
gradient alternates with one towards the clean image, in the metric that the gradient is scaled by.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from medrobust.core import UNKNOWN, Task
from medrobust.parameters import Ratio
from medrobust.perturbations.attacks.nearest import Adam, Nearest
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import per_image, unit
from medrobust.perturbations.gradients import DLR_CLASSES, Model, margin, margin_weights

Start = Literal["dag", "clean"]

DAG_STEP, DAG_STEPS, DAG_PASSES = 3e-3, 200, 40.0
"""How DAG takes images to where they start, at most, and the passes that it usually takes."""


def _passes(parameters: dict[str, object]) -> float:
    return float(str(parameters["steps"])) + DAG_PASSES * (parameters["start"] == "dag")


TOLERANCE = 1e-4
"""By how much a true logit must fall behind, in the units of its lead, so that rounding does not turn a pixel
back."""

SCALE, SCALE_STEP = (0.1, 1.0), 0.02
"""Bounds of the factor on all constraints of an image, and by what fraction it changes in a step."""

GROWTH, PATIENCE, PROGRESS = 0.01, 10, 0.95
"""The penalty of a constraint at first; it doubles where in so many steps the pixel was never wrong and the
excess not brought below this fraction."""

MEMORY = 0.8
"""Of the multipliers, and of the metric."""

RATES = (0.025, 0.1)
"""Rates in units of the size that images start with, and the last one in units of the first."""


@perturbation(
    tasks=(Task.SEGMENTATION,),
    presets={
        "rony-2023": Preset(
            {"start": "clean", "step": 1e-3},
            source="Rony et al. 2023, and adv-lib 0.2.8, segmentation/alma_prox.py. Its backward pass takes "
            "mu c for mu in the slope of the penalty; here the slope is that of the paper's penalty. It asks "
            "for a lead of 1e-4 in logits, here of 1e-4 in the units of the lead",
        )
    },
    norms=("inf",),
    minimal=True,
    crafted_on="targets",
    beyond_paper=True,
    passes=_passes,
    summary="The smallest change that makes nearly all pixels wrong, by an augmented Lagrangian.",
    source="Rony, Pesquet, Ben Ayed 2023, Proximal splitting adversarial attack for semantic segmentation",
)
def alma_prox(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *space"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["rony-2023"] | None = None,
    share: Annotated[Ratio, Gt(0), Le(1)] = 0.99,
    steps: Annotated[int, Ge(1)] = 500,
    step: Annotated[Ratio, Gt(0)] | None = None,
    start: Start = "dag",
) -> Float[Tensor, "n c *space"]:
    """Make the largest change of an entry small, so that a fraction of the pixels is wrong.

    Of an image that does not get there, what has the most wrong pixels is returned. Of two classes, the lead
    of the true logit is in units of its mean magnitude in the clean image; of more, it is divided by the gap
    between the largest and the third largest logit (DLR), which two classes do not have.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1], 2D or 3D.
        labels: True class of every pixel.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        tally: Receives the steps of each image, without those to the start.
        preset: Parameters of a named source.
        share: Fraction of the known pixels that must be wrong.
        steps: Number of steps.
        step: Change of an entry in a step, and what a step takes from the largest one; it falls to a tenth of
            that once an image is found. None: a fortieth of the size that the image starts with, or 0.001.
        start: Where images begin: at the "clean" ones, or where "dag" without targets first makes enough
            pixels wrong.
    """
    near = Nearest(model, images, labels, support, "inf", share=share)
    if not len(near.places):
        return near.result(tally, 0)
    known, labels = near.labels != UNKNOWN, near.labels.clamp_min(0)
    rate = torch.full_like(near.sizes, step or 1e-3)
    if start == "dag":
        lead_by_dag(near, known, labels)
        if step is None:
            rate = torch.where(near.found, RATES[0] * near.sizes, rate)
    scale, span = torch.ones_like(rate), None
    multipliers = torch.ones_like(labels, dtype=torch.float64)
    growth = torch.full_like(multipliers, GROWTH)
    before, ever_wrong = torch.full_like(multipliers, torch.inf), torch.zeros_like(known)
    squares, found_at = torch.zeros_like(near.clean), torch.full_like(rate, steps // 2)
    for number in range(steps):
        logits, pullback = near.look()
        if logits.shape[1] < DLR_CLASSES and span is None:
            span = margin(logits, labels).abs().flatten(1).mean(1).clamp_min(torch.finfo(rate.dtype).tiny)
        found_at = torch.where(near.found, found_at.clamp_max(number), found_at)
        scale = (scale / torch.where(near.fooled, 1 + SCALE_STEP, 1 - SCALE_STEP)).clamp(*SCALE)
        leaf = logits.requires_grad_()
        with torch.enable_grad():
            lead = per_image(scale, labels) * relative_lead(leaf, labels, span)
        excess = lead.detach().double()
        counted = known & easiest(excess, known, (1 - share) * number / max(1, steps - 1))
        ever_wrong |= logits.max(1).indices != labels
        if number and (number + 1) % PATIENCE == 0:
            growth = torch.where(ever_wrong | (excess <= PROGRESS * before), growth, 2 * growth)
        if number == 0 or (number + 1) % PATIENCE == 0:
            before, ever_wrong = excess, torch.zeros_like(known)
        if number:
            fresh = counted * penalty_slope(excess, growth, multipliers)
            multipliers = torch.lerp(fresh, multipliers, MEMORY).clamp(1e-12, 1)
        slope = counted * penalty_slope(excess, growth, multipliers)
        gradient = near.supported(pullback(torch.autograd.grad(lead, leaf, slope.to(lead))[0]))
        squares = MEMORY * squares + (1 - MEMORY) * gradient.square()
        metric = (squares / (1 - MEMORY ** (number + 1))).sqrt().clamp_min(1e-8)
        slowing = RATES[1] / (1 - RATES[1]) * (steps - found_at).clamp_min(1)
        now = rate * slowing / ((number - found_at).clamp_min(0) + slowing)
        moved = near.change - per_image(now, gradient) * gradient / metric
        near.go(flattened(moved, near.clean, now, metric))
    return near.result(tally, steps)


def lead_by_dag(near: Nearest, known: Bool[Tensor, "r *space"], labels: Int64[Tensor, "r *space"]) -> None:
    """Lower the leads of the pixels that are still right, until enough of an image is wrong."""
    for _ in range(DAG_STEPS):
        logits, pullback = near.look()
        if near.found.all():
            break
        right = known & (logits.max(1).indices == labels)
        gradient = near.supported(pullback(margin_weights(logits, labels) * right[:, None]))
        moved = near.change + DAG_STEP * unit(gradient, torch.inf)
        near.go(torch.where(per_image(near.found, moved), near.change, moved))


def relative_lead(
    logits: Float[Tensor, "r k *space"],
    labels: Int64[Tensor, "r *space"],
    span: Float[Tensor, " r"] | None,
) -> Float[Tensor, "r *space"]:
    """By how much the true logit leads, in units of the spans or, without, of those of the first three."""
    lead = -margin(logits, labels)
    if span is not None:
        return lead / per_image(span, lead) + TOLERANCE
    largest = logits.topk(DLR_CLASSES, dim=1).values
    kinds = torch.finfo(logits.dtype)
    resolved = kinds.eps * largest.detach().abs().amax(1)
    return lead / (largest[:, 0] - largest[:, -1] + resolved).clamp_min(kinds.tiny) + TOLERANCE


def easiest(
    excess: Float64[Tensor, "r *space"], known: Bool[Tensor, "r *space"], left_out: float
) -> Bool[Tensor, "r *space"]:
    """All pixels but a fraction of the known ones of each image: those of the largest excess."""
    counts = (left_out * known.flatten(1).sum(1)).long()
    most = int(counts.max()) if len(counts) else 0
    ordered = excess.masked_fill(~known, -torch.inf).flatten(1).topk(most + 1, dim=1).values
    return excess <= per_image(ordered.gather(1, counts[:, None])[:, 0], excess)


def penalty_slope(
    excess: Float64[Tensor, "r *space"],
    growth: Float64[Tensor, "r *space"],
    multipliers: Float64[Tensor, "r *space"],
) -> Float64[Tensor, "r *space"]:
    """Slope at x of m x + m g x^2 + g^2 x^3 / 6 where x is above 0, else of m x / (1 - max(g, 1) x)."""
    above = multipliers + 2 * multipliers * growth * excess + growth.square() * excess.square() / 2
    below = multipliers / (1 - growth.clamp_min(1) * excess.clamp_max(0)).square()
    return torch.where(excess >= 0, above, below)


HALVINGS = 24


def flattened(
    change: Float[Tensor, "r c *space"],
    clean: Float[Tensor, "r c *space"],
    weight: Float[Tensor, " r"],
    metric: Float[Tensor, "r c *space"],
) -> Float[Tensor, "r c *space"]:
    """The z in range of the smallest sum of metric (z - change)^2 / 2, plus weight times its largest entry.

    It is the change clipped to some size. The sum over the entries beyond a size of metric (size - |change|),
    plus the weight, grows with the size, and is 0 where it is best.
    """
    inside = change.clamp(-clean, 1 - clean)
    size, pull, metric = (each.flatten(1) for each in (inside.abs(), metric * change.abs(), metric))
    high = size.amax(1)
    low = torch.zeros_like(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        beyond = size > middle[:, None]
        too_large = torch.where(beyond, metric * middle[:, None] - pull, 0).sum(1) + weight > 0
        low, high = torch.where(too_large, low, middle), torch.where(too_large, middle, high)
    bound = per_image(high, change)
    return inside.clamp(-bound, bound)


DUAL_RATES, DUAL_MEMORY, LEAST_RATIO = (0.1, 0.01), 0.9, 1e-12
"""Rates of the multipliers at first and last, the memory of their mean, and how far they may drift apart."""


@perturbation(
    tasks=(Task.SEGMENTATION,),
    presets={
        "matyasko-2021": Preset(
            {"start": "clean"},
            source="Matyasko, Chau 2021, as adv-lib 0.2.8, segmentation/primal_dual_gradient_descent.py, "
            "runs it on segmentations, with the step of Rony et al. 2023. The step towards the clean image "
            "takes five iterations there; here it is exact",
        )
    },
    norms=("inf",),
    minimal=True,
    crafted_on="targets",
    beyond_paper=True,
    passes=_passes,
    summary="The smallest change that makes nearly all pixels wrong, by primal and dual gradients.",
    source="Matyasko, Chau 2021, PDPGD: primal-dual proximal gradient descent adversarial attack",
)
def pdpgd(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *space"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["matyasko-2021"] | None = None,
    share: Annotated[Ratio, Gt(0), Le(1)] = 0.99,
    steps: Annotated[int, Ge(1)] = 500,
    step: Annotated[Ratio, Gt(0)] = 0.01,
    start: Start = "dag",
) -> Float[Tensor, "n c *space"]:
    """Make the largest change of an entry small, so that a fraction of the pixels is wrong.

    The multipliers of all pixels and of the size add up to 1; those of pixels grow while these are right.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1], 2D or 3D.
        labels: True class of every pixel.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        tally: Receives the steps of each image, without those to the start.
        preset: Parameters of a named source.
        share: Fraction of the known pixels that must be wrong.
        steps: Number of steps.
        step: Adam's rate at first; it falls to a hundredth of that.
        start: Where images begin: at the "clean" ones, or where "dag" without targets first makes enough
            pixels wrong.
    """
    near = Nearest(model, images, labels, support, "inf", share=share)
    if not len(near.places):
        return near.result(tally, 0)
    known, labels = near.labels != UNKNOWN, near.labels.clamp_min(0)
    if start == "dag":
        lead_by_dag(near, known, labels)
    counts = per_image(known.flatten(1).sum(1).double(), labels)
    duals, limit = -counts.log().expand(labels.shape), -math.log(LEAST_RATIO)
    shares, adam = shares_of(duals, known), Adam(near.clean)
    for number in range(steps):
        logits, pullback = near.look()
        lead = -margin(logits, labels)
        shares = torch.lerp(shares_of(duals, known), shares, DUAL_MEMORY)
        weights = margin_weights(logits, labels) * (lead.sigmoid() * shares).to(logits)[:, None]
        descent = adam.step(near.supported(pullback(-weights)))
        rate = step * 0.01 ** (number / steps)
        moved = (near.change - rate * descent).clamp(-near.clean, 1 - near.clean)
        of_pixels = shares.flatten(1).sum(1)
        weight = rate * ((1 - of_pixels) / of_pixels).to(moved)
        near.go(flattened(moved, near.clean, weight, adam.metric))
        late = number / max(1, steps - 1)
        dual_rate = DUAL_RATES[0] + (DUAL_RATES[1] - DUAL_RATES[0]) * late
        duals = (duals + dual_rate * known * lead.sign()).clamp(-limit, limit)
    return near.result(tally, steps)


def shares_of(
    duals: Float64[Tensor, "r *space"], known: Bool[Tensor, "r *space"]
) -> Float64[Tensor, "r *space"]:
    """The multipliers of known pixels, which add up to 1 together with that of the size, whose dual is 0."""
    flat = duals.masked_fill(~known, -torch.inf).flatten(1)
    with_size = torch.cat([torch.zeros_like(flat[:, :1]), flat], 1)
    return with_size.softmax(1)[:, 1:].view_as(duals)

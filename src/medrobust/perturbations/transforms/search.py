"""Plausible transforms of an image, of which the one is looked for that harms a network most.

A transform has parameters `theta` in the box [-1, 1]^p, which its `strength` scales: the box is all that is
plausible. One search serves all of them:

- random: a single draw, even in the box. Its mean over images is the average case.
- worst: of as many draws as there are passes, the one that harms the image most.
- optimised: half of the passes are draws; from the worst of these, projected gradient ascent uses the others,
  and what harmed most of all that was seen counts. A step that finds nothing worse halves those after it, and
  the next pass is a draw: a gradient that says little costs half of the passes that are left, not all.

Harm is the margin of the probabilities: above 0 where a prediction is wrong, so that what turns a prediction
is never given up for what only makes the network less sure. The ascent is along the gradient of the
cross-entropy, which does not vanish where a network is sure. Both are means over an image's known labels; of
a label map each class that it shows counts the same, as in scores that are means over structures. A draw is
the same in every search.

Source: Chen et al. 2022, Enhancing MR image segmentation with realistic adversarial data augmentation
(AdvChain): parametrisations, and steps along the gradient over its norm. It takes the disagreement of two
predictions as its loss; here labels are known.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import UNKNOWN
from medrobust.errors import unknown
from medrobust.perturbations.checks import check_logits, task_of
from medrobust.perturbations.corruptions.draws import Rngs
from medrobust.perturbations.corruptions.geometry import resampled, sampled
from medrobust.perturbations.entry import Moved, Tally, perturbation
from medrobust.perturbations.gradients import Model, cross_entropy_weights, linearise, one_hot, predict
from medrobust.rng import generators_of

Search = Literal["random", "worst", "optimised"]


class Applied(NamedTuple):
    """A batch for some parameters; of what moves pixels, `points` are where they come from."""

    images: Float[Tensor, "n c *space"]
    labels: Int64[Tensor, "n *labelspace"]
    valid: Bool[Tensor, "n *space"]
    points: Float[Tensor, "n pixels d"] | None = None


Apply = Callable[[Tensor], Applied]
"""A batch for parameters `n p` in [-1, 1]."""

PASSES = 10

LONG = 1.0
"""A first step that may cross the whole box, as the root mean square over the parameters."""

EXPLAINED = """
    search: One draw (random), the worst of as many draws as there are passes (worst), or what a gradient
        finds from the worst of half as many draws (optimised).
    passes: Images that the network may be asked about, for each image.
    step: Length of the first step of the ascent, as the root mean square over the parameters. Each step that
        finds nothing worse halves those after it. None: 1; 0.1 for a movement during the acquisition, and for
        a deformation under label maps."""
"""Of the parameters that all transforms share; continues the arguments of each."""


def searched(
    parameters: Callable[[Sequence[int]], int],
    *,
    moves_labels: bool = False,
    first_step: float = LONG,
    **facts: Any,
) -> Callable[[Any], Any]:
    """Turn a differentiable `(images, theta, strength) -> images` into a transform that is searched.

    A function that takes `spacing` gets the size of a pixel in mm along each axis, 1 where unknown. Where
    `strength` is 0, or `theta` is, nothing changes.

    Args:
        parameters: How many parameters it has, given the spatial shape of the images.
        moves_labels: Whether the function moves pixels, and labels with them; then it returns where they come
            from, `n pixels d` relative to the centre of the image in pixels, in place of images.
        first_step: Default of the length of the first step of the ascent; it is 1 where pixels move and the
            label is the whole image's.
        facts: Attributes of `Perturbation` other than role, needs, norms and budget.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        own = inspect.signature(function, eval_str=True).parameters

        def transform(
            model: Model | None,
            images: Float[Tensor, "n c *space"],
            labels: Int64[Tensor, "n *labelspace"],
            *,
            strength: float = own["strength"].default,
            search: Search = "optimised",
            passes: Annotated[int, Ge(4)] = PASSES,
            step: Annotated[float, Gt(0)] | None = None,
            rngs: Sequence[np.random.Generator] | None = None,
            spacing: Sequence[float] | None = None,
            found: Float[Tensor, "n p"] | None = None,
            tally: Tally | None = None,
        ) -> Any:
            fixed: dict[str, Any] = {"strength": strength}
            if "spacing" in own:
                fixed["spacing"] = spacing or (1.0,) * (images.ndim - 2)

            def apply(theta: Tensor) -> Applied:
                with torch.autocast(images.device.type, enabled=False):
                    made = function(images, theta, **fixed)
                    if moves_labels:
                        return Applied(*resampled(images, labels, made), made)
                return Applied(made, labels, torch.ones_like(images[:, 0], dtype=torch.bool))

            wanted = (len(images), parameters(images.shape[2:]))
            if found is not None and tuple(found.shape) != wanted:
                raise ValueError(f"found: must be of shape {wanted}, got {tuple(found.shape)}.")
            if found is None:
                draws = _draws(images, rngs, wanted[1], search, passes)
                drawn = passes // 2 if search == "optimised" else passes
                length = step or (LONG if moves_labels and not task_of(labels).has_maps else first_step)
                found = draws[0] if search == "random" else _found(model, apply, labels, draws, drawn, length)
            if tally is not None:
                tally.theta = found
            with torch.no_grad():
                made = apply(found.to(images.device))
            return Moved(made.images, made.labels.clone(), made.valid) if moves_labels else made.images

        shared = inspect.signature(transform)
        strength = own["strength"].replace(kind=inspect.Parameter.KEYWORD_ONLY)
        functools.update_wrapper(transform, function)
        transform.__signature__ = shared.replace(  # type: ignore[attr-defined]
            parameters=[strength if name == "strength" else each for name, each in shared.parameters.items()]
        )
        explained = inspect.getdoc(function) or ""
        transform.__doc__ = explained + EXPLAINED
        return perturbation(
            role="transform",
            needs="gradient",
            budget="strength",
            norms=(),
            moves_labels=moves_labels,
            is_gradient_free=lambda given: given["search"] != "optimised",
            passes=lambda given: 0.0 if given["search"] == "random" else float(given["passes"]),
            **facts,
        )(transform)

    return decorate


def _draws(
    images: Tensor, rngs: Rngs | None, size: int, search: Search, passes: int
) -> Float[Tensor, "draws n p"]:
    """Parameters drawn evenly, one for each pass; fewer draws are the first ones of more."""
    numbers = {"random": 1, "worst": passes, "optimised": passes}
    if search not in numbers:
        raise ValueError(f"search: {unknown('way to search', search, numbers)}")
    drawn = [
        rng.uniform(-1, 1, (numbers[search], size)).astype(np.float32)
        for rng in generators_of(rngs, len(images))
    ]
    return torch.from_numpy(np.stack(drawn, axis=1)).to(images.device)


def _found(
    model: Model | None,
    apply: Apply,
    labels: Int64[Tensor, "n *labelspace"],
    draws: Float[Tensor, "passes n p"],
    drawn: int,
    step: float,
) -> Float[Tensor, "n p"]:
    """The parameters that harm each image most, of a draw for each pass, or of steps in place of later ones.

    After `drawn` passes an image climbs from the worst that it has seen. It takes the draw where the step
    before found nothing worse, and where the gradient leads out of the box.
    """
    if model is None:
        raise ValueError("model: a search needs a network, got None; only 'random' does without.")
    worst, way = draws[0], torch.zeros_like(draws[0])
    most = draws.new_full((draws.shape[1],), -torch.inf)
    length = draws.new_full((draws.shape[1], 1), step * math.sqrt(draws.shape[2]))
    failed = torch.zeros_like(most, dtype=torch.bool)
    for number, theta in enumerate(draws):
        ahead = (worst + length * way).clamp(-1, 1)
        climbs = ~failed & (ahead != worst).any(1) & (number >= drawn)
        theta = torch.where(climbs[:, None], ahead, theta)
        if drawn < len(draws) and number + 1 < len(draws):
            seen, ways = _harm_and_way(model, apply, labels, theta)
        else:
            seen, ways = _harm(model, apply, theta), torch.zeros_like(theta)
        better = seen > most
        worst, way = torch.where(better[:, None], theta, worst), torch.where(better[:, None], ways, way)
        most, failed = torch.where(better, seen, most), climbs & ~better
        length = torch.where(failed[:, None], length / 2, length)
    return worst


def _harm(model: Model, apply: Apply, theta: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    with torch.no_grad():
        made = apply(theta)
    logits = predict(model, made.images)
    check_logits(logits, made.labels)
    return harm(logits, made.labels, shares_of(made.labels))


def _harm_and_way(
    model: Model, apply: Apply, labels: Int64[Tensor, "n *labelspace"], theta: Float[Tensor, "n p"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n p"]]:
    """The harm to each image, and the way on: the gradient of its cross-entropy, of norm 1.

    Where label maps move, they depend on the parameters too: an image that leaves its labels behind would
    seem to get ever worse. There the gradient is of labels that are interpolated as the image is.

    Where pixels move and the label is the whole image's, the gradient knows no more than slopes between
    neighbouring pixels, while moves are longer: the way on is halfway between it and the way that led here
    from the neutral parameters.
    """
    leaf = theta.detach().clone().requires_grad_(True)
    made = apply(leaf)
    logits, pullback = linearise(model, made.images)
    check_logits(logits, made.labels)
    shares = shares_of(made.labels)
    seen = harm(logits, made.labels, shares)
    has_maps = task_of(labels).has_maps
    if made.points is None or not has_maps:
        upstream = pullback(cross_entropy_weights(logits, made.labels, shares))
        (gradient,) = torch.autograd.grad(made.images, leaf, upstream)
    else:
        maps = one_hot(labels.clamp_min(0), logits) * (labels != UNKNOWN)[:, None]
        shown, _ = sampled(maps, made.points)
        at = logits.requires_grad_(True)
        value = -(shares[:, None] * shown * at.log_softmax(1)).sum()
        upstream, by_labels = torch.autograd.grad(value, (at, leaf), retain_graph=True)
        (by_images,) = torch.autograd.grad(made.images, leaf, pullback(upstream))
        gradient = by_images + by_labels
    way = _of_norm_1(gradient.nan_to_num())
    return seen, way if made.points is None or has_maps else _of_norm_1(way + _of_norm_1(theta))


def _of_norm_1(vectors: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    scaled: Tensor = vectors / length.clamp_min(torch.finfo(vectors.dtype).tiny)
    return scaled


def shares_of(labels: Int64[Tensor, "n *labelspace"]) -> Float[Tensor, "n *labelspace"]:
    """What each label counts in the loss of its image: 1 together, and 0 if it is not known.

    Labels of whole images count the same; those of pixels so that each class does which the map shows.
    """
    flat = labels.reshape(len(labels), -1)
    known = (flat != UNKNOWN).float()
    classes = flat.clamp_min(0) if task_of(labels).has_maps else torch.zeros_like(flat)
    sizes = known.new_zeros(len(flat), int(classes.max()) + 1).scatter_add_(1, classes, known)
    shares = known / sizes.gather(1, classes).clamp_min(1)
    return (shares / shares.sum(1, keepdim=True).clamp_min(1)).view(labels.shape)


def harm(
    logits: Float[Tensor, "n k *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    shares: Float[Tensor, "n *labelspace"],
) -> Float[Tensor, " n"]:
    """The probability of the likeliest other class less that of the label, averaged by the labels' shares.

    From -1 to 1; of a single label above 0 where the prediction is wrong.
    """
    probabilities, own = logits.softmax(1), labels.clamp_min(0)[:, None]
    right = probabilities.gather(1, own)[:, 0]
    other = probabilities.scatter(1, own, 0).amax(1)
    return ((other - right) * shares).reshape(len(labels), -1).sum(1)

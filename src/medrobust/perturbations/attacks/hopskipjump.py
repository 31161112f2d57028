"""HopSkipJump: the smallest perturbation, sought with nothing but the network's decisions."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import Norm, lengths, rows, unit, within
from medrobust.perturbations.gradients import Model, predict
from medrobust.rng import generators_of

PRESETS = {
    "chen-2020": Preset(
        {"steps": 64, "draws": 100},
        source="Chen, Jordan, Wainwright 2020: 64 steps. The paper draws at a distance of 1 / d of the "
        "perturbation, with d entries, which float32 does not resolve in large images; here 1 / sqrt(d)",
    )
}

MOST_DRAWS = 10_000
FIRST_RADIUS = 0.1
ROUNDS = 16
"""Of a bisection; also the most halvings of a step."""


def _queries(parameters: Mapping[str, Any]) -> float:
    steps = parameters["steps"]
    return float(steps * (parameters["draws"] * 2 / 3 * math.sqrt(steps) + ROUNDS + 2))


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    needs="decisions",
    presets=PRESETS,
    norms=("2", "inf"),
    minimal=True,
    on_misclassified="keep",
    crafted_on="targets",
    passes=lambda parameters: _queries(parameters) / 3,
    beyond_paper=True,
    summary="The smallest perturbation, sought with the network's decisions only.",
    source="Chen, Jordan, Wainwright 2020, HopSkipJumpAttack: a query-efficient decision-based attack",
)
def hopskipjump(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["chen-2020"] | None = None,
    norm: Norm = "2",
    steps: Annotated[int, Ge(1)] = 20,
    draws: Annotated[int, Ge(1)] = 100,
    tries: Annotated[int, Ge(1)] = 100,
) -> Float[Tensor, "n c *space"]:
    """Walk along the network's boundary, whose direction random changes tell, towards the clean image.

    It begins at a random image that the network takes for something else. In every step that image is led
    back to the boundary, small random changes tell on which side of it they lie and so where it faces, and a
    step goes away from it. The nearest image counts; misclassified images stay as they are, and so do those
    for which no beginning is found.

    Args:
        model: Network under attack, of which only the predicted classes are used.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: One generator per image.
        tally: Receives the queries of each image.
        preset: Parameters of a named source.
        norm: Distance to be minimised.
        steps: Number of steps.
        draws: Random changes in the first step; in step t there are sqrt(t) times as many, 10,000 at most.
        tries: Largest number of random images among which a beginning is looked for.
    """
    logits = predict(model, images)
    check_logits(logits, labels)
    generators, queries = generators_of(rngs, len(images)), torch.zeros_like(labels)

    def fools(at: Int64[Tensor, " r"], tried: Float[Tensor, "r c *space"]) -> Bool[Tensor, " r"]:
        """Whether the network is wrong about changed versions of some of the images."""
        queries[at] += 1
        return predict(model, tried).argmax(1) != labels[at]

    result, at = images.clone(), (logits.argmax(1) == labels).nonzero()[:, 0]
    at, begun = beginnings(fools, at, images, support, generators, tries)
    clean, drawing = images[at], [generators[place] for place in at.tolist()]
    allowed = torch.ones_like(clean, dtype=torch.bool) if support is None else support[at].expand_as(clean)
    edge = bisected(fools, at, clean, begun, norm)
    result[at] = edge
    for number in range(1, steps + 1 if len(at) else 1):
        count = min(round(draws * math.sqrt(number)), MOST_DRAWS)
        radius = lengths(edge - clean) / math.sqrt(clean[0].numel())
        if number == 1:
            radius = torch.full_like(radius, FIRST_RADIUS)
        way = outwards(fools, at, edge, allowed, radius, count, drawing, norm)
        size = lengths(edge - clean, float(norm)) / math.sqrt(number)
        edge = bisected(fools, at, clean, stepped(fools, at, edge, way, size), norm)
        nearer = lengths(edge - clean, float(norm)) < lengths(result[at] - clean, float(norm))
        result[at] = torch.where(nearer, edge, result[at])
    if tally is not None:
        tally.steps = queries
    return result


Fools = Callable[[Tensor, Tensor], Tensor]


def beginnings(
    fools: Fools,
    at: Int64[Tensor, " r"],
    images: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
    rngs: Sequence[np.random.Generator],
    tries: int,
) -> tuple[Int64[Tensor, " s"], Float[Tensor, "s c *space"]]:
    """Random images that fool the network, for as many of the images `at` as any are found for.

    They are of blocks, coarse ones and fine ones in turn: networks average fine noise out.
    """
    channels, *space = images.shape[1:]
    begun, left = images.clone(), at
    finest = math.ceil(math.log2(max(space))) + 1
    for number in range(tries):
        if not len(left):
            break
        blocks = [min(2 ** (number % finest), size) for size in space]
        drawn = np.stack([rngs[place].random((channels, *blocks)) for place in left.tolist()])
        for axis, (count, size) in enumerate(zip(blocks, space, strict=True), 2):
            drawn = drawn.take(np.arange(size) * count // size, axis)
        tried = within(torch.from_numpy(drawn).to(images), images[left], rows(support, left))
        wrong = fools(left, tried)
        begun[left[wrong]] = tried[wrong]
        left = left[~wrong]
    found = at[~torch.isin(at, left)]
    return found, begun[found]


def bisected(
    fools: Fools,
    at: Int64[Tensor, " r"],
    clean: Float[Tensor, "r c *space"],
    far: Float[Tensor, "r c *space"],
    norm: Norm,
) -> Float[Tensor, "r c *space"]:
    """Images that fool the network, led towards the clean ones as far as they still do."""
    change, size = far - clean, lengths(far - clean, torch.inf)
    low, high = torch.zeros_like(size), torch.ones_like(size)

    def part(share: Tensor) -> Tensor:
        """On the straight way, or cut off at a share of the largest change."""
        changed = share * change if norm == "2" else change.clamp(-share * size, share * size)
        return clean + changed

    for _ in range(ROUNDS):
        middle = (low + high) / 2
        wrong = fools(at, part(middle)).view_as(high)
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return torch.where(high < 1, part(high), far)


def outwards(
    fools: Fools,
    at: Int64[Tensor, " r"],
    edge: Float[Tensor, "r c *space"],
    allowed: Bool[Tensor, "r c *space"],
    radius: Float[Tensor, "r *ones"],
    count: int,
    rngs: Sequence[np.random.Generator],
    norm: Norm,
) -> Float[Tensor, "r c *space"]:
    """The direction of norm 1 that leads away from the boundary fastest, as random changes tell.

    The mean of the changes that fool the network less the mean of those that do not.
    """
    both, fooling, shares = torch.zeros_like(edge), torch.zeros_like(edge), torch.zeros_like(radius)
    for _ in range(count):
        shape = tuple(edge.shape[1:])
        drawn = [rng.uniform(-1, 1, shape) if norm == "inf" else rng.standard_normal(shape) for rng in rngs]
        change = unit(torch.from_numpy(np.stack(drawn)).to(edge) * allowed)
        tried = (edge + radius * change).clamp(0, 1)
        wrong = fools(at, tried).view_as(shares)
        both += tried - edge
        fooling += wrong * (tried - edge)
        shares += wrong / count
    # Where all draws agree, their mean is all there is to follow.
    found = torch.where(shares == 0, -both, torch.where(shares == 1, both, fooling - shares * both))
    return found.sign() if norm == "inf" else unit(found)


def stepped(
    fools: Fools,
    at: Int64[Tensor, " r"],
    edge: Float[Tensor, "r c *space"],
    way: Float[Tensor, "r c *space"],
    size: Float[Tensor, "r *ones"],
) -> Float[Tensor, "r c *space"]:
    """Images a step away from the boundary, halved until it fools the network."""
    far, left = edge.clone(), torch.arange(len(at), device=at.device)
    for _ in range(ROUNDS):
        if not len(left):
            break
        tried = (edge[left] + size[left] * way[left]).clamp(0, 1)
        wrong = fools(at[left], tried)
        far[left[wrong]] = tried[wrong]
        left, size = left[~wrong], size / 2
    return far

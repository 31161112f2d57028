"""Square attack: change windows at random, and keep what lowers the network's scores; no gradient."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

from medrobust.core import UNKNOWN
from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import Ball, BallNorm, lengths, unit
from medrobust.perturbations.gradients import Model, fraction_wrong, margin, predict
from medrobust.rng import generators_of

PRESETS = {
    "autoattack": Preset(
        {"steps": 5000, "share": 0.8, "rescale": False},
        source="fra31/auto-attack, square.py as its ensembles run it. There all images of a batch share the "
        "place of a window, which never touches the last row and column; here each image draws its own, from "
        "all places. Where height and width differ, its tiles and windows follow the height alone",
    ),
}

MILESTONES = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of `SCHEDULE`, after each of which windows cover half as much of an image."""

SCHEDULE = 10_000

TILES = 5
"""The first perturbation in the L2 and L1 norm has so many bumps along each axis."""

LEAST_SIDE = 3
"""Of a window that gets a bump."""


@perturbation(
    needs="scores",
    norms=("inf", "2", "1"),
    presets=PRESETS,
    uses_whole_budget=True,
    crafted_on="targets",
    passes=lambda parameters: parameters["steps"] / 3,
    beyond_paper=True,
    summary="Changes random windows and keeps what lowers the scores; needs no gradient.",
    source="Andriushchenko et al. 2020, Square attack: a query-efficient black-box adversarial attack via "
    "random search; for L1 Croce, Hein 2021, Mind the box: l1-APGD for sparse adversarial attacks on image "
    "classifiers",
)
def square(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["autoattack"] | None = None,
    eps: Annotated[Ratio, Ge(0)] = 1 / 255,
    norm: BallNorm = "inf",
    steps: Annotated[int, Ge(1)] = 5000,
    share: Annotated[Ratio, Gt(0), Le(1)] = 0.8,
    rescale: bool = True,
) -> Float[Tensor, "n c *space"]:
    """Try one random window after another, ever smaller ones, and keep those that lower the margin.

    It begins with stripes ("inf") or bumps ("2", "1"). An image is done when all that is known of it is
    wrong. The margin is the right logit minus the largest other; of several findings or pixels it is the mean
    over those that are still right.

    Args:
        model: Network under attack, of which only the logits are used.
        images: Clean images in [0, 1].
        labels: True classes, one per image, finding or pixel.
        support: Where images may change.
        rngs: One generator per image.
        tally: Receives the queries of each image.
        preset: Parameters of a named source.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image. "1": the sum of
            magnitudes.
        steps: Largest number of queries, that of the beginning included.
        share: Share of the image that the first windows cover.
        rescale: Shrink the windows within `steps` queries as otherwise within 10,000.
    """
    ball, generators = Ball(images, support, float(eps), norm), generators_of(rngs, len(images))
    begin, move = (stripes, filled) if norm == "inf" else (bumps, bulged)
    result = ball.project(begin(ball, generators))
    # All that an image will ever need, so that nothing depends on how long others of its batch run.
    drawn = np.stack([rng.random((steps, draws_of(images))) for rng in generators])
    logits = predict(model, result)
    check_logits(logits, labels)
    lowest, wrong = score(logits, labels), fraction_wrong(logits.max(1).indices, labels)
    queries, running = torch.ones_like(wrong, dtype=torch.int64), (wrong < 1).nonzero()[:, 0]
    for number in range(1, steps):
        if not len(running):
            break
        passed = number * SCHEDULE / steps if rescale else number
        covered = share / 2 ** sum(passed > milestone for milestone in MILESTONES)
        here, before = ball.rows(running), result[running]
        tried = here.project(move(here, before, drawn[running.cpu().numpy(), number], covered))
        logits = predict(model, tried)
        reached, wrong = (
            score(logits, labels[running]),
            fraction_wrong(logits.max(1).indices, labels[running]),
        )
        better = (reached < lowest[running]) | (wrong == 1)
        result[running[better]], lowest[running[better]] = tried[better], reached[better]
        queries[running] += 1
        running = running[wrong < 1]
    if tally is not None:
        tally.steps = queries
    return result


def score(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, " n"]:
    """How far each image is from being wrong.

    Of an image with one label, the right logit minus the largest other; of one with several findings or
    pixels, the mean of that over the known ones, among which those that are wrong already count 0.
    """
    ahead = -margin(logits, labels.clamp_min(0))
    if labels.ndim == 1:
        return ahead
    known = (labels != UNKNOWN).flatten(1)
    return (ahead.flatten(1).clamp_min(0) * known).sum(1) / known.sum(1)


def stripes(ball: Ball, rngs: Sequence[np.random.Generator]) -> Float[Tensor, "n c *space"]:
    """Images changed by the budget up or down, every line along the first axis as a whole."""
    shape = (ball.clean.shape[1], 1, *ball.clean.shape[3:])
    return ball.clean + ball.radius * signs(np.stack([rng.random(shape) for rng in rngs]), ball.clean)


def bumps(ball: Ball, rngs: Sequence[np.random.Generator]) -> Float[Tensor, "n c *space"]:
    """Images changed by tiles of a `bump` each, up or down."""
    order = float(ball.norm)
    channels, *space = ball.clean.shape[1:]
    counts = [min(TILES, size) for size in space]
    sides = [size // count for size, count in zip(space, counts, strict=True)]
    ups = signs(np.stack([rng.random((channels, *counts)) for rng in rngs]), ball.clean)
    around: list[int] = []
    for axis, (size, side, count) in enumerate(zip(space, sides, counts, strict=True)):
        ups = ups.repeat_interleave(side, dim=2 + axis)
        rest = size - side * count
        around = [rest // 2, rest - rest // 2, *around]
    change = functional.pad(ups * bump(sides, 0, order).to(ups).repeat(counts), around)
    return ball.clean + ball.radius * unit(ball.supported(change), order)


def draws_of(images: Float[Tensor, "n c *space"]) -> int:
    """How many numbers a step draws: the places of two windows, a sign for every channel, and an axis."""
    return 2 * (images.ndim - 2) + images.shape[1] + 1


def filled(
    ball: Ball, images: Float[Tensor, "n c *space"], drawn: Float64[np.ndarray, "n draws"], share: float
) -> Float[Tensor, "n c *space"]:
    """Images in which a window is changed by the whole budget, each channel up or down."""
    space = images.shape[2:]
    where = window(drawn[:, : len(space)], images, sides_of_share(share, space))
    ups = signs(drawn[:, 2 * len(space) : -1], images)
    made = images.clone()
    made[where] = ball.clean[where] + ball.radius * per_channel(ups, images)
    return made


def bulged(
    ball: Ball, images: Float[Tensor, "n c *space"], drawn: Float64[np.ndarray, "n draws"], share: float
) -> Float[Tensor, "n c *space"]:
    """Images in which one window gets a bump, and the energy of another one and of what the budget left.

    The energies of windows add up: in "2" they are squares of norms, in "1" the norms themselves.
    """
    order, (channels, *space) = float(ball.norm), images.shape[1:]
    wanted = sides_of_share(share, space)
    sides = [min(max(side, LEAST_SIDE) | 1, size) for side, size in zip(wanted, space, strict=True)]
    places, (axes, ups) = drawn[:, : 2 * len(space)], (drawn[:, -1], drawn[:, 2 * len(space) : -1])
    first, second = (window(each, images, sides) for each in np.split(places, 2, axis=1))
    change, inside = images - ball.clean, torch.zeros_like(images)
    inside[first] = inside[second] = 1
    left = (ball.radius**order - lengths(change, order) ** order).clamp_min(0)
    energy = left / channels + lengths(change * inside, order) ** order
    kinds = torch.stack([bump(sides, axis, order) for axis in range(len(space))]).to(images)
    bulge = kinds[(axes * len(space)).astype(np.int64)][:, None] * per_channel(signs(ups, images), images)
    added = unit_channels(unit_channels(change[first], order) + bulge, order) * energy ** (1 / order)
    change[second] = 0
    change[first] = added
    return ball.clean + ball.radius * unit(ball.supported(change), order)


def signs(drawn: Float64[np.ndarray, "n *draws"], like: Tensor) -> Float[Tensor, "n *draws"]:
    """1 for numbers below a half, else -1."""
    return torch.from_numpy(np.where(drawn < 0.5, 1.0, -1.0)).to(like)


def per_channel(
    values: Float[Tensor, "n c"], images: Float[Tensor, "n c *space"]
) -> Float[Tensor, "n c *ones"]:
    """One number for each channel, in a shape that goes with `images`."""
    return values.view(*values.shape, *[1] * (images.ndim - 2))


def unit_channels(images: Float[Tensor, "n c *space"], order: float) -> Float[Tensor, "n c *space"]:
    """Every channel of every image divided by its norm of that order; one that is 0 everywhere stays so."""
    return unit(images.flatten(0, 1)[:, None], order).view_as(images)


def sides_of_share(share: float, space: Sequence[int]) -> list[int]:
    """Sides of the square, or cube, that covers such a share of an image, none longer than the image."""
    side = max(round((share * math.prod(space)) ** (1 / len(space))), 1)
    return [min(side, size) for size in space]


def window(
    drawn: Float64[np.ndarray, "n dimensions"], images: Float[Tensor, "n c *space"], sides: Sequence[int]
) -> tuple[Tensor, ...]:
    """Index of a window in all channels of each image; its numbers in [0, 1) place it anywhere."""
    n, channels, *space = images.shape
    starts = torch.from_numpy((drawn * (np.array(space) - sides + 1)).astype(np.int64)).to(images.device)
    starts = functional.pad(starts, (1, 0))  # channels begin at 0
    index = [torch.arange(n, device=images.device).view(-1, *[1] * (1 + len(space)))]
    for axis, length in enumerate((channels, *sides)):
        line = starts[:, axis, None] + torch.arange(length, device=images.device)
        index.append(line.view(n, *[1] * axis, length, *[1] * (len(space) - axis)))
    return tuple(index)


def bump(sides: Sequence[int], axis: int, order: float) -> Float[Tensor, "*sides"]:
    """A pyramid beside an inverted one along an axis, both of the same norm and together of norm 1.

    At a Chebyshev distance r of its middle, a pyramid is the sum of 1 / k² over k > r as high.
    """
    slopes = 1 / torch.arange(1, max(sides) // 2 + 2) ** 2
    heights = slopes.flip(0).cumsum(0).flip(0)
    halves = []
    for size, sign in ((sides[axis] // 2, 1.0), (sides[axis] - sides[axis] // 2, -1.0)):
        lines = [torch.arange(length) - length // 2 for length in (*sides[:axis], size, *sides[axis + 1 :])]
        away = torch.stack(torch.meshgrid(*lines, indexing="ij")).abs().amax(0)
        half = heights[away]
        halves.append(sign * half / torch.linalg.vector_norm(half, ord=order).clamp_min(1e-12))
    made = torch.cat(halves, axis)
    return unit(made[None], order)[0]

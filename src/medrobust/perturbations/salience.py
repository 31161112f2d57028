"""Which units (entries or whole pixels) a step of the saliency map attack changes, and which it may."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from medrobust.perturbations.gradients import Model, cross_entropy_gradient, linearise
from medrobust.perturbations.losses import one_hot
from medrobust.perturbations.norms import unit
from medrobust.perturbations.pair_search import best_pairs

Unit = Literal["entry", "pixel"]


class Moves(NamedTuple):
    """What a step changes: few of many units.

    Attributes:
        places: The units, all different in each image.
        signs: 1: brighten, -1: darken, 0: leave.
    """

    places: Int64[Tensor, "r k"]
    signs: Int32[Tensor, "r k"]


Choice = Callable[[Model, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Moves]]
"""Gives logits and moves for model, images, goals, and the units that may get brighter and darker."""


@dataclass(frozen=True)
class Limits:
    """Which units may change; one that got darker does not get brighter again.

    Attributes:
        allowed: Units in the support.
        quota: Number of units of each image that may change.
        max_changes: How often one unit may change; None: any number of times.
        at_once: Units that change in one step.
    """

    allowed: Bool[Tensor, "n u"]
    quota: Int64[Tensor, " n"]
    max_changes: int | None
    at_once: int

    @classmethod
    def of(
        cls,
        images: Float[Tensor, "n c *space"],
        support: Bool[Tensor, "n 1 *space"] | None,
        *,
        unit: Unit,
        max_changes: int | None,
        max_share: float,
        at_once: int,
    ) -> "Limits":
        """The limits of a batch."""
        everywhere = torch.ones_like(images[:, :1] if unit == "pixel" else images, dtype=torch.bool)
        allowed = (everywhere if support is None else everywhere & support).flatten(1)
        return cls(allowed, (max_share * allowed.sum(1)).long(), max_changes, at_once)

    def domains(
        self, changes: Int32[Tensor, "r u"], rows: Int64[Tensor, " r"]
    ) -> tuple[Bool[Tensor, "r u"], Bool[Tensor, "r u"]]:
        """Units that may get brighter, and units that may get darker, as far as their values go.

        Args:
            changes: How often each unit got brighter (positive) or darker (negative).
            rows: Their places in the batch.
        """
        usable = self.allowed[rows]
        if self.max_changes is not None:
            usable &= changes.abs() < self.max_changes
        changed = changes != 0
        exhausted = changed.sum(1) + self.at_once > self.quota[rows]
        usable &= changed | ~exhausted[:, None]
        return usable & (changes >= 0), usable & (changes <= 0)


def salient_units(
    model: Model,
    images: Float[Tensor, "r c *space"],
    goals: Int64[Tensor, " r"],
    brighter: Bool[Tensor, "r u"],
    darker: Bool[Tensor, "r u"],
    *,
    count: int,
) -> tuple[Float[Tensor, "r k"], Moves]:
    """Darken the `count` units at which the cross-entropy of the goal rises most, as foolbox 0.8 does.

    `brighter` has no part in it: with foolbox's fast=True an entry only ever gets darker.
    """
    logits, gradient = cross_entropy_gradient(model, images, goals)
    rise = torch.where(darker, per_unit(gradient * (images > 0), darker.shape[1]), 0)
    values, places = rise.topk(min(count, rise.shape[1]), dim=1)
    return logits, Moves(places, -(values > 0).int())


def salient_pairs(
    model: Model,
    images: Float[Tensor, "r c *space"],
    goals: Int64[Tensor, " r"],
    brighter: Bool[Tensor, "r u"],
    darker: Bool[Tensor, "r u"],
) -> tuple[Float[Tensor, "r k"], Moves]:
    """Brighten or darken the pair of the largest salience, as Papernot et al. 2016 do, on logits.

    Two gradients are enough for any number of classes: of the goal's logit, and of the sum of the others.
    """
    logits, pullback = linearise(model, images)
    goal = one_hot(goals, logits)
    # Of largest magnitude 1 each: products of their entries would leave the range of float32.
    of_goal, of_others = unit(pullback(goal, keep=True), torch.inf), unit(pullback(1 - goal), torch.inf)
    up, salience_up = best_pair_within(of_goal, -of_others, images < 1, brighter)
    down, salience_down = best_pair_within(-of_goal, of_others, images > 0, darker)
    rising = salience_up >= salience_down
    pairs = torch.where(rising[:, None], up, down)
    signs = torch.where(rising, 1, -1) * (torch.maximum(salience_up, salience_down) > 0)
    return logits, Moves(pairs, signs[:, None].int().expand(-1, 2))


def best_pair_within(
    gains: Float[Tensor, "r c *space"],
    losses: Float[Tensor, "r c *space"],
    movable: Bool[Tensor, "r c *space"],
    domain: Bool[Tensor, "r u"],
) -> tuple[Int64[Tensor, "r 2"], Float[Tensor, " r"]]:
    """The best pair of units in the domain that have an entry which can still move."""
    units = domain.shape[1]
    return best_pairs(
        per_unit(gains * movable, units),
        per_unit(losses * movable, units),
        domain & (per_unit(movable.float(), units) > 0),
    )


def per_unit(entries: Float[Tensor, "r c *space"], units: int) -> Float[Tensor, "r u"]:
    """What the entries of each unit add up to: a unit is an entry, or a pixel across channels."""
    grouped = entries.reshape(len(entries), -1, units)
    return grouped[:, 0] if grouped.shape[1] == 1 else grouped.sum(1)

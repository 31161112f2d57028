"""Which entries a step of the saliency map attack changes, and which it may change."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from medrobust.perturbations.gradients import Model, cross_entropy_gradient, linearise, one_hot
from medrobust.perturbations.pair_search import best_pairs

Choice = Callable[[Model, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Gives logits and moves (1: brighten, -1: darken, 0: leave) for model, images, goals, entries that may get
brighter, darker."""


@dataclass(frozen=True)
class Limits:
    """Which entries may change, and how far; one that got darker does not get brighter again.

    Attributes:
        allowed: Entries in the support.
        quota: Number of entries of each image that may change.
        max_changes: How often one entry may change; None: any number of times.
        at_once: Entries that change in one step.
    """

    allowed: Bool[Tensor, "n m"]
    quota: Int64[Tensor, " n"]
    max_changes: int | None
    at_once: int

    @classmethod
    def of(
        cls,
        images: Float[Tensor, "n c *space"],
        support: Bool[Tensor, "n 1 *space"] | None,
        *,
        max_changes: int | None,
        max_share: float,
        at_once: int,
    ) -> "Limits":
        """The limits of a batch."""
        everywhere = torch.ones_like(images, dtype=torch.bool)
        allowed = (everywhere if support is None else everywhere & support).flatten(1)
        return cls(allowed, (max_share * allowed.sum(1)).long(), max_changes, at_once)

    def domains(
        self, images: Float[Tensor, "r c *space"], changes: Int32[Tensor, "r m"], rows: Int64[Tensor, " r"]
    ) -> tuple[Bool[Tensor, "r m"], Bool[Tensor, "r m"]]:
        """Entries that may get brighter, and entries that may get darker.

        Args:
            images: The images as they are now.
            changes: How often each entry got brighter (positive) or darker (negative).
            rows: Their places in the batch.
        """
        usable = self.allowed[rows]
        if self.max_changes is not None:
            usable = usable & (changes.abs() < self.max_changes)
        changed = changes != 0
        exhausted = changed.sum(1) + self.at_once > self.quota[rows]
        usable = usable & (changed | ~exhausted[:, None])
        values = images.flatten(1)
        return usable & (changes >= 0) & (values < 1), usable & (changes <= 0) & (values > 0)


def salient_entries(
    model: Model,
    images: Float[Tensor, "r c *space"],
    goals: Int64[Tensor, " r"],
    brighter: Bool[Tensor, "r m"],
    darker: Bool[Tensor, "r m"],
    *,
    count: int,
) -> tuple[Float[Tensor, "r k"], Int32[Tensor, "r m"]]:
    """Darken the `count` entries at which the cross-entropy of the goal rises most, as foolbox 0.8 does.

    `brighter` has no part in it: with foolbox's fast=True an entry only ever gets darker.
    """
    logits, gradient = cross_entropy_gradient(model, images, goals)
    rise = torch.where(darker, gradient.flatten(1), 0)
    values, places = rise.topk(min(count, rise.shape[1]), dim=1)
    moves = torch.zeros_like(darker, dtype=torch.int32)
    return logits, moves.scatter_(1, places, -(values > 0).int())


def salient_pairs(
    model: Model,
    images: Float[Tensor, "r c *space"],
    goals: Int64[Tensor, " r"],
    brighter: Bool[Tensor, "r m"],
    darker: Bool[Tensor, "r m"],
) -> tuple[Float[Tensor, "r k"], Int32[Tensor, "r m"]]:
    """Brighten or darken the pair of the largest salience, as Papernot et al. 2016 do, on logits.

    Two gradients are enough for any number of classes: of the goal's logit, and of the sum of the others.
    """
    logits, pullback = linearise(model, images)
    goal = one_hot(goals, logits)
    of_goal = pullback(goal, keep=True).flatten(1)
    of_others = pullback(1 - goal).flatten(1)
    up, salience_up = best_pairs(of_goal, -of_others, brighter)
    down, salience_down = best_pairs(-of_goal, of_others, darker)
    rising = salience_up >= salience_down
    pairs = torch.where(rising[:, None], up, down)
    signs = torch.where(rising, 1, -1) * (torch.maximum(salience_up, salience_down) > 0)
    moves = torch.zeros_like(darker, dtype=torch.int32)
    return logits, moves.scatter_(1, pairs, signs[:, None].int().expand(-1, 2))

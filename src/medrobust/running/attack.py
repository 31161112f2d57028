"""One batch under attack: which images are attacked, what becomes of failures, what is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn

from medrobust.core import Case
from medrobust.perturbations import Request, Tally, perturb, support_of, targets_of
from medrobust.perturbations.geometry import SupportMode
from medrobust.running.batches import Batch
from medrobust.running.measure import distances, share_fooled, share_wrong, values_of
from medrobust.running.predict import Columns, generators, output_of


@dataclass(frozen=True)
class Source:
    """The network that is attacked, and how.

    Attributes:
        network: Prepared for being attacked, on `device`.
        name: For messages.
        device: Where the network is.
        seed: Seed of the study.
        support_mode: Where attacks may act.
        spacing: Size of a pixel in mm, None where unknown.
        autocast: Attack in reduced precision; predictions are made in float32 all the same.
    """

    network: nn.Module
    name: str
    device: torch.device
    seed: int
    support_mode: SupportMode
    spacing: tuple[float, ...] | None
    autocast: bool = False

    def predict(
        self, images: Float32[Tensor, "n c *space"], cases: Sequence[Case]
    ) -> Int64[Tensor, "n *labelspace"]:
        """Predicted classes."""
        return output_of(self.network, images, name=self.name, cases=cases).max(1).indices


class Attacked(NamedTuple):
    """Attacked images as they are to be stored, and the columns measured of them, by name."""

    images: Float32[Tensor, "n c *space"]
    columns: Columns


class Inputs(NamedTuple):
    """What an attack is given, where the network is."""

    cases: Sequence[Case]
    images: Float32[Tensor, "n c *space"]
    labels: Int64[Tensor, "n *labelspace"]
    support: Bool[Tensor, "n 1 *space"]
    rngs: Sequence[np.random.Generator]
    targets: Int64[Tensor, "n *labelspace"] | None

    def rows(self, index: Int64[Tensor, " m"]) -> "Inputs":
        """The same of some of the images."""
        places = index.tolist()
        return Inputs(
            [self.cases[place] for place in places],
            self.images[index],
            self.labels[index],
            self.support[index],
            [self.rngs[place] for place in places],
            None if self.targets is None else self.targets[index],
        )


def attack_batch(request: Request, source: Source, batch: Batch) -> Attacked:
    """Attack a batch and measure what came out.

    An image counts as already wrong, for the policy, if nothing of it is right: its class, or every pixel.
    Those that are kept, and failures that are not wanted, are the clean images.

    Args:
        request: The attack, its budget solved.
        source: The network to attack.
        batch: Clean images, where the network is. Random draws of an image depend on its case and seed only.

    Raises:
        ModelError: The network's outputs are not finite.
    """
    inputs = _inputs(request, source, batch)
    before = source.predict(batch.images, batch.cases)
    already_wrong = share_wrong(before, batch.labels)
    attacked = (
        already_wrong < 1
        if treatment(request) == "keep"
        else torch.ones_like(already_wrong, dtype=torch.bool)
    )
    chosen = attacked.nonzero()[:, 0]

    made, after, tally = batch.images.clone(), before.clone(), Tally()
    if len(chosen):
        part = inputs.rows(chosen)
        made[chosen] = _perturb(request, source, part, tally)
        after[chosen] = source.predict(made[chosen], part.cases)
    failed = attacked & (share_fooled(after, batch.labels, inputs.targets) == 0)
    if request.on_failure == "clean":
        made[failed], after[failed] = batch.images[failed], before[failed]

    columns: Columns = {
        name: values_of(column) for name, column in distances(batch.images, made, inputs.support).items()
    }
    columns |= {
        "strength": [_strength(request)] * len(batch.cases),
        "steps": _spread(tally.steps, attacked),
        "outcome": _outcomes(request, already_wrong == 1, attacked, failed),
        "already_wrong": values_of(already_wrong),
        "fooled_source": values_of(share_fooled(after, batch.labels, inputs.targets)),
        "n_active": _spread(tally.n_active, attacked),
    }
    return Attacked(made.cpu(), columns)


def treatment(request: Request) -> str:
    """What happens to images that the source already gets wrong: "attack" or "keep".

    `drop` only marks them for a table of their own, so that no other table changes by it: they are treated as
    by the attack's default.
    """
    return (
        request.perturbation.on_misclassified
        if request.on_misclassified == "drop"
        else request.on_misclassified
    )


def _inputs(request: Request, source: Source, batch: Batch) -> Inputs:
    rngs = generators(source.seed, request.name, batch.cases)
    targets = targets_of(request, batch.labels, rngs, source.spacing)
    return Inputs(
        batch.cases, batch.images, batch.labels, support_of(batch.images, source.support_mode), rngs, targets
    )


def _perturb(request: Request, source: Source, inputs: Inputs, tally: Tally) -> Float32[Tensor, "n c *space"]:
    with torch.autocast(source.device.type, enabled=source.autocast):
        return perturb(
            request,
            source.network,
            inputs.images,
            inputs.labels,
            support=inputs.support,
            rngs=inputs.rngs,
            spacing=source.spacing,
            targets=inputs.targets,
            tally=tally,
        )


def _strength(request: Request) -> float | None:
    """The budget, for attacks that have one."""
    budget = request.perturbation.budget
    return None if budget is None else float(request.parameters[budget])


def _spread(values: Int64[Tensor, " m"] | None, attacked: Bool[Tensor, " n"]) -> list[int | None]:
    """Values of the attacked images, 0 for the others; None for an attack that counts nothing."""
    if values is None:
        return [None] * len(attacked)
    spread = torch.zeros(len(attacked), dtype=torch.int64)
    spread[attacked.cpu()] = values.cpu()
    return spread.tolist()


def _outcomes(
    request: Request, wrong: Bool[Tensor, " n"], attacked: Bool[Tensor, " n"], failed: Bool[Tensor, " n"]
) -> list[str]:
    dropped = wrong & (request.on_misclassified == "drop")
    conditions = [mask.cpu().numpy() for mask in (dropped, ~attacked, failed)]
    names: list[str] = np.select(conditions, ["dropped", "kept_clean", "failed"], "crafted").tolist()
    return names

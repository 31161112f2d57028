"""The training loop. Every epoch starts from its own seed, so that going on after a kill changes nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medrobust.core import Case, Dataset, OnProgress
from medrobust.errors import ModelError
from medrobust.models import Network
from medrobust.rng import generator, integer_seed
from medrobust.running.augment import moved
from medrobust.running.batches import Batch, batches
from medrobust.running.epoch_cases import epoch_cases
from medrobust.running.losses import Loss
from medrobust.running.recipes import Recipe, learning_rate, optimizer
from medrobust.running.training_folder import Epoch, TrainingFolder
from medrobust.running.validate import SCORE_NAMES, refresh_batch_norm, score, validation_counts

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass(frozen=True)
class Fitting:
    """What one training depends on besides the network.

    Attributes:
        dataset: Where the cases come from.
        train_cases: What is trained on.
        validation_cases: What the score is taken on; may be empty.
        recipe: How.
        loss: Of logits and labels.
        seed: The study's seed.
        key: Whose training it is; part of every random draw.
        fabric: Devices and precision.
        progress: Told how far it is.
    """

    dataset: Dataset
    train_cases: tuple[Case, ...]
    validation_cases: tuple[Case, ...]
    recipe: Recipe
    loss: Loss
    seed: int
    key: str
    fabric: "Fabric"
    progress: OnProgress

    def cases_of(self, epoch: int | str) -> list[Case]:
        """Cases of one epoch, in order, all devices together."""
        at_once = self.recipe.batch_size * self.fabric.world_size
        rng = generator(self.seed, "order", self.key, epoch)
        return epoch_cases(self.train_cases, self.recipe.slices_per_scan, at_once, rng)

    def score(self, network: nn.Module) -> float | None:
        """Clean score of the validation cases; None where there are none, or nothing is labelled in them."""
        cases, fabric = self.validation_cases, self.fabric
        if not cases:
            return None
        patient_of = {case.scan_id: case.patient_id for case in sorted(cases, key=attrgetter("scan_id"))}
        scans = list(patient_of)
        own = cases[fabric.global_rank :: fabric.world_size]
        counts = validation_counts(network, self.dataset, own, scans, self.recipe.batch_size, fabric.device)
        total = torch.as_tensor(fabric.all_reduce(counts, reduce_op="sum"))
        return score(total, list(patient_of.values()), self.dataset.task)


def fit(network: Network, fitting: Fitting, folder: TrainingFolder) -> list[Epoch]:
    """Train in place, from where the folder's state left off.

    Returns:
        The curve. The network holds the weights of the best epoch (with patience) or of the last one.

    Raises:
        ModelError: The loss is no longer a number.
        RunError: The folder holds another training.
    """
    recipe, fabric = fitting.recipe, fitting.fabric
    module, steps = fabric.setup(network, optimizer(recipe, network.parameters()))
    curve = folder.restore_state(network, steps, fabric)
    while not _is_over(curve, recipe):
        done = len(curve)
        torch.manual_seed(integer_seed(fitting.seed, "train", fitting.key, done, fabric.global_rank))
        loss = _train_epoch(module, steps, fitting, curve)
        rate = learning_rate(recipe, (done + 1) / recipe.epochs)
        curve.append({"epoch": done + 1, "loss": loss, "score": fitting.score(module), "learning_rate": rate})
        if recipe.patience is not None and best_epoch(curve) == done + 1:
            folder.save_best(network, fabric)
        folder.save_state(network, steps, curve, fabric)
    if recipe.patience is not None:
        folder.restore_best(network, fabric)
    return curve


def finish(network: Network, fitting: Fitting) -> float | None:
    """Estimate batch-norm statistics again where the recipe says so, and score the finished network."""
    if fitting.recipe.refresh_batch_norm:
        cases, batch_size = fitting.cases_of("batch-norm"), fitting.recipe.batch_size
        refresh_batch_norm(network, fitting.dataset, cases, batch_size, fitting.fabric.device)
    return fitting.score(network)


def best_epoch(curve: Sequence[Epoch]) -> int:
    """Number of the first epoch with the highest score."""
    scores = [row["score"] for row in curve]
    return scores.index(max(scores)) + 1


def _is_over(curve: Sequence[Epoch], recipe: Recipe) -> bool:
    if not curve or len(curve) >= recipe.epochs:
        return bool(curve)
    return recipe.patience is not None and len(curve) - best_epoch(curve) >= recipe.patience


def _train_epoch(
    module: nn.Module, steps: torch.optim.Optimizer, fitting: Fitting, curve: Sequence[Epoch]
) -> float:
    """One pass; returns the mean loss."""
    recipe, fabric, epoch, note = fitting.recipe, fitting.fabric, len(curve), _note(fitting, curve)
    cases = fitting.cases_of(epoch)[fabric.global_rank :: fabric.world_size]
    count = math.ceil(len(cases) / recipe.batch_size)
    total = torch.zeros((), device=fabric.device)
    module.train()
    for index, batch in enumerate(batches(fitting.dataset, cases, recipe.batch_size, fabric.device)):
        done = (epoch + index / count) / recipe.epochs
        for group in steps.param_groups:
            group["lr"] = learning_rate(recipe, done)
        images, labels = _augmented(batch, fitting, (epoch, index, fabric.global_rank))
        loss = fitting.loss(module(images), labels)
        if index == 0:
            first = loss.detach()
        steps.zero_grad(set_to_none=True)
        fabric.backward(loss)
        steps.step()
        total += loss.detach()
        fitting.progress(done, note)
    mean = float(total) / count
    if not math.isfinite(mean):
        if epoch == 0 and not first.isfinite():
            raise ModelError(
                f"The training of {fitting.key} cannot begin: its loss is {float(first)} in the first batch, "
                "before any step. Look for a division, root or logarithm at 0 (a black pixel) or an overflow "
                "in the forward pass of the network."
            )
        raise ModelError(
            f"The training of {fitting.key} diverged: its loss is {mean} in epoch {epoch + 1}. "
            f"Lower training.learning_rate (now {recipe.learning_rate})."
        )
    return mean


def _augmented(batch: Batch, fitting: Fitting, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    images, labels = batch.images, batch.labels
    if fitting.recipe.augmentation is not None:
        rng = generator(fitting.seed, "augment", fitting.key, *key)
        images, labels = moved(images, labels, fitting.recipe.augmentation, rng)
    if images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, labels


def _note(fitting: Fitting, curve: Sequence[Epoch]) -> str:
    note = f"epoch {len(curve) + 1}/{fitting.recipe.epochs}"
    if curve:
        note += f", loss {curve[-1]['loss']:.3f}"
        if curve[-1]["score"] is not None:
            note += f", {SCORE_NAMES[fitting.dataset.task]} {curve[-1]['score']:.3f}"
    return note

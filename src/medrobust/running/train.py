"""Train one network from its cases to a folder with weights, card and curve.

Lightning's Fabric brings precision, devices and checkpoints. The loop over epochs is plain code
(`fitting.py`), in which one can see that a training that was killed goes on exactly.
"""

import hashlib
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from medrobust.core import Case, Dataset, NetworkId, OnProgress, Task, silent
from medrobust.errors import DataError, ModelError, reason
from medrobust.models import ModelSpec, Network, build, parameter_count, to_channels_last
from medrobust.models.check import kept_generators, made_up_images
from medrobust.models.weights import load_content, weights_content
from medrobust.rng import generator, integer_seed
from medrobust.running.epoch_cases import epoch_cases
from medrobust.running.fitting import Fitting, best_epoch, finish, fit
from medrobust.running.losses import class_weights, make_loss
from medrobust.running.processes import launched, starts_processes
from medrobust.running.recipes import Recipe, recipe_of
from medrobust.running.training_folder import Epoch, TrainingFolder
from medrobust.running.validate import SCORE_NAMES
from medrobust.storage import RunFolder
from medrobust.storage.disk import clear_disk_errors
from medrobust.study.training import TrainingConfig

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["TrainingConfig", "check_cases", "check_training", "fresh_network", "train"]


def fresh_network(
    spec: ModelSpec, dataset: Dataset, *, network_id: NetworkId, seed: int, initialise: bool = True
) -> Network:
    """Build a network whose random weights depend on the study's seed and on which network it is.

    Args:
        spec: What to make.
        dataset: What it is for.
        network_id: Which network of the study.
        seed: The study's seed.
        initialise: Load the weights that the specification names; False where trained ones are loaded next.

    Raises:
        ModelError: It cannot be made, or does not fit the data.
    """
    with torch.random.fork_rng():
        torch.manual_seed(integer_seed(seed, "initialise", network_id.folder))
        return build(
            spec,
            classes=len(dataset.classes),
            channels=dataset.channels,
            shape=dataset.shape,
            initialise=initialise,
        )


def train(
    network: Network,
    dataset: Dataset,
    train_cases: Sequence[Case],
    validation_cases: Sequence[Case],
    *,
    config: TrainingConfig,
    network_id: NetworkId,
    seed: int,
    folder: RunFolder,
    device: torch.device,
    progress: OnProgress = silent,
) -> dict[str, Any]:
    """Train a network, or load it where it was trained before; go on from the last epoch after a kill.

    The global generator is seeded for every epoch, and left as it was.

    Args:
        network: From `fresh_network`; trained in place, left in eval mode on `device`.
        dataset: Where the cases come from.
        train_cases: What to train on. Slices without any labelled pixel are left out.
        validation_cases: What the score is taken on.
        config: How.
        network_id: Which network of the study; part of every random draw.
        seed: The study's seed.
        folder: Gets `weights.safetensors`, `card.json` and `log.csv`.
        device: Where to train.
        progress: Told how far it is, with loss and score.

    Returns:
        The card, as it stands in the folder.

    Raises:
        DataError: A class has no training case, or there are fewer than two training cases.
        ModelError: The training diverged.
        RunError: The folder holds another training, or damaged weights.
    """
    recipe = recipe_of(config, dataset.task)
    cases = _labelled(train_cases)
    identity = _made_from(network, dataset, config, recipe) | {
        "network_id": network_id.folder,
        "seed": seed,
        "train_cases": _digest(cases),
        "validation_cases": _digest(validation_cases),
    }
    goal = TrainingFolder(folder, identity)
    if goal.is_finished:
        return goal.load_finished(network.to(device))
    check_cases(dataset, train_cases, validation_cases, config, network_id)
    plan = _Plan(dataset, _sorted(cases), _sorted(validation_cases), config, seed, network_id.folder)
    alone = not starts_processes(config)
    with _isolated(), clear_disk_errors(folder.url):
        work = partial(_train, plan=plan, goal=goal, progress=progress if alone else silent)
        card = launched(work, network, device=device, config=config)
    network.eval()
    return card if alone else goal.load_finished(network.to(device))


def check_cases(
    dataset: Dataset,
    train_cases: Sequence[Case],
    validation_cases: Sequence[Case],
    config: TrainingConfig,
    network_id: NetworkId,
) -> None:
    """See that there is something to train a network on.

    Args:
        dataset: Where the cases come from.
        train_cases: What it is to be trained on.
        validation_cases: What its score is to be taken on.
        config: How.
        network_id: Which network of the study, for the message.

    Raises:
        DataError: There are fewer than two training cases, or the recipe stops early and there are no
            validation cases.
    """
    cases = _labelled(train_cases)
    if len(cases) < 2:
        raise DataError(
            f"{network_id.folder} has {len(cases)} training cases with labels, but needs at least 2. "
            "Use more data or another split."
        )
    if recipe_of(config, dataset.task).patience is not None and not _labelled(validation_cases):
        raise DataError(
            f"{network_id.folder} has no validation cases to stop early on that hold a label. "
            "Give the split a validation part, or set training: {recipe: quick}."
        )


def check_training(
    network: Network, dataset: Dataset, train_cases: Sequence[Case], config: TrainingConfig, name: str
) -> None:
    """See that a network can be trained, and its weights be kept.

    It takes a step in training mode on made-up images of the real size, and its weights are written and read.

    Args:
        network: From `fresh_network`, on its device. It is used up: its batch-norm statistics change.
        dataset: What it is for.
        train_cases: What it is to be trained on; the batch is the smallest that it will be shown.
        config: How it is to be trained.
        name: What the study calls it, for the message.

    Raises:
        ModelError: It has nothing to train, fails, or its loss is not finite or reaches none of its weights.
    """
    where, device = f"models.{name} cannot be trained", network.mean.device
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if not weights:
        frozen = any(True for _ in network.parameters())
        raise ModelError(
            f"{where}: "
            + ("all of its weights are frozen (requires_grad is False)" if frozen else "it has no weights")
            + ". Let the function that makes it return a network whose weights are free, or bring trained "
            f"weights for it (`weights`, `train: false`) and for a surrogate (surrogates.weights.{name})."
        )
    recipe = recipe_of(config, dataset.task)
    seen = epoch_cases(
        _labelled(train_cases), recipe.slices_per_scan, recipe.batch_size, generator(0, "check")
    )
    count = min(2, recipe.batch_size, len(seen))
    images = made_up_images(count, dataset.channels, dataset.shape).to(device)
    classes, of_maps = len(dataset.classes), dataset.shape if dataset.task is Task.SEGMENTATION else ()
    labels = torch.arange(len(images) * math.prod(of_maps), device=device) % classes
    loss = make_loss(dataset.task, torch.ones(classes, device=device))
    try:
        with kept_generators(device):
            value = loss(network.train()(images), labels.view(len(images), *of_maps))
            if value.requires_grad:
                torch.autograd.backward(value)
        load_content(network, weights_content(network), f"weights of {name}")
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    # Whatever the network raises says that it cannot be trained.
    except Exception as error:
        raise ModelError(
            f"{where}: in training mode a batch of {count} ends in {reason(error)}. Mend it, "
            "or bring trained weights for it (`weights`, `train: false`) and for a surrogate "
            f"(surrogates.weights.{name})."
        ) from error
    finally:
        network.eval()
    if not value.isfinite():
        raise ModelError(
            f"{where}: in training mode its loss on made-up images is {float(value.detach())}. Look for a "
            "division, root or logarithm at 0 or an overflow in its forward pass."
        )
    if all(weight.grad is None for weight in weights):
        raise ModelError(
            f"{where}: in training mode its loss reaches none of its weights. Take no_grad and detach out of "
            "its forward pass."
        )


@dataclass(frozen=True)
class _Plan:
    """What a training is of, as every process of it is told."""

    dataset: Dataset
    cases: tuple[Case, ...]
    validation_cases: tuple[Case, ...]
    config: TrainingConfig
    seed: int
    key: str


def _train(
    fabric: "Fabric", network: Network, *, plan: _Plan, goal: TrainingFolder, progress: OnProgress
) -> dict[str, Any]:
    """A whole training, in each of its processes; returns the card."""
    with _isolated():
        weights = class_weights(plan.dataset, plan.cases)
        weight = torch.tensor(weights, dtype=torch.float32, device=fabric.device)
        fitting = Fitting(
            dataset=plan.dataset,
            train_cases=plan.cases,
            validation_cases=plan.validation_cases,
            recipe=recipe_of(plan.config, plan.dataset.task),
            loss=make_loss(plan.dataset.task, weight),
            seed=plan.seed,
            key=plan.key,
            fabric=fabric,
            progress=progress,
        )
        curve = fit(to_channels_last(network), fitting, goal)
        card = _card(network, fitting, plan.config, curve) | {
            "identity": dict(goal.identity),
            "class_weights": [round(weight, 6) for weight in weights.tolist()],
            "score": finish(network, fitting),
        }
        if fabric.is_global_zero:
            goal.finish(network, card)
        fabric.barrier()
    return card


def _made_from(network: Network, dataset: Dataset, config: TrainingConfig, recipe: Recipe) -> dict[str, Any]:
    """What all trainings of a network on these data have in common."""
    return {
        "network": network.recipe,
        "data": dataset.fingerprint,
        "recipe": recipe.as_data(),
        "precision": config.precision,
        "devices": config.devices * config.nodes,
    }


def _labelled(cases: Sequence[Case]) -> list[Case]:
    """Those that there is something to learn from."""
    return [case for case in cases if case.is_labelled]


def _sorted(cases: Sequence[Case]) -> tuple[Case, ...]:
    return tuple(sorted(cases, key=lambda case: case.case_id))


def _digest(cases: Sequence[Case]) -> str:
    return hashlib.sha256("\n".join(case.case_id for case in _sorted(cases)).encode()).hexdigest()


def _card(network: Network, fitting: Fitting, config: TrainingConfig, curve: list[Epoch]) -> dict[str, Any]:
    """What a person needs to judge a trained network by."""
    dataset = fitting.dataset
    return {
        "data": dataset.name,
        "classes": list(dataset.classes),
        "train_patients": len({case.patient_id for case in fitting.train_cases}),
        "train_cases": len(fitting.train_cases),
        "validation_cases": len(fitting.validation_cases),
        "parameters": parameter_count(network),
        "config": config.model_dump(mode="json"),
        "curve": curve,
        "best_epoch": best_epoch(curve) if fitting.recipe.patience else len(curve),
        "score_name": SCORE_NAMES[dataset.task],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": fitting.fabric.device.type,
        "processes": fitting.fabric.world_size,
    }


@contextmanager
def _isolated() -> Iterator[None]:
    """Leave the global generators alone, make convolutions repeat exactly, keep Lightning's advice away."""
    log = logging.getLogger("lightning.fabric")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            torch.random.fork_rng(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        log.setLevel(level)

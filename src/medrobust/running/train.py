"""Train one network from its cases to a folder with weights, card and curve.

Lightning's Fabric provides precision, devices and checkpoints. The loop over epochs is plain code, to show
that a training resumes exactly after a kill: every epoch starts from its own seed.
"""

import hashlib
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from medrobust.core import UNKNOWN, Case, Dataset, NetworkId, OnProgress, Task, sides_of, silent
from medrobust.errors import DataError, ModelError, reason
from medrobust.metrics.overlap import overlap_counts
from medrobust.metrics.scores import mean_defined, mean_dice, sensitivity
from medrobust.models import Network, parameter_count, to_channels_last
from medrobust.models.check import kept_generators, made_up_images
from medrobust.models.weights import load_content, weights_content
from medrobust.perturbations import Request, perturb, request, support_of
from medrobust.rng import generator, generators_of, integer_seed
from medrobust.running.adversarial import adversarial_loss, worst_images
from medrobust.running.augment import corrupted, moved, noisy
from medrobust.running.batches import Batch, batches, evenly_spaced
from medrobust.running.estimate import Speeds
from medrobust.running.jobs import Job
from medrobust.running.processes import launched, starts_processes
from medrobust.running.regimes import (
    OPTIMIZERS,
    Loss,
    Regime,
    class_weights,
    learning_rate,
    make_loss,
    regime_of,
)
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.running.training_folder import Epoch, TrainingFolder
from medrobust.storage import RunFolder
from medrobust.storage.disk import clear_disk_errors
from medrobust.study.training import TrainingConfig

if TYPE_CHECKING:
    from lightning.fabric import Fabric

PASSES = 2.0
"""A training step in passes: its gradient also reaches the weights, and an optimizer follows."""

ATTACKED = 32
"""Validation cases, evenly spaced, attacked after every epoch of adversarial training and at its end."""

ONE_STEP, SEVERAL_STEPS = "one_step", "several_steps"
"""In curve and card of adversarial training: scores under FGSM, and under PGD with 10 steps."""

SCORE_NAMES = {
    Task.CLASSIFICATION: "balanced accuracy",
    Task.MULTILABEL: "balanced accuracy",
    Task.SEGMENTATION: "mean Dice",
}


@dataclass(frozen=True)
class Training:
    """What one training depends on besides the network; sent to every process that takes part.

    Attributes:
        dataset: Where the cases come from.
        train_cases: What is trained on.
        validation_cases: What the score is taken on; may be empty.
        config: How, as the study says.
        seed: The study's seed.
        key: Whose training it is; part of every random draw.
        progress: Told how far it is, with loss and score.
    """

    dataset: Dataset
    train_cases: tuple[Case, ...]
    validation_cases: tuple[Case, ...]
    config: TrainingConfig
    seed: int
    key: str
    progress: OnProgress

    @cached_property
    def regime(self) -> Regime:
        """How, with every number."""
        return regime_of(self.config, self.dataset.task, self.dataset.shape)

    def cases_of(self, epoch: int | str, fabric: "Fabric") -> list[Case]:
        """Cases of one epoch, in order, all devices together."""
        at_once = self.regime.batch_size * fabric.world_size
        rng = generator(self.seed, "order", self.key, epoch)
        return epoch_cases(self.train_cases, self.regime.slices_per_scan, at_once, rng)

    def shown(self, batch: Batch, *key: str | int) -> tuple[Tensor, Tensor]:
        """Images and labels of a batch as a step trains on them, except what an adversary does."""
        images, labels, regime = batch.images, batch.labels, self.regime
        if regime.augmentation is not None:
            rng = generator(self.seed, "augment", self.key, *key)
            images, labels = moved(images, labels, regime.augmentation, rng)
        if regime.corruptions:
            spacing, sides = self.dataset.spacing, sides_of(self.dataset.classes)
            rngs = self.rngs("corrupt", len(images), *key)
            images, labels = corrupted(images, labels, regime.corruptions, rngs, spacing, sides)
        if regime.gaussian is not None:
            images = noisy(images, regime.gaussian, self.rngs("noise", len(images), *key))
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels

    def rngs(self, purpose: str, count: int, *key: str | int) -> list[np.random.Generator]:
        """One generator for each image of a batch."""
        return [generator(self.seed, purpose, self.key, *key, place) for place in range(count)]

    def score(
        self, network: nn.Module, fabric: "Fabric", cases: Sequence[Case], attack: Request | None = None
    ) -> float | None:
        """Score of some cases, clean or attacked; None where there are none, or nothing is labelled."""
        if not cases:
            return None
        patient_of = {case.scan_id: case.patient_id for case in sorted(cases, key=attrgetter("scan_id"))}
        scans = list(patient_of)
        own = cases[fabric.global_rank :: fabric.world_size]

        def attacked(batch: Batch) -> Tensor:
            if attack is None or self.regime.adversarial is None:
                return batch.images
            support = support_of(batch.images, self.regime.adversarial.support or "auto")
            rngs = [generator(self.seed, attack.name, case.case_id) for case in batch.cases]
            return perturb(attack, network, batch.images, batch.labels, support=support, rngs=rngs)

        counts = validation_counts(
            network, self.dataset, own, scans, self.regime.batch_size, fabric.device, attacked
        )
        total = torch.as_tensor(fabric.all_reduce(counts, reduce_op="sum"))
        return score(total, list(patient_of.values()), self.dataset.task)


def training_job(setup: Setup, network: StudyNetwork, speeds: Speeds) -> Job:
    """Train a network of a study."""
    config, cases = setup.study.trainings[network.id.role, network.id.name], setup.training_cases(network)
    validation = setup.fold(network).validation_cases
    regime = regime_of(config, setup.study.task, setup.dataset.shape)
    scans = len({case.scan_id for case in cases})
    shown = len(cases) if regime.slices_per_scan is None else min(len(cases), regime.slices_per_scan * scans)
    speed = speeds[network.id.name]
    how = regime.adversarial
    passes = PASSES + (0 if how is None else how.n_steps + 1.5 * (how.method == "trades"))
    per_epoch = passes * speed.gradient * shown + speed.forward * len(validation)

    def fit(piece: int, progress: OnProgress) -> None:
        train(
            setup.fresh(network),
            setup.dataset,
            cases,
            validation,
            config=config,
            network_id=network.id,
            seed=setup.study.seed,
            folder=setup.folder.within("models", network.id.folder),
            device=setup.device,
            progress=progress,
        )

    return Job(
        kind="train",
        name=network.id.folder,
        title=f"train {network.id.title}",
        seconds=regime.epochs * per_epoch,
        disk=4 * speed.parameters,
        finished=lambda: {0} if setup.folder.exists("models", network.id.folder, "card.json") else set(),
        open=lambda: fit,
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
    """Train a network, or load it where it was trained before; after a kill, resume from the last epoch.

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
    alone = not starts_processes(config)
    training = Training(
        dataset,
        _sorted(_labelled(train_cases)),
        _sorted(validation_cases),
        config,
        seed,
        network_id.folder,
        progress if alone else silent,
    )
    identity = {
        "network": network.recipe,
        "data": dataset.fingerprint,
        "regime": training.regime.as_data(),
        "precision": config.precision,
        "devices": config.devices * config.nodes,
        "network_id": network_id.folder,
        "seed": seed,
        "train_cases": _digest(training.train_cases),
        "validation_cases": _digest(training.validation_cases),
    }
    goal = TrainingFolder(folder, identity)
    if goal.is_finished:
        return goal.load_finished(network.to(device))
    check_cases(dataset, train_cases, validation_cases, config, network_id)
    work = partial(_train, training=training, goal=goal)
    with _isolated(), clear_disk_errors(folder.url):
        card = launched(work, network, device=device, config=config)
    network.eval()
    return card if alone else goal.load_finished(network.to(device))


def _labelled(cases: Sequence[Case]) -> list[Case]:
    """Those that there is something to learn from."""
    return [case for case in cases if case.is_labelled]


def _sorted(cases: Sequence[Case]) -> tuple[Case, ...]:
    return tuple(sorted(cases, key=attrgetter("case_id")))


def _digest(cases: Sequence[Case]) -> str:
    return hashlib.sha256("\n".join(case.case_id for case in cases).encode()).hexdigest()


@contextmanager
def _isolated() -> Iterator[None]:
    """Leave the global generators alone, make convolutions reproducible, silence Lightning's advice."""
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


def _train(fabric: "Fabric", network: Network, *, training: Training, goal: TrainingFolder) -> dict[str, Any]:
    """A whole training, in each of its processes; returns the card."""
    dataset, regime = training.dataset, training.regime
    with _isolated():
        weights = class_weights(dataset, training.train_cases)
        weight = torch.tensor(weights, dtype=torch.float32, device=fabric.device)
        loss = make_loss(dataset.task, weight)
        curve = fit(fabric, to_channels_last(network), training, loss, goal)
        card = {
            "data": dataset.name,
            "classes": list(dataset.classes),
            "train_patients": len({case.patient_id for case in training.train_cases}),
            "train_cases": len(training.train_cases),
            "validation_cases": len(training.validation_cases),
            "parameters": parameter_count(network),
            "assumed": list(network.assumed),
            "config": training.config.model_dump(mode="json"),
            "curve": curve,
            "best_epoch": best_epoch(curve) if regime.patience else len(curve),
            "score_name": SCORE_NAMES[dataset.task],
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": fabric.device.type,
            "processes": fabric.world_size,
            "identity": dict(goal.identity),
            "class_weights": weights.round(6).tolist(),
            **finish(fabric, network, training, loss),
        }
        if fabric.is_global_zero:
            goal.finish(network, card)
        fabric.barrier()
    return card


def fit(
    fabric: "Fabric", network: Network, training: Training, loss: Loss, folder: TrainingFolder
) -> list[Epoch]:
    """Train in place, from where the folder's state left off.

    Returns:
        The curve. The network holds the weights of the best epoch (with patience) or of the last one.

    Raises:
        ModelError: The loss is no longer a number.
        RunError: The folder holds another training.
    """
    regime = training.regime
    optimizer = OPTIMIZERS[regime.optimizer](network.parameters(), lr=regime.learning_rate)
    module, steps = fabric.setup(network, optimizer)
    curve = folder.restore_state(network, steps, fabric)
    while not _is_over(curve, regime):
        done = len(curve)
        torch.manual_seed(integer_seed(training.seed, "train", training.key, done, fabric.global_rank))
        mean = _train_epoch(fabric, module, network, steps, training, loss, curve)
        curve.append(
            {
                "epoch": done + 1,
                "loss": mean,
                "score": training.score(module, fabric, training.validation_cases),
                "learning_rate": learning_rate(regime, (done + 1) / regime.epochs),
                **attacked_scores(network, fabric, training),
            }
        )
        if regime.patience is not None and best_epoch(curve) == done + 1:
            folder.save_best(network, fabric)
        folder.save_state(network, steps, curve, fabric)
    if regime.patience is not None:
        folder.restore_best(network, fabric)
    return curve


def finish(fabric: "Fabric", network: Network, training: Training, loss: Loss) -> dict[str, float | None]:
    """Estimate batch-norm statistics again where the regime says so, and score the finished network.

    Statistics are those of clean images; of a network that has trained on corrupted, noisy or adversarial
    ones, of such. New statistics make another network: no row of the curve speaks of it.

    Returns:
        Its `score`, and after adversarial training those under attack.
    """
    regime, how = training.regime, training.regime.adversarial
    changes_images = regime.corruptions or regime.gaussian is not None or how is not None

    def shown(batch: Batch) -> Tensor:
        if not changes_images:
            return batch.images
        key = batch.cases[0].case_id
        images, labels = training.shown(batch, "batch-norm", key)
        if how is None:
            return images
        rngs = training.rngs("adversarial", len(images), "batch-norm", key)
        worst = worst_images(network, images, labels, loss, how, rngs)
        return torch.cat([images, worst]) if how.method == "trades" else worst

    if regime.refresh_batch_norm:
        cases, batch_size = training.cases_of("batch-norm", fabric), regime.batch_size
        refresh_batch_norm(network, training.dataset, cases, batch_size, fabric.device, shown)
    score = training.score(network, fabric, training.validation_cases)
    return {"score": score, **attacked_scores(network, fabric, training)}


def attacked_scores(network: nn.Module, fabric: "Fabric", training: Training) -> dict[str, float | None]:
    """Scores of a few validation cases under one step and under several; none without adversarial training.

    Where one step does no harm and several do all, training has overfitted to its own single step.
    """
    how = training.regime.adversarial
    if how is None:
        return {}
    task, some = training.dataset.task, evenly_spaced(training.validation_cases, ATTACKED)
    attacks = {
        ONE_STEP: request({"name": "fgsm", "eps": how.eps}, task),
        SEVERAL_STEPS: request({"name": "pgd", "eps": how.eps, "steps": 10}, task),
    }
    return {name: training.score(network, fabric, some, attack) for name, attack in attacks.items()}


def best_epoch(curve: Sequence[Epoch]) -> int:
    """Number of the first epoch with the highest score."""
    scores = [row["score"] for row in curve]
    return scores.index(max(scores)) + 1


def _is_over(curve: Sequence[Epoch], regime: Regime) -> bool:
    if not curve or len(curve) >= regime.epochs:
        return bool(curve)
    return regime.patience is not None and len(curve) - best_epoch(curve) >= regime.patience


def _train_epoch(
    fabric: "Fabric",
    module: nn.Module,
    network: nn.Module,
    steps: torch.optim.Optimizer,
    training: Training,
    criterion: Loss,
    curve: Sequence[Epoch],
) -> float:
    """One pass; returns the mean loss."""
    regime, epoch = training.regime, len(curve)
    note = f"epoch {epoch + 1}/{regime.epochs}"
    if curve:
        note += f", loss {curve[-1]['loss']:.3f}"
        if curve[-1]["score"] is not None:
            note += f", {SCORE_NAMES[training.dataset.task]} {curve[-1]['score']:.3f}"
    cases = training.cases_of(epoch, fabric)[fabric.global_rank :: fabric.world_size]
    count = math.ceil(len(cases) / regime.batch_size)
    total = torch.zeros((), device=fabric.device)
    module.train()
    for index, batch in enumerate(batches(training.dataset, cases, regime.batch_size, fabric.device)):
        done = (epoch + index / count) / regime.epochs
        for group in steps.param_groups:
            group["lr"] = learning_rate(regime, done)
        key = (epoch, index, fabric.global_rank)
        images, labels = training.shown(batch, *key)
        if regime.adversarial is None:
            loss = criterion(module(images), labels)
        else:
            rngs = training.rngs("adversarial", len(images), *key)
            loss = adversarial_loss(network, module, images, labels, criterion, regime.adversarial, rngs)
        if index == 0:
            first = loss.detach()
        steps.zero_grad(set_to_none=True)
        fabric.backward(loss)
        steps.step()
        total += loss.detach()
        training.progress(done, note)
    mean = float(total) / count
    if not math.isfinite(mean):
        if epoch == 0 and not first.isfinite():
            raise ModelError(
                f"The training of {training.key} cannot begin: its loss is {float(first)} in the first "
                "batch, before any step. Look for a division, root or logarithm at 0 (a black pixel) or an "
                "overflow in the forward pass of the network."
            )
        raise ModelError(
            f"The training of {training.key} diverged: its loss is {mean} in epoch {epoch + 1}. "
            f"Lower training.learning_rate (now {regime.learning_rate})."
        )
    return mean


def epoch_cases(
    cases: Sequence[Case], slices_per_scan: int | None, at_once: int, rng: np.random.Generator
) -> list[Case]:
    """Cases in random order, at most `slices_per_scan` of a scan, in whole batches.

    A remainder, another one in every epoch, is left out: batch norm cannot take a single image at its
    coarsest level. `at_once` is the batch size, all devices together.
    """
    kept, seen = [], Counter[str]()
    for index in rng.permutation(len(cases)):
        case = cases[index]
        seen[case.scan_id] += 1
        if slices_per_scan is None or seen[case.scan_id] <= slices_per_scan:
            kept.append(case)
    return kept[: len(kept) // at_once * at_once] or kept


@torch.no_grad()
def validation_counts(
    network: nn.Module,
    dataset: Dataset,
    cases: Sequence[Case],
    scans: Sequence[str],
    batch_size: int,
    device: torch.device,
    images_of: Callable[[Batch], Tensor] = attrgetter("images"),
) -> Int64[Tensor, "scans k 3"]:
    """Counts of truth, prediction and both: of each structure, or of each answer for each finding.

    The cases may be a part of those of the scans. The network is used in eval mode, and left in its own.
    `images_of` gives what it is shown of a batch.
    """
    was_training = network.training
    network.eval()
    row = {scan: index for index, scan in enumerate(scans)}
    questions = len(dataset.classes) if dataset.task is Task.MULTILABEL else 1
    answers, members = questions * dataset.answers, dataset.members if dataset.task.has_maps else None
    rows_of_scan = answers if members is None else len(members)
    counts = torch.zeros(len(scans), rows_of_scan, 3, dtype=torch.int64, device=device)
    first = dataset.answers * torch.arange(questions, device=device)
    for batch in batches(dataset, cases, batch_size, device):
        predictions = network(images_of(batch)).argmax(1).view(len(batch.cases), -1)
        labels = batch.labels.view(len(batch.cases), -1)
        found = overlap_counts(
            torch.where(labels == UNKNOWN, labels, labels + first), predictions + first, answers, members
        )
        rows = torch.tensor([row[case.scan_id] for case in batch.cases], device=device)
        counts.index_add_(0, rows, found)
    network.train(was_training)
    return counts


def score(counts: Int64[Tensor, "scans k 3"], patients: Sequence[str], task: Task) -> float | None:
    """Balanced accuracy, or mean Dice as a report has it, in [0, 1]; None where nothing is in the truth.

    `counts` are those of `validation_counts`, `patients` the patient of each scan.
    """
    whole = counts.cpu().numpy()
    if not task.has_maps:
        n_true, _, n_both = whole.sum(0).T
        value = float(mean_defined(sensitivity(n_true, n_both)))
    else:
        n_true, n_pred, n_both = np.moveaxis(whole[:, 1:], -1, 0)
        value = mean_dice(n_true, n_pred, n_both, patients)
    return None if math.isnan(value) else value


@torch.no_grad()
def refresh_batch_norm(
    network: nn.Module,
    dataset: Dataset,
    cases: Sequence[Case],
    batch_size: int,
    device: torch.device,
    images_of: Callable[[Batch], Tensor] = attrgetter("images"),
) -> None:
    """Replace running statistics of batch norm by their plain mean over `cases`; the rest is in eval mode.

    `images_of` gives what the network is shown of a batch.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    if not norms:
        return
    was_training = network.training
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in batches(dataset, cases, batch_size, device):
        network(images_of(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)


def check_cases(
    dataset: Dataset,
    train_cases: Sequence[Case],
    validation_cases: Sequence[Case],
    config: TrainingConfig,
    network_id: NetworkId,
) -> None:
    """See that there is something to train a network on.

    Raises:
        DataError: There are fewer than two training cases, or the regime stops early and there are no
            validation cases.
    """
    cases = _labelled(train_cases)
    if len(cases) < 2:
        raise DataError(
            f"{network_id.folder} has {len(cases)} training cases with labels, but needs at least 2. "
            "Use more data or another split."
        )
    if regime_of(config, dataset.task).patience is not None and not _labelled(validation_cases):
        raise DataError(
            f"{network_id.folder} has no labelled validation cases for early stopping. Give the split a "
            "validation part, or set training: {recipe: quick}."
        )


def check_training(
    network: Network, dataset: Dataset, train_cases: Sequence[Case], config: TrainingConfig, name: str
) -> None:
    """See that a network can be trained and its weights saved.

    Its loss is differentiated in training mode on made-up images of the real size, in the smallest batch that
    it will be shown, and its weights are written and read. It is used up: its batch-norm statistics change.

    Raises:
        ModelError: It has nothing to train, fails, or its loss is not finite or reaches none of its weights.
    """
    where, device = f"models.{name} cannot be trained", network.device
    brought = (
        f"trained weights for it (`weights`, `train: false`) and for a surrogate (surrogates.weights.{name})"
    )
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if not weights:
        frozen = any(True for _ in network.parameters())
        raise ModelError(
            f"{where}: "
            + ("all of its weights are frozen (requires_grad is False)" if frozen else "it has no weights")
            + f". Let its function return a network with trainable weights, or bring {brought}."
        )
    regime = regime_of(config, dataset.task, dataset.shape)
    seen = epoch_cases(
        _labelled(train_cases), regime.slices_per_scan, regime.batch_size, generator(0, "check")
    )
    count = min(2, regime.batch_size, len(seen))
    images = made_up_images(count, dataset.channels, dataset.shape).to(device)
    labelled = (len(images), *dataset.labelspace)
    labels = (torch.arange(math.prod(labelled), device=device) % dataset.answers).view(labelled)
    loss = make_loss(dataset.task, torch.ones(dataset.answers, device=device))
    try:
        with kept_generators(device):
            network.train()
            value = (
                loss(network(images), labels)
                if regime.adversarial is None
                else adversarial_loss(
                    network, network, images, labels, loss, regime.adversarial, generators_of(None, count)
                )
            )
            if value.requires_grad:
                torch.autograd.backward(value)
        load_content(network, weights_content(network), f"weights of {name}")
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    # Whatever the network raises says that it cannot be trained.
    except Exception as error:
        raise ModelError(
            f"{where}: in training mode a batch of {count} fails with {reason(error)}. Fix it, or "
            f"bring {brought}."
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
            f"{where}: in training mode its loss does not depend on any of its weights. Remove no_grad and "
            "detach from its forward pass."
        )

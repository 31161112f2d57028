"""The clean score of a network on its validation cases, and batch-norm statistics that fit its weights."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from medrobust.core import Case, Dataset, Task
from medrobust.metrics.overlap import overlap_counts
from medrobust.metrics.scores import mean_defined, mean_dice, sensitivity
from medrobust.running.batches import batches

SCORE_NAMES = {Task.CLASSIFICATION: "balanced accuracy", Task.SEGMENTATION: "mean Dice"}


@torch.no_grad()
def validation_counts(
    network: nn.Module,
    dataset: Dataset,
    cases: Sequence[Case],
    scans: Sequence[str],
    batch_size: int,
    device: torch.device,
) -> Int64[Tensor, "scans k 3"]:
    """Counts of truth, prediction and both: per scan in segmentation, all photos together in classification.

    Args:
        network: Used in eval mode, left in the mode it came in.
        dataset: Where the cases come from.
        cases: What to predict.
        scans: The scans of all cases, of which `cases` may be a part.
        batch_size: Cases predicted together.
        device: Where the network is.
    """
    was_training = network.training
    network.eval()
    row = {scan: index for index, scan in enumerate(scans)}
    classes = len(dataset.classes)
    counts = torch.zeros(len(scans), classes, 3, dtype=torch.int64, device=device)
    for batch in batches(dataset, cases, batch_size, device):
        predictions = network(batch.images).argmax(1)
        shape = (len(predictions), -1)
        found = overlap_counts(batch.labels.view(shape), predictions.reshape(shape), classes)
        rows = torch.tensor([row[case.scan_id] for case in batch.cases], device=device)
        counts.index_add_(0, rows, found)
    network.train(was_training)
    return counts


def score(counts: Int64[Tensor, "scans k 3"], patients: Sequence[str], task: Task) -> float | None:
    """Balanced accuracy, or mean Dice as a report has it, in [0, 1]; None where nothing is in the truth.

    Args:
        counts: From `validation_counts`.
        patients: Whose scan each is.
        task: Which of the two.
    """
    whole = counts.cpu().numpy()
    if task is Task.CLASSIFICATION:
        n_true, _, n_both = whole.sum(0).T
        value = float(mean_defined(sensitivity(n_true, n_both)))
    else:
        n_true, n_pred, n_both = np.moveaxis(whole[:, 1:], -1, 0)
        value = mean_dice(n_true, n_pred, n_both, patients)
    return None if math.isnan(value) else value


@torch.no_grad()
def refresh_batch_norm(
    network: nn.Module, dataset: Dataset, cases: Sequence[Case], batch_size: int, device: torch.device
) -> None:
    """Replace running statistics of batch norm by their plain mean over `cases`; the rest is in eval mode."""
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
        network(batch.images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)

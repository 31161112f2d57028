"""Crafting: attack a source on every case, measure the images as stored, and store them by chunks."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from medrobust.core import Case, Dataset, Tick, silent
from medrobust.perturbations import Request
from medrobust.perturbations.support import SupportMode
from medrobust.steps.attack import Source, attack_batch
from medrobust.steps.batches import batches
from medrobust.steps.budget import with_budget
from medrobust.steps.image_sets import CraftJob, ImageSet, crafted_set
from medrobust.steps.parts import timed, write_crafted_rows
from medrobust.steps.predict import Columns, check_weights, weights_sha256
from medrobust.storage import ImageStore, RunFolder


class Begun(NamedTuple):
    """An attack on a source that can start: where its images go, the network, and its budget solved."""

    image_set: ImageSet
    store: ImageStore
    source: Source
    request: Request


def craft(
    job: CraftJob,
    network: nn.Module,
    dataset: Dataset,
    cases: Iterable[Case],
    folder: RunFolder,
    *,
    seed: int,
    support_mode: SupportMode = "auto",
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    validation: Iterable[Case] = (),
    tick: Tick = silent,
) -> ImageSet:
    """Attack a source on every case; goes on where it stopped.

    Args:
        job: Attack and source.
        network: The source, prepared for being attacked, on `device`.
        dataset: Where the cases come from.
        cases: The cases to attack.
        folder: The run folder.
        seed: Seed of the study.
        support_mode: Where the attack may act.
        device: Where the network is.
        batch_size: Images attacked together; no parameter of the attack.
        validation: Cases that a budget given as an SSIM is solved on.
        tick: Told the progress after each batch.

    Returns:
        The set of the stored images.

    Raises:
        ModelError: The network's outputs are not finite.
        RunError: The disk is full, or finished chunks were made with other weights of the source.
        StudyError: The budget is given as an SSIM, and there are no validation cases.
    """
    image_set, store, source, request = begin(
        job,
        network,
        dataset,
        cases,
        folder,
        seed=seed,
        support_mode=support_mode,
        device=device,
        batch_size=batch_size,
        validation=validation,
    )
    before = 0
    for number, chunk in enumerate(image_set.chunks):

        def inner_tick(done: int, before: int = before) -> None:
            tick((before + done) / image_set.n_cases, "")

        if not store.is_done(number):
            with timed(folder, image_set.timing_part(number), "craft", image_set.origin, number, len(chunk)):
                images, columns = _craft_chunk(request, source, dataset, chunk, batch_size, inner_tick)
                checksum = store.write(number, images)
                write_crafted_rows(folder, image_set, number, columns)
                store.mark_done(number, checksum)
        before += len(chunk)
    tick(1.0, "")
    return image_set


def begin(
    job: CraftJob,
    network: nn.Module,
    dataset: Dataset,
    cases: Iterable[Case],
    folder: RunFolder,
    *,
    seed: int,
    support_mode: SupportMode,
    device: torch.device | str,
    batch_size: int,
    validation: Iterable[Case],
) -> Begun:
    """Open the store of an attack on a source and solve its budget; the arguments are those of `craft`.

    Raises:
        RunError: What the store holds was made with other weights of the source.
        StudyError: The budget is given as an SSIM, and there are no validation cases.
    """
    validation = tuple(validation)
    image_set = crafted_set(job, dataset, cases, seed=seed, support_mode=support_mode, validation=validation)
    store = _open_store(image_set, network, job.source.folder, dataset, folder)
    source = Source(
        network, job.source.folder, torch.device(device), seed, support_mode, dataset.spacing, job.autocast
    )
    request = with_budget(
        job.request, source, dataset, validation, batch_size, folder, (*image_set.folder, "budget.json")
    )
    return Begun(image_set, store, source, request)


def _craft_chunk(
    request: Request,
    source: Source,
    dataset: Dataset,
    chunk: Sequence[Case],
    batch_size: int,
    tick: Callable[[int], None],
) -> tuple[Float32[np.ndarray, "n c *space"], Columns]:
    images = np.empty((len(chunk), dataset.channels, *dataset.shape), np.float32)
    columns: Columns = {}
    done = 0
    for batch in batches(dataset, chunk, batch_size, source.device):
        attacked = attack_batch(request, source, batch)
        images[done : done + len(batch.cases)] = attacked.images.numpy()
        for name, values in attacked.columns.items():
            columns.setdefault(name, []).extend(values)
        done += len(batch.cases)
        tick(done)
    return images, columns


def _open_store(
    image_set: ImageSet, network: nn.Module, name: str, dataset: Dataset, folder: RunFolder
) -> ImageStore:
    """The store of a set, made where there is none; refused where it was made with other weights."""
    store = ImageStore.create(
        folder,
        *image_set.folder,
        chunks=[[case.case_id for case in chunk] for chunk in image_set.chunks],
        shape=(dataset.channels, *dataset.shape),
        card={
            **image_set.origin,
            "recipe": image_set.recipe,
            "weights": weights_sha256(network),
        },
    )
    check_weights(store.card, network, name, "/".join(image_set.folder))
    return store

"""Whole steps in one call: cut the cases, open the step, and do every piece that is not finished."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from medrobust.core import Case, Dataset, NetworkId, OnProgress, silent
from medrobust.models import Network
from medrobust.perturbations import Request
from medrobust.running import plan as image_sets
from medrobust.running.batches import Limit, work_chunks
from medrobust.running.craft import open_crafting
from medrobust.running.embed import Embedding, embedded_chunks
from medrobust.running.evaluate import Evaluation, Judges
from medrobust.running.jobs import do_pieces
from medrobust.running.noise import Matching
from medrobust.running.plan import CraftJob, ImageSet, Target
from medrobust.storage import RunFolder


def clean_set(dataset: Dataset, cases: Iterable[Case], **keywords: Any) -> ImageSet:
    """Clean images of some cases."""
    return image_sets.clean_set(dataset, work_chunks(dataset, cases), **keywords)


def crafted_set(job: CraftJob, dataset: Dataset, cases: Iterable[Case], **keywords: Any) -> ImageSet:
    """The images that an attack gives."""
    keywords = {"seed": 0, "support_mode": "auto", **keywords}
    return image_sets.crafted_set(job, dataset, work_chunks(dataset, cases), **keywords)


def fixed_noise_set(request: Request, dataset: Dataset, cases: Iterable[Case], **keywords: Any) -> ImageSet:
    """Noise of a fixed strength on some cases."""
    return image_sets.fixed_noise_set(request, dataset, work_chunks(dataset, cases), **keywords)


def craft(
    job: CraftJob,
    network: nn.Module,
    dataset: Dataset,
    cases: Iterable[Case],
    folder: RunFolder,
    *,
    seed: int = 0,
    support_mode: str = "auto",
    batch_size: int = 16,
    validation: Sequence[Case] = (),
    progress: OnProgress = silent,
) -> ImageSet:
    """Craft all that is not finished."""
    images = crafted_set(job, dataset, cases, seed=seed, support_mode=support_mode, validation=validation)
    step = open_crafting(images, network, dataset, folder, limit=Limit(batch_size), validation=validation)
    do_pieces(step, left(images, folder), progress)
    return images


def craft_noise(images: ImageSet, dataset: Dataset, folder: RunFolder, *, batch_size: int = 16) -> None:
    """Match all that is not finished."""
    do_pieces(Matching(images, dataset, folder, batch_size), left(images, folder))


def embed(
    sets: Iterable[ImageSet],
    target: Target,
    network: Network,
    dataset: Dataset,
    folder: RunFolder,
    *,
    batch_size: int = 16,
) -> None:
    """Embed all that is not finished."""
    for images in sets:
        step = Embedding(images, target, network, dataset, folder, limit=Limit(batch_size))
        step.remember_weights()
        do_pieces(step, range(len(embedded_chunks(images.chunks))))


def evaluate(
    sets: Iterable[ImageSet],
    targets: Sequence[Target],
    networks: Mapping[NetworkId, nn.Module],
    dataset: Dataset,
    folder: RunFolder,
    *,
    batch_size: int = 16,
    quantise: int | None = None,
    tolerance: float | None = None,
    progress: OnProgress = silent,
) -> None:
    """Evaluate all that is not finished."""
    judges = Judges(targets, networks, dataset, folder, limit=Limit(batch_size), quantise=quantise)
    judges.remember_weights()
    for images in sets:
        do_pieces(Evaluation(images, judges, tolerance), range(len(images.chunks)), progress)


def left(images: ImageSet, folder: RunFolder) -> list[int]:
    """The chunks of a set that are not finished."""
    return sorted(set(range(len(images.chunks))) - set(images.finished(folder)))

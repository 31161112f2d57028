"""Steps of a study one by one, on data sets and networks that live in memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medrobust.core import Case, Dataset, NetworkId, OnProgress, silent
from medrobust.models.form import InputSpec
from medrobust.models.spec import ModelSpec
from medrobust.perturbations import Request
from medrobust.running import plan
from medrobust.running.batches import Batch, work_chunks
from medrobust.running.craft import open_crafting
from medrobust.running.embed import embedding_job
from medrobust.running.estimate import Speed
from medrobust.running.evaluate import images_of, open_evaluation
from medrobust.running.noise import noise_job
from medrobust.running.plan import ImageSet, cells_of
from medrobust.running.setup import Fold, Setup, StudyNetwork
from medrobust.storage import RunFolder
from medrobust.study.config import Study


def member(network_id: NetworkId, recipe: object = "made") -> StudyNetwork:
    """A network of a study, of which only its name and what it is made from are known."""
    spec = ModelSpec(network_id.name, "own", None, "none", InputSpec(), train=False, parameters={})
    return StudyNetwork(network_id, spec, split={}, recipe={"made from": recipe})


def setup_of(
    dataset: Dataset,
    folder: RunFolder,
    networks: Mapping[NetworkId, nn.Module] | None = None,
    *,
    targets: Sequence[StudyNetwork] = (),
    cases: Iterable[Case] | None = None,
    validation: Sequence[Case] = (),
    fold: int | None = None,
    seed: int = 0,
    support: str = "auto",
    batch_size: int = 16,
    quantise: int | None = None,
    tolerance: float | None = None,
    autocast: bool = False,
) -> Setup:
    """A study of these data and networks, opened."""
    study = Study.model_validate(
        {
            "task": dataset.task,
            "seed": seed,
            "data": {"given": dataset.name},
            "models": [{"name": "unused"}],
            "support": support,
            "crafting": {"batch_size": batch_size, "quantise": quantise is not None, "autocast": autocast},
            "analysis": {"surface_tolerance": tolerance},
        }
    )
    chosen = tuple(dataset.cases if cases is None else cases)
    chunks = work_chunks(dataset, chosen)
    of = Fold(fold, {}, chosen, chosen, tuple(validation), chunks, chunks)
    if quantise is not None:
        dataset = replace(dataset, bits=quantise)
    setup = Setup(study, folder, dataset, (of,), torch.device("cpu"), dict(networks or {}))
    vars(setup)["targets"] = tuple(targets)  # where the study would name them
    return setup


@dataclass(frozen=True)
class CraftJob:
    """An attack on one source."""

    request: Request
    source: NetworkId
    role: Literal["transfer", "whitebox"]
    source_recipe: object
    autocast: bool = False


def clean_set(dataset: Dataset, cases: Iterable[Case], *, fold: int | None = None) -> ImageSet:
    """Clean images of some cases."""
    setup = setup_of(dataset, RunFolder("unused"))
    return plan.clean_set(setup, work_chunks(dataset, cases), fold)


def crafted_set(job: CraftJob, dataset: Dataset, cases: Iterable[Case], **keywords: Any) -> ImageSet:
    """The images that an attack gives; none is made."""
    setup = setup_of(dataset, RunFolder("unused"), cases=cases, autocast=job.autocast, **keywords)
    return plan.attack_set(setup, job.request, member(job.source, job.source_recipe), job.role)


def fixed_noise_set(request: Request, dataset: Dataset, cases: Iterable[Case], **keywords: Any) -> ImageSet:
    """Noise of a fixed strength on some cases."""
    setup = setup_of(dataset, RunFolder("unused"), cases=cases, **keywords)
    return plan.fixed_set(setup, request, setup.folds[0])


def matched_noise_set(request: Request, attack: ImageSet, dataset: Dataset) -> ImageSet:
    """Noise with the SSIM of an attack."""
    return plan.matched_noise_set(setup_of(dataset, RunFolder("unused")), request, attack)


def craft(
    job: CraftJob,
    network: nn.Module,
    dataset: Dataset,
    cases: Iterable[Case],
    folder: RunFolder,
    *,
    progress: OnProgress = silent,
    **keywords: Any,
) -> ImageSet:
    """Craft all that is not finished."""
    keywords |= {"cases": tuple(cases), "autocast": job.autocast}
    setup = setup_of(dataset, folder, {job.source: network}, **keywords)
    images = plan.attack_set(setup, job.request, member(job.source, job.source_recipe), job.role)
    do = open_crafting(setup, images)
    todo = left(images, folder)
    for number, piece in enumerate(todo):
        do(piece, lambda done, note, before=number: progress((before + done) / len(todo), note))
    progress(1.0, "")
    return images


def craft_noise(images: ImageSet, dataset: Dataset, folder: RunFolder, *, batch_size: int = 16) -> None:
    """Match all that is not finished."""
    do = noise_job(setup_of(dataset, folder, batch_size=batch_size), images).open()
    for piece in left(images, folder):
        do(piece, silent)


def embed(
    sets: Iterable[ImageSet],
    target: StudyNetwork,
    network: nn.Module,
    dataset: Dataset,
    folder: RunFolder,
    *,
    batch_size: int = 16,
) -> None:
    """Embed all that is not finished."""
    setup = setup_of(dataset, folder, {target.id: network}, targets=[target], batch_size=batch_size)
    for images in sets:
        job = embedding_job(setup, images, target, {target.id.name: Speed(0, 0, 0)})
        do = job.open()
        for piece in job.left():
            do(piece, silent)


def evaluate(
    setup: Setup, sets: Iterable[ImageSet], *, boundaries: bool = False, progress: OnProgress = silent
) -> None:
    """Evaluate all that is not finished."""
    for images in sets:
        cells = list(cells_of([images], setup.targets, setup.bits))
        do = open_evaluation(setup, cells, boundaries=boundaries)
        for piece in range(len(images.chunks)):
            do(piece, progress)


def read_images(
    image_set: ImageSet, number: int, clean: Batch, dataset: Dataset, folder: RunFolder
) -> Tensor:
    """The images of a chunk."""
    return images_of(setup_of(dataset, folder), image_set, number, clean)[0]


def left(images: ImageSet, folder: RunFolder) -> list[int]:
    """The chunks of a set that are not finished."""
    return sorted(set(range(len(images.chunks))) - set(images.finished(folder)))

"""The jobs of a plan in their order, each with what it is expected to cost on this machine."""

from collections.abc import Set
from dataclasses import replace

import numpy as np

from medrobust.core import OnProgress, Task
from medrobust.running.craft import Crafting, open_crafting
from medrobust.running.embed import Embedding, embedded_chunks
from medrobust.running.estimate import Speeds
from medrobust.running.evaluate import Evaluation
from medrobust.running.examples import FACTS as EXAMPLES
from medrobust.running.examples import are_kept, example_cases, examples, made_of
from medrobust.running.explorer import FACTS as EXPLORED
from medrobust.running.exploring import explorer_job
from medrobust.running.image_sets import ImageSet
from medrobust.running.jobs import Job, Once
from medrobust.running.noise import Matching
from medrobust.running.pictures import as_picture, tsne_mark
from medrobust.running.plan import Attack, Plan
from medrobust.running.recipes import recipe_of
from medrobust.running.scan_counts import row_folders
from medrobust.running.selftests import selftest_jobs
from medrobust.running.setup import Trained
from medrobust.running.targets import Target, cells_of, finished
from medrobust.running.train import train
from medrobust.storage.schemas import EMBEDDINGS

TRAINING_PASSES = 2.0
"""A training step in passes: its gradient also reaches the weights, and an optimizer follows."""

NOISE_SECONDS = 0.02
"""Matching the noise of an image; no network takes part."""

SHOWN = {Task.CLASSIFICATION: 4, Task.SEGMENTATION: 2}
"""Cases in the figure of examples."""


def jobs_of(plan: Plan, speeds: Speeds) -> list[Job]:
    """All jobs, in their order."""
    setup = plan.setup
    trained = [network for network in (*setup.targets, *setup.surrogates) if network.is_trained_here]
    judged = zip(plan.targets, setup.targets, strict=True)
    return [
        *(_training(plan, network, speeds) for network in trained),
        *selftest_jobs(plan, speeds),
        *(_crafting(plan, attack, speeds) for attack in plan.attacks),
        *(_noise(plan, noise) for noise in plan.noise),
        *(_evaluation(plan, images, speeds, plan.tolerance) for images in plan.sets),
        *(_whole_test(plan, images, speeds) for images in plan.whole_test),
        *(job for target, network in judged for job in _embeddings(plan, target, network, speeds)),
        as_picture(_examples(plan), "examples", "examples", setup.folder, about="examples", made=EXAMPLES),
        as_picture(
            explorer_job(plan, speeds),
            "images one by one",
            "explorer",
            setup.folder,
            about="explorer",
            made=EXPLORED,
        ),
    ]


def _training(plan: Plan, network: Trained, speeds: Speeds) -> Job:
    setup = plan.setup
    config, cases = setup.study.trainings[network.id.name], setup.training_cases(network)
    validation = setup.fold(network).validation_cases
    recipe = recipe_of(config, setup.study.task)
    scans = len({case.scan_id for case in cases})
    shown = len(cases) if recipe.slices_per_scan is None else min(len(cases), recipe.slices_per_scan * scans)
    speed = speeds[network.id.name]
    per_epoch = TRAINING_PASSES * speed.gradient * shown + speed.forward * len(validation)

    def fit(progress: OnProgress) -> None:
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
        seconds=recipe.epochs * per_epoch,
        disk=4 * speed.parameters,
        pieces=1,
        finished=lambda: {0} if setup.folder.exists("models", network.id.folder, "card.json") else set(),
        open=lambda: Once(fit),
    )


def _crafting(plan: Plan, attack: Attack, speeds: Speeds) -> Job:
    setup, images, request = plan.setup, attack.images, attack.request
    passes = request.perturbation.passes(request.parameters)
    image_bytes = 4 * setup.dataset.channels * int(np.prod(setup.dataset.shape))

    def begin() -> Crafting:
        return open_crafting(
            images,
            setup.network(attack.source),
            setup.dataset,
            setup.folder,
            device=setup.device,
            limit=setup.limit,
            validation=setup.fold(attack.source).validation_cases,
        )

    return Job(
        kind="craft",
        name=images.name,
        title=f"craft {request.label} on {attack.source.id.title}",
        seconds=images.n_cases * passes * speeds[attack.source.id.name].gradient,
        disk=images.n_cases * image_bytes,
        pieces=len(images.chunks),
        finished=lambda: images.finished(setup.folder),
        open=begin,
    )


def _noise(plan: Plan, noise: ImageSet) -> Job:
    setup = plan.setup
    return Job(
        kind="noise",
        name=noise.name,
        title=f"match {_title(noise)}",
        seconds=noise.n_cases * NOISE_SECONDS,
        disk=0,
        pieces=len(noise.chunks),
        finished=lambda: noise.finished(setup.folder),
        open=lambda: Matching(noise, setup.dataset, setup.folder, setup.limit.size),
    )


def _whole_test(plan: Plan, images: ImageSet, speeds: Speeds) -> Job:
    """The clean score on all test cases, of which only some are attacked."""
    return replace(_evaluation(plan, images, speeds, None), title="score the whole test set")


def _evaluation(plan: Plan, images: ImageSet, speeds: Speeds, tolerance: float | None) -> Job:
    """Show a set to all targets that face it."""
    setup = plan.setup
    cells = list(cells_of([images], plan.targets, plan.bits))
    folders = [folder for cell in cells for _, folder in row_folders(cell, setup.study.task, tolerance)]
    return Job(
        kind="evaluate",
        name=images.name,
        title=f"evaluate {_title(images)}",
        seconds=images.n_cases * sum(speeds[cell.target.network_id.name].forward for cell in cells),
        disk=0,
        pieces=len(images.chunks),
        finished=lambda: finished(folders, setup.folder),
        open=lambda: Evaluation(images, plan.judges, tolerance),
    )


def _title(images: ImageSet) -> str:
    return images.perturbation + (f" on {images.source.title}" if images.source else "")


def _embeddings(plan: Plan, target: Target, network: Trained, speeds: Speeds) -> list[Job]:
    """Features of everything that the t-SNE of a target compares."""
    return [
        as_picture(
            _embedding(plan, images, target, network, speeds),
            f"t-SNE of {network.id.title}",
            tsne_mark(target),
            plan.setup.folder,
            about="embedding",
        )
        for images in plan.embedded(target)
    ]


def _embedding(plan: Plan, images: ImageSet, target: Target, network: Trained, speeds: Speeds) -> Job:
    setup = plan.setup
    folders = [cell.rows_folder(EMBEDDINGS) for cell in cells_of([images], [target], None)]
    chunks = embedded_chunks(images.chunks)
    n_cases = sum(len(images.chunks[chunk]) for chunk in chunks)

    def embedded() -> Set[int]:
        done = finished(folders, setup.folder)
        return {piece for piece, chunk in enumerate(chunks) if chunk in done}

    def begin() -> Embedding:
        step = Embedding(
            images, target, setup.network(network), setup.dataset, setup.folder, setup.device, setup.limit
        )
        step.remember_weights()
        return step

    return Job(
        kind="embed",
        name=f"{target.name}/{images.name}",
        title=f"embed {images.perturbation} with {network.id.title}",
        seconds=n_cases * speeds[network.id.name].forward,
        disk=0,
        pieces=len(chunks),
        finished=embedded,
        open=begin,
    )


def _examples(plan: Plan) -> Job:
    setup = plan.setup
    cases = example_cases(setup.folds[0].cases, setup.study.task, SHOWN[setup.study.task])
    of = made_of(plan.shown, plan.targets[:1], cases)

    def keep(progress: OnProgress) -> None:
        examples(
            plan.shown,
            plan.targets[0],
            setup.network(setup.targets[0]),
            setup.dataset,
            cases,
            setup.folder,
            device=setup.device,
        )
        progress(1.0, "")

    return Job(
        kind="examples",
        name="examples",
        title="keep examples",
        seconds=1.0,
        disk=0,
        pieces=1,
        finished=lambda: {0} if are_kept(setup.folder, of) else set(),
        open=lambda: Once(keep),
    )

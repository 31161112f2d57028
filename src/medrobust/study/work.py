"""The jobs of a plan in their order, each with what it is expected to cost on this machine."""

from collections.abc import Sequence

import numpy as np

from medrobust.core import Task, Tick
from medrobust.steps.craft import craft
from medrobust.steps.embed import embed, embedding_parts
from medrobust.steps.evaluate import evaluate
from medrobust.steps.examples import FACTS, example_cases, examples
from medrobust.steps.image_sets import ImageSet
from medrobust.steps.noise import craft_noise
from medrobust.steps.recipes import recipe_of
from medrobust.steps.targets import Target, cells_of
from medrobust.steps.train import train
from medrobust.study.estimate import Speeds
from medrobust.study.exploring import explorer_job
from medrobust.study.jobs import Job
from medrobust.study.plan import Attack, Plan
from medrobust.study.selftests import selftest_jobs
from medrobust.study.setup import Trained

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
    return [
        *(_training(plan, network, speeds) for network in trained),
        *selftest_jobs(plan, speeds),
        *(_crafting(plan, attack, speeds) for attack in plan.attacks),
        *(_noise(plan, noise) for noise in plan.noise),
        _evaluation(plan, speeds),
        *([_whole_test(plan, speeds)] if plan.whole_test else []),
        *(_embedding(plan, target, network, speeds) for target, network in _embedding_pairs(plan)),
        _examples(plan),
        explorer_job(plan, speeds),
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

    def run(tick: Tick) -> None:
        train(
            setup.fresh(network),
            setup.dataset,
            cases,
            validation,
            config=config,
            network_id=network.id,
            seed=setup.study.seed,
            folder=setup.folder.local("models", network.id.folder),
            device=setup.device,
            tick=tick,
        )

    return Job(
        kind="train",
        title=f"train {network.id.title}",
        seconds=recipe.epochs * per_epoch,
        disk=4 * speed.parameters,
        done=setup.folder.exists("models", network.id.folder, "card.json"),
        run=run,
    )


def _crafting(plan: Plan, attack: Attack, speeds: Speeds) -> Job:
    setup, images, request = plan.setup, attack.images, attack.job.request
    fold = setup.fold(attack.source)
    passes = request.perturbation.passes(request.parameters)
    image_bytes = 4 * setup.dataset.channels * int(np.prod(setup.dataset.shape))

    def run(tick: Tick) -> None:
        craft(
            attack.job,
            setup.network(attack.source),
            setup.dataset,
            fold.cases,
            setup.folder,
            seed=setup.study.seed,
            support_mode=setup.study.support,
            device=setup.device,
            batch_size=setup.study.crafting.batch_size,
            validation=fold.validation_cases,
            tick=tick,
        )

    return Job(
        kind="craft",
        title=f"craft {request.label} on {attack.source.id.title}",
        seconds=images.n_cases * passes * speeds[attack.source.id.name].gradient,
        disk=images.n_cases * image_bytes,
        done=images.is_done(setup.folder),
        run=run,
    )


def _noise(plan: Plan, noise: ImageSet) -> Job:
    setup = plan.setup
    size = setup.study.crafting.batch_size
    return Job(
        kind="noise",
        title=f"match {noise.perturbation}" + (f" on {noise.source.title}" if noise.source else ""),
        seconds=noise.n_cases * NOISE_SECONDS,
        disk=0,
        done=noise.is_done(setup.folder),
        run=lambda tick: craft_noise(noise, setup.dataset, setup.folder, batch_size=size, tick=tick),
    )


def _evaluation(plan: Plan, speeds: Speeds) -> Job:
    setup = plan.setup
    seconds = [
        cell.image_set.n_cases * speeds[cell.target.network_id.name].forward
        for cell in cells_of(plan.sets, plan.targets, plan.bits)
    ]
    return Job(
        kind="evaluate",
        title="evaluate all cells",
        seconds=sum(seconds),
        disk=0,
        done=all(setup.folder.exists(*part) for part in (*plan.evaluation_parts(), *plan.surface_parts())),
        run=lambda tick: _evaluate(plan, plan.sets, tick, plan.tolerance),
    )


def _whole_test(plan: Plan, speeds: Speeds) -> Job:
    """The clean score on all test cases, of which only some are attacked."""
    setup = plan.setup
    return Job(
        kind="evaluate",
        title="score the whole test set",
        seconds=sum(
            cell.image_set.n_cases * speeds[cell.target.network_id.name].forward
            for cell in cells_of(plan.whole_test, plan.targets, None)
        ),
        disk=0,
        done=all(setup.folder.exists(*part) for part in plan.whole_test_parts()),
        run=lambda tick: _evaluate(plan, plan.whole_test, tick),
    )


def _evaluate(plan: Plan, sets: Sequence[ImageSet], tick: Tick, tolerance: float | None = None) -> None:
    """Show images to all targets."""
    setup = plan.setup
    evaluate(
        sets,
        plan.targets,
        {target.id: setup.network(target) for target in setup.targets},
        setup.dataset,
        setup.folder,
        device=setup.device,
        batch_size=setup.study.crafting.batch_size,
        quantise=plan.bits,
        tolerance=tolerance,
        tick=tick,
    )


def _embedding_pairs(plan: Plan) -> list[tuple[Target, Trained]]:
    pairs = zip(plan.targets, plan.setup.targets, strict=True)
    return [(target, network) for target, network in pairs if plan.embedded(target)]


def _embedding(plan: Plan, target: Target, network: Trained, speeds: Speeds) -> Job:
    setup, sets = plan.setup, plan.embedded(target)
    return Job(
        kind="embed",
        title=f"embed with {network.id.title}",
        seconds=len(sets) * len(setup.fold(network).cases) * speeds[network.id.name].forward,
        disk=0,
        done=all(setup.folder.exists(*part) for part in embedding_parts(sets, target)),
        run=lambda tick: embed(
            sets,
            target,
            setup.network(network),
            setup.dataset,
            setup.folder,
            device=setup.device,
            batch_size=setup.study.crafting.batch_size,
            tick=tick,
        ),
    )


def _examples(plan: Plan) -> Job:
    setup = plan.setup
    cases = example_cases(setup.folds[0].cases, setup.study.task, SHOWN[setup.study.task])

    def run(tick: Tick) -> None:
        examples(
            plan.shown,
            plan.targets[0],
            setup.network(setup.targets[0]),
            setup.dataset,
            cases,
            setup.folder,
            device=setup.device,
        )
        tick(1.0, "")

    return Job(
        kind="examples",
        title="keep examples",
        seconds=1.0,
        disk=0,
        done=setup.folder.exists(*FACTS),
        run=run,
    )

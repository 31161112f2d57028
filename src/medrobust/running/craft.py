"""Crafting: attack a source on every case, measure the images as stored, and store them chunk by chunk."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from medrobust.core import Case, OnProgress
from medrobust.errors import StudyError
from medrobust.metrics.similarity import l0, l2, linf, mean_over, mse, ssim_map
from medrobust.perturbations import (
    Request,
    Tally,
    aimed,
    fitted,
    perturb,
    solve_budget,
    support_of,
    targets_of,
)
from medrobust.perturbations.gradients import about, fraction_wrong
from medrobust.running.batches import Batch, batches, stack
from medrobust.running.estimate import Speeds
from medrobust.running.jobs import Do, Job
from medrobust.running.plan import ImageSet, budget_cases, fitted_cases
from medrobust.running.predict import Columns, check_weights, generators, output_of
from medrobust.running.rows import timed, write_crafted_rows
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.storage import ImageStore


def crafting_job(setup: Setup, images: ImageSet, speeds: Speeds) -> Job:
    """Make the images of an attack on a source; a piece is a chunk."""
    request, source = asked(images)
    entry = request.perturbation
    passes = images.chunks.n_cases * entry.passes(request.parameters)
    if entry.fits is not None:
        passes += entry.fits(request.parameters)
    image_bytes = 4 * setup.dataset.channels * math.prod(setup.dataset.shape)
    return Job(
        kind="craft",
        name=images.name,
        title=f"craft {request.label} on {source.id.title}",
        seconds=passes * speeds[source.id.name].gradient,
        disk=images.chunks.n_cases * image_bytes,
        pieces=len(images.chunks),
        finished=lambda: images.finished(setup.folder),
        open=lambda: open_crafting(setup, images),
    )


def asked(images: ImageSet) -> tuple[Request, StudyNetwork]:
    """The attack that makes a set, and the network that it is made on."""
    if images.request is None or images.source is None:
        raise ValueError(f"images: must be an attack on a source, got {images.name}.")
    return images.request, images.source


def open_crafting(setup: Setup, images: ImageSet) -> Do:
    """Open the store of an attack on a source, creating it if necessary, and solve the attack's budget.

    Raises:
        RunError: What the store holds was made with other weights of the source.
        StudyError: The budget is given as an SSIM, and there are no validation cases.
    """
    store, request = open_store(setup, images)

    def craft(piece: int, progress: OnProgress) -> None:
        chunk = images.chunks[piece]
        with timed(setup.folder, (*images.folder, "timing"), "craft", images.origin, piece, len(chunk)):
            attacked, columns = _attack_chunk(setup, images, request, chunk, progress)
            checksum = store.write(piece, attacked)
            write_crafted_rows(setup.folder, images, piece, columns)
            store.mark_done(piece, checksum, [case.case_id for case in chunk])

    return craft


def open_store(setup: Setup, images: ImageSet) -> tuple[ImageStore, Request]:
    """The store of an attack on a source, and the attack, its budget solved; raises as `open_crafting`."""
    request, source = asked(images)
    weights = setup.weights_sha256(source)
    store = ImageStore.create(
        setup.folder,
        *images.folder,
        chunks=[[case.case_id for case in chunk] for chunk in images.chunks],
        shape=(setup.dataset.channels, *setup.dataset.shape),
        card={**images.origin, "recipe": images.recipe, "weights": weights},
    )
    check_weights(store.card, weights, source.id.folder, "/".join(images.folder))
    if request.perturbation.mixes(request.parameters):
        cases = budget_cases(setup.fold(source).validation_cases)
        request = replace(request, supplied={"others": stack(setup.dataset, cases, setup.device).images})
    if request.ssim is not None:
        request = _solved(setup, images, request)
    return store, request if request.perturbation.fits is None else _fitted(setup, images, request)


def _fitted(setup: Setup, images: ImageSet, request: Request) -> Request:
    """An attack with the one change that was fitted on validation cases; fitted once, then on record."""
    source, record = asked(images)[1], (*images.folder, "found.f32.gz")
    if not setup.folder.exists(*record):
        cases = fitted_cases(setup.fold(source).validation_cases, setup.dataset.shape)
        batch = stack(setup.dataset, cases, setup.device)
        change = fitted(
            request,
            setup.network(source),
            batch.images,
            aimed(request, batch.labels, setup.dataset.classes),
            support_of(batch.images, setup.study.support),
            generators(setup.study.seed, request.name, cases),
        ).supplied["found"]
        setup.folder.write_sealed(change.cpu().numpy().tobytes(), *record)
    found = torch.from_numpy(np.frombuffer(setup.folder.read_sealed(*record), np.float32).copy())
    return replace(request, supplied={"found": found[None].to(setup.device)})


def _solved(setup: Setup, images: ImageSet, request: Request) -> Request:
    """An attack with the budget that has the wanted SSIM on validation cases; solved once, then on record."""
    source = asked(images)[1]
    record = (*images.folder, "budget.json")
    if not setup.folder.exists(*record):
        cases = budget_cases(setup.fold(source).validation_cases)
        if not cases:
            raise StudyError(
                f"perturbations.{request.label}: a budget given as an SSIM is solved on validation cases, "
                f"but the split has none. Give {request.perturbation.budget} as a number, or a split with a "
                "validation part."
            )
        inputs = (
            (
                batch.images,
                aimed(request, batch.labels, setup.dataset.classes),
                support_of(batch.images, setup.study.support),
                generators(setup.study.seed, request.name, batch.cases),
            )
            for batch in batches(setup.dataset, cases, setup.limit.size, setup.device)
        )
        budget = solve_budget(request, setup.told(source, cases), inputs)
        setup.folder.write_json(
            {"budget": budget, "ssim": request.ssim, "cases": [case.case_id for case in cases]}, *record
        )
    return request.with_budget(setup.folder.read_json(*record)["budget"])


def _attack_chunk(
    setup: Setup, images: ImageSet, request: Request, chunk: Sequence[Case], progress: OnProgress
) -> tuple[Float32[np.ndarray, "n c *space"], Columns]:
    source = asked(images)[1]
    made = np.empty((len(chunk), setup.dataset.channels, *setup.dataset.shape), np.float32)
    columns: Columns = {}
    done = 0
    for batch in batches(setup.dataset, chunk, setup.limit.size, setup.device):
        attack = partial(attack_part, setup, source, request, batch)
        for place, (attacked, measured) in setup.limit.parts(len(batch.cases), attack):
            made[done + place.start : done + place.stop] = attacked.numpy()
            for name, values in measured.items():
                columns.setdefault(name, []).extend(values)
        done += len(batch.cases)
        progress(done / len(chunk), "")
    return made, columns


def attack_part(
    setup: Setup, source: StudyNetwork, request: Request, batch: Batch, place: slice
) -> tuple[Float32[Tensor, "n c *space"], Columns]:
    """Attack a part of a batch on the source's device; returns the images to store, and what is measured.

    An image counts as already wrong, for the policy, if nothing of it is right: its class, every finding that
    is attacked, or every pixel. Those that are kept, and failures that are not wanted, are the clean images.
    Random draws of an image depend on its case and the study's seed only. The budget of the request must be
    solved.

    Raises:
        ModelError: The network's outputs are not finite.
    """
    cases, clean, labels = batch.part(place)
    labels = aimed(request, labels, setup.dataset.classes)
    network, spacing = setup.told(source, cases), setup.dataset.spacing
    rngs = generators(setup.study.seed, request.name, cases)
    targets = targets_of(request, labels, rngs, spacing)
    support = support_of(clean, setup.study.support)

    def predict(images: Tensor, places: Sequence[int]) -> Int64[Tensor, "n *labelspace"]:
        of = [cases[place] for place in places]
        return output_of(about(network, places), images, name=source.id.folder, cases=of).max(1).indices

    before = predict(clean, range(len(cases)))
    already_wrong = fraction_wrong(before, labels)
    treatment = request.on_misclassified
    if treatment == "drop":  # only marks images for a table of their own: no other table changes by it
        treatment = request.perturbation.on_misclassified
    is_attacked = (already_wrong < 1) | (treatment != "keep")
    chosen = is_attacked.nonzero()[:, 0]
    made, after, tally = clean.clone(), before.clone(), Tally()
    if len(chosen):
        places = chosen.tolist()
        with torch.autocast(setup.device.type, enabled=setup.study.crafting.autocast):
            made[chosen] = perturb(
                request,
                about(network, places),
                clean[chosen],
                labels[chosen],
                support=support[chosen],
                rngs=[rngs[place] for place in places],
                spacing=spacing,
                targets=None if targets is None else targets[chosen],
                tally=tally,
            )
        after[chosen] = predict(made[chosen], places)
    has_failed = is_attacked & (fraction_fooled(after, labels, targets) == 0)
    if request.on_failure == "clean":
        made[has_failed], after[has_failed] = clean[has_failed], before[has_failed]
    is_dropped = (already_wrong == 1) & (request.on_misclassified == "drop")
    budget = request.perturbation.budget
    columns: Columns = {
        **distances(clean, made, support),
        "strength": [None if budget is None else float(request.parameters[budget])] * len(cases),
        "steps": _spread(tally.steps, is_attacked),
        "outcome": np.select(
            [mask.cpu().numpy() for mask in (is_dropped, ~is_attacked, has_failed)],
            ["dropped", "kept_clean", "failed"],
            "crafted",
        ).tolist(),
        "already_wrong": values_of(already_wrong),
        "fooled_source": values_of(fraction_fooled(after, labels, targets)),
        "n_active": _spread(tally.n_active, is_attacked),
    }
    return made.cpu(), columns


def _spread(values: Int64[Tensor, " m"] | None, is_attacked: Bool[Tensor, " n"]) -> list[int | None]:
    """Values of the attacked images, 0 for the others; None for an attack that counts nothing."""
    if values is None:
        return [None] * len(is_attacked)
    spread = torch.zeros(len(is_attacked), dtype=torch.int64)
    spread[is_attacked.cpu()] = values.cpu()
    return spread.tolist()


DISTANCES = ("mse", "l0", "l2", "linf", "ssim", "ssim_image")


def distances(
    clean: Float[Tensor, "n c *space"],
    images: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
) -> Columns:
    """Distances of perturbed images to the clean ones, both in [0, 1], by column name.

    `ssim` is averaged over the support (None: everywhere), `ssim_image` over the whole image.
    """
    similarity = ssim_map(clean, images)
    norms = [norm(clean, images) for norm in (mse, l0, l2, linf)]
    measured = [*norms, mean_over(similarity, support), mean_over(similarity)]
    return {name: values_of(column) for name, column in zip(DISTANCES, measured, strict=True)}


def fraction_fooled(
    predictions: Int64[Tensor, "n *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    targets: Int64[Tensor, "n *labelspace"] | None,
) -> Float64[Tensor, " n"]:
    """How far the source does what the attack wanted, in [0, 1], by its predictions on the perturbed images.

    With targets, the fraction of the pixels with target != truth that are predicted as the target, NaN where
    there is no such pixel. Without (None), the fraction of labels that are wrong.
    """
    if targets is None:
        return fraction_wrong(predictions, labels)
    wanted = (targets != labels).reshape(len(labels), -1)
    shown = (predictions == targets).reshape(len(labels), -1) & wanted
    return shown.sum(1).double() / wanted.sum(1)


def values_of(column: Float[Tensor, " n"]) -> list[float | None]:
    """A column as Python numbers; None where it is not defined."""
    return [None if math.isnan(value) else value for value in column.tolist()]

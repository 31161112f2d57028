"""Searching: the worst plausible image of every case for a target; only its parameters are stored."""

from functools import partial

import torch
from jaxtyping import Float32
from torch import Tensor

from medrobust.core import OnProgress
from medrobust.errors import StudyError
from medrobust.perturbations import Tally, moved, support_of
from medrobust.perturbations.geometry import acted_on
from medrobust.running.batches import Batch, batches
from medrobust.running.craft import asked, distances
from medrobust.running.estimate import Speeds
from medrobust.running.jobs import Do, Job
from medrobust.running.noise import CPU, write_theta
from medrobust.running.plan import ImageSet
from medrobust.running.predict import Columns, generators, remember_weights
from medrobust.running.rows import timed, write_crafted_rows
from medrobust.running.setup import Setup


def search_job(setup: Setup, images: ImageSet, speeds: Speeds) -> Job:
    """Search a transform on a target; a piece is a chunk."""
    request, target = asked(images)
    entry, speed = request.perturbation, speeds[target.id.name]
    one = speed.forward if entry.is_gradient_free(request.parameters) else speed.gradient
    return Job(
        kind="craft",
        name=images.name,
        title=f"search {images.title}",
        seconds=images.chunks.n_cases * entry.passes(request.parameters) * one,
        disk=0,
        pieces=len(images.chunks),
        finished=lambda: images.finished(setup.folder),
        open=lambda: open_search(setup, images),
    )


def open_search(setup: Setup, images: ImageSet) -> Do:
    """Load the target, and record whose worst cases these are.

    Raises:
        RunError: Finished chunks were searched on other weights.
    """
    _, target = asked(images)
    remember_weights(setup.folder, setup.weights_sha256(target), target.id.folder, *images.folder)

    def search(piece: int, progress: OnProgress) -> None:
        n_cases = len(images.chunks[piece])
        with timed(setup.folder, (*images.folder, "timing"), "craft", images.origin, piece, n_cases):
            theta, columns = _search_chunk(setup, images, piece, progress)
            write_theta(setup.folder, images, piece, theta)
            write_crafted_rows(setup.folder, images, piece, columns)

    return search


def _search_chunk(
    setup: Setup, images: ImageSet, number: int, progress: OnProgress
) -> tuple[Float32[Tensor, "n p"], Columns]:
    """The parameters of a chunk, and what is measured of its images, made from these on the CPU."""
    request, _ = asked(images)
    columns: Columns = {}
    every: list[Tensor] = []
    done, chunk = 0, images.chunks[number]
    for batch in batches(setup.dataset, chunk, setup.limit.size, setup.device):
        n = len(batch.cases)
        parts = setup.limit.parts(n, partial(_search_part, setup, images, batch))
        every.append(torch.cat([theta for _, theta in parts]))
        clean, labels = batch.images.to(CPU), batch.labels.to(CPU)
        made = moved(request, clean, labels, spacing=setup.dataset.spacing, found=every[-1])
        where = acted_on(support_of(clean, setup.study.support), clean, made.images)
        measured: Columns = {
            **distances(clean, made.images, where),
            "strength": [float(request.parameters["strength"])] * n,
            "outcome": ["crafted"] * n,
            **{name: [None] * n for name in ("steps", "already_wrong", "fooled_source", "n_active")},
        }
        for name, values in measured.items():
            columns.setdefault(name, []).extend(values)
        done += n
        progress(done / len(chunk), "")
    return torch.cat(every), columns


def _search_part(setup: Setup, images: ImageSet, batch: Batch, place: slice) -> Float32[Tensor, "n p"]:
    """Search for a part of a batch on the target's device."""
    request, target = asked(images)
    cases, clean, labels = batch.part(place)
    rngs, tally = generators(setup.study.seed, request.name, cases), Tally()
    spacing = setup.dataset.spacing
    moved(request, clean, labels, setup.told(target, cases), rngs=rngs, spacing=spacing, tally=tally)
    if tally.theta is None:
        raise StudyError(
            f"perturbations.{request.label}: {request.name} must fill `tally.theta` with the parameters that "
            "it found, as functions with `@searched` do."
        )
    return tally.theta.cpu()

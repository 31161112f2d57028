"""Images made without a network; only the strength of each is stored, and they are made again when read.

These are noise, matched to an attack or of a fixed strength, and corruptions. They are always made on the
CPU, so that a case has the same noise on every machine.
"""

import math

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from medrobust.core import OnProgress
from medrobust.errors import RunError
from medrobust.perturbations import Request, add_noise, match_noise, perturb, support_of
from medrobust.running.batches import Batch, batches
from medrobust.running.craft import distances, values_of
from medrobust.running.jobs import Job
from medrobust.running.plan import ImageSet
from medrobust.running.predict import Columns, generators
from medrobust.running.rows import timed, write_crafted_rows
from medrobust.running.setup import Setup
from medrobust.storage import RunFolder, read_rows
from medrobust.storage.schemas import CRAFTED

CPU = torch.device("cpu")

SECONDS = 5e-7
"""What matching takes per value of an image."""


def noise_job(setup: Setup, images: ImageSet) -> Job:
    """Solve the strength for every case of a set, and measure its images; a piece is a chunk."""

    def match(piece: int, progress: OnProgress) -> None:
        n_cases = len(images.chunks[piece])
        with timed(setup.folder, (*images.folder, "timing"), "noise", images.origin, piece, n_cases):
            write_crafted_rows(setup.folder, images, piece, _chunk_columns(setup, images, piece))

    return Job(
        kind="noise",
        name=images.name,
        title=f"match {images.title}",
        seconds=images.chunks.n_cases * setup.dataset.channels * math.prod(setup.dataset.shape) * SECONDS,
        disk=0,
        pieces=len(images.chunks),
        finished=lambda: images.finished(setup.folder),
        open=lambda: match,
    )


def _chunk_columns(setup: Setup, images: ImageSet, number: int) -> Columns:
    request = _request(images)
    attacked = None if images.attack is None else _attack_rows(images.attack, number, setup.folder)
    columns: Columns = {}
    done = 0
    for batch in batches(setup.dataset, images.chunks[number], setup.limit.size, CPU):
        n = len(batch.cases)
        rows = None if attacked is None else attacked[done : done + n]
        done += n
        support = support_of(batch.images, setup.study.support)
        strength, reached = _solve(setup, request, batch, support, rows)
        noisy = _noisy(setup, request, batch, support, strength)
        masks = [(strength == 0).numpy(), (~reached).numpy()]
        measured: Columns = {
            **distances(batch.images, noisy, support),
            "strength": values_of(strength),
            "steps": [None] * n,
            "outcome": np.select(masks, ["kept_clean", "failed"], "crafted").tolist(),
            "already_wrong": [None] * n if rows is None else rows["already_wrong"].to_list(),
            "fooled_source": [None] * n,
            "n_active": [None] * n,
        }
        for name, values in measured.items():
            columns.setdefault(name, []).extend(values)
    return columns


def _attack_rows(attack: ImageSet, number: int, folder: RunFolder) -> pl.DataFrame:
    if number not in attack.finished(folder):
        raise RunError(
            f"Noise can be matched to '{attack.perturbation}' only after its images are crafted; "
            f"{attack.name} is not finished. Run the study again: what is finished is kept."
        )
    return read_rows(folder, CRAFTED, *attack.rows_part(number))


def _solve(
    setup: Setup,
    request: Request,
    batch: Batch,
    support: Bool[Tensor, "n 1 *space"],
    attacked: pl.DataFrame | None,
) -> tuple[Float32[Tensor, " n"], Bool[Tensor, " n"]]:
    """Strength for each image, and whether it reaches the wanted SSIM."""
    if attacked is not None:
        goal = torch.from_numpy(attacked["ssim"].fill_null(math.nan).to_numpy(writable=True)).float()
    elif request.ssim is not None:
        goal = torch.full((len(batch.cases),), request.ssim)
    else:
        given = request.parameters.get(str(request.perturbation.budget), math.nan)
        strength = torch.full((len(batch.cases),), float(given))
        return strength, torch.ones_like(strength, dtype=torch.bool)
    rngs = generators(setup.study.seed, request.name, batch.cases)
    solution = match_noise(request, batch.images, batch.labels, goal, support=support, rngs=rngs)
    return solution.strength, solution.reached


def made_again(setup: Setup, images: ImageSet, number: int, clean: Batch) -> Float32[Tensor, "n c *space"]:
    """The images of a chunk, by the strengths on record.

    Raises:
        RunError: The chunk is not finished.
    """
    rows = read_rows(setup.folder, CRAFTED, *images.rows_part(number))
    support = support_of(clean.images, setup.study.support)
    return _noisy(setup, _request(images), clean, support, rows["strength"].to_torch().float())


def _noisy(
    setup: Setup,
    request: Request,
    clean: Batch,
    support: Bool[Tensor, "n 1 *space"],
    strength: Float32[Tensor, " n"],
) -> Float32[Tensor, "n c *space"]:
    rngs = generators(setup.study.seed, request.name, clean.cases)
    if request.unsolved:
        return add_noise(request, clean.images, clean.labels, strength, support=support, rngs=rngs)
    spacing = setup.dataset.spacing
    return perturb(request, None, clean.images, clean.labels, support=support, rngs=rngs, spacing=spacing)


def _request(images: ImageSet) -> Request:
    if images.request is None:
        raise ValueError(f"images: must be noise, got {images.name}.")
    return images.request

"""Images of which only a few numbers are stored, and which are made again when read.

These are noise, matched to an attack or of a fixed strength, and corruptions, by their strength; and
transforms, by the parameters that a search found. They are always made on the CPU, so that a case has the
same noise on every machine.
"""

import io
import math
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from medrobust.core import OnProgress, sides_of
from medrobust.errors import RunError
from medrobust.perturbations import Moved, Request, add_noise, match_noise, moved, perturb, support_of
from medrobust.perturbations.geometry import acted_on
from medrobust.running.batches import Batch, batches, evenly_spaced
from medrobust.running.craft import DISTANCES, distances, values_of
from medrobust.running.jobs import Job
from medrobust.running.plan import ImageSet
from medrobust.running.predict import Columns, generators
from medrobust.running.rows import timed, write_crafted_rows
from medrobust.running.setup import Setup
from medrobust.storage import Parts, RunFolder, read_rows
from medrobust.storage.schemas import CRAFTED

CPU = torch.device("cpu")

SECONDS = 5e-7
"""What matching takes per value of an image."""

MEASURED = 32
"""Cases, evenly spaced, on which the similarity of a corruption of a given strength is measured.

It only describes the severity; on every image it would cost nearly as much as asking a small network."""


def noise_job(setup: Setup, images: ImageSet) -> Job:
    """Solve the strength for every case of a set, and measure its images; a piece is a chunk."""

    def match(piece: int, progress: OnProgress) -> None:
        n_cases = len(images.chunks[piece])
        with timed(setup.folder, (*images.folder, "timing"), "noise", images.origin, piece, n_cases):
            write_crafted_rows(setup.folder, images, piece, _chunk_columns(setup, images, piece))

    return Job(
        kind="noise",
        name=images.name,
        title=f"{'match' if images.matched else 'measure'} {images.title}",
        seconds=images.chunks.n_cases * setup.dataset.channels * math.prod(setup.dataset.shape) * SECONDS,
        disk=0,
        pieces=len(images.chunks),
        finished=lambda: images.finished(setup.folder),
        open=lambda: match,
    )


def _chunk_columns(setup: Setup, images: ImageSet, number: int) -> Columns:
    request = _request(images)
    attacked = None if images.matched is None else _attack_rows(images.matched, number, setup.folder)
    is_corruption = request.perturbation.role == "corruption"
    some = {*evenly_spaced(tuple(images.cases), MEASURED)} if is_corruption and not request.unsolved else None
    columns: Columns = {}
    done = 0
    for batch in batches(setup.dataset, images.chunks[number], setup.limit.size, CPU):
        n = len(batch.cases)
        rows = None if attacked is None else attacked[done : done + n]
        done += n
        support = support_of(batch.images, setup.study.support)
        strength, reached = _solve(setup, request, batch, support, rows)
        masks = [(strength == request.perturbation.neutral).numpy(), (~reached).numpy()]
        measured: Columns = {
            "strength": values_of(strength),
            "steps": [None] * n,
            "outcome": np.select(masks, ["kept_clean", "failed"], "crafted").tolist(),
            "already_wrong": [None] * n if rows is None else rows["already_wrong"].to_list(),
            "fooled_source": [None] * n,
            "n_active": [None] * n,
            **dict.fromkeys(DISTANCES, [None] * n),
        }
        places = [place for place, case in enumerate(batch.cases) if some is None or case in some]
        if places:
            part, where = batch.part(places), support[places]
            noisy = _made(setup, request, part, where, strength[places]).images
            if is_corruption:
                where = acted_on(where, part.images, noisy)
            for name, values in distances(part.images, noisy, where).items():
                known = dict(zip(places, values, strict=True))
                measured[name] = [known.get(place) for place in range(n)]
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
    spacing = setup.dataset.spacing
    solution = match_noise(
        request, batch.images, batch.labels, goal, support=support, rngs=rngs, spacing=spacing
    )
    return solution.strength, solution.reached


def made_again(setup: Setup, images: ImageSet, number: int, clean: Batch) -> Moved:
    """The images of a chunk, by the strengths on record, and their labels, which may have moved.

    Raises:
        RunError: The chunk is not finished.
    """
    if images.role == "transform":
        return _transformed(setup, images, clean, clean.labels)
    rows = read_rows(setup.folder, CRAFTED, *images.rows_part(number))
    support = support_of(clean.images, setup.study.support)
    return _made(setup, _request(images), clean, support, rows["strength"].to_torch().float())


def moved_along(
    setup: Setup, images: ImageSet, clean: Batch, maps: Int64[Tensor, "n *space"]
) -> Int64[Tensor, "n *space"]:
    """Label maps of clean images where a set has their pixels; `UNKNOWN` where that shows none of them."""
    if images.role == "transform":
        return _transformed(setup, images, clean, maps).labels
    rngs = generators(setup.study.seed, _request(images).name, clean.cases)
    spacing, sides = setup.dataset.spacing, sides_of(setup.dataset.classes)
    return moved(_request(images), clean.images, maps, rngs=rngs, spacing=spacing, sides=sides).labels


def _transformed(
    setup: Setup, images: ImageSet, clean: Batch, labels: Int64[Tensor, "n *labelspace"]
) -> Moved:
    """Cases of a chunk by the parameters that a search found for them."""
    number, chunk = next(found for found in enumerate(images.chunks) if clean.cases[0] in found[1])
    found = read_theta(setup.folder, images, number)
    theta = found[[chunk.index(case) for case in clean.cases]]
    return moved(_request(images), clean.images, labels, spacing=setup.dataset.spacing, found=theta)


def read_theta(folder: RunFolder, images: ImageSet, number: int) -> Float32[Tensor, "n p"]:
    """The parameters of the cases of a chunk.

    Raises:
        RunError: They are missing or damaged.
    """
    packed = folder.read_sealed(*theta_part(images, number))
    return torch.from_numpy(np.load(io.BytesIO(packed), allow_pickle=False))


def write_theta(folder: RunFolder, images: ImageSet, number: int, theta: Float32[Tensor, "n p"]) -> None:
    """Write the parameters of the cases of a chunk."""
    packed = io.BytesIO()
    np.save(packed, theta.numpy(), allow_pickle=False)
    folder.write_sealed(packed.getvalue(), *theta_part(images, number))


def theta_part(images: ImageSet, number: int) -> Parts:
    """Path of the parameters of a chunk of a transform."""
    return (*images.folder, "theta", f"{number:05d}.npy.gz")


def _made(
    setup: Setup,
    request: Request,
    clean: Batch,
    support: Bool[Tensor, "n 1 *space"],
    strength: Float32[Tensor, " n"],
) -> Moved:
    rngs, spacing = generators(setup.study.seed, request.name, clean.cases), setup.dataset.spacing
    drawn: dict[str, Any] = {"support": support, "rngs": rngs, "spacing": spacing}
    if request.unsolved:
        images = add_noise(request, clean.images, clean.labels, strength, **drawn)
    elif request.perturbation.role == "corruption":
        sides = sides_of(setup.dataset.classes)
        return moved(request, clean.images, clean.labels, rngs=rngs, spacing=spacing, sides=sides)
    else:
        images = perturb(request, None, clean.images, clean.labels, **drawn)
    return Moved(images, clean.labels, torch.ones_like(images[:, 0], dtype=torch.bool))


def _request(images: ImageSet) -> Request:
    if images.request is None:
        raise ValueError(f"images: must be noise, got {images.name}.")
    return images.request

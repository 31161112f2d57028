"""Noise as a recipe: the strength of each image is solved and stored, the images are made again when read.

Noise is always made on the CPU, so that a case has the same noise on every machine.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from medrobust.core import Dataset, OnProgress, silent
from medrobust.errors import RunError
from medrobust.perturbations import Request, match_noise, support_of
from medrobust.running.batches import Batch, batches
from medrobust.running.image_sets import ImageSet
from medrobust.running.measure import distances, values_of
from medrobust.running.parts import timed, write_crafted_rows
from medrobust.running.predict import Columns, generators
from medrobust.storage import ImageStore, RunFolder, read_rows
from medrobust.storage.schemas import CRAFTED

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Matching:
    """Solve the strength of noise for every case of a set and measure its images; a piece is a chunk.

    Attributes:
        image_set: Noise matched to an attack, or of a fixed strength or SSIM.
        dataset: Where the cases come from.
        folder: The run folder.
        batch_size: Images worked on together; of no effect on any image.
    """

    image_set: ImageSet
    dataset: Dataset
    folder: RunFolder
    batch_size: int = 16

    def do(self, piece: int, progress: OnProgress = silent) -> None:
        """Keep what is measured of a chunk.

        Raises:
            RunError: The attack's images are not finished, or the disk is full.
        """
        image_set, n_cases = self.image_set, len(self.image_set.chunks[piece])
        with timed(self.folder, image_set.timing_part(piece), "noise", image_set.origin, piece, n_cases):
            columns = _chunk_columns(image_set, piece, self.dataset, self.folder, self.batch_size)
            write_crafted_rows(self.folder, image_set, piece, columns)
        progress(1.0, "")


def images_of(
    image_set: ImageSet, number: int, clean: Batch, folder: RunFolder
) -> Float32[Tensor, "n c *space"]:
    """The images of a chunk under a set's perturbation, however they come back, on the CPU.

    Args:
        image_set: Which images.
        number: Which chunk.
        clean: The chunk as it is in the data, on the CPU.
        folder: The run folder.

    Raises:
        RunError: The chunk is not finished or damaged.
    """
    if image_set.kind == "clean":
        return clean.images
    if image_set.kind == "stored":
        return torch.from_numpy(ImageStore(folder, *image_set.folder).read(number))
    strength = read_rows(folder, CRAFTED, *image_set.rows_part(number))["strength"].to_torch().float()
    return _noisy(image_set, clean, _support(image_set, clean), strength)


def _chunk_columns(
    image_set: ImageSet, number: int, dataset: Dataset, folder: RunFolder, batch_size: int
) -> Columns:
    attacked = None if image_set.attack is None else _attack_rows(image_set.attack, number, folder)
    columns: Columns = {}
    done = 0
    for batch in batches(dataset, image_set.chunks[number], batch_size, CPU):
        rows = None if attacked is None else attacked[done : done + len(batch.cases)]
        done += len(batch.cases)
        for name, values in _batch_columns(image_set, batch, rows).items():
            columns.setdefault(name, []).extend(values)
    return columns


def _attack_rows(attack: ImageSet, number: int, folder: RunFolder) -> pl.DataFrame:
    if not attack.is_chunk_done(folder, number):
        raise RunError(
            f"Noise can be matched to '{attack.perturbation}' only after its images are crafted; "
            f"{attack.name} is not finished. Run the study again: what is finished is kept."
        )
    return read_rows(folder, CRAFTED, *attack.rows_part(number))


def _batch_columns(image_set: ImageSet, batch: Batch, attacked: pl.DataFrame | None) -> Columns:
    """What is stored of the noise of a batch; `attacked` holds the attack's rows of the same cases."""
    n = len(batch.cases)
    support = _support(image_set, batch)
    strength, reached = _solve(image_set, batch, support, attacked)
    images = _noisy(image_set, batch, support, strength)
    outcomes = np.select([(strength == 0).numpy(), (~reached).numpy()], ["kept_clean", "failed"], "crafted")
    columns: Columns = {
        name: values_of(column) for name, column in distances(batch.images, images, support).items()
    }
    return columns | {
        "strength": values_of(strength),
        "steps": [None] * n,
        "outcome": outcomes.tolist(),
        "already_wrong": [None] * n if attacked is None else attacked["already_wrong"].to_list(),
        "fooled_source": [None] * n,
        "n_active": [None] * n,
    }


def _solve(
    image_set: ImageSet, batch: Batch, support: Bool[Tensor, "n 1 *space"], attacked: pl.DataFrame | None
) -> tuple[Float32[Tensor, " n"], Bool[Tensor, " n"]]:
    """Strength of each image, and whether it gives the wanted SSIM."""
    request = _request(image_set)
    if attacked is not None:
        goal = torch.from_numpy(attacked["ssim"].fill_null(math.nan).to_numpy(writable=True)).float()
    elif request.ssim is not None:
        goal = torch.full((len(batch.cases),), request.ssim)
    else:
        strength = torch.full((len(batch.cases),), float(request.parameters["strength"]))
        return strength, torch.ones_like(strength, dtype=torch.bool)
    solution = match_noise(request.name, batch.images, goal, support=support, rngs=_rngs(image_set, batch))
    return solution.strength, solution.reached


def _noisy(
    image_set: ImageSet, clean: Batch, support: Bool[Tensor, "n 1 *space"], strength: Float32[Tensor, " n"]
) -> Float32[Tensor, "n c *space"]:
    noise = _request(image_set).perturbation.function
    noisy: Tensor = noise(
        None, clean.images, clean.labels, support=support, rngs=_rngs(image_set, clean), strength=strength
    )
    return noisy


def _request(image_set: ImageSet) -> Request:
    if image_set.request is None:
        raise ValueError(f"image_set: must be noise, got {image_set.name}.")
    return image_set.request


def _rngs(image_set: ImageSet, batch: Batch) -> list[np.random.Generator]:
    return generators(image_set.recipe["seed"], _request(image_set).name, batch.cases)


def _support(image_set: ImageSet, batch: Batch) -> Bool[Tensor, "n 1 *space"]:
    return support_of(batch.images, image_set.recipe["support"])

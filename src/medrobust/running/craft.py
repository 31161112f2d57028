"""Crafting: attack a source on every case, measure the images as stored, and store them by chunks."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from medrobust.core import Case, Dataset, OnProgress, silent
from medrobust.models import weights_sha256
from medrobust.perturbations import Request
from medrobust.running.attack import Attacked, Source, attack_batch
from medrobust.running.batches import Batch, batches
from medrobust.running.budget import with_budget
from medrobust.running.image_sets import ImageSet
from medrobust.running.memory import Limit
from medrobust.running.parts import timed, write_crafted_rows
from medrobust.running.predict import Columns, check_weights
from medrobust.storage import ImageStore, RunFolder


@dataclass(frozen=True)
class Crafting:
    """An attack on a source that can start; a piece is a chunk of its images.

    Attributes:
        image_set: The images to make.
        store: Where they go.
        source: The network.
        request: The attack, its budget solved.
        dataset: Where the cases come from.
        folder: The run folder.
        limit: Images attacked together; no parameter of the attack.
    """

    image_set: ImageSet
    store: ImageStore
    source: Source
    request: Request
    dataset: Dataset
    folder: RunFolder
    limit: Limit

    def do(self, piece: int, progress: OnProgress = silent) -> None:
        """Craft a chunk.

        Raises:
            ModelError: The network's outputs are not finite.
            RunError: The disk is full.
        """
        image_set, chunk = self.image_set, self.image_set.chunks[piece]
        with timed(self.folder, image_set.timing_part(piece), "craft", image_set.origin, piece, len(chunk)):
            images, columns = self._attacked(chunk, progress)
            checksum = self.store.write(piece, images)
            write_crafted_rows(self.folder, image_set, piece, columns)
            self.store.mark_done(piece, checksum, [case.case_id for case in chunk])

    def _attacked(
        self, chunk: tuple[Case, ...], progress: OnProgress
    ) -> tuple[Float32[np.ndarray, "n c *space"], Columns]:
        images = np.empty((len(chunk), self.dataset.channels, *self.dataset.shape), np.float32)
        columns: Columns = {}
        done = 0
        for batch in batches(self.dataset, chunk, self.limit.size, self.source.device):
            attack = partial(_attack_part, self.request, self.source, batch)
            for place, attacked in self.limit.parts(len(batch.cases), attack):
                images[done + place.start : done + place.stop] = attacked.images.numpy()
                for name, values in attacked.columns.items():
                    columns.setdefault(name, []).extend(values)
            done += len(batch.cases)
            progress(done / len(chunk), "")
        return images, columns


def open_crafting(
    image_set: ImageSet,
    network: nn.Module,
    dataset: Dataset,
    folder: RunFolder,
    *,
    device: torch.device | str = "cpu",
    limit: Limit | None = None,
    validation: Iterable[Case] = (),
) -> Crafting:
    """Open the store of an attack on a source, which is made where there is none, and solve its budget.

    Args:
        image_set: The images to make, from `crafted_set`.
        network: The source, prepared for being attacked, on `device`.
        dataset: Where the cases come from.
        folder: The run folder.
        device: Where the network is.
        limit: Images attacked together.
        validation: Cases that a budget given as an SSIM is solved on.

    Raises:
        RunError: What the store holds was made with other weights of the source.
        StudyError: The budget is given as an SSIM, and there are no validation cases.
    """
    if image_set.source is None or image_set.request is None:
        raise ValueError(f"image_set: must be an attack on a source, got {image_set.name}.")
    limit = limit or Limit()
    store = _open_store(image_set, network, image_set.source.folder, dataset, folder)
    recipe = image_set.recipe
    source = Source(
        network,
        image_set.source.folder,
        torch.device(device),
        recipe["seed"],
        recipe["support"],
        dataset.spacing,
        recipe["precision"] == "autocast",
    )
    request = with_budget(
        image_set.request,
        source,
        dataset,
        tuple(validation),
        limit.size,
        folder,
        (*image_set.folder, "budget.json"),
    )
    return Crafting(image_set, store, source, request, dataset, folder, limit)


def _attack_part(request: Request, source: Source, batch: Batch, place: slice) -> Attacked:
    return attack_batch(request, source, batch.part(place))


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

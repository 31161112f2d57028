"""Embedding: a target's features of clean, noisy and attacked images of the same cases."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from medrobust.core import Dataset, Tick, silent
from medrobust.models import Network
from medrobust.steps.image_sets import ImageSet, Part
from medrobust.steps.predict import outputs_of, remember_weights
from medrobust.steps.targets import Shown, Target, Visit, cells_of, parts_of
from medrobust.storage import RunFolder, frame_of, write_rows
from medrobust.storage.schemas import EMBEDDINGS


def embed(
    sets: Iterable[ImageSet],
    target: Target,
    network: Network,
    dataset: Dataset,
    folder: RunFolder,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    tick: Tick = silent,
) -> None:
    """Store a target's features of the images of some sets; what is done is not done again.

    Args:
        sets: Usually clean, an attack of the target's own surrogate, and its matched noise; all finished.
        target: The network.
        network: The same, on `device` and in eval mode.
        dataset: Where the cases come from.
        folder: The run folder.
        device: Where the network is.
        batch_size: Images that the network sees at once.
        tick: Told the progress after each chunk of a set.

    Raises:
        ModelError: Features are not finite.
        RunError: Images are not finished or damaged, the disk is full, or finished rows were made with other
            weights.
    """
    name = target.network_id.folder
    remember_weights(folder, network, name, *target.folder(EMBEDDINGS))
    visit = Visit(
        cells_of(sets, [target], None),
        lambda cell, chunk: not folder.exists(*cell.part(EMBEDDINGS, chunk)),
        dataset,
        folder,
    )
    total = len(visit)
    for number, shown in enumerate(visit, 1):
        features = outputs_of(
            network.features,
            shown.images,
            name=name,
            cases=shown.clean.cases,
            device=device,
            batch_size=batch_size,
        )
        rows = _rows(shown, torch.cat([part.float().cpu() for _, part in features]))
        write_rows(folder, frame_of(EMBEDDINGS, rows), *shown.cell.part(EMBEDDINGS, shown.chunk))
        tick(number / total, "")
    tick(1.0, "")


def embedding_parts(sets: Iterable[ImageSet], target: Target) -> list[Part]:
    """Paths of all rows that `embed` leaves for these sets."""
    return parts_of(cells_of(sets, [target], None), EMBEDDINGS)


def _rows(shown: Shown, features: Float32[Tensor, "n d"]) -> list[dict[str, Any]]:
    shared = {name: value for name, value in shown.cell.columns.items() if name in EMBEDDINGS.schema}
    return [
        {
            **shared,
            "case_id": case.case_id,
            "patient_id": case.patient_id,
            "label": case.label,
            "embedding": vector,
        }
        for case, vector in zip(shown.clean.cases, features.tolist(), strict=True)
    ]

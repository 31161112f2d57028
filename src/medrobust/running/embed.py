"""Embedding: a target's features of clean, noisy and attacked images of the same cases.

A t-SNE of all cases of a large study would neither fit into memory nor show more: about `MOST_CASES` cases
at most are embedded, in chunks that are evenly spaced.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from medrobust.core import Dataset, OnProgress, silent
from medrobust.errors import ModelError
from medrobust.models import Network
from medrobust.running.chunks import Chunks
from medrobust.running.image_sets import ImageSet, Part
from medrobust.running.memory import Limit
from medrobust.running.predict import outputs_of, remember_weights
from medrobust.running.targets import Shown, Target, cells_of, shown
from medrobust.storage import RunFolder, frame_of, write_rows
from medrobust.storage.schemas import EMBEDDINGS

MOST_CASES = 2000

MOST_FEATURES = 20_000
"""Numbers per image; with more, those of all cases together would not fit into memory."""


@dataclass(frozen=True)
class Embedding:
    """Keep a target's features of the images of a set; a piece is one of its `embedded_chunks`.

    Attributes:
        image_set: Usually clean, an attack on the target's own surrogate, or its matched noise.
        target: The network.
        network: The same, on `device` and in eval mode.
        dataset: Where the cases come from.
        folder: The run folder.
        device: Where the network is.
        limit: Images that the network sees at once.
    """

    image_set: ImageSet
    target: Target
    network: Network
    dataset: Dataset
    folder: RunFolder
    device: torch.device | str = "cpu"
    limit: Limit = field(default_factory=Limit)

    def remember_weights(self) -> None:
        """Record whose weights the features are of, or compare with what is recorded.

        Raises:
            RunError: Finished features were made with other weights.
        """
        name = self.target.network_id.folder
        remember_weights(self.folder, self.network, name, *self.target.folder(EMBEDDINGS))

    def do(self, piece: int, progress: OnProgress = silent) -> None:
        """Keep the features of a chunk.

        Raises:
            ModelError: Features are not finite, unknown or too many.
            RunError: Images are not finished or damaged, or the disk is full.
        """
        chunk = embedded_chunks(self.image_set.chunks)[piece]
        cells = [
            cell
            for cell in cells_of([self.image_set], [self.target], None)
            if not self.folder.exists(*cell.part(EMBEDDINGS, chunk))
        ]
        for seen in shown(cells, chunk, self.dataset, self.folder):
            features = outputs_of(
                self.network.features,
                seen.images,
                name=self.target.network_id.folder,
                cases=seen.clean.cases,
                device=self.device,
                limit=self.limit,
            )
            rows = _rows(seen, torch.cat([_narrow(part).float().cpu() for _, part in features]))
            write_rows(self.folder, frame_of(EMBEDDINGS, rows), *seen.cell.part(EMBEDDINGS, chunk))
        progress(1.0, "")


def embedded_chunks(chunks: Chunks) -> tuple[int, ...]:
    """The chunks that are embedded: all, or as many as hold about `MOST_CASES` cases, evenly spaced."""
    count = max(1, len(chunks) * min(MOST_CASES, chunks.n_cases) // chunks.n_cases)
    return tuple(place * len(chunks) // count for place in range(count))


def embedding_parts(sets: Iterable[ImageSet], target: Target) -> list[Part]:
    """Paths of all rows that embedding leaves for these sets."""
    return [
        cell.part(EMBEDDINGS, chunk)
        for cell in cells_of(sets, [target], None)
        for chunk in embedded_chunks(cell.image_set.chunks)
    ]


def _narrow(features: Tensor) -> Tensor:
    if features.shape[1] > MOST_FEATURES:
        raise ModelError(
            f"It has {features.shape[1]:,} features per image, and no more than {MOST_FEATURES:,} are kept."
        )
    return features


def _rows(seen: Shown, features: Float32[Tensor, "n d"]) -> list[dict[str, Any]]:
    shared = {name: value for name, value in seen.cell.columns.items() if name in EMBEDDINGS.schema}
    return [
        {
            **shared,
            "case_id": case.case_id,
            "patient_id": case.patient_id,
            "label": case.label,
            "embedding": vector,
        }
        for case, vector in zip(seen.clean.cases, features.tolist(), strict=True)
    ]

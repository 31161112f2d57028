"""Embedding: what features a target extracts from clean, noisy and attacked images of the same cases.

A t-SNE of all cases of a large study would neither fit into memory nor show more, so at most about
`MOST_CASES` cases are embedded, in evenly spaced chunks.
"""

from collections.abc import Iterable, Set

import torch
from torch import Tensor

from medrobust.core import OnProgress
from medrobust.errors import ModelError
from medrobust.running.batches import Chunks
from medrobust.running.estimate import Speeds
from medrobust.running.evaluate import shown
from medrobust.running.jobs import Do, Job, as_picture
from medrobust.running.plan import ImageSet, Plan, cells_of, part_name, target_folder
from medrobust.running.predict import outputs_of, remember_weights
from medrobust.running.setup import Setup, StudyNetwork
from medrobust.storage import Parts, frame_of, write_rows
from medrobust.storage.schemas import EMBEDDINGS

MOST_CASES = 2000

MOST_FEATURES = 20_000
"""Features per image; with more, those of all cases together would not fit into memory."""


def embedding_jobs(plan: Plan, speeds: Speeds) -> list[Job]:
    """Features of everything that the t-SNE of each target compares."""
    return [
        as_picture(
            embedding_job(plan.setup, images, target, speeds),
            f"t-SNE of {target.id.title}",
            tsne_mark(target),
            plan.setup.folder,
            about="embedding",
        )
        for target in plan.setup.targets
        for images in plan.embedded(target)
    ]


def tsne_mark(target: StudyNetwork) -> str:
    """Mark of the t-SNE of a target, where the run could not make it."""
    return f"tsne-{target.id.folder}"


def embedding_job(setup: Setup, images: ImageSet, target: StudyNetwork, speeds: Speeds) -> Job:
    """Keep a target's features of the images of a set; a piece is one of its `embedded_chunks`."""
    chunks = embedded_chunks(images.chunks)
    folders = [cell.rows_folder(EMBEDDINGS) for cell in cells_of([images], [target])]

    def finished() -> Set[int]:
        done = setup.folder.all_numbers(folders)
        return {piece for piece, chunk in enumerate(chunks) if chunk in done}

    return Job(
        kind="embed",
        name=f"{target.key}/{images.name}",
        title=f"embed {images.perturbation} with {target.id.title}",
        seconds=sum(len(images.chunks[chunk]) for chunk in chunks) * speeds[target.id.name].forward,
        disk=0,
        pieces=len(chunks),
        finished=finished,
        open=lambda: open_embedding(setup, images, target),
    )


def open_embedding(setup: Setup, images: ImageSet, target: StudyNetwork) -> Do:
    """Load the target, and record whose weights the features are of.

    Raises:
        RunError: Finished features were made with other weights.
    """
    name, weights = target.id.folder, setup.weights_sha256(target)
    remember_weights(setup.folder, weights, name, *target_folder(target, EMBEDDINGS))
    cells = list(cells_of([images], [target]))

    def embed(piece: int, progress: OnProgress) -> None:
        chunk = embedded_chunks(images.chunks)[piece]
        for seen in shown(setup, cells, chunk):
            parts = outputs_of(setup, target, seen.images, seen.clean.cases, features=True)
            features = torch.cat([_narrow(part).float().cpu() for _, part in parts]).tolist()
            shared = {name: value for name, value in seen.cell.columns.items() if name in EMBEDDINGS.schema}
            rows = [
                {
                    **shared,
                    "case_id": case.case_id,
                    "patient_id": case.patient_id,
                    "label": case.label,
                    "embedding": vector,
                }
                for case, vector in zip(seen.clean.cases, features, strict=True)
            ]
            goal = (*seen.cell.rows_folder(EMBEDDINGS), part_name(chunk))
            write_rows(setup.folder, frame_of(EMBEDDINGS, rows), *goal)

    return embed


def embedded_chunks(chunks: Chunks) -> tuple[int, ...]:
    """The chunks that are embedded: all, or as many as hold about `MOST_CASES` cases, evenly spaced."""
    count = max(1, len(chunks) * min(MOST_CASES, chunks.n_cases) // chunks.n_cases)
    return tuple(place * len(chunks) // count for place in range(count))


def embedding_parts(sets: Iterable[ImageSet], target: StudyNetwork) -> list[Parts]:
    """Paths of all rows that embedding leaves for these sets."""
    return [
        (*cell.rows_folder(EMBEDDINGS), part_name(chunk))
        for cell in cells_of(sets, [target])
        for chunk in embedded_chunks(cell.image_set.chunks)
    ]


def _narrow(features: Tensor) -> Tensor:
    if features.shape[1] > MOST_FEATURES:
        raise ModelError(
            f"It has {features.shape[1]:,} features per image, but at most {MOST_FEATURES:,} can be kept."
        )
    return features

"""Views: a case under every perturbation as targets see it, small enough to be shown on a page.

Images are rounded to eight bits, changes to `LEVELS` steps of the largest one. Nothing is computed from them:
scores and distances are measured on the images as stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int8, Int64, UInt8
from torch import Tensor, nn

from medrobust.core import Case, Dataset, NetworkId, Task
from medrobust.running.batches import stack
from medrobust.running.image_sets import ImageSet
from medrobust.running.noise import CPU, images_of
from medrobust.running.predict import output_of
from medrobust.running.targets import Target
from medrobust.storage import RunFolder

LEVELS = 31
"""Steps on either side of zero that a change is rounded to."""


@dataclass(frozen=True)
class View:
    """One case under some sets, seen by some targets.

    Attributes:
        clean: The image in the data, in 255ths.
        changes: What each set adds to it, in `largest / LEVELS`.
        largest: The largest absolute change of each set, in [0, 1].
        truth: A class, or a label map.
        answers: Of each pair of a set and a target that faces it, see `pairs_of`: probabilities of the
            classes, or a label map.
    """

    clean: UInt8[np.ndarray, "c *space"]
    changes: Int8[np.ndarray, "set c *space"]
    largest: Float32[np.ndarray, " set"]
    truth: Int64[np.ndarray, "*labelspace"]
    answers: np.ndarray


def pairs_of(sets: Sequence[ImageSet], targets: Sequence[Target]) -> list[tuple[int, int]]:
    """Places of the sets and of the targets that face them, set by set."""
    return [
        (place, number)
        for place, image_set in enumerate(sets)
        for number, target in enumerate(targets)
        if target.faces(image_set)
    ]


def views(
    sets: Sequence[ImageSet],
    targets: Sequence[Target],
    networks: Mapping[NetworkId, nn.Module],
    dataset: Dataset,
    cases: Sequence[Case],
    folder: RunFolder,
    *,
    device: torch.device | str = "cpu",
) -> list[View]:
    """Look at some cases.

    Args:
        sets: Finished sets of the same cases.
        targets: Whose answers are wanted.
        networks: Each target's network, on `device` and in eval mode.
        dataset: Where the cases come from.
        cases: Those to look at, all of them in the sets.
        folder: The run folder.
        device: Where the networks are.

    Returns:
        A view of each case, in their order.

    Raises:
        ModelError: A network's outputs are not finite.
        RunError: Images are not finished or damaged.
        ValueError: The sets have different cases, or lack one to look at.
    """
    images, labels = collect(sets, cases, dataset, folder)
    return [
        View(
            *_changes(shown.numpy()),
            truth=label.numpy(),
            answers=_answers(shown, case, sets, targets, networks, dataset.task, device),
        )
        for case, shown, label in zip(cases, images, labels, strict=True)
    ]


def collect(
    sets: Sequence[ImageSet], cases: Sequence[Case], dataset: Dataset, folder: RunFolder
) -> tuple[Float32[Tensor, "case set c *space"], Int64[Tensor, "case *labelspace"]]:
    """Images of the cases in each set, and their labels; each chunk is read once.

    Raises:
        RunError: Images are not finished or damaged.
        ValueError: The sets have different cases, or lack one of these.
    """
    chunks = sets[0].chunks
    places = {case: (number, row) for number, chunk in enumerate(chunks) for row, case in enumerate(chunk)}
    if any(image_set.chunks != chunks for image_set in sets) or not all(case in places for case in cases):
        raise ValueError("sets: must have the same cases, and all that are to be shown among them.")
    found: dict[Case, tuple[Tensor, Tensor]] = {}
    for number in sorted({places[case][0] for case in cases}):
        clean = stack(dataset, chunks[number], CPU)
        columns = [images_of(image_set, number, clean, folder) for image_set in sets]
        for case in cases:
            if places[case][0] == number:
                row = places[case][1]
                found[case] = (torch.stack([images[row] for images in columns]), clean.labels[row])
    images, labels = zip(*(found[case] for case in cases), strict=True)
    return torch.stack(images), torch.stack(labels)


def _changes(
    shown: Float32[np.ndarray, "set c *space"],
) -> tuple[UInt8[np.ndarray, "c *space"], Int8[np.ndarray, "set c *space"], Float32[np.ndarray, " set"]]:
    """The clean image (the first set), what every set adds to it, and how much that is at most."""
    change = shown - shown[0]
    largest = np.abs(change).reshape(len(change), -1).max(1)
    step = np.where(largest > 0, largest, 1).reshape(-1, *(1 for _ in change.shape[1:]))
    return (
        np.rint(255 * shown[0].clip(0, 1)).astype(np.uint8),
        np.rint(LEVELS * (change / step)).astype(np.int8),
        largest.astype(np.float32),
    )


def _answers(
    shown: Float32[Tensor, "set c *space"],
    case: Case,
    sets: Sequence[ImageSet],
    targets: Sequence[Target],
    networks: Mapping[NetworkId, nn.Module],
    task: Task,
    device: torch.device | str,
) -> np.ndarray:
    """What every target says about the sets that it faces, in the order of `pairs_of`."""
    found = {}
    pairs = pairs_of(sets, targets)
    for number, target in enumerate(targets):
        places = [place for place, faced in pairs if faced == number]
        if not places:
            continue
        logits = output_of(
            networks[target.network_id],
            shown[places].to(device),
            name=target.network_id.folder,
            cases=[case] * len(places),
        ).float()
        said = logits.softmax(1) if task is Task.CLASSIFICATION else logits.argmax(1)
        found.update({(place, number): row for place, row in zip(places, said.cpu().numpy(), strict=True)})
    answers = np.stack([found[pair] for pair in pairs])
    return answers if task is Task.CLASSIFICATION else answers.astype(np.uint16)

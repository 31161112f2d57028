"""Open the data of a study, and check what can be checked before hours of work are spent."""

from pathlib import Path

import torch

from medrobust.core import Dataset, OnProgress, Part, silent
from medrobust.data import open_dataset
from medrobust.data.contract import checked
from medrobust.data.reading import read_all
from medrobust.data.splitting.splits import split_cases
from medrobust.errors import StudyError
from medrobust.models import Network, check_network, weights_sha256
from medrobust.running.folds import folds_of
from medrobust.running.progress import Say
from medrobust.running.setup import Setup, Trained
from medrobust.running.train import check_cases, check_training
from medrobust.storage import RunFolder
from medrobust.study.checks import (
    require_flat,
    require_same_task,
    require_slices,
    require_split,
    require_task,
)
from medrobust.study.config import Study


def set_up(
    study: Study,
    folder: RunFolder,
    *,
    data_dir: Path | None,
    device: torch.device,
    dataset: Dataset | None = None,
    cache: Path | None = None,
    progress: OnProgress = silent,
) -> Setup:
    """Open the data, make the split, and check what can be checked before any work.

    No image is decoded that opening does not need; `decode` reads them all.

    Args:
        study: What is asked for.
        folder: The run folder.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks will run.
        dataset: The data, where they are given in Python and not opened as the study says.
        cache: Folder for decoded data; in the run folder by default.
        progress: Told how far the data are opened.

    Raises:
        StudyError: The study asks for something that cannot be with these data.
        DataError: The data are missing, unreadable or inconsistent.
        ModelError: Weights that the user brought cannot be read, or do not fit.
    """
    require_split(study)
    require_task(study)
    require_slices(study)
    cache = cache or folder.local("cache")
    opened = open_dataset(study.data, cache, data_dir, progress) if dataset is None else checked(dataset)
    require_same_task(study, opened.name, opened.task)
    require_flat(opened.name, opened.shape)
    setup = Setup(study, folder, opened, folds_of(study, opened), device)
    _require_training_part(setup)
    _require_validation_part(setup)
    _require_brought_weights(setup)
    return setup


def decode(setup: Setup, progress: OnProgress = silent) -> None:
    """Read every image of a study once: a damaged file is found before hours of training.

    Raises:
        DataError: A file is damaged.
    """
    read_all(setup.dataset, setup.all_cases, progress)


def check_networks(setup: Setup, say: Say) -> None:
    """Show every network a few made-up images, train it a step where it is trained here, and compare a pair.

    Args:
        setup: The study, its data opened.
        say: Told what was changed so that a network runs.

    Raises:
        DataError: There is too little to train a network on.
        ModelError: A network cannot be judged, attacked or trained.
        StudyError: A surrogate is its target, or begins as that.
    """
    study, dataset = setup.study, setup.dataset
    for trained in (*setup.targets, *setup.surrogates):
        if trained.is_trained_here:
            cases, validation = setup.training_cases(trained), setup.fold(trained).validation_cases
            check_cases(dataset, cases, validation, study.trainings[trained.id.name], trained.id)
    count = len(study.specs)  # the first seed and fold; others are made in the same way
    for target, surrogate in zip(setup.targets[:count], setup.surrogates[:count], strict=True):
        pair = [setup.built(network) for network in (target, surrogate)]
        _require_own_weights(target, *pair)
        for which, network in zip((target, surrogate), pair, strict=True):
            name = which.id.name
            if which is surrogate and which.spec == target.spec:
                continue  # it is the same but for its random weights
            check_network(
                network,
                name,
                task=study.task,
                classes=len(dataset.classes),
                channels=dataset.channels,
                shape=tuple(dataset.shape),
            )
            if which.is_trained_here:
                check_training(network, dataset, setup.training_cases(which), study.trainings[name], name)
        _require_apart(setup, target, surrogate)
        if pair[0].note:
            say(f"models.{target.id.name}: {pair[0].note}")


def _require_own_weights(target: Trained, network: Network, other: Network) -> None:
    """See that a network is made anew whenever one is asked for."""
    if {*map(id, network.parameters())} & {*map(id, other.parameters())}:
        raise StudyError(
            f"study.models.{target.id.name}: {target.spec.load} returns the same weights in every call, so "
            "that a network and its surrogate would be one. Let it make a new network each time."
        )


def _require_training_part(setup: Setup) -> None:
    untrained = [
        network.id.folder for network in (*setup.targets, *setup.surrogates) if network.is_trained_here
    ]
    if untrained and not all(split_cases(setup.dataset, fold.split, Part.TRAIN) for fold in setup.folds):
        raise StudyError(
            f"study.split leaves no training patients, but {untrained[0]} is to be trained here. Give "
            "weights for it (models and surrogates.weights), or a split with a training part."
        )


def _require_validation_part(setup: Setup) -> None:
    for attack in setup.study.attacks:
        if attack.ssim is not None and not all(fold.validation_cases for fold in setup.folds):
            raise StudyError(
                f"study.perturbations.{attack.label}.{attack.perturbation.budget} is solved on validation "
                "cases, and the split has none. Give it as a number, or add a validation part."
            )


def _require_brought_weights(setup: Setup) -> None:
    """Load what is not trained here."""
    for network in (*setup.targets, *setup.surrogates):
        if not network.is_trained_here:
            setup.network(network)


def _require_apart(setup: Setup, target: Trained, surrogate: Trained) -> None:
    """See that a surrogate is not the target, and does not begin as a target that is trained already."""
    name = surrogate.id.name
    if not surrogate.is_trained_here and setup.recipe(surrogate) == setup.recipe(target):
        raise StudyError(
            f"study.surrogates.weights.{name}: holds the weights of the target itself, and a surrogate is "
            "trained apart from it. Give other weights, or leave the key out to train one."
        )
    if not surrogate.is_trained_here or target.is_trained_here:
        return
    if weights_sha256(setup.fresh(surrogate)) == weights_sha256(setup.network(target)):
        raise StudyError(
            f"study.models.{name}: {target.spec.load} loads the trained weights by itself, so that a "
            "surrogate trained here would begin as the target. Let it only make the network and name the "
            f"file in `weights`, or give a surrogate of your own in surrogates.weights.{name}."
        )

"""Everything that the jobs of one run share, read and checked before hours of work are spent."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from medrobust.core import Case, Dataset, NetworkId, Part, Role
from medrobust.data import open_dataset
from medrobust.data.contract import checked
from medrobust.data.splits import Split, halves, make_split, select_cases, split_cases
from medrobust.errors import StudyError
from medrobust.models import ModelSpec, Network, prepare, recipe
from medrobust.steps.train import fresh_network
from medrobust.steps.training_folder import load_trained
from medrobust.storage import RunFolder
from medrobust.study.checks import require_same_task, require_split, require_task
from medrobust.study.config import Study
from medrobust.study.estimate import Speed, measure_speed


@dataclass(frozen=True)
class Trained:
    """One network of a study: what it is, and which patients trained it.

    Attributes:
        id: Name, role and seed.
        spec: Architecture and weights, as the study says.
        split: Its own split; targets and surrogates differ where the study wants disjoint training data.
        is_trained_here: False for weights that the user brought.
    """

    id: NetworkId
    spec: ModelSpec
    split: Split
    is_trained_here: bool


@dataclass(frozen=True)
class Setup:
    """A study with its data opened, its split made and its networks named.

    Attributes:
        study: What is asked for.
        folder: Where everything goes.
        dataset: The data, decoded into the run folder's cache on first use.
        split: Part of each patient.
        cases: The one case set that everything is scored on.
        device: Where networks run.
    """

    study: Study
    folder: RunFolder
    dataset: Dataset
    split: Split
    cases: tuple[Case, ...]
    device: torch.device
    _loaded: dict[NetworkId, Network] = field(default_factory=dict, repr=False)

    @property
    def validation_cases(self) -> tuple[Case, ...]:
        """Cases that scores are watched on in training and budgets are solved on."""
        return split_cases(self.dataset, self.split, Part.VALIDATION)

    @cached_property
    def test_cases(self) -> tuple[Case, ...]:
        """All cases of the test patients; `cases` are some or all of them."""
        return split_cases(self.dataset, self.split, Part.TEST)

    @cached_property
    def targets(self) -> tuple[Trained, ...]:
        """The networks to judge."""
        split = self._splits[0]
        return tuple(
            Trained(NetworkId(spec.name, Role.TARGET, self.study.seed), spec, split, spec.train)
            for spec in self.study.specs
        )

    @cached_property
    def surrogates(self) -> tuple[Trained, ...]:
        """The networks that attacks are crafted on."""
        split, given = self._splits[1], self.study.surrogates.weights
        return tuple(
            Trained(
                NetworkId(spec.name, Role.SURROGATE, seed),
                surrogate_spec(spec, given.get(spec.name)),
                split,
                spec.name not in given,
            )
            for seed in self.study.surrogates.seeds
            for spec in self.study.specs
        )

    @cached_property
    def _splits(self) -> tuple[Split, Split]:
        if self.study.surrogates.data == "disjoint":
            return halves(self.dataset, self.split, self.study.seed)
        return self.split, self.split

    def training_cases(self, network: Trained) -> tuple[Case, ...]:
        """What a network is trained on."""
        return split_cases(self.dataset, network.split, Part.TRAIN)

    def fresh(self, network: Trained, *, initialise: bool = True) -> Network:
        """A network before training, or with the weights that the user brought."""
        return fresh_network(
            network.spec,
            self.dataset,
            network_id=network.id,
            seed=self.study.seed,
            initialise=initialise,
        )

    def network(self, network: Trained) -> Network:
        """A trained network, loaded and prepared once, when it is first needed."""
        if network.id not in self._loaded:
            body = self.fresh(network, initialise=not network.is_trained_here)
            if network.is_trained_here:
                load_trained(body, self.folder.local("models", network.id.folder))
            self._loaded[network.id] = prepare(body, self.device)
        return self._loaded[network.id]

    def speed(self, network: Trained) -> Speed:
        """What a network costs here. Building it also shows whether data and weights fit."""
        return measure_speed(self.fresh(network).to(self.device), self.dataset, self.device)

    def recipe(self, network: Trained) -> dict[str, Any]:
        """Everything that the weights of a network depend on, as JSON-able data."""
        made_from: dict[str, Any] = {"network": recipe(network.spec)}
        if network.is_trained_here:
            made_from |= {
                "training": self.study.trainings[network.id.name].model_dump(mode="json"),
                "data": self.dataset.fingerprint,
                "patients": {
                    patient: part
                    for patient, part in network.split.items()
                    if part in (Part.TRAIN, Part.VALIDATION)
                },
                "id": network.id.folder,
            }
        return made_from


def set_up(
    study: Study,
    folder: RunFolder,
    *,
    data_dir: Path | None,
    device: torch.device,
    dataset: Dataset | None = None,
) -> Setup:
    """Open the data, make the split, and check what can be checked before any work.

    Args:
        study: What is asked for.
        folder: The run folder; decoded data are kept in its `cache`.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks will run.
        dataset: The data, where they are given in Python and not opened as the study says.

    Raises:
        StudyError: The study asks for something that cannot be with these data.
        DataError: The data are missing, unreadable or inconsistent.
        ModelError: Weights that the user brought cannot be read, or do not fit.
    """
    require_split(study)
    require_task(study)
    cache = folder.local("cache")
    opened = open_dataset(study.data, cache, data_dir) if dataset is None else checked(dataset)
    require_same_task(study, opened.name, opened.task)
    split = make_split(opened, study.split, study.seed)
    cases = select_cases(
        opened, split, seed=study.seed, per_patient=study.cases.per_patient, total=study.cases.total
    )
    setup = Setup(study, folder, opened, split, cases, device)
    _require_training_part(setup)
    _require_validation_part(setup)
    _require_brought_weights(setup)
    for case in (*setup.test_cases, *setup.validation_cases):
        opened.read(case)  # decodes into the cache; a damaged file is found before hours of training
    return setup


def surrogate_spec(spec: ModelSpec, weights: Path | None) -> ModelSpec:
    """A surrogate of a network: the same architecture, trained here, or with weights of its own."""
    if weights is not None:
        return replace(spec, weights=str(weights), train=False)
    return spec if spec.train else replace(spec, weights="none", train=True)


def _require_training_part(setup: Setup) -> None:
    untrained = [
        network.id.folder for network in (*setup.targets, *setup.surrogates) if network.is_trained_here
    ]
    if untrained and not split_cases(setup.dataset, setup.split, Part.TRAIN):
        raise StudyError(
            f"study.split leaves no training patients, but {untrained[0]} is to be trained here. Give "
            "weights for it (models and surrogates.weights), or a split with a training part."
        )


def _require_validation_part(setup: Setup) -> None:
    for attack in setup.study.attacks:
        if attack.ssim is not None and not setup.validation_cases:
            raise StudyError(
                f"study.perturbations.{attack.label}.{attack.perturbation.budget} is solved on validation "
                "cases, and the split has none. Give it as a number, or add a validation part."
            )


def _require_brought_weights(setup: Setup) -> None:
    """Load what is not trained here, and see that a surrogate is not the target itself."""
    targets = {network.id.name: network for network in setup.targets}
    for network in (*setup.targets, *setup.surrogates):
        if not network.is_trained_here:
            setup.network(network)
    for surrogate in setup.surrogates:
        target = targets[surrogate.id.name]
        if not surrogate.is_trained_here and setup.recipe(surrogate) == setup.recipe(target):
            raise StudyError(
                f"study.surrogates.weights.{surrogate.id.name}: holds the weights of the target itself, and "
                "a surrogate is trained apart from it. Give other weights, or leave the key out to train one."
            )

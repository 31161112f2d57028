"""Everything that the jobs of one run share, read and checked before hours of work are spent."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from medrobust.core import Case, Dataset, NetworkId, Part, Role
from medrobust.data.splitting.splits import Split, halves, split_cases
from medrobust.models import ModelSpec, Network, prepare, recipe, to_channels_last
from medrobust.running.estimate import Speed, measure_speed
from medrobust.running.folds import Fold
from medrobust.running.image_sets import digest
from medrobust.running.memory import Limit
from medrobust.running.train import fresh_network
from medrobust.running.training_folder import load_trained
from medrobust.storage import RunFolder
from medrobust.study.config import Study


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
        folds: One split, or several in which every patient is tested once.
        device: Where networks run.
    """

    study: Study
    folder: RunFolder
    dataset: Dataset
    folds: tuple[Fold, ...]
    device: torch.device
    _loaded: dict[NetworkId, Network] = field(default_factory=dict, repr=False)
    _digests: dict[NetworkId, str] = field(default_factory=dict, repr=False)

    @cached_property
    def limit(self) -> Limit:
        """How many images are attacked and shown together."""
        return Limit(self.study.crafting.batch_size)

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The one case set that everything is scored on, of all folds."""
        return tuple(sorted((case for fold in self.folds for case in fold.cases), key=attrgetter("case_id")))

    @property
    def all_cases(self) -> tuple[Case, ...]:
        """Everything that some network is trained, watched or tested on."""
        return tuple(
            case for case in self.dataset.cases if self.folds[0].split[case.patient_id] != Part.UNUSED
        )

    @cached_property
    def targets(self) -> tuple[Trained, ...]:
        """The networks to judge, fold by fold."""
        return tuple(
            Trained(NetworkId(spec.name, Role.TARGET, seed, fold.number), spec, split, spec.train)
            for fold, (split, _) in self._splits
            for seed in self.study.targets.seeds
            for spec in self.study.specs
        )

    @cached_property
    def surrogates(self) -> tuple[Trained, ...]:
        """The networks that attacks are crafted on, fold by fold."""
        given = self.study.surrogates.weights
        return tuple(
            Trained(
                NetworkId(spec.name, Role.SURROGATE, seed, fold.number),
                surrogate_spec(spec, given.get(spec.name)),
                split,
                spec.name not in given,
            )
            for fold, (_, split) in self._splits
            for seed in self.study.surrogates.seeds
            for spec in self.study.specs
        )

    @cached_property
    def _splits(self) -> tuple[tuple[Fold, tuple[Split, Split]], ...]:
        """Every fold with the split of its targets and that of its surrogates."""
        if self.study.surrogates.data == "disjoint":
            return tuple((fold, halves(self.dataset, fold.split, self.study.seed)) for fold in self.folds)
        return tuple((fold, (fold.split, fold.split)) for fold in self.folds)

    def fold(self, network: Trained) -> Fold:
        """The fold that a network belongs to."""
        return self.folds[network.id.fold or 0]

    def training_cases(self, network: Trained) -> tuple[Case, ...]:
        """What a network is trained on."""
        cases = split_cases(self.dataset, network.split, Part.TRAIN)
        return tuple(case for case in cases if case.is_labelled)

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
                load_trained(body, self.folder.within("models", network.id.folder))
            self._loaded[network.id] = prepare(body, self.device)
        return self._loaded[network.id]

    def built(self, network: Trained) -> Network:
        """A network as it is before any work: where it runs, and with the weights that the user brought."""
        if not network.is_trained_here:
            return self.network(network)
        return to_channels_last(self.fresh(network).to(self.device))

    def speeds(self) -> dict[str, Speed]:
        """What each network costs here, by name."""
        first = self.targets[: len(self.study.specs)]  # those of further seeds and folds are as fast
        return {
            network.id.name: measure_speed(self.fresh(network).to(self.device), self.dataset, self.device)
            for network in first
        }

    def recipe(self, network: Trained) -> dict[str, Any]:
        """Everything that the weights of a network depend on, as JSON-able data."""
        made_from: dict[str, Any] = {"network": recipe(network.spec)}
        if network.is_trained_here:
            made_from |= {
                "training": self.study.trainings[network.id.name].deciding(),
                "data": self.dataset.fingerprint,
                "patients": {
                    patient: part
                    for patient, part in network.split.items()
                    if part in (Part.TRAIN, Part.VALIDATION)
                },
                "id": network.id.folder,
            }
        return made_from

    def digest(self, network: Trained) -> str:
        """Short hash of the recipe of a network."""
        if network.id not in self._digests:
            self._digests[network.id] = digest(self.recipe(network))
        return self._digests[network.id]


def surrogate_spec(spec: ModelSpec, weights: Path | None) -> ModelSpec:
    """A surrogate of a network: the same architecture, trained here, or with weights of its own."""
    if weights is not None:
        return replace(spec, weights=str(weights), train=False)
    return spec if spec.train else replace(spec, weights="none", train=True)

"""A study opened on this machine: its data, its splits, its networks. Every step of a run takes this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from medrobust.core import Case, Dataset, NetworkId, OnProgress, Part, Role, Task, sides_of, silent
from medrobust.data import open_dataset
from medrobust.data.contract import checked
from medrobust.data.splitting.case_sets import fewer_cases, select_cases
from medrobust.data.splitting.splits import Split, halves, make_folds, split_cases
from medrobust.errors import RunError, StudyError, reason, unknown
from medrobust.models import (
    Ensemble,
    ModelSpec,
    Network,
    Told,
    build,
    has_gradient,
    numbers_of,
    prepare,
    recipe,
    weights_sha256,
)
from medrobust.perturbations import Request
from medrobust.rng import integer_seed
from medrobust.running.batches import Chunks, Limit, at_once, work_chunks
from medrobust.running.training_folder import load_trained
from medrobust.storage import RunFolder, digest
from medrobust.study.checks import check_named_data, check_opened_data, require_split
from medrobust.study.config import Study
from medrobust.study.training import corruptions_of

ENSEMBLE = "ensemble"
"""Name, as a source, of all surrogates that are attacked as one network."""


@dataclass(frozen=True, eq=False)
class StudyNetwork:
    """One network of a study, judged or attacked.

    Attributes:
        id: Name, role, seed and fold.
        spec: Architecture and weights, as the study says.
        split: Its own split; targets and surrogates differ where the study wants disjoint training data.
        recipe: Everything that its weights depend on, as JSON-able data.
        members: The networks of an ensemble, which are attacked as one; else none.
    """

    id: NetworkId
    spec: ModelSpec
    split: Split
    recipe: Mapping[str, Any]
    members: tuple["StudyNetwork", ...] = ()

    @property
    def is_trained_here(self) -> bool:
        """False for weights that the user brought."""
        return self.spec.train

    @cached_property
    def digest(self) -> str:
        """Short hash of its recipe."""
        return digest(self.recipe)

    @property
    def key(self) -> str:
        """Names what is made with it: which network it is, and what it was made from."""
        return f"{self.id.folder}--{self.digest}"


@dataclass(frozen=True)
class Fold:
    """A split of the patients, with networks of its own.

    Attributes:
        number: Which one; None where a study has a single split.
        split: Part of each patient.
        cases: The test cases that everything is scored on.
        test_cases: All cases of its test patients; `cases` are some or all of them.
        validation_cases: Cases for the scores during training and for solving budgets.
        chunks: `cases` in chunks of work.
        test_chunks: `test_cases` in chunks of work.
    """

    number: int | None
    split: Split
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...]
    validation_cases: tuple[Case, ...]
    chunks: Chunks
    test_chunks: Chunks


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
    _weights: dict[NetworkId, str] = field(default_factory=dict, repr=False)
    _gradients: dict[NetworkId, bool] = field(default_factory=dict, repr=False)

    @cached_property
    def limit(self) -> Limit:
        """How many images are attacked and shown together."""
        return Limit(at_once(self.study.crafting.batch_size, self.dataset.shape))

    @property
    def bits(self) -> int | None:
        """Bits per channel that perturbed images are also rounded to; None: they are not."""
        return self.dataset.bits if self.study.crafting.quantise else None

    @property
    def tolerance(self) -> float | None:
        """Distance up to which boundaries of structures count as coinciding; None without label maps.

        By default the longest side of a pixel, since no grid shows less.
        """
        if not self.study.task.has_maps:
            return None
        return float(self.study.analysis.surface_tolerance or max(self.dataset.spacing or (1.0,)))

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The one case set that everything is scored on, of all folds."""
        return tuple(sorted((case for fold in self.folds for case in fold.cases), key=attrgetter("case_id")))

    @property
    def all_cases(self) -> tuple[Case, ...]:
        """Everything that some network is trained, validated or tested on."""
        split = self.folds[0].split
        return tuple(case for case in self.dataset.cases if split[case.patient_id] != Part.UNUSED)

    @cached_property
    def targets(self) -> tuple[StudyNetwork, ...]:
        """The networks to judge, fold by fold."""
        return tuple(
            self._network(NetworkId(spec.name, Role.TARGET, seed, fold.number), spec, split)
            for fold, split in zip(self.folds, self._splits(0), strict=True)
            for seed in self.study.targets.seeds
            for spec in self.study.specs
        )

    @cached_property
    def surrogates(self) -> tuple[StudyNetwork, ...]:
        """The networks that exist only to be attacked, fold by fold."""
        return tuple(
            self._network(NetworkId(spec.name, Role.SURROGATE, seed, fold.number), spec, split)
            for fold, split in zip(self.folds, self._splits(1), strict=True)
            for seed in self.study.surrogates.seeds
            for spec in self.study.surrogate_specs
        )

    @property
    def networks(self) -> tuple[StudyNetwork, ...]:
        """All networks of the study."""
        return (*self.targets, *self.surrogates)

    @property
    def trained_here(self) -> tuple[StudyNetwork, ...]:
        """The networks whose weights the user did not bring."""
        return tuple(network for network in self.networks if network.is_trained_here)

    @property
    def sources(self) -> tuple[StudyNetwork, ...]:
        """The networks whose attacks are transferred: surrogates, or with `others` the targets."""
        return self.targets if self.study.surrogates.models == "others" else self.surrogates

    @cached_property
    def ensembles(self) -> tuple[StudyNetwork, ...]:
        """All sources of a fold as one network; with `others` one for each target, of all others.

        Those without a gradient take no part. Empty where no attack asks for one.

        Raises:
            StudyError: There are fewer than two to join, or a member is told more than the images.
        """
        asked = [attack.label for attack in self.study.attacks if attack.crafted_on == "ensemble"]
        if not asked or not self.sources:
            return ()
        where = f"study.perturbations.{asked[0]}.crafted_on: an ensemble"
        able = [source for source in self.sources if self.has_gradient(source)]
        for source in able:
            if source.id.name == ENSEMBLE:
                raise StudyError(f"{where} has the name of a network of the study; call that one otherwise.")
            if source.spec.input.attributes:
                raise StudyError(
                    f"{where} joins networks that see images only, and {source.id.name} is told more "
                    "(`input.further`). Name other surrogates, or attack each by itself."
                )
        ensembles = []
        for fold in self.folds:
            members = [source for source in able if source.id.fold == fold.number]
            apart = self.targets if self.study.surrogates.models == "others" else ()
            joined = {
                f"{ENSEMBLE}-without-{target.id.name}": [each for each in members if each.id != target.id]
                for target in apart
                if target.id.fold == fold.number
            } or {ENSEMBLE: members}
            for name, own in joined.items():
                if len(own) < 2:
                    raise StudyError(
                        f"{where} joins at least two sources that have a gradient, and there "
                        f"{'is one' if own else 'is none'}. Name more networks in `surrogates: {{models: "
                        "[...]}`, or attack each by itself."
                    )
                network_id = NetworkId(name, Role.SURROGATE, own[0].id.seed, fold.number)
                made_from = {"ensemble": [member.key for member in own]}
                ensembles.append(StudyNetwork(network_id, own[0].spec, fold.split, made_from, tuple(own)))
        return tuple(ensembles)

    def is_attackable(self, request: Request, network: StudyNetwork) -> bool:
        """Whether an attack or transform is for a network, which has to give what it needs."""
        entry = request.perturbation
        if entry.needs == "scores" and network.spec.output.kind == "decisions":
            return False
        free = entry.needs != "gradient" or entry.is_gradient_free(request.parameters)
        return free or self.has_gradient(network)

    def has_gradient(self, network: StudyNetwork) -> bool:
        """Whether attacks may follow the gradient of a network, as the study says or else as it is."""
        if network.members:
            return True
        if network.spec.attackable is not None or network.is_trained_here:
            return network.spec.attackable is not False
        if network.id not in self._gradients:
            images = (self.dataset.channels, tuple(self.dataset.shape))
            self._gradients[network.id] = has_gradient(self.network(network), *images)
        return self._gradients[network.id]

    def fold(self, network: StudyNetwork) -> Fold:
        """The fold that a network belongs to."""
        return self.folds[network.id.fold or 0]

    def chunks_of(self, request: Request, network: StudyNetwork) -> Chunks:
        """The cases of a network's fold that an attack is crafted on, in chunks of work.

        Raises:
            StudyError: The attack asks for fewer cases than make sense.
        """
        fold = self.fold(network)
        if request.cases is None or request.cases >= len(self.cases):
            return fold.chunks
        where, own = f"study.perturbations.{request.label}.cases", {case.case_id for case in fold.cases}
        some = fewer_cases(self.dataset, self.cases, request.cases, seed=self.study.seed, where=where)
        chunks = work_chunks(self.dataset, [case for case in some if case.case_id in own])
        if not len(chunks):
            raise StudyError(
                f"{where}: leaves no case of fold {fold.number}; got {request.cases}. Take more."
            )
        return chunks

    def training_cases(self, network: StudyNetwork) -> tuple[Case, ...]:
        """What a network is trained on."""
        cases = split_cases(self.dataset, network.split, Part.TRAIN)
        return tuple(case for case in cases if case.is_labelled)

    def fresh(self, network: StudyNetwork, *, initialise: bool = True) -> Network:
        """A network before training, or with the weights that the user brought."""
        return fresh_network(
            network.spec, self.dataset, network_id=network.id, seed=self.study.seed, initialise=initialise
        )

    def network(self, network: StudyNetwork) -> Network:
        """A trained network, loaded and prepared once, when it is first needed."""
        if network.id not in self._loaded:
            if network.members:
                body: Network = Ensemble([self.network(member) for member in network.members])
            else:
                body = self.fresh(network, initialise=not network.is_trained_here)
                if network.is_trained_here:
                    load_trained(body, self.folder.within("models", network.id.folder))
            self._loaded[network.id] = prepare(body, self.device)
        return self._loaded[network.id]

    def told(self, network: StudyNetwork, cases: Sequence[Case]) -> Network | Told:
        """A trained network for a batch of cases, told what its `input.further` asks the data for."""
        loaded = self.network(network)
        if not loaded.input.attributes:
            return loaded
        known = self.dataset.attributes or {}
        return loaded.told([known.get(case.scan_id, {}) for case in cases])

    def weights_sha256(self, network: StudyNetwork) -> str:
        """SHA-256 of a trained network's weights, taken once."""
        if network.id not in self._weights:
            self._weights[network.id] = weights_sha256(self.network(network))
        return self._weights[network.id]

    def _splits(self, half: int) -> list[Split]:
        """The split of targets (0) or surrogates (1) in every fold."""
        if self.study.surrogates.data == "same":
            return [fold.split for fold in self.folds]
        return [halves(self.dataset, fold.split, self.study.seed)[half] for fold in self.folds]

    def _network(self, network_id: NetworkId, spec: ModelSpec, split: Split) -> StudyNetwork:
        made_from: dict[str, Any] = {"network": recipe(spec)}
        if spec.input.attributes:
            if spec.train:
                raise StudyError(
                    f"study.models.{spec.name}: `input.further` tells it of each case, which training cannot "
                    "do. Bring its weights, and take surrogates that see images only (`surrogates: {models: "
                    "[...]}`), `others` or `none`."
                )
            made_from["told"] = _told_of(spec, self.dataset)
        if spec.train:
            training = self.study.trainings[network_id.role, network_id.name]
            made_from |= {
                "training": training.deciding(),
                "data": self.dataset.fingerprint,
                "patients": {
                    patient: part for patient, part in split.items() if part in (Part.TRAIN, Part.VALIDATION)
                },
                "id": network_id.folder,
            }
            if corruptions := corruptions_of(training, self.study.task):
                made_from["corruptions"] = [each.recipe for each in corruptions]
        return StudyNetwork(network_id, spec, split, made_from)


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

    No image is decoded that opening does not need.

    Args:
        study: What is asked for.
        folder: The run folder.
        data_dir: Folder that the `root` of the data is relative to.
        device: Where networks will run.
        dataset: The data, where they are given in Python and not opened as the study says.
        cache: Folder for decoded data; in the run folder by default.
        progress: Told how far opening the data is.

    Raises:
        StudyError: The study asks for something that is impossible with these data.
        DataError: The data are missing, unreadable or inconsistent.
        ModelError: Weights that the user brought cannot be read, or do not fit.
    """
    require_split(study)
    check_named_data(study)
    cache = cache or folder.local("cache")
    if dataset is None:
        opened = open_dataset(study.data, cache, data_dir, progress, task=study.task)
    else:
        opened = checked(dataset)
    has_sides = study.task.has_maps and sides_of(opened.classes) is not None
    study = study.fitting(opened.channels, len(opened.shape), has_sides=has_sides)
    check_opened_data(study, opened)
    setup = Setup(study, folder, opened, folds_of(study, opened), device)
    _require_parts(setup)
    for network in setup.networks:
        if not network.is_trained_here:
            setup.network(network)
    return setup


def folds_of(study: Study, dataset: Dataset) -> tuple[Fold, ...]:
    """The splits of a study with their cases, chosen among all that are tested in any fold."""
    splits = make_folds(dataset, study.split, study.seed)
    tested = {patient for split in splits for patient, part in split.items() if part == Part.TEST}
    chosen = select_cases(
        dataset,
        {patient: Part.TEST if patient in tested else Part.UNUSED for patient in splits[0]},
        seed=study.seed,
        per_patient=study.cases.per_patient,
        total=study.cases.total,
    )
    folds = []
    for number, split in enumerate(splits):
        cases = tuple(case for case in chosen if split[case.patient_id] == Part.TEST)
        of_test = split_cases(dataset, split, Part.TEST)
        chunks = work_chunks(dataset, cases)
        folds.append(
            Fold(
                number if len(splits) > 1 else None,
                split,
                cases,
                of_test,
                split_cases(dataset, split, Part.VALIDATION),
                chunks,
                chunks if len(of_test) == len(cases) else work_chunks(dataset, of_test),
            )
        )
    return tuple(folds)


def _told_of(spec: ModelSpec, dataset: Dataset) -> str:
    """Hash of what a network is told of every scan.

    Raises:
        StudyError: The data do not know an attribute, or it is no number where one is asked for.
    """
    known, scans = dataset.attributes or {}, sorted({case.scan_id for case in dataset.cases})
    names = {name for scan in scans for name in known.get(scan, {})}
    where = f"study.models.{spec.name}.input.further"
    for attribute in spec.input.attributes:
        if attribute.of not in names:
            raise StudyError(
                f"{where}: {unknown('attribute', attribute.of, sorted(names))} "
                "data.attributes reads further ones from a table."
            )
        for scan in scans:
            try:
                number = attribute.number(known.get(scan, {}))
            except ValueError:
                value = known[scan][attribute.of]
                raise StudyError(
                    f"{where}: the {attribute.of} of '{scan}' is '{value}', which is no number. Name the "
                    f"words that count as 1, as {{of: {attribute.of}, equals: {value}}}."
                ) from None
            if number is None:
                raise StudyError(
                    f"{where}: the {attribute.of} of '{scan}' is not known. Say what stands for it, as {{of: "
                    f"{attribute.of}, unknown: 50}}, or leave these cases out."
                )
    return digest({scan: numbers_of(spec.input.further or {}, known.get(scan, {})) for scan in scans})


def _require_parts(setup: Setup) -> None:
    """See that the split has a training and a validation part where something needs them."""
    untrained = setup.trained_here
    if untrained and not all(split_cases(setup.dataset, fold.split, Part.TRAIN) for fold in setup.folds):
        raise StudyError(
            f"study.split leaves no training patients, but {untrained[0].id.folder} is to be trained here. "
            + (
                "Bring surrogates (`surrogates: {weights: ...}` or `{models: [...]}`), or write `surrogates: "
                "others` or `none`."
                if untrained[0].id.role is Role.SURROGATE
                else "Give weights for it, or a split with a training part."
            )
        )
    attacks = setup.study.attacks
    if attacks and all(attack.cases is not None for attack in attacks):
        raise StudyError(
            "study.perturbations: every attack has `cases`, but averages and rankings need one on all cases "
            "of the study. Limit those with `cases: {total: ...}` of the study instead."
        )
    for attack in attacks:
        if attack.ssim is not None and not all(fold.validation_cases for fold in setup.folds):
            raise StudyError(
                f"study.perturbations.{attack.label}.{attack.perturbation.budget} is solved on validation "
                "cases, but the split has none. Give it as a number, or add a validation part."
            )
        entry = attack.perturbation
        uses = "is fitted on" if entry.fits else "mixes in" if entry.mixes(attack.parameters) else None
        if uses and not all(fold.validation_cases for fold in setup.folds):
            raise StudyError(
                f"study.perturbations.{attack.label} {uses} validation cases, but the split has none. Add a "
                "validation part, or leave the attack out."
            )
        told = [network.id.name for network in setup.networks if network.spec.input.attributes]
        if entry.fits and told:
            raise StudyError(
                f"study.perturbations.{attack.label} makes one change for all images, and {told[0]} is told "
                "more of each than can be seen (`input.further`). Leave the attack out."
            )


def fresh_network(
    spec: ModelSpec, dataset: Dataset, *, network_id: NetworkId, seed: int, initialise: bool = True
) -> Network:
    """Build a network whose random weights depend on the study's seed and on which network it is.

    With `initialise` it gets the weights that the specification names; it needs none where trained ones are
    loaded next.

    Raises:
        ModelError: It cannot be built, or does not fit the data.
    """
    with torch.random.fork_rng():
        torch.manual_seed(integer_seed(seed, "initialise", network_id.folder))
        return build(
            spec,
            classes=len(dataset.classes),
            channels=dataset.channels,
            shape=dataset.shape,
            names=dataset.classes,
            regions=dataset.regions or {},
            findings=dataset.task is Task.MULTILABEL,
            initialise=initialise,
        )


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        RunError: There is no such device here.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" holds no numbers
    except (RuntimeError, AssertionError) as error:
        raise RunError(
            f"--device: '{name}' cannot be used here ({reason(error)}). Take auto or cpu."
        ) from None
    return device

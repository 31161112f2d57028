"""What a study consists of: every set of images, who is shown it, and which rows that leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from medrobust.core import NetworkId, Role, Task
from medrobust.perturbations import Request
from medrobust.running.evaluate import Judges
from medrobust.running.image_sets import (
    CraftJob,
    ImageSet,
    clean_set,
    crafted_set,
    fixed_noise_set,
    matched_noise_set,
)
from medrobust.running.scan_counts import surface_tolerance
from medrobust.running.setup import Setup, Trained
from medrobust.running.targets import Target


@dataclass(frozen=True)
class Attack:
    """An attack on a source: the attack, its network and the images it gives."""

    request: Request
    source: Trained
    images: ImageSet


@dataclass(frozen=True)
class Plan:
    """What a study consists of.

    Attributes:
        setup: Study, data and networks.
        attacks: Every attack on every surrogate, then the white-box ones.
        noise: Noise matched to every attack on a surrogate, and noise of fixed strength.
        clean: The images as they are, of every fold.
        whole_test: Clean images of all test cases, where the study is limited to some of them; else none.
    """

    setup: Setup
    attacks: tuple[Attack, ...]
    noise: tuple[ImageSet, ...]
    clean: tuple[ImageSet, ...]
    whole_test: tuple[ImageSet, ...]

    @property
    def crafted(self) -> tuple[ImageSet, ...]:
        """All images that are made: attacks and noise."""
        return (*(attack.images for attack in self.attacks), *self.noise)

    @cached_property
    def judges(self) -> Judges:
        """All targets with their networks, whose weights are remembered."""
        setup = self.setup
        judges = Judges(
            self.targets,
            {target.id: setup.network(target) for target in setup.targets},
            setup.dataset,
            setup.folder,
            setup.device,
            setup.limit,
            self.bits,
        )
        judges.remember_weights()
        return judges

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """All images that targets are shown."""
        return (*self.clean, *self.crafted)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The networks to judge, as evaluation wants them."""
        return tuple(Target(target.id, self.setup.digest(target)) for target in self.setup.targets)

    @property
    def bits(self) -> int | None:
        """Bits that perturbed images are also rounded to."""
        return self.setup.dataset.bits if self.setup.study.crafting.quantise else None

    def facing(self, target: NetworkId, label: str) -> tuple[ImageSet, ...]:
        """An attack on the first surrogate of a target's model and fold, and the noise matched to it."""
        source = NetworkId(target.name, Role.SURROGATE, self.setup.study.surrogates.seeds[0], target.fold)
        attack = next(
            attack.images
            for attack in self.attacks
            if attack.source.id == source and attack.request.label == label
        )
        return (attack, *(noise for noise in self.noise if noise.attack == attack))

    def clean_of(self, target: NetworkId) -> ImageSet:
        """The clean images of a target's fold."""
        return next(images for images in self.clean if images.fold == target.fold)

    def embedded(self, target: Target) -> tuple[ImageSet, ...]:
        """What the t-SNE of a target compares: clean, FGSM of its own surrogate, and the matched noise.

        Empty in segmentation, where features are of pixels, where the study has no FGSM, and for further
        seeds of a target: a picture shows one network.
        """
        study = self.setup.study
        if study.task is not Task.CLASSIFICATION or target.network_id.seed != min(study.targets.seeds):
            return ()
        labels = [request.label for request in self._pictured if request.name == "fgsm"]
        if not labels:
            return ()
        return (self.clean_of(target.network_id), *self.facing(target.network_id, labels[0]))

    @property
    def _pictured(self) -> tuple[Request, ...]:
        """Attacks in pictures of images: points of curves only where a study has nothing else."""
        attacks = self.setup.study.attacks
        return tuple(attack for attack in attacks if attack.curve is None) or attacks

    @property
    def shown(self) -> tuple[ImageSet, ...]:
        """Columns of the example figure: clean, noise matched to the first attack, and each attack.

        All of the first target's own surrogate.
        """
        target = self.setup.targets[0].id
        facing = [self.facing(target, request.label) for request in self._pictured]
        return (self.clean_of(target), *facing[0][1:], *(images[0] for images in facing))

    @property
    def explored(self) -> tuple[ImageSet, ...]:
        """What the explorer of the report shows: clean, then noise and attacks that were crafted apart."""
        labels = {request.label for request in self._pictured}
        return tuple(
            images
            for images in self.sets
            if images.role in ("clean", "noise")
            or (images.role == "transfer" and (images.attack or images).perturbation in labels)
        )

    @property
    def tested(self) -> tuple[Attack, ...]:
        """Attacks on surrogates that are self-tested, of a curve its middle; none where none is wanted."""
        study = self.setup.study
        curves = dict.fromkeys(each.curve for each in study.attacks if each.curve is not None)
        points = [sorted((a for a in study.attacks if a.curve == name), key=_budget) for name in curves]
        middles = {each[len(each) // 2].label for each in points}
        return tuple(
            attack
            for attack in self.attacks
            if study.crafting.selftest
            and attack.images.role == "transfer"
            and (attack.request.curve is None or attack.request.label in middles)
        )

    @property
    def tolerance(self) -> float | None:
        """Up to which distance boundaries of structures count as the same; None in classification."""
        study = self.setup.study
        if study.task is Task.CLASSIFICATION:
            return None
        return surface_tolerance(self.setup.dataset, study.analysis.surface_tolerance)


def _budget(point: Request) -> float:
    return float(point.parameters[str(point.perturbation.budget)])


def make_plan(setup: Setup) -> Plan:
    """Name every attack and noise of a study. Nothing is computed."""
    attacks = _attacks(setup)
    limited = any(len(fold.cases) < len(fold.test_cases) for fold in setup.folds)
    clean, whole_test = (
        tuple(clean_set(setup.dataset, chunks, fold=number) for number, chunks in of_folds)
        for of_folds in (
            [(fold.number, fold.chunks) for fold in setup.folds],
            [(fold.number, fold.test_chunks) for fold in setup.folds if limited],
        )
    )
    return Plan(setup, attacks, _noise(setup, attacks), clean, whole_test)


def _attacks(setup: Setup) -> tuple[Attack, ...]:
    study = setup.study
    transfer = [(request, source) for request in study.attacks for source in setup.surrogates]
    whitebox = [
        (request, target)
        for request in study.attacks
        for target in setup.targets
        if study.crafting.whitebox and request.perturbation.whitebox
    ]
    return tuple(_attack(setup, request, source) for request, source in (*transfer, *whitebox))


def _attack(setup: Setup, request: Request, source: Trained) -> Attack:
    job = CraftJob(
        request,
        source.id,
        "whitebox" if source in setup.targets else "transfer",
        setup.digest(source),
        autocast=setup.study.crafting.autocast,
    )
    images = crafted_set(
        job,
        setup.dataset,
        setup.fold(source).chunks,
        seed=setup.study.seed,
        support_mode=setup.study.support,
        validation=setup.fold(source).validation_cases,
    )
    return Attack(request, source, images)


def _noise(setup: Setup, attacks: Sequence[Attack]) -> tuple[ImageSet, ...]:
    study, noise = setup.study, setup.study.matched_noise
    matched = [
        matched_noise_set(noise, attack.images)
        for attack in attacks
        if noise is not None and attack.images.role == "transfer"
    ]
    fixed = [
        fixed_noise_set(
            request,
            setup.dataset,
            fold.chunks,
            seed=study.seed,
            support_mode=study.support,
            fold=fold.number,
        )
        for request in study.fixed_noise
        for fold in setup.folds
    ]
    return (*matched, *fixed)

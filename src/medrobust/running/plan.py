"""What a study consists of: every set of images, and which networks are shown it. Nothing is computed here.

A set of images is named by a hash of everything that it depends on. Hence all steps find the same images, and
those of a changed study are never mistaken for those of its former state.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from medrobust.core import Case, Dataset, Task
from medrobust.perturbations import Request
from medrobust.running.batches import Chunks, at_once, evenly_spaced, work_chunks
from medrobust.running.setup import Fold, Setup, StudyNetwork
from medrobust.storage import Parts, RunFolder, digest
from medrobust.storage.schemas import Table

BUDGET_CASES, FITTED_CASES = 64, 256

NOT_ROUNDED = ("clean", "corruption", "transform")
"""Roles of images that are judged only as they are: rounding undoes small changes, which these are not."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of some cases under one perturbation.

    Attributes:
        perturbation: Label, e.g. "clean", "fgsm", "gaussian@fgsm".
        role: Of an attack, and of noise matched to it, "transfer" or "whitebox"; else that of the request. Of
            clean images judged at the pixels that are left, that of the set that leaves them.
        chunks: The cases, in chunks of work that hold whole scans.
        recipe: Everything that the images depend on, as JSON-able data; only hashed and kept on record.
        fold: Fold of the cases; None without folds.
        request: What makes the images; None for clean images.
        source: Network that the attack was crafted on, or that the transform was searched on, which alone is
            shown the images; None for what needs no network.
        matched: The set that this one belongs to: of noise the attack that it is matched to; of clean images
            judged at the pixels that are left, the corruption or transform that moves them.
    """

    perturbation: str
    role: Literal["clean", "transfer", "whitebox", "noise", "corruption", "transform"]
    chunks: Chunks
    recipe: Mapping[str, Any]
    fold: int | None = None
    request: Request | None = None
    source: StudyNetwork | None = None
    matched: "ImageSet | None" = None

    @property
    def is_stored(self) -> bool:
        """Whether its images are kept; others are read from the data, or made again from their record."""
        return self.request is not None and self.request.perturbation.role == "attack"

    @property
    def moves_labels(self) -> bool:
        """Whether its pixels, and labels with them, are elsewhere than in the data."""
        return self.request is not None and self.request.perturbation.moves_labels

    @cached_property
    def name(self) -> str:
        """Name of its folder below `crafted/`, and of the rows made from it."""
        return "--".join(
            (self.perturbation, self.source.id.folder if self.source else "any", digest(self.recipe))
        )

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.perturbation + (f" on {self.source.id.title}" if self.source else self.of_fold)

    @property
    def of_fold(self) -> str:
        """The end of a title that tells folds apart; empty without folds."""
        return "" if self.fold is None else f" of fold {self.fold}"

    @property
    def folder(self) -> Parts:
        """Its folder in the run folder."""
        return ("crafted", self.name)

    @property
    def cases(self) -> Iterator[Case]:
        """All of its cases, chunk by chunk."""
        return chain.from_iterable(self.chunks)

    @property
    def origin(self) -> dict[str, Any]:
        """The columns that say where its images come from."""
        return {
            "perturbation": self.perturbation,
            "source": self.source.id.name if self.source else "",
            "source_seed": self.source.id.seed if self.source else 0,
            "fold": self.fold,
            "role": self.role,
        }

    def rows_part(self, chunk: int) -> Parts:
        """Path of the `crafted` rows of a chunk."""
        return (*self.folder, "rows", part_name(chunk))

    def finished(self, folder: RunFolder) -> Set[int]:
        """The chunks whose images can be read."""
        if self.request is None:
            return set(range(len(self.chunks)))
        if self.role == "transform":
            return folder.all_numbers([(*self.folder, "theta"), (*self.folder, "rows")])
        return folder.numbers(*self.folder, "done" if self.is_stored else "rows")

    def is_faced_by(self, target: StudyNetwork) -> bool:
        """Whether a target is shown the images.

        White-box images and transforms are for the network that they were made on, transferred attacks for
        all others of the fold, of an ensemble for all that are not part of it.
        """
        made_on = (self.source, *self.source.members) if self.source else ()
        is_own = target.id in [network.id for network in made_on]
        return (
            is_own if self.role in ("whitebox", "transform") else self.fold == target.id.fold and not is_own
        )


@dataclass(frozen=True, eq=False)
class Cell:
    """The images of a set, as they are or rounded, seen by a target.

    Attributes:
        image_set: The images.
        target: The network that sees them.
        bits: Bits per channel that the images are rounded to; None: as they are stored.
    """

    image_set: ImageSet
    target: StudyNetwork
    bits: int | None = None

    def rows_folder(self, table: Table) -> Parts:
        """Folder of its rows of a table, a file for each chunk."""
        return (*target_folder(self.target, table), f"{self.image_set.name}{self._suffix}")

    def timing_folder(self, table: Table) -> Parts:
        """Folder of the times that its chunks took."""
        return (*target_folder(self.target, table), "timing", f"{self.image_set.name}{self._suffix}")

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that all of its rows share."""
        origin = self.image_set.origin
        return {
            **origin,
            "perturbation": origin["perturbation"] + self._suffix,
            "target": self.target.id.name,
            "target_seed": self.target.id.seed,
        }

    @property
    def _suffix(self) -> str:
        return "" if self.bits is None else f"~{self.bits}bit"


def cells_of(
    sets: Iterable[ImageSet], targets: Sequence[StudyNetwork], bits: int | None = None
) -> Iterator[Cell]:
    """All cells of some sets with every target that faces them; attacks and noise also rounded."""
    for image_set in sets:
        rounded = [] if bits is None or image_set.role in NOT_ROUNDED else [bits]
        for each in (None, *rounded):
            yield from (Cell(image_set, target, each) for target in targets if image_set.is_faced_by(target))


def target_folder(target: StudyNetwork, table: Table) -> Parts:
    """Folder of a target's rows of a table."""
    return ("results", "parts", table.name, target.key)


def part_name(chunk: int) -> str:
    """Name of the file with the rows of a chunk."""
    return f"{chunk:05d}.parquet.gz"


@dataclass(frozen=True)
class Plan:
    """What a study consists of.

    Attributes:
        setup: Study, data and networks.
        attacks: Every attack on every source, then the white-box ones.
        noise: Noise matched to every transferred attack, or, where there is none, to every white-box one; and
            noise of a fixed strength.
        corruptions: Every corruption at every strength.
        transforms: Every transform, searched in every way on every target.
        references: Of corruptions and transforms that move labels of pixels: clean images judged at the
            pixels that are left.
        clean: The images as they are, of every fold.
        whole_test: Clean images of all test cases, where the study is limited to some of them; else none.
        candidates: Transferred attacks of the ladder on some validation cases, by which the strongest one on
            each target is chosen.
    """

    setup: Setup
    attacks: tuple[ImageSet, ...]
    noise: tuple[ImageSet, ...]
    corruptions: tuple[ImageSet, ...]
    transforms: tuple[ImageSet, ...]
    references: tuple[ImageSet, ...]
    clean: tuple[ImageSet, ...]
    whole_test: tuple[ImageSet, ...]
    candidates: tuple[ImageSet, ...]

    @property
    def crafted(self) -> tuple[ImageSet, ...]:
        """All images that are made, not read: attacks, noise, corruptions and transforms."""
        return (*self.attacks, *self.noise, *self.corruptions, *self.transforms)

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """All images that targets are shown, each once."""
        return (*self.clean, *self.crafted)

    @property
    def viewed(self) -> tuple[ImageSet, ...]:
        """Those that people can compare in every case.

        They hold all cases, and labels of pixels are where they are in the data.
        """
        has_maps = self.setup.study.task.has_maps
        some = {attack.label for attack in self.setup.study.attacks if attack.cases is not None}
        return tuple(
            images
            for images in self.sets
            if not (has_maps and images.moves_labels) and (images.matched or images).perturbation not in some
        )

    @property
    def evaluated(self) -> tuple[ImageSet, ...]:
        """All sets that have rows."""
        return (*self.sets, *self.references)

    def facing(self, target: StudyNetwork, label: str) -> tuple[ImageSet, ...]:
        """An attack that a target faces, on a source of its own model where there is one, and its noise.

        Empty where nothing was crafted that it faces, as for networks without gradients under white box.
        """
        faced = [
            each
            for each in self.attacks
            if each.perturbation == label and each.source is not None and each.is_faced_by(target)
        ]
        if not faced:
            return ()
        attack = min(
            faced, key=lambda each: (each.role, each.source is None or each.source.id.name != target.id.name)
        )
        return (attack, *(noise for noise in self.noise if noise.matched is attack))

    def embedded(self, target: StudyNetwork) -> tuple[ImageSet, ...]:
        """What the t-SNE of a target compares: clean, FGSM of its own surrogate, and the matched noise.

        Empty in segmentation, where features are of pixels, where the study has no FGSM, and for further
        seeds of a target: a picture shows one network.
        """
        study = self.setup.study
        if study.task is not Task.CLASSIFICATION or target.id.seed != min(study.targets.seeds):
            return ()
        labels = [request.label for request in self._pictured if request.name == "fgsm"]
        return (self._clean_of(target), *self.facing(target, labels[0])) if labels else ()

    @property
    def shown(self) -> tuple[ImageSet, ...]:
        """Columns of the example figure, as the first target faces them: clean, noise, and each attack."""
        target = self.setup.targets[0]
        facing = [faced for request in self._pictured if (faced := self.facing(target, request.label))]
        if not facing:
            return (self._clean_of(target),)
        return (self._clean_of(target), *facing[0][1:], *(images[0] for images in facing))

    @property
    def explored(self) -> tuple[ImageSet, ...]:
        """What the explorer of the report shows: clean, then noise and transferred attacks.

        Where nothing is transferred, white-box attacks instead. Corruptions have a picture of their own, and
        of the ladder nothing is shown.
        """
        labels = {request.label for request in self._pictured}
        return tuple(
            images
            for images in self.sets
            if (
                images.role in ("clean", "noise")
                and (images.request is None or images.request.ladder is None)
            )
            or (images.role == self._main_role and (images.matched or images).perturbation in labels)
        )

    @property
    def tested(self) -> tuple[ImageSet, ...]:
        """Attacks on sources that are self-tested: of a curve only its middle; none if none is wanted.

        One change for all images is far from what a gradient finds for each, and is left out.
        """
        study = self.setup.study
        if not study.crafting.selftest:
            return ()
        curves = {each.curve for each in study.attacks} - {None}
        points = [sorted((a for a in study.attacks if a.curve == name), key=_budget) for name in curves]
        middles = {each[len(each) // 2].label for each in points}
        return tuple(
            images
            for images in self.attacks
            if images.request is not None
            and images.request.perturbation.fits is None
            and (images.role == self._main_role or images.request.crafted_on == "targets")
            and (images.request.curve is None or images.request.label in middles)
        )

    @property
    def _main_role(self) -> str:
        return "transfer" if any(images.role == "transfer" for images in self.attacks) else "whitebox"

    @property
    def _pictured(self) -> tuple[Request, ...]:
        """Attacks in pictures: of all cases; points of curves, or rungs, only where nothing else is."""
        attacks = self.setup.study.attacks
        whole = tuple(attack for attack in attacks if attack.cases is None)
        return tuple(each for each in whole if each.curve is None and each.ladder is None) or whole

    def _clean_of(self, target: StudyNetwork) -> ImageSet:
        return next(images for images in self.clean if images.fold == target.id.fold)


def make_plan(setup: Setup) -> Plan:
    """Name every attack and noise of a study."""
    study = setup.study
    transfer = [
        attack_set(setup, request, source, "transfer")
        for request in study.attacks
        if request.crafted_on != "targets"
        for source in (setup.ensembles if request.crafted_on == "ensemble" else setup.sources)
        if setup.is_attackable(request, source)
    ]
    whitebox = [
        attack_set(setup, request, target, "whitebox")
        for request in study.attacks
        if not transfer
        or request.crafted_on == "targets"
        or (request.crafted_on == "both" and study.crafting.whitebox)
        for target in setup.targets
        if setup.is_attackable(request, target)
    ]
    control = study.matched_noise
    matched = [
        matched_noise_set(setup, control, attack) for attack in (transfer or whitebox) if control is not None
    ]
    fixed = [fixed_set(setup, request, fold) for request in study.fixed for fold in setup.folds]
    corruptions = [images for images in fixed if images.role == "corruption"]
    transforms = [
        transform_set(setup, request, target)
        for request in study.transforms_asked
        for target in setup.targets
        if setup.is_attackable(request, target)
    ]
    limited = any(len(fold.cases) < len(fold.test_cases) for fold in setup.folds)
    return Plan(
        setup,
        attacks=(*transfer, *whitebox),
        noise=(*matched, *(images for images in fixed if images.role == "noise")),
        corruptions=tuple(corruptions),
        transforms=tuple(transforms),
        references=tuple(
            reference_set(images)
            for images in (*corruptions, *transforms)
            if study.task.has_maps and images.moves_labels
        ),
        clean=tuple(clean_set(setup, fold.chunks, fold.number) for fold in setup.folds),
        whole_test=tuple(clean_set(setup, fold.test_chunks, fold.number) for fold in setup.folds if limited),
        candidates=tuple(candidate_sets(setup, transfer)),
    )


def clean_set(setup: Setup, chunks: Chunks, fold: int | None = None) -> ImageSet:
    """The images as they are in the data."""
    return ImageSet("clean", "clean", chunks, _data_recipe(setup.dataset, chunks), fold)


def attack_set(
    setup: Setup,
    request: Request,
    source: StudyNetwork,
    role: Literal["transfer", "whitebox"],
    chunks: Chunks | None = None,
) -> ImageSet:
    """The stored images of an attack on a source; by default of its cases among those of the study."""
    chunks, validation = chunks or setup.chunks_of(request, source), setup.fold(source).validation_cases
    recipe = (
        _data_recipe(setup.dataset, chunks)
        | request.recipe
        | _acting_recipe(setup)
        | {
            "network": source.id.folder,
            "source": source.digest,
            "precision": "autocast" if setup.study.crafting.autocast else "float32",
            "budget_cases": []
            if request.ssim is None
            else [case.case_id for case in budget_cases(validation)],
        }
    )
    if request.perturbation.mixes(request.parameters):
        recipe["others"] = [case.case_id for case in budget_cases(validation)]
    if request.perturbation.fits is not None:
        recipe["fitted_on"] = [case.case_id for case in fitted_cases(validation, setup.dataset.shape)]
    if role == "transfer" and source in setup.targets:
        recipe["transferred"] = True  # its rows are not those of the white-box attack, which may be there too
    return ImageSet(request.label, role, chunks, recipe, source.id.fold, request, source)


def candidate_sets(setup: Setup, transferred: Iterable[ImageSet]) -> Iterator[ImageSet]:
    """Those of the transferred attacks that are rungs of the ladder, on some validation cases."""
    threats = setup.study.threats
    if threats is None or not threats.validation_cases:
        return
    chunks = [
        work_chunks(setup.dataset, some_cases(fold.validation_cases, threats.validation_cases))
        for fold in setup.folds
    ]
    for images in transferred:
        request, source = images.request, images.source
        if request is not None and source is not None and request.ladder is not None:
            some = chunks[source.id.fold or 0]
            if len(some):
                yield attack_set(setup, request, source, "transfer", some)


def fixed_set(setup: Setup, request: Request, fold: Fold) -> ImageSet:
    """The images of a request that needs no network, such as noise of a fixed strength or SSIM."""
    recipe = _data_recipe(setup.dataset, fold.chunks) | request.recipe | _acting_recipe(setup)
    role = request.perturbation.role
    assert role in ("noise", "corruption")
    return ImageSet(request.label, role, fold.chunks, recipe, fold.number, request)


def matched_noise_set(setup: Setup, request: Request, attack: ImageSet) -> ImageSet:
    """Noise on an attack's cases, its strength solved image by image to have the SSIM of the attack."""
    recipe = request.recipe | _acting_recipe(setup) | {"attack": attack.name}
    label = f"{request.label}@{attack.perturbation}"
    return ImageSet(label, attack.role, attack.chunks, recipe, attack.fold, request, attack.source, attack)


def transform_set(setup: Setup, request: Request, target: StudyNetwork) -> ImageSet:
    """The images of a transform that is searched on a target, for that target."""
    chunks = setup.fold(target).chunks
    recipe = _data_recipe(setup.dataset, chunks) | request.recipe | {"seed": setup.study.seed}
    recipe |= {"network": target.id.folder, "source": target.digest}
    return ImageSet(request.label, "transform", chunks, recipe, target.id.fold, request, target)


def reference_set(moving: ImageSet) -> ImageSet:
    """Clean images, judged at the pixels that a corruption or transform leaves in the field of view."""
    label, recipe = f"clean@{moving.perturbation}", {"reference": moving.name}
    return ImageSet(
        label, moving.role, moving.chunks, recipe, moving.fold, source=moving.source, matched=moving
    )


def budget_cases(validation: Iterable[Case]) -> tuple[Case, ...]:
    """At most 64 validation cases; a budget given as an SSIM is solved on these."""
    return some_cases(validation, BUDGET_CASES)


def some_cases(cases: Iterable[Case], most: int) -> tuple[Case, ...]:
    """At most so many cases, evenly spaced."""
    return evenly_spaced(sorted(cases, key=lambda case: case.case_id), most)


def fitted_cases(validation: Iterable[Case], shape: Sequence[int]) -> tuple[Case, ...]:
    """At most 256 validation cases, evenly spaced, or fewer volumes: one change for all is fitted on them."""
    return some_cases(validation, at_once(FITTED_CASES, shape))


def _data_recipe(dataset: Dataset, chunks: Chunks) -> dict[str, Any]:
    return {"data": dataset.fingerprint, "cases": chunks.digest}


def _acting_recipe(setup: Setup) -> dict[str, Any]:
    return {"seed": setup.study.seed, "support": setup.study.support}


def _budget(point: Request) -> float:
    return float(point.parameters[str(point.perturbation.budget)])

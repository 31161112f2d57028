"""What a study may say, with the paper's defaults.

Every default is filled in here, so that the `study.yaml` of a run folder states everything that was used.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import count
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Interval, Len, Lt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from medrobust.catalogue import name_of
from medrobust.core import Role, Task
from medrobust.errors import StudyError, unknown
from medrobust.models import ModelSpec, WeightsSpec, as_written, copy_of, model_spec
from medrobust.models.form import read_weights
from medrobust.parameters import Ratio, resolve
from medrobust.perturbations import (
    ORIENTATIONS,
    PERTURBATIONS,
    SUITES,
    TRANSFORM_SUITES,
    Request,
    request,
    requests,
)
from medrobust.perturbations.request import as_mapping
from medrobust.perturbations.transforms.search import PASSES, Search
from medrobust.study.analysis import ORIENTATION, PRIMARY, RELEVANT_DIFFERENCE, IntervalMethod
from medrobust.study.training import TrainingConfig, corruptions_of

PAPER_ATTACKS: Mapping[Task, tuple[str, ...]] = {
    Task.CLASSIFICATION: ("fgsm", "deepfool", "saliency_map"),
    Task.MULTILABEL: ("fgsm", "pgd"),
    Task.SEGMENTATION: ("dag_a", "dag_b", "dag_c"),
}
PAPER_NOISE: Mapping[Task, str] = {
    Task.CLASSIFICATION: "gaussian",
    Task.MULTILABEL: "gaussian",
    Task.SEGMENTATION: "rician",
}
PAPER_TEST_FRACTION: Mapping[Task, float] = {
    Task.CLASSIFICATION: 0.5,
    Task.MULTILABEL: 0.5,
    Task.SEGMENTATION: 0.2,
}
"""What a study does where it is silent. The paper does not have several findings: as in its photographs."""

TRANSFERRED: Mapping[Task, str] = {
    Task.CLASSIFICATION: "bsr",
    Task.MULTILABEL: "bsr",
    Task.SEGMENTATION: "vmi-fgsm",  # blocks of a label map are not shuffled
}
"""The preset of MI-FGSM that transfers farthest."""


def rungs_of(preset: Literal["fast", "standard"], task: Task) -> tuple[Mapping[str, Any], ...]:
    """The rungs of a preset of the threat-model ladder, as items of `perturbations` without their budget."""
    is_fast, noise, mi_fgsm = preset == "fast", {"name": "random_signs"}, {"name": "mi_fgsm"}
    farther, queries = mi_fgsm | {"preset": TRANSFERRED[task]}, {"steps": 300 if is_fast else 5000}
    asked = [{"name": "square"} | queries]
    if task is Task.CLASSIFICATION:  # decisions lead to one boundary, and others have many
        asked = [{"name": "rays"} | queries, *asked]
    worst: list[dict[str, Any]] = [{"name": "worst_case", "preset": preset}]
    if task is not Task.CLASSIFICATION:
        # A score of order, as that of findings is, falls on where all answers are wrong. There the margin
        # leads farther; where few can be turned, the cross-entropy.
        climb = {"name": "apgd", "all_steps": True}
        worst = [{"name": "sea"}] if task.has_maps else [climb, climb | {"loss": "margin"}]
        worst = [each | ({"steps": 20} if is_fast else {}) for each in worst]
    if is_fast:
        return noise, mi_fgsm, mi_fgsm | {"preset": "di-fgsm"}, *asked, *worst
    return noise, mi_fgsm, farther, farther | {"crafted_on": "ensemble"}, *asked, *worst


REFUSED = {
    "regression": "a measured value has no wrong answer to be fooled into. Cut it into classes or grades "
    "(task: classification, analysis: {score: kappa})",
    "detection": "boxes have no answer for each image or pixel, which attacks, noise and scores here are "
    "about. Judge the masks (task: segmentation), or whether an image shows a finding (task: multilabel)",
}
"""Tasks that people ask for, and why there is nothing for them."""


class Block(BaseModel):
    """A part of the study file: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Targets(Block):
    """The networks to judge: one per model and seed, averaged within the patient."""

    seeds: tuple[Annotated[int, Ge(0)], ...] = Field(
        (0,), min_length=1, description="One network of every model per seed; by default the study's seed."
    )


class Surrogates(Block):
    """The networks that attacks are crafted on: one independent copy per model and seed, or `models`."""

    models: Literal["others", "none"] | Annotated[tuple[dict[str, Any], ...], Len(1)] | None = Field(
        None,
        description="Networks of any architecture, as under `models`; others: every network attacks all "
        "others of the study; none: each is attacked directly. null: copies of the networks, trained apart.",
    )
    seeds: tuple[Annotated[int, Ge(0)], ...] = Field(
        (1,),
        min_length=1,
        description="One surrogate of every model per seed; by default the first number above the study's "
        "seed that no target has.",
    )
    data: Literal["same", "disjoint"] = Field(
        "same", description="Train on the targets' patients (the paper) or on the other half."
    )
    weights: dict[str, WeightsSpec] = Field(
        {},
        description="Weights of surrogates that were trained elsewhere, by model: as `weights` of a network.",
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _each_as_of_a_network(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise StudyError(
                "study.surrogates.weights must name the file of each model's surrogate, such as "
                f"{{unet: surrogate.safetensors}}; got {given!r}."
            )
        return {name: read_weights(each, f"study.surrogates.weights.{name}") for name, each in given.items()}


def _orientations() -> list[dict[str, Any]]:
    return [{"curve": ORIENTATION, **each} for each in ORIENTATIONS]


class Families(Block):
    """Perturbations that are asked for together: those of a suite, or families by name."""

    suite: str | None = None
    families: tuple[Any, ...] = Field(
        (),
        description="Of the suite only these; without a suite these: names, or items of `perturbations`.",
    )

    def chosen(self, block: str, suites: Mapping[str, Iterable[str]]) -> Iterator[dict[str, Any]]:
        """The families as items of `perturbations`: those that are named, else all of the suite.

        Raises:
            StudyError: There is no such suite, or it has no such family.
        """
        if self.suite is not None and self.suite not in suites:
            raise StudyError(f"{block}.suite: {unknown('suite', self.suite, suites)}")
        known = tuple(suites[self.suite]) if self.suite else ()
        for family in self.families or known:
            item = as_mapping(family)
            if known and "name" in item and not {str(item["name"]), item.get("curve")} & {*known}:
                raise StudyError(f"{block}.families: {unknown('family', str(item['name']), known)}")
            yield item


class Corruptions(Families):
    """What happens to images without anybody meaning harm, each kind at several severities."""

    suite: str | None = Field(None, description=f"Families that fit a kind of images: {', '.join(SUITES)}.")
    severities: tuple[Annotated[int, Interval(ge=1, le=5)], ...] = (1, 2, 3, 4, 5)
    ssim: tuple[Annotated[float, Interval(gt=0, lt=1)], ...] = Field(
        (),
        description="In place of severities: the similarity that the strength is solved for, image by image. "
        "What moves pixels keeps all its severities.",
    )

    def items(self) -> Iterator[dict[str, Any]]:
        """Every family as an item of `perturbations`, of which each number of a list is one."""
        presets = SUITES.get(self.suite or "", {})
        severity = {"ssim": list(self.ssim)} if self.ssim else list(self.severities)
        suites = {name: (*families, ORIENTATION) for name, families in SUITES.items()}
        for item in self.chosen("corruptions", suites):
            name = str(item.get("name"))
            if name == ORIENTATION:
                yield from _orientations()
            elif item.get("curve") == ORIENTATION:
                yield item
            else:
                preset = {"preset": presets[name]} if name in presets else {}
                yield {"severity": severity} | preset | item


class Transforms(Families):
    """Plausible transforms, of which the worst for each network is looked for."""

    suite: str | None = Field(
        None, description=f"Transforms that fit a kind of images: {', '.join(TRANSFORM_SUITES)}."
    )
    search: tuple[Search, ...] = Field(
        get_args(Search),
        min_length=1,
        description="One draw, the worst of as many as there are passes, and what a gradient finds.",
    )
    passes: Annotated[int, Ge(4)] = Field(
        PASSES, description="Passes that each search may take for an image."
    )

    def items(self) -> Iterator[dict[str, Any]]:
        """Every family as an item of `perturbations`."""
        for item in self.chosen("transforms", TRANSFORM_SUITES):
            yield {"search": list(self.search), "passes": self.passes} | item


class Threats(Block):
    """A ladder of attackers, from chance to one who has the weights, all with one budget."""

    eps: Annotated[Ratio, Gt(0), Lt(1)] = Field(
        description="Largest change of any entry of an image, on every rung."
    )
    preset: Literal["fast", "standard"] | None = Field(
        "fast", description="Rungs that come with medrobust; null: only `attacks`."
    )
    attacks: tuple[Any, ...] = Field(
        (),
        description="Further attacks, or noise, at this budget: names, or items of `perturbations`.",
    )
    validation_cases: Annotated[int, Ge(0)] = Field(
        64,
        description="Validation cases on which the strongest transferred attack on each network is chosen; "
        "0: it is not.",
    )

    def items(self, task: Task, *, ensemble: bool) -> Iterator[dict[str, Any]]:
        """Every rung as an item of `perturbations`; `ensemble`: whether several sources can be joined."""
        rungs = rungs_of(self.preset, task) if self.preset else ()
        usual = [each for each in rungs if ensemble or each.get("crafted_on") != "ensemble"]
        for item in map(as_mapping, (*usual, *self.attacks)):
            joined = "ensemble" if item.get("crafted_on") == "ensemble" else None
            parts = (item.get("name", "own"), item.get("preset"), item.get("loss"), joined)
            name = "-".join(str(part) for part in parts if part is not None)
            yield {"label": f"{name}-{255 * self.eps:.4g}of255", "ladder": self.eps} | item


class Certificates(Block):
    """Certificates of the smoothed networks (randomised smoothing), and an attack on them."""

    sigma: Annotated[Ratio, Gt(0)] = Field(
        description="Standard deviation of the noise, on images in [0, 1]; train with the same."
    )
    draws: Annotated[int, Ge(1)] = Field(1000, description="Noisy versions of an image that are counted.")
    selection: Annotated[int, Ge(1)] = Field(
        100, description="Further ones by which the answer that is certified is chosen."
    )
    alpha: Annotated[float, Interval(gt=0, lt=0.5)] = Field(
        0.001, description="Probability that any certificate of an image is false."
    )
    radii: tuple[Annotated[Ratio, Gt(0)], ...] | None = Field(
        None,
        min_length=1,
        validate_default=True,
        description="L2 norms of changes, on images in [0, 1]. null: 0.5, 1 and 1.5 times sigma.",
    )
    cases: Annotated[int, Ge(1)] | None = Field(
        100, description="At most this many of the cases, evenly spaced over the patients; null: all."
    )
    attack_steps: Annotated[int, Ge(0)] = Field(
        20, description="Steps of the attack on the smoothed network at every radius; 0: no attack."
    )
    attack_draws: Annotated[int, Ge(1)] = Field(
        8, description="Noisy versions whose mean probabilities it follows."
    )

    @field_validator("radii")
    @classmethod
    def _of_sigma(cls, given: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        if given is None and "sigma" in info.data:
            return tuple(round(factor * info.data["sigma"], 12) for factor in (0.5, 1.0, 1.5))
        return given and tuple(sorted({*given}))

    @property
    def tested(self) -> tuple[float, ...]:
        """The radii, from 0 on: there, what is certain of the images as they are."""
        return (0.0, *(self.radii or ()))


class Cases(Block):
    """Which test cases are attacked and scored; one set for the whole study."""

    per_patient: Annotated[int, Ge(1)] | None = Field(
        None,
        description="At most this many cases of a patient; slices are evenly spaced over its scans.",
    )
    total: Annotated[int, Ge(1)] | None = Field(
        None, description="At most this many photographs, stratified by class."
    )


class Crafting(Block):
    """How images are crafted and read again; no parameter of any attack."""

    batch_size: Annotated[int, Ge(1)] = Field(16, description="Images that are attacked together.")
    whitebox: bool = Field(True, description="Attack each target directly too, in a table of its own.")
    quantise: bool = Field(
        True, description="Score the images also after rounding to the bits they are saved with."
    )
    selftest: bool = Field(True, description="Test every attack on every source with a few images first.")
    autocast: bool = Field(False, description="Reduced precision on a GPU; success is measured in float32.")


class Analysis(Block):
    """How rows become numbers with intervals."""

    score: Any = Field(
        None,
        description="What networks are judged by: dice, nsd, iou; accuracy, balanced_accuracy, auroc, kappa;"
        " one of an installed package; or {load: package.module:function}. null: Dice, accuracy, or AUROC of"
        " several findings.",
    )
    resamples: Annotated[int, Ge(100)] = 10_000
    confidence: Annotated[float, Interval(gt=0.5, lt=1.0)] = 0.95
    relevant_difference: Annotated[float, Gt(0)] | None = Field(
        None, description="Smallest difference that matters. null: 0.02 of Dice, 0.05 of accuracy and AUROC."
    )
    baseline: str | None = Field(
        None, description="Network that errors under corruptions are relative to. null: the first one."
    )
    interval: IntervalMethod = Field(
        "default",
        description="default: the closed forms of docs/statistics.md; or a bootstrap over patients.",
    )
    endpoints: tuple[dict[str, Any], ...] = Field(
        (),
        description="Mistakes by name: {name: missed melanoma, truth: mel, not: mel} (or predicted: nv); of"
        " scans {name: ..., structure: lesion, missed: true} or {..., volume_error: 0.2}.",
    )
    costs: dict[str, dict[str, Any]] = Field(
        {},
        description="Cost of each mistake, {mel: {nv: 10}}: by true, then by predicted class; others cost 1.",
    )
    surface_tolerance: Annotated[float, Gt(0)] | None = Field(
        None, description="In mm; boundaries so near count as the same. null: the longest side of a pixel."
    )

    @field_validator("endpoints", mode="before")
    @classmethod
    def _are_listed(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple) or not all(isinstance(each, Mapping) for each in given):
            raise ValueError(
                "must be a list of endpoints, such as [{name: missed melanoma, truth: mel, not: mel}]"
            )
        return given

    @field_validator("costs", mode="before")
    @classmethod
    def _have_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not all(isinstance(row, Mapping) for row in given.values()):
            raise ValueError(
                "must name the costs by true, then by predicted class, such as {mel: {nv: 10}}; a matrix"
                " without names could be read either way"
            )
        return given

    @field_serializer("score", when_used="json")
    def _written(self, score: Any) -> Any:
        """A score that was given in Python as what imports it, or by its name where nothing does."""
        return score if isinstance(score, str | Mapping | None) else {"load": name_of(score)}


class Ray(Block):
    """What a piece of work gets on a Ray cluster; of `--executor ray` only."""

    cpus: Annotated[float, Gt(0)] = Field(1, description="CPUs, and threads, of each piece of work.")
    gpus: Annotated[float, Ge(0)] = Field(0, description="GPUs of each piece; 0.5 lets two share one.")
    retries: Annotated[int, Ge(0)] = Field(3, description="How often a piece is tried again elsewhere.")


Guideline = Literal["eu-ai-act", "fda", "iso-24029", "claim", "tripod-ai"]


class Report(Block):
    """What the report holds besides tables and figures; `medrobust view` shows all images."""

    hardest: Annotated[int, Interval(ge=0, le=50)] = Field(3, description="Those that attacks hit hardest.")
    typical: Annotated[int, Interval(ge=0, le=50)] = Field(3, description="Those near the median.")
    slices: Annotated[int, Interval(ge=1, le=500)] = Field(
        12, description="At most this many slices of each; of a volume, in each plane."
    )
    documents: tuple[Guideline, ...] = Field(
        (), alias="for", description="Documents to whose clauses the tables are mapped, as evidence."
    )
    pdf: bool = Field(False, description="Print report.html to report.pdf, with the browser that is there.")


class Study(Block):
    """Everything a study file may hold."""

    task: Task
    seed: Annotated[int, Ge(0)] = 0
    data: dict[str, Any]
    split: dict[str, Any] = Field(
        {}, description="rule: patient | official, or file, or folds, or test: all."
    )
    models: tuple[dict[str, Any], ...] = Field(min_length=1)
    targets: Targets = Targets()
    surrogates: Surrogates = Surrogates()
    training: TrainingConfig = TrainingConfig()
    perturbations: tuple[dict[str, Any], ...] = Field(
        (),
        description="Attacks, noise of a fixed strength, corruptions; the paper's three attacks by default.",
    )
    corruptions: Corruptions = Corruptions()
    transforms: Transforms = Transforms()
    threats: Threats | None = Field(None, description="A ladder of attackers with one budget; null: none.")
    certificates: Certificates | None = Field(
        None, description="What is guaranteed of the networks under noise; null: nothing is asked."
    )
    noise: dict[str, Any] = Field(
        {}, description="The control: noise matched to every attack, one's own too. {} leaves it out."
    )
    support: Literal["auto", "image", "foreground"] = "auto"
    audit: bool = Field(True, description="Audit data with files once, before anything is trained.")
    cases: Cases = Cases()
    crafting: Crafting = Crafting()
    analysis: Analysis = Analysis()
    report: Report = Report()
    ray: Ray = Ray()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_paper(cls, given: Any) -> Any:
        """Defaults that depend on other keys: the paper's, seeds, and what difference matters."""
        why = REFUSED.get(str(given.get("task"))) if isinstance(given, Mapping) else None
        if why is not None:
            raise StudyError(f"study.task: {given['task']} is not supported: {why}.")
        if not isinstance(given, Mapping) or given.get("task") not in list(Task):
            return given
        task = Task(given["task"])
        filled = dict(given)
        filled.setdefault("split", {"rule": "patient", "test": PAPER_TEST_FRACTION[task]})
        filled.setdefault("noise", {"name": PAPER_NOISE[task]})
        filled["targets"] = _with(given.get("targets", {}), seeds=[given.get("seed", 0)])
        surrogates = given.get("surrogates", {})
        named = {"models": surrogates} if isinstance(surrogates, str | list | tuple) else surrogates
        filled["surrogates"] = _with(named, seeds=[_free_seed(filled)])
        filled["analysis"] = _with(
            given.get("analysis", {}), score=PRIMARY[task], relevant_difference=RELEVANT_DIFFERENCE[task]
        )
        filled.setdefault("perturbations", [{"name": name} for name in PAPER_ATTACKS[task]])
        return filled

    @cached_property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The networks to judge, in the study's order."""
        return tuple(model_spec(_untrained(entry), self.task) for entry in self.models)

    @cached_property
    def surrogate_specs(self) -> tuple[ModelSpec, ...]:
        """The networks that exist only to be attacked: copies of those that are judged, or others."""
        asked = self.surrogates
        if asked.models is None:
            return tuple(copy_of(spec, asked.weights.get(spec.name)) for spec in self.specs)
        return tuple(
            model_spec(_untrained(entry), self.task, "surrogates.models") for entry in self.own_surrogates
        )

    @property
    def own_surrogates(self) -> tuple[dict[str, Any], ...]:
        """The items of `surrogates.models`, where these are networks."""
        models = self.surrogates.models
        return models if isinstance(models, tuple) else ()

    @cached_property
    def trainings(self) -> dict[tuple[Role, str], TrainingConfig]:
        """How each network is trained: the study's `training`, with the network's own put on top.

        A surrogate of no training of its own is trained like the network of its name, if there is one.
        """

        def of(entries: Iterable[Mapping[str, Any]], where: str) -> dict[str, TrainingConfig]:
            return {
                entry["name"]: self._training(entry["training"], f"{where}.{entry['name']}.training")
                for entry in entries
                if "training" in entry
            }

        judged = of(self.models, "models")
        attacked = judged | of(self.own_surrogates, "surrogates.models")
        return {
            (Role.TARGET, spec.name): judged.get(spec.name, self.usual_training) for spec in self.specs
        } | {
            (Role.SURROGATE, spec.name): attacked.get(spec.name, self.usual_training)
            for spec in self.surrogate_specs
        }

    @cached_property
    def usual_training(self) -> TrainingConfig:
        """How a network is trained that has no training of its own."""
        return self._training({}, "training")

    def _training(self, given: object, where: str) -> TrainingConfig:
        """A training of a network: every corruption in it an item of `perturbations`, with its severities."""
        if not isinstance(given, Mapping):
            raise StudyError(f"{where} must hold keys such as epochs and batch_size; got {given!r}.")
        given = {**self.training.model_dump(exclude_unset=True), **given}
        training = TrainingConfig.model_validate(resolve(TrainingConfig, given, where))
        if training.adversarial is not None:
            filled = training.adversarial.filled(self.support)
            training = training.model_copy(update={"adversarial": filled})
        corrupting = training.corrupting
        if corrupting.corruptions is None:
            return training
        steps = [each for each in self.requests if each.perturbation.severities]
        tested = {each.name: {"name": each.name, "preset": each.preset} for each in steps if each.preset}
        if corrupting.corruptions == "tested" and not tested:
            raise StudyError(
                f"{where}.augment: `corruptions` are those that the study tests at their severities, and it "
                "tests none. Name families in a list, or add `corruptions: {suite: ...}`."
            )
        families = tested.values() if corrupting.corruptions == "tested" else corrupting.corruptions
        items = tuple(_at_severities(tested.get(str(each), as_mapping(each))) for each in families)
        training = training.model_copy(
            update={"augment": corrupting.model_copy(update={"corruptions": items})}
        )
        corruptions_of(training, self.task, f"{where}.augment")
        return training

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """All that `perturbations` and the blocks beside it ask for, resolved; one per item of a list."""
        ensemble = self._n_sources > 1
        rungs = () if self.threats is None else self.threats.items(self.task, ensemble=ensemble)
        items = (*self.perturbations, *self.corruptions.items(), *self.transforms.items(), *rungs)
        return tuple(each for item in items for each in requests(item, self.task))

    @property
    def _n_sources(self) -> int:
        """How many networks an attack on a target is crafted on, one by one."""
        models = self.surrogates.models
        if isinstance(models, str):
            return len(self.models) - 1 if models == "others" else 0
        return len(models or self.models) * len(self.surrogates.seeds)

    def fitting(self, channels: int, dimensions: int, *, has_sides: bool) -> "Study":
        """The study with those parts of its suites that take images of so many channels and dimensions.

        Without sides (left, right) among the classes, nothing is different where these change names.
        """

        def fit(names: Iterable[str]) -> Iterator[str]:
            return (name for name in names if PERTURBATIONS[name].misfit(channels, dimensions) is None)

        fitting: dict[str, Block] = {}
        if self.corruptions.suite is not None and not self.corruptions.families:
            turned = (each for each in _orientations() if has_sides or not each.get("rename_sides"))
            families = (*fit(SUITES.get(self.corruptions.suite, ())), *turned)
            fitting["corruptions"] = self.corruptions.model_copy(update={"families": families})
        if self.transforms.suite is not None and not self.transforms.families:
            found = tuple(fit(TRANSFORM_SUITES.get(self.transforms.suite, ())))
            fitting["transforms"] = self.transforms.model_copy(update={"families": found})
        study = self.model_copy(update=fitting)
        for computed in ("requests", "usual_training", "trainings"):  # a copy keeps them
            study.__dict__.pop(computed, None)
        return study

    @property
    def attacks(self) -> tuple[Request, ...]:
        """The attacks, in the study's order."""
        return tuple(each for each in self.requests if each.perturbation.role == "attack")

    @property
    def transforms_asked(self) -> tuple[Request, ...]:
        """The transforms, each in every way that it is searched."""
        return tuple(each for each in self.requests if each.perturbation.role == "transform")

    @property
    def fixed(self) -> tuple[Request, ...]:
        """What is done to images without any network: noise of a given strength, corruptions."""
        return tuple(each for each in self.requests if each.perturbation.role not in ("attack", "transform"))

    @cached_property
    def matched_noise(self) -> Request | None:
        """The noise that is matched to every attack."""
        return request(self.noise, self.task, control=True) if self.noise else None


def resolved(study: Study) -> dict[str, Any]:
    """The study as plain data with every default and catalogue parameter filled in."""
    surrogates = study.surrogates
    if study.own_surrogates:
        written = tuple(map(as_written, study.own_surrogates))
        surrogates = surrogates.model_copy(update={"models": written})
    # What may hold functions is written below.
    plain = study.model_copy(
        update={
            "models": tuple(map(as_written, study.models)),
            "surrogates": surrogates,
            "perturbations": (),
            "corruptions": Corruptions(),
            "transforms": Transforms(),
            "threats": study.threats and study.threats.model_copy(update={"preset": None, "attacks": ()}),
            "noise": {},
            "training": study.usual_training,
        }
    )
    content: dict[str, Any] = plain.model_dump(mode="json", by_alias=True)
    content["perturbations"] = [each.written for each in study.requests]
    content["noise"] = study.matched_noise.written if study.matched_noise else {}
    return content


def _with(block: object, **default: object) -> object:
    """A block with defaults for keys that are missing or null; anything but a block is refused later."""
    if not isinstance(block, Mapping):
        return block
    return default | {key: value for key, value in block.items() if value is not None or key not in default}


def _untrained(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An item of `models:` without what it says about its training."""
    return {key: value for key, value in entry.items() if key != "training"}


def _free_seed(given: Mapping[str, Any]) -> int:
    """The first number above a study's seed that no target has."""
    targets, seed = given["targets"], given.get("seed", 0)
    seeds = targets["seeds"] if isinstance(targets, Mapping) else ()
    taken = seeds if isinstance(seeds, list | tuple) else ()
    return next(free for free in count(seed + 1 if isinstance(seed, int) else 1) if free not in taken)


def _at_severities(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of `perturbations` at all severities of its family, where it does not say at which."""
    entry = PERTURBATIONS.get(str(item.get("name")))
    if entry is None or not entry.severities or {"severity", entry.budget} & item.keys():
        return dict(item)
    return {**item, "severity": list(range(1, entry.severities + 1))}

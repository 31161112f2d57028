"""A study is data: one YAML file, validated as a whole before anything is computed.

Every default is filled in here, so that the `study.yaml` of a run folder states everything that was used.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt, Interval
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medrobust.core import Task
from medrobust.errors import StudyError, unknown
from medrobust.models import ModelSpec, model_spec
from medrobust.parameters import describe, resolve
from medrobust.perturbations import Request, request
from medrobust.steps.train import TrainingConfig

PAPER_ATTACKS: Mapping[Task, tuple[str, ...]] = {
    Task.CLASSIFICATION: ("fgsm", "deepfool", "saliency_map"),
    Task.SEGMENTATION: ("dag_a", "dag_b", "dag_c"),
}
PAPER_NOISE: Mapping[Task, str] = {Task.CLASSIFICATION: "gaussian", Task.SEGMENTATION: "rician"}
PAPER_TEST_SHARE: Mapping[Task, float] = {Task.CLASSIFICATION: 0.5, Task.SEGMENTATION: 0.2}


class Block(BaseModel):
    """A part of the study file: unknown keys are refused, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Surrogates(Block):
    """The networks that attacks are crafted on: one independent copy per model and seed."""

    seeds: tuple[Annotated[int, Ge(0)], ...] = Field(
        (1,), min_length=1, description="One surrogate of every model per seed."
    )
    data: Literal["same", "disjoint"] = Field(
        "same", description="Train on the targets' patients (the paper) or on the other half."
    )
    weights: dict[str, Path] = Field(
        {}, description="Weights of surrogates that were trained elsewhere, by model."
    )


class Cases(Block):
    """Which test cases are attacked and scored; one set for the whole study."""

    per_patient: Annotated[int, Ge(1)] | None = Field(
        None, description="At most this many cases of a patient or scan."
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
    autocast: bool = Field(False, description="Reduced precision on a GPU; success is measured in float32.")


class Analysis(Block):
    """How rows become numbers with intervals."""

    resamples: Annotated[int, Ge(100)] = 10_000
    confidence: Annotated[float, Interval(gt=0.5, lt=1.0)] = 0.95
    relevant_difference: Annotated[float, Gt(0)] = 0.02


class Study(Block):
    """Everything a study file may hold."""

    task: Task
    seed: Annotated[int, Ge(0)] = 0
    data: dict[str, Any]
    split: dict[str, Any] = Field({}, description="rule: patient | official, or file, or test: all.")
    models: tuple[dict[str, Any], ...] = Field(min_length=1)
    surrogates: Surrogates = Surrogates()
    training: TrainingConfig = TrainingConfig()
    perturbations: tuple[dict[str, Any], ...] = Field(
        (), description="Attacks; the paper's three by default."
    )
    noise: dict[str, Any] | tuple[dict[str, Any], ...] = Field(
        {}, description="Noise matched to every attack, or a list with fixed strengths."
    )
    support: Literal["auto", "image", "foreground"] = "auto"
    cases: Cases = Cases()
    crafting: Crafting = Crafting()
    analysis: Analysis = Analysis()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_paper(cls, given: Any) -> Any:
        """Defaults that depend on the task: attacks, noise and the split of the paper."""
        if not isinstance(given, Mapping) or given.get("task") not in list(Task):
            return given
        task = Task(given["task"])
        filled = dict(given)
        filled.setdefault("split", {"rule": "patient", "test": PAPER_TEST_SHARE[task]})
        filled.setdefault("noise", {"name": PAPER_NOISE[task]})
        filled.setdefault("perturbations", [{"name": name} for name in PAPER_ATTACKS[task]])
        return filled

    @cached_property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The networks to judge, in the study's order."""
        return tuple(model_spec(_without_training(entry), self.task) for entry in self.models)

    @cached_property
    def trainings(self) -> dict[str, TrainingConfig]:
        """How each network is trained: the study's `training`, with the model's own put on top."""
        common = self.training.model_dump(exclude_unset=True)
        return {
            spec.name: _training(common | entry.get("training", {}), f"models.{spec.name}.training")
            for spec, entry in zip(self.specs, self.models, strict=True)
        }

    @cached_property
    def attacks(self) -> tuple[Request, ...]:
        """The attacks, parameters resolved, in the study's order."""
        return tuple(request(entry, self.task) for entry in self.perturbations)

    @cached_property
    def matched_noise(self) -> Request | None:
        """The noise that is matched to every attack."""
        return request(self.noise, self.task) if isinstance(self.noise, dict) and self.noise else None

    @cached_property
    def fixed_noise(self) -> tuple[Request, ...]:
        """Noise with a given strength."""
        return (
            () if isinstance(self.noise, dict) else tuple(request(entry, self.task) for entry in self.noise)
        )


def read_study(source: Path | str | Mapping[str, Any], changes: Iterable[str] = ()) -> Study:
    """Read and check a study.

    Args:
        source: A YAML file, or its content as a mapping.
        changes: `key.path=value` assignments made on top; list items are addressed by their name or label.

    Returns:
        The study, every default filled in and every catalogue name known.

    Raises:
        StudyError: The file is missing or no YAML, a key or name is unknown (the nearest is suggested), or a
            value is out of range.
    """
    content = dict(source) if isinstance(source, Mapping) else _load(Path(source))
    for change in changes:
        _assign(content, change)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise StudyError("\n".join(_message(problem) for problem in error.errors())) from None
    _check(study)
    return study


def resolved(study: Study) -> dict[str, Any]:
    """The study as plain data with every default and catalogue parameter filled in."""
    content: dict[str, Any] = study.model_dump(mode="json")
    content["perturbations"] = [_entry(attack) for attack in study.attacks]
    matched = study.matched_noise
    content["noise"] = _entry(matched) if matched else [_entry(noise) for noise in study.fixed_noise]
    return content


def schema() -> dict[str, Any]:
    """JSON Schema of a study file, for editors."""
    return Study.model_json_schema()


def _without_training(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "training"}


def _training(given: Mapping[str, Any], where: str) -> TrainingConfig:
    return TrainingConfig.model_validate(resolve(TrainingConfig, given, where))


def _entry(item: Request) -> dict[str, Any]:
    """A perturbation as a study would write it out in full."""
    policies = {"wrong": item.wrong, "failed": item.failed} if item.perturbation.kind == "attack" else {}
    budget = {} if item.ssim is None else {str(item.perturbation.budget): {"ssim": item.ssim}}
    return {"name": item.name, "label": item.label, **policies, **item.parameters, **budget}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(
            f"There is no study file '{path}'. `medrobust init {path}` writes one to start from."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"The study file '{path}' cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise StudyError(f"The study file '{path}' is no valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise StudyError(f"The study file '{path}' must hold keys and values (task, data, models, ...).")
    return content


def _message(problem: Mapping[str, Any]) -> str:
    """One line for one problem; an unknown key gets the nearest known one."""
    if problem["type"] != "extra_forbidden":
        return describe(problem, "study")
    *parents, key = problem["loc"]
    block: Any = Study
    for parent in parents:
        block = block.model_fields[parent].annotation
    where = ".".join(str(part) for part in ("study", *parents))
    return f"{where}: {unknown('key', str(key), block.model_fields)}"


def _check(study: Study) -> None:
    """What no single key can know. Resolving the catalogue entries checks their names and parameters."""
    _refuse_twins("models", [spec.name for spec in study.specs], "name")
    for spec in study.specs:
        if not spec.train and study.trainings[spec.name] != study.training:
            raise StudyError(
                f"study.models.{spec.name}.training: '{spec.name}' is not trained here. Leave the key out."
            )
    requests = [*study.attacks, *study.fixed_noise, *([study.matched_noise] if study.matched_noise else [])]
    _refuse_twins("perturbations", [item.label for item in requests], "label")
    for name in study.surrogates.weights:
        if name not in {spec.name for spec in study.specs}:
            raise StudyError(
                f"study.surrogates.weights: {unknown('model', name, [spec.name for spec in study.specs])}"
            )
    if study.seed in study.surrogates.seeds:
        raise StudyError(
            f"study.surrogates.seeds must differ from the targets' seed ({study.seed}), since a surrogate is "
            "trained independently. Choose another seed."
        )


def _refuse_twins(where: str, names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise StudyError(f"study.{where}: '{name}' stands there twice. Give one of them another `{key}`.")


def _assign(content: dict[str, Any], change: str) -> None:
    """Carry out one `key.path=value` in place."""
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise StudyError(f"--set takes key.path=value, got '{change}'.")
    *parents, last = path.strip().split(".")
    node: Any = content
    for key in parents:
        node = _step(node, key, change)
    value = yaml.safe_load(text)
    if isinstance(node, list):
        raise StudyError(f"--set {change}: '{last}' would replace a whole item; name one of its keys.")
    node[last] = value


def _step(node: Any, key: str, change: str) -> Any:
    """The child `key` of a mapping, or the list item whose label or name is `key`."""
    if isinstance(node, dict):
        child = node.setdefault(key, {})
    else:
        named = {str(item.get("label", item.get("name"))): item for item in node if isinstance(item, dict)}
        if key not in named:
            raise StudyError(f"--set {change}: {unknown('item', key, named)}")
        child = named[key]
    if not isinstance(child, dict | list):
        raise StudyError(f"--set {change}: '{key}' holds {child!r}, which has no keys.")
    return child

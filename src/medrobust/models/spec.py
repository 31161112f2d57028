"""What a study says about a network, checked before anything is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from annotated_types import Ge, Gt, Len
from pydantic import BaseModel, ConfigDict

from medrobust.catalogue import check_reference, code_digest
from medrobust.core import Task
from medrobust.errors import StudyError, unknown
from medrobust.models.files import digest, package_file
from medrobust.parameters import parameter_model, resolve

SUPPLIED: Final = ("classes", "channels", "dimensions", "pretrained")
"""Arguments of a builder that come from the data and from `weights`."""

PACKAGE: Final = "package:"
"""Start of `weights` that are a file inside an installed Python package."""

_KEYS: Final = ("name", "architecture", "preset", "load", "weights", "input", "train")


@dataclass(frozen=True)
class Architecture:
    """One entry of the catalogue.

    Attributes:
        build: `(*, classes, channels, dimensions, <parameters>) -> nn.Module`, with random weights.
        task: What it is for.
        summary: One line for lists.
        source: Citation.
        presets: Named sets of parameters; the first is the default.
        timm: True for networks of timm, which have ImageNet weights.
        revision: Raised with every change of its results.
    """

    build: Callable[..., Any]
    task: Task
    summary: str
    source: str
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timm: bool = False
    revision: int = 1


class InputSpec(BaseModel):
    """What a network wants to be fed with; None is what the architecture declares, or what the data have.

    Attributes:
        channels: Channels; a grey image is repeated to fill them.
        mean: Subtracted from images in [0, 1], one number or one per channel.
        std: Images are divided by it, one number or one per channel.
        size: Images are resized to it, one number or one per side.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Annotated[int, Ge(1)] | None = None
    mean: float | tuple[float, ...] | None = None
    std: Annotated[float, Gt(0)] | tuple[Annotated[float, Gt(0)], ...] | None = None
    size: Annotated[int, Ge(1)] | Annotated[tuple[Annotated[int, Ge(1)], ...], Len(2, 3)] | None = None


@dataclass(frozen=True)
class ModelSpec:
    """A network as a study asks for it.

    Attributes:
        name: What it is called in every table.
        architecture: Name in the catalogue or in timm; for the user's own, `package.module:function`.
        load: `package.module:function` of the user's that makes the network, else None.
        weights: `none`, `imagenet`, `package:<name>` or the path of a file.
        input: What it wants to be fed with.
        train: Whether medrobust trains it.
        parameters: All parameters of the architecture, resolved.
        entry: The catalogue entry, None with `load`.
    """

    name: str
    architecture: str
    load: str | None
    weights: str
    input: InputSpec
    train: bool
    parameters: Mapping[str, Any]
    entry: Architecture | None = field(repr=False, default=None)

    @property
    def weights_file(self) -> Path | None:
        """The file that the weights are in, None where there is none to read."""
        if self.weights in ("none", "imagenet"):
            return None
        if self.weights.startswith(PACKAGE):
            return package_file(self.weights.removeprefix(PACKAGE))
        return Path(self.weights)


def read_spec(entry: Mapping[str, Any], task: Task, find: Callable[[str], Architecture]) -> ModelSpec:
    """Check one item of a study's `models:`.

    Args:
        entry: `name`, and any of `architecture`, `preset`, `load`, `weights`, `input`, `train` and the
            architecture's parameters.
        task: The study's task.
        find: Gives the catalogue entry of a name, or raises `StudyError`.

    Raises:
        StudyError: A key, name or value that cannot be; a file, package or module that is not there.
    """
    if not isinstance(entry.get("name"), str):
        raise StudyError(f"models: every item needs a `name`; got {dict(entry)!r}.")
    name, load = entry["name"], entry.get("load")
    where = f"models.{name}"
    weights = str(entry.get("weights") or "none")
    given = {key: value for key, value in entry.items() if key not in _KEYS}
    if load is None:
        architecture = str(entry.get("architecture", name))
        found = find(architecture)
        _check_task(found, architecture, task, where)
        parameters = _parameters(found, entry.get("preset"), given, where)
    else:
        architecture, found, parameters = check_reference(load, where), None, {}
        _refuse_parameters_of_loaded(entry, given, where)
    spec = ModelSpec(
        name=name,
        architecture=architecture,
        load=load,
        weights=weights,
        input=_read_input(entry.get("input") or {}, where),
        train=_read_train(entry, weights, where),
        parameters=parameters,
        entry=found,
    )
    _check_weights(spec, where)
    return spec


def is_weights_path(weights: str) -> bool:
    """Whether `weights` is the path of a file, rather than none, ImageNet's or a package's."""
    return weights not in ("none", "imagenet") and not weights.startswith(PACKAGE)


def recipe(spec: ModelSpec) -> dict[str, Any]:
    """What the network is made from, as plain data for content addressing; its name is left out.

    Files count by their content: the weights, and of the user's code the module that `load` names (not what
    it imports).
    """
    code = None if spec.load is None else code_digest(spec.load)
    file = spec.weights_file
    return {
        "architecture": spec.architecture,
        "revision": spec.entry.revision if spec.entry else code,
        "weights": spec.weights if file is None else digest(file),
        "input": spec.input.model_dump(mode="json"),
        "train": spec.train,
        "parameters": {key: list(v) if isinstance(v, tuple) else v for key, v in spec.parameters.items()},
    }


def _check_task(found: Architecture, architecture: str, task: Task, where: str) -> None:
    if found.task is not task:
        raise StudyError(
            f"{where}: '{architecture}' is a network for {found.task}, but the study's task is {task}. "
            "Choose another network."
        )


def _parameters(found: Architecture, preset: object, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    chosen: Mapping[str, Any] = {}
    if preset is not None:
        if str(preset) not in found.presets:
            raise StudyError(f"{where}.preset: {unknown('preset', str(preset), found.presets)}")
        chosen = found.presets[str(preset)]
    model = parameter_model("parameters", found.build, without=SUPPLIED)
    for key in given:
        if key not in model.model_fields:
            raise StudyError(f"{where}: {unknown('key', key, [*_KEYS, *model.model_fields])}")
    return resolve(model, {**chosen, **given}, where)


def _refuse_parameters_of_loaded(entry: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
    for key in (*given, *(key for key in ("architecture", "preset") if key in entry)):
        raise StudyError(f"{where}: {unknown('key', key, ['name', 'load', 'weights', 'input', 'train'])}")


def _read_input(given: object, where: str) -> InputSpec:
    if not isinstance(given, Mapping):
        raise StudyError(f"{where}.input must hold keys such as channels, mean, std and size; got {given!r}.")
    return InputSpec(**resolve(InputSpec, given, f"{where}.input"))


def _read_train(entry: Mapping[str, Any], weights: str, where: str) -> bool:
    train = entry.get("train", not (entry.get("load") or is_weights_path(weights)))
    if not isinstance(train, bool):
        raise StudyError(f"{where}.train must be true or false, got {train!r}.")
    return train


def _check_weights(spec: ModelSpec, where: str) -> None:
    has_imagenet = spec.entry is not None and spec.entry.timm
    if (spec.weights == "imagenet" or spec.weights.startswith(PACKAGE)) and not has_imagenet:
        raise StudyError(
            f"{where}.weights: '{spec.weights}' is for networks of timm only. "
            "Use `none` or the path of a file."
        )
    file = spec.weights_file
    if file is not None and not file.is_file():
        raise StudyError(
            f"{where}.weights: there is no file '{file}'. "
            "Known besides a path: none, imagenet, package:<name>."
        )
    if spec.weights == "none" and spec.load is None and not spec.train:
        raise StudyError(
            f"{where}: without training it would keep random weights. "
            "Give `weights`, or leave `train: false` out."
        )

"""What a study says about a network, checked before anything is built."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from annotated_types import Gt
from pydantic import BaseModel, ConfigDict
from torch import nn

from medrobust.catalogue import code_digest, name_of
from medrobust.core import Task
from medrobust.errors import StudyError, unknown
from medrobust.models.architectures import MODELS, Architecture, find
from medrobust.models.form import InputSpec, OutputSpec, WeightsSpec, read_input, read_output, read_weights
from medrobust.models.formats import content_digest, format_of, holds_network, is_format, opener
from medrobust.models.network import Network
from medrobust.models.weights import file_sha256, package_file, weights_sha256
from medrobust.parameters import parameter_model, resolve
from medrobust.perturbations import PERTURBATIONS

SUPPLIED: Final = ("classes", "channels", "dimensions", "pretrained")
"""Arguments of a builder that come from the data and from `weights`."""

PACKAGE: Final = "package:"
"""Prefix of `weights` that are a file inside an installed Python package."""

_KEYS: Final = (
    "name",
    "architecture",
    "preset",
    "load",
    "args",
    "weights",
    "input",
    "output",
    "train",
    "attackable",
    "expect",
)
_RECORDED: Final = ("channels", "mean", "std", "size")
"""Keys of `input` that stand in a recipe also where they say nothing, as those of finished work do."""


class Expectation(BaseModel):
    """What a network is known to reach on the clean test set; a run checks it before it attacks anything.

    Attributes:
        clean: The primary score on all clean test cases.
        tolerance: How far from it the score may lie.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clean: float
    tolerance: Annotated[float, Gt(0)] = 0.01


@dataclass(frozen=True)
class ModelSpec:
    """A network as a study asks for it.

    Attributes:
        name: What every table calls it.
        architecture: Name in the catalogue or in timm; `package.module:function` of the user's own.
        load: The user's `package.module:function` that makes the network, or the path of a file or folder
            that holds it; else None.
        weights: `none`, `imagenet`, `package:<name>` or the path of a file.
        prefix: Of the names of its tensors in that file; None: to be found.
        ignore: Patterns of tensors of that file that are not read.
        input: What it expects.
        output: What it returns.
        train: Whether medrobust trains it.
        parameters: All parameters of the architecture, resolved.
        entry: The catalogue entry; None for a network given in Python.
        given: The network itself, where it was given in Python.
        attackable: Whether attacks may follow its gradient; None: if it has one.
        expect: What it is known to reach on clean images.
        weights_key: Where the study speaks of its weights.
    """

    name: str
    architecture: str
    load: str | None
    weights: str
    input: InputSpec
    train: bool
    parameters: Mapping[str, Any]
    output: OutputSpec = field(default_factory=OutputSpec)
    prefix: str | None = None
    ignore: tuple[str, ...] = ()
    entry: Architecture | None = field(repr=False, default=None)
    given: Network | None = field(repr=False, default=None)
    attackable: bool | None = None
    expect: Expectation | None = None
    weights_key: str = field(compare=False, default="weights")

    @property
    def weights_file(self) -> Path | None:
        """The file that holds the weights; None where none is to be read."""
        if self.weights.startswith(PACKAGE):
            return package_file(self.weights.removeprefix(PACKAGE))
        return Path(self.weights) if is_weights_path(self.weights) else None

    @cached_property
    def content(self) -> str | None:
        """SHA-256 of the file or folder that holds the network; None where a function makes it."""
        return content_digest(Path(self.load)) if self.load and is_format(self.load) else None

    @cached_property
    def identity(self) -> str:
        """What tells the weights apart: `none`, `imagenet`, or a SHA-256."""
        if self.given is not None:
            return str(self.given.recipe.get("identity") or weights_sha256(self.given.body))
        file = self.weights_file
        return file_sha256(file) if file is not None else self.content or self.weights


def model_spec(entry: Mapping[str, Any], task: Task, block: str = "models") -> ModelSpec:
    """Check one item of a study's `models:` or `surrogates.models:`.

    Args:
        entry: `name`, and any of `architecture`, `preset`, `load`, `args`, `weights`, `input`, `output`,
            `train` and the architecture's parameters. In Python `load` may be the network itself.
        task: The study's task.
        block: Where it stands, for messages.

    Raises:
        StudyError: A key, name or value that cannot be; a file, package or module that is missing.
    """
    if not isinstance(entry.get("name"), str):
        raise StudyError(f"{block}: every item needs a `name`; got {dict(entry)!r}.")
    name, load = entry["name"], entry.get("load")
    where = f"{block}.{name}"
    if "given" in entry:
        raise StudyError(
            f"{where} was given in Python ({entry['given']}), and is not stored with the run. Give it again "
            "(medrobust.evaluate), or name a function that makes it in `load`."
        )
    if isinstance(load, nn.Module):
        return _given(load, entry, where)
    weights = read_weights(entry.get("weights"), f"{where}.weights")
    if load is None:
        architecture = str(entry.get("architecture", name))
        found = find(architecture, where)
        if found.task is not None and found.task.has_maps != task.has_maps:
            raise StudyError(
                f"{where}: '{architecture}' is a network for {found.task}, but the study's task is {task}. "
                "Choose another network."
            )
    elif is_format(str(load)):
        architecture, found = str(load), _of_file(Path(str(load)), entry, where)
    else:
        architecture, found = str(load), MODELS.loaded(load, where)
    spec = ModelSpec(
        name=name,
        architecture=architecture,
        load=None if load is None else architecture,
        weights=weights.file,
        prefix=weights.prefix,
        ignore=weights.ignore,
        input=read_input(entry.get("input") or {}, f"{where}.input"),
        output=read_output(entry.get("output") or {}, f"{where}.output"),
        train=is_trained(entry),
        parameters=_parameters(found, entry, where),
        entry=found,
        weights_key=f"{where}.weights",
        **_roles(entry, where),
    )
    _check_weights(spec, where)
    return spec


def copy_of(spec: ModelSpec, weights: WeightsSpec | None) -> ModelSpec:
    """The surrogate of a network: the same architecture, trained here or with weights of its own.

    Where `weights` do not say which tensors of their file are the network's, they are those that `spec` says.

    Raises:
        StudyError: It would be trained, but is a file; or there is no such file of weights.
    """
    if weights is not None:
        where = f"surrogates.weights.{spec.name}"
        file = Path(weights.file)
        if not is_weights_path(weights.file) or not file.exists():
            raise StudyError(f"study.{where}: there is no file '{file}'.")
        copy = replace(spec, train=False, expect=None, weights_key=where)
        if spec.load and is_format(spec.load) and holds_network(file):
            return replace(copy, load=str(file), entry=_of_file(file, {}, where))
        prefix = spec.prefix if weights.prefix is None else weights.prefix
        return replace(copy, weights=weights.file, prefix=prefix, ignore=weights.ignore or spec.ignore)
    if spec.train:
        return spec
    if spec.load and is_format(spec.load):
        raise StudyError(
            f"surrogates: '{spec.name}' is a file, of which no copy can be trained. Name other networks in "
            "surrogates.models, or take `others` or `none`."
        )
    return replace(spec, weights="none", prefix=None, ignore=(), train=True)


def _of_file(path: Path, entry: Mapping[str, Any], where: str) -> Architecture:
    """The entry of a network in a file or folder."""
    if entry.get("train"):
        raise StudyError(
            f"{where}.train: '{path.name}' is a trained network, which is judged and never trained. Leave "
            "the key out, or name the function that makes it in `load`."
        )
    try:
        found = format_of(path)
    except StudyError as error:
        raise StudyError(f"{where}.load: {error}") from None
    return Architecture(build=opener(path), task=None, summary=found.name, source=str(path), own=True)


def is_of_imagenet(weights: str) -> bool:
    """Whether `weights` are those of ImageNet, to be downloaded or in an installed package."""
    return weights == "imagenet" or weights.startswith(PACKAGE)


def is_weights_path(weights: str) -> bool:
    """Whether `weights` is the path of a file, rather than none, ImageNet's or a package's."""
    return weights != "none" and not is_of_imagenet(weights)


def is_trained(entry: Mapping[str, Any]) -> bool:
    """Whether medrobust trains the network of an item of `models:`; no code of the user's is imported.

    Raises:
        StudyError: `train` is neither true nor false.
    """
    weights = read_weights(entry.get("weights"), f"models.{entry.get('name')}.weights")
    brought = entry.get("load") or is_weights_path(weights.file)
    train = entry.get("train", not brought)
    if not isinstance(train, bool):
        raise StudyError(f"models.{entry.get('name')}.train must be true or false, got {train!r}.")
    return train


def recipe(spec: ModelSpec) -> dict[str, Any]:
    """What the network is made from, as plain data for content addressing; its name is left out.

    Files count by their content: those of the weights, of a network in a file or folder, and of the module
    that `load` names (not of what that imports).
    """
    content = spec.content
    later = {
        "output": spec.output.model_dump(mode="json", exclude_none=True),
        "prefix": spec.prefix,
        "ignore": list(spec.ignore),
    }
    return {
        "architecture": f"{spec.entry.summary} {content[:12]}"
        if content and spec.entry
        else spec.architecture,
        "revision": content or (code_digest(spec.load) if spec.load else spec.entry and spec.entry.revision),
        "weights": spec.identity,
        "input": dict.fromkeys(_RECORDED)
        | spec.input.model_dump(mode="json", exclude_none=True, exclude={"purifier"})
        | ({} if spec.input.purifier is None else {"purifier": _purifier(spec.input.purifier)}),
        "train": spec.train,
        "parameters": {key: _as_data(value) for key, value in spec.parameters.items()},
        # What former versions did not know stands here only where it is said.
        **{key: value for key, value in later.items() if value},
    }


def _as_data(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, str | float | int | list | dict | None):
        return value
    return name_of(value) if callable(value) else repr(value)


def as_written(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An item of `models:` as plain data: a network that was given in Python is described instead."""
    if not isinstance(entry.get("load"), nn.Module):
        return dict(entry)
    spec = _given(entry["load"], entry, "")
    return {"name": spec.name, "given": f"{spec.architecture} {spec.identity[:12]}"}


def _given(load: nn.Module, entry: Mapping[str, Any], where: str) -> ModelSpec:
    keys = ("name", "load", "attackable", "expect")
    for key in entry.keys() - {*keys}:
        raise StudyError(
            f"{where}: {unknown('key', key, keys)} A network that is given in Python says "
            "everything else itself, see medrobust.Network."
        )
    network = load if isinstance(load, Network) else Network(load)
    return ModelSpec(
        name=entry["name"],
        architecture=network.description,
        load=None,
        weights="none",
        input=network.input,
        output=network.output,
        train=False,
        parameters={},
        given=network,
        **_roles(entry, where),
    )


def _roles(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What an item says about the part that its network plays."""
    attackable, expect = entry.get("attackable", "auto"), entry.get("expect")
    if attackable not in (True, False, "auto"):
        raise StudyError(f"{where}.attackable must be true, false or auto, got {attackable!r}.")
    if expect is not None and not isinstance(expect, Mapping):
        raise StudyError(
            f"{where}.expect must hold `clean`, the score that the network is known to reach; got {expect!r}."
        )
    return {
        "attackable": None if attackable == "auto" else attackable,
        "expect": None if expect is None else Expectation(**resolve(Expectation, expect, f"{where}.expect")),
    }


def _parameters(found: Architecture, entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    preset = entry.get("preset")
    chosen: Mapping[str, Any] = {}
    if preset is not None:
        if str(preset) not in found.presets:
            raise StudyError(f"{where}.preset: {unknown('preset', str(preset), found.presets)}")
        chosen = found.presets[str(preset)]
    args = _arguments(found, entry, where)
    named = found.supplied(dict.fromkeys(SUPPLIED)).keys() - entry.keys()
    model = parameter_model("parameters", found.build, without={*SUPPLIED, *named, *args})
    given = {key: value for key, value in entry.items() if key not in _KEYS}
    for key in given.keys() - model.model_fields:
        raise StudyError(f"{where}: {unknown('key', key, [*_KEYS, *model.model_fields])}")
    return resolve(model, {**chosen, **given}, where) | args


def _arguments(found: Architecture, entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`args` of an item: arguments of a function of the user's, which are passed as they are written."""
    args = entry.get("args") or {}
    if not isinstance(args, Mapping):
        raise StudyError(f"{where}.args must hold arguments by their names; got {args!r}.")
    if args and not found.own:
        raise StudyError(
            f"{where}.args: is for what `load` names. Write parameters of an architecture beside `name`."
        )
    names, takes_any = found.keywords
    for name in args:
        if name not in names and not takes_any:
            raise StudyError(f"{where}.args: {unknown('argument', str(name), names)}")
    try:
        json.dumps(args)
    except (TypeError, ValueError):
        raise StudyError(
            f"{where}.args may hold numbers, words, lists and the like only; got {args!r}. Write a function "
            "that makes the network instead."
        ) from None
    return dict(args)


def _check_weights(spec: ModelSpec, where: str) -> None:
    if is_of_imagenet(spec.weights) and not (spec.entry and spec.entry.timm):
        raise StudyError(
            f"{where}.weights: '{spec.weights}' is for networks of timm only. "
            "Use `none` or the path of a file."
        )
    if (spec.prefix or spec.ignore) and not is_weights_path(spec.weights):
        raise StudyError(
            f"{where}.weights.file must be the path of a file where `prefix` or `ignore` is given, got "
            f"'{spec.weights}'."
        )
    file = spec.weights_file
    if file is not None and not file.is_file():
        raise StudyError(
            f"{where}.weights: there is no file '{file}'. Besides a path it may be none, imagenet or "
            "package:<name>."
        )
    if spec.weights == "none" and spec.load is None and not spec.train:
        raise StudyError(
            f"{where}: without training it would keep random weights. "
            "Give `weights`, or leave `train: false` out."
        )


def _purifier(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a purifier is; code and weights of one's own count by their content."""
    load = given.get("load")
    if load is None:
        return {**given, "revision": PERTURBATIONS.named(given["name"], "purifier").revision}
    content = weights_sha256(load) if isinstance(load, nn.Module) else code_digest(load)
    return {**given, "load": name_of(load) if callable(load) else load, "code": content}

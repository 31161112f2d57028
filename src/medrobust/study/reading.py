"""A study is data: one YAML file, validated as a whole before anything is computed."""

import os
import sys
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from medrobust.errors import RunError, StudyError, unknown
from medrobust.models.formats import is_format
from medrobust.models.spec import is_weights_path
from medrobust.parameters import describe
from medrobust.storage import RunFolder
from medrobust.study.checks import check_study
from medrobust.study.config import Study
from medrobust.study.yaml_text import load_yaml
from medrobust.text import read_text

LARGEST = 2**20
"""Bytes of the largest study file; one with 50 networks has about 10,000."""

STORED = "study.yaml"
"""Name of the resolved study in a run folder."""


def read_study(
    source: str | os.PathLike[str] | Mapping[str, Any],
    changes: Iterable[str] = (),
    *,
    given: str | None = None,
    check: bool = True,
) -> Study:
    """Read and check a study.

    Args:
        source: A YAML file, or its content as a mapping.
        changes: `key.path=value` assignments on top; list items are addressed by their name or label.
        given: Name of a data set that is given in Python, where the study has no `data`.
        check: Also check networks and perturbations, which imports the code that they name.

    Returns:
        The study, every default filled in and every catalogue name known. Paths of a split or of weights are
        relative to the study's file (of a mapping: to the working directory). Modules beside that file can be
        imported from then on.

    Raises:
        StudyError: The file is missing or not YAML, a key or name is unknown (the nearest is suggested), or a
            value is out of range.
    """
    content = deepcopy(dict(source)) if isinstance(source, Mapping) else _load(Path(source))
    for change in changes:
        _assign(content, change)
    if given is not None:
        if content.get("data"):
            raise StudyError("study.data: the data set is given in Python (dataset=...). Leave the key out.")
        content["data"] = {"given": given}
    if not isinstance(source, Mapping):
        folder = Path(source).absolute().parent
        _anchor(content, folder)
        if str(folder) not in sys.path:  # modules beside the study are found, after all that are installed
            sys.path.append(str(folder))
    study = _validated(content)
    if check:
        check_study(study)
    return study


def read_stored_study(folder: RunFolder) -> Study:
    """The study of a run folder. The files and modules that it names need not exist any more.

    Raises:
        RunError: The folder has none, or it is damaged.
    """
    if not folder.exists(STORED):
        raise RunError(
            f"'{folder.url}' is not a run folder: it has no {STORED}. "
            "Give the --out folder of `medrobust run`."
        )
    try:
        return _validated(load_yaml(folder.read_bytes(STORED).decode()))
    except (UnicodeDecodeError, StudyError) as error:
        raise RunError(f"{folder.path(STORED)} is damaged, or of another version: {error}") from None


def _validated(content: Any) -> Study:
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise StudyError("\n".join(_message(problem) for problem in error.errors())) from None


def _load(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(read_text(path, LARGEST))
    except FileNotFoundError:
        raise StudyError(
            f"There is no study file '{path}'. `medrobust init {path}` writes one to start from."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"The study file '{path}' cannot be read: {error}.") from None
    except StudyError as error:
        raise StudyError(f"The study file '{path}' {error}") from None
    if not isinstance(content, dict):
        raise StudyError(f"The study file '{path}' must hold keys and values (task, data, models, ...).")
    return content


def _anchor(content: dict[str, Any], folder: Path) -> None:
    """Resolve paths relative to the folder of the study's file, in place."""
    split, surrogates = content.get("split"), content.get("surrogates")
    weights = surrogates.get("weights") if isinstance(surrogates, dict) else None
    own = surrogates.get("models") if isinstance(surrogates, dict) else surrogates
    models = [item for block in (content.get("models"), own) if isinstance(block, list) for item in block]
    for model in models:
        if isinstance(model, dict) and "load" in model:
            model["load"] = _anchored_network(model["load"], folder)
    for block, keys in (
        (split, ("file",)),
        (weights, weights or ()),
        *((model, ("weights",)) for model in models),
        *((model.get("weights"), ("file",)) for model in models if isinstance(model, dict)),
        *((each, ("file",)) for each in (weights.values() if isinstance(weights, dict) else ())),
    ):
        if isinstance(block, dict):
            block |= {key: _anchored(block[key], folder) for key in keys if key in block}


def _anchored(path: Any, folder: Path) -> Any:
    return str(folder / path) if isinstance(path, str) and is_weights_path(path) else path


def _anchored_network(load: Any, folder: Path) -> Any:
    """The path of a file or folder that holds a network; what names a function stays as it is."""
    is_path = isinstance(load, str) and (is_format(load) or (folder / load).exists())
    return str(folder / load) if is_path else load


def _message(problem: Mapping[str, Any]) -> str:
    """One line for one problem; an unknown key gets the nearest known one."""
    if problem["type"] != "extra_forbidden":
        return describe(problem, "study")
    *parents, key = problem["loc"]
    block: Any = Study
    for parent in parents:
        block = _child(block, parent)
    where = ".".join(str(part) for part in ("study", *parents))
    keys = [field.alias or name for name, field in block.model_fields.items()]
    return f"{where}: {unknown('key', str(key), keys)}"


def _child(block: Any, name: str) -> Any:
    """The block below `name`; of a choice between types (`bool | Augmentation`) the type of that name.

    A block that may be left out (`Threats | None`) is no choice.
    """
    if hasattr(block, "model_fields"):
        annotation = block.model_fields[name].annotation
        types = [each for each in get_args(annotation) if each is not type(None)]
        return types[0] if len(types) == 1 < len(get_args(annotation)) else annotation
    choices = (getattr(each, "__origin__", each) for each in get_args(block))  # without what annotates them
    return next(choice for choice in choices if getattr(choice, "__name__", "") == name)


def _assign(content: dict[str, Any], change: str) -> None:
    """Carry out one `key.path=value` in place."""
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise StudyError(f"--set takes key.path=value, got '{change}'.")
    *parents, last = path.strip().split(".")
    node: Any = content
    for key in parents:
        node = _step(node, key, change)
    try:
        value = load_yaml(text)
    except StudyError:
        raise StudyError(
            f"--set {change}: '{text}' is not a valid YAML value. Put quotes around it."
        ) from None
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

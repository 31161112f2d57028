"""Studies that come with the package: the two of the demo, and commented ones to start from."""

import inspect
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from medrobust.core import Task
from medrobust.data import DATASETS, DatasetEntry
from medrobust.errors import StudyError, unknown

DEFAULT_DATA = {
    Task.SEGMENTATION: "malc2012",
    Task.CLASSIFICATION: "ham10000",
    Task.MULTILABEL: "image_folder",
}


def demo_study(task: Task, *, full: bool = False) -> dict[str, Any]:
    """The study that `medrobust demo` runs; `full` is the long one, with the paper's kinds of networks."""
    content: dict[str, Any] = yaml.safe_load(_embedded(f"demo-{task}{'-full' if full else ''}.yaml"))
    return content


def template(task: Task, data: str | None = None) -> str:
    """A commented study to start from.

    Args:
        task: What its networks do.
        data: A data set of the catalogue; None: the usual one of the task.

    Raises:
        StudyError: The data set is unknown, or is labelled for the other task.
    """
    name = data or DEFAULT_DATA[task]
    if name not in DATASETS:
        raise StudyError(f"--data: {unknown('data set', name, DATASETS)}")
    entry = DATASETS[name]
    if task not in entry.tasks:
        raise StudyError(
            f"--data: '{name}' is labelled for {entry.task}. Add --task {entry.task}, or take another one."
        )
    return Template(_embedded(f"template-{task}.yaml")).substitute(data=_data_block(name, entry))


def write_template(file: Path, task: Task, data: str | None) -> None:
    """Write a commented study to start from.

    Raises:
        StudyError: The file exists, its folder does not, or the data set is unknown.
    """
    text = template(task, data)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise StudyError(f"'{file}' already exists and is left as it is. Choose another name.") from None
    except OSError as error:
        raise StudyError(f"'{file}' cannot be written: {error.strerror}.") from None


def _data_block(name: str, entry: DatasetEntry) -> str:
    """The `data:` block of a data set with all of its parameters: their defaults, or examples."""
    parameters = {
        parameter.name: _example(parameter)
        for function in entry.functions
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}
    root = {"root": name} if entry.list else {}
    block = yaml.safe_dump({"data": {"name": name, **root, **plain}}, sort_keys=False)
    return f"# {entry.summary}\n{block}"


def _example(parameter: inspect.Parameter) -> Any:
    """The default of a parameter; where it has none, the example that its annotation gives."""
    if parameter.default is not parameter.empty:
        return parameter.default
    notes = get_args(parameter.annotation)
    return next(note.examples[0] for note in notes if isinstance(note, FieldInfo) and note.examples)


def _embedded(name: str) -> str:
    return (files("medrobust.study") / "embedded" / name).read_text(encoding="utf-8")

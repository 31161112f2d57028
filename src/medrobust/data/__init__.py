"""Data sets: the catalogue, and the one way to open or list what a study's `data:` block asks for."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medrobust.core import Dataset, OnProgress, silent
from medrobust.data.attributes import with_attributes
from medrobust.data.catalogue import DATASETS, DatasetEntry
from medrobust.data.findings import require_sound
from medrobust.data.in_memory import as_dataset, in_memory
from medrobust.data.listing import Listing
from medrobust.data.own import open_own
from medrobust.errors import DataError, StudyError, unknown
from medrobust.parameters import parameter_model, resolve

__all__ = ["DATASETS", "DatasetEntry", "as_dataset", "in_memory", "list_dataset", "open_dataset"]


def open_dataset(
    parameters: Mapping[str, Any], cache: Path | None, data_dir: Path | None, progress: OnProgress = silent
) -> Dataset:
    """Open the data set that a study's `data:` block asks for.

    Args:
        parameters: The block: `name`, `root` where the data set has a folder, and its own parameters; or
            `load` and the arguments of the user's function (see `own.open_own`).
        cache: Folder for decoded arrays; None decodes again whenever memory was freed.
        data_dir: Folder that a relative `root` lies in; None is the working directory.
        progress: Told how far it is.

    Raises:
        StudyError: Unknown name or key, missing `root`, value out of its range.
        DataError: The data are missing, unreadable or inconsistent.
    """
    if "load" in parameters:
        return open_own(parameters, cache, data_dir)
    name, entry, own = _resolve(parameters)
    opening = _arguments(entry.open, own)
    listing = _list(name, entry, own, parameters.get("root"), data_dir)
    if listing is None:
        return entry.open(cache, **opening)
    require_sound(listing.findings)
    return entry.open(name, listing, cache, progress, **opening)


def list_dataset(parameters: Mapping[str, Any], data_dir: Path | None) -> Listing | None:
    """What is in the folder of a data set, and what is wrong with it; None for generated and own data.

    Args:
        parameters: A study's `data:` block.
        data_dir: Folder that a relative `root` lies in; None is the working directory.

    Raises:
        StudyError: Unknown name or key, missing `root`, value out of its range.
        DataError: There is nothing to list.
    """
    if "load" in parameters:
        return None
    name, entry, own = _resolve(parameters)
    return _list(name, entry, own, parameters.get("root"), data_dir)


def _resolve(parameters: Mapping[str, Any]) -> tuple[str, DatasetEntry, dict[str, Any]]:
    """The entry that a block names, and its parameters with defaults filled in."""
    if "given" in parameters:
        raise StudyError(
            f"data: this is a study of '{parameters['given']}', a data set that was given in Python. Give it "
            "again (dataset=...), or write a `data:` block."
        )
    name = parameters.get("name")
    if not isinstance(name, str) or name not in DATASETS:
        raise StudyError(f"data.name: {unknown('data set', str(name), DATASETS)}")
    entry = DATASETS[name]
    own = {key: value for key, value in parameters.items() if key not in ("name", "root")}
    return name, entry, resolve(parameter_model(name, *entry.functions), own, "data")


def _arguments(function: Callable[..., Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the parameters that a function takes."""
    return {key: value for key, value in own.items() if key in inspect.signature(function).parameters}


def _list(
    name: str, entry: DatasetEntry, own: Mapping[str, Any], root: object, data_dir: Path | None
) -> Listing | None:
    if entry.list is None:
        if root is not None:
            raise StudyError(
                f"data.root: '{name}' is generated and has no folder; got {root!r}. Leave the key out."
            )
        return None
    if not isinstance(root, str | Path):
        raise StudyError(f"data.root: '{name}' needs the folder of its files; got {root!r}. Give its path.")
    folder = (data_dir or Path()) / Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"data.root: the folder of '{name}' does not exist; got {folder}. Give its path, and the "
            "folder that it is relative to by --data (by default the working directory)."
        )
    listing = entry.list(folder, **_arguments(entry.list, own))
    return with_attributes(listing, folder, **_arguments(with_attributes, own))

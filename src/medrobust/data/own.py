"""The user's own data, opened by a function of theirs: `data: {load: my_module:open_it, ...}`."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.catalogue import code_digest, name_of
from medrobust.core import Case, Dataset, Sample
from medrobust.data.contract import checked
from medrobust.errors import DataError, MedrobustError, StudyError, reason, unknown
from medrobust.parameters import accepted

SUPPLIED = ("cache", "data_dir")
"""Arguments that are passed to functions that take them, and that no study gives."""


def open_own(
    function: Callable[..., Any], block: Mapping[str, Any], cache: Path | None, data_dir: Path | None
) -> Dataset:
    """The data set that the user's function opens.

    Args:
        function: From the user or an installed package.
        block: A study's `data:` block: `load` or `name`, and the function's own keyword arguments.
        cache: Folder for decoded arrays; passed to a function that takes `cache`.
        data_dir: Folder of the data; passed to a function that takes `data_dir`.

    Returns:
        The data set, known to keep the contract (see `checked`). Its fingerprint also covers the module's
        file and the arguments.

    Raises:
        StudyError: The function takes other arguments.
        DataError: The function fails, or what it returns breaks the contract.
    """
    key = "load" if "load" in block else "name"
    where = f"data.{key}: `{block[key] if isinstance(block[key], str) else name_of(function)}`"
    given = {name: value for name, value in block.items() if name != key}
    _check_arguments(function, given, key)
    supplied = accepted(function, {"cache": cache, "data_dir": data_dir or Path()})
    try:
        dataset = function(**given, **supplied)
    except MedrobustError:
        raise
    except Exception as error:  # of the user's function
        raise DataError(f"{where} failed: {reason(error)}.") from error
    if not isinstance(dataset, Dataset):
        raise DataError(f"{where} must return a medrobust.core.Dataset, got {type(dataset).__name__}.")
    sound = checked(dataset)
    code = code_digest(block["load"] if isinstance(block.get("load"), str) else function)
    made_by = json.dumps([sound.fingerprint, code, given], sort_keys=True, default=str)
    return replace(sound, fingerprint=hashlib.sha256(made_by.encode()).hexdigest())


def fingerprint(cases: Iterable[Case], read: Callable[[Case], Sample]) -> str:
    """SHA-256 over all cases and what they hold, for the `fingerprint` of a data set.

    Reads everything once. If that takes too long, hash the files that the data are read from instead.
    """
    total = hashlib.sha256()
    for case in cases:
        total.update(repr(case).encode())
        for array in read(case):
            total.update(repr((array.dtype.str, array.shape)).encode())
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _check_arguments(function: Callable[..., Any], given: Mapping[str, Any], key: str) -> None:
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    named = {
        each.name: each for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)
    }
    for name in given:
        if name in SUPPLIED:
            raise StudyError(
                f"data.{name}: medrobust itself passes this argument to the function. Leave the key out."
            )
        if name not in named and not takes_any:
            raise StudyError(f"data: {unknown('key', name, [key, *(set(named) - set(SUPPLIED))])}")
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in (*given, *SUPPLIED):
            raise StudyError(f"data.{name}: this key is required; `{key}`'s function takes it.")

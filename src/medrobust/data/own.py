"""Data of the user's own, opened by a function of theirs: `data: {load: my_module:open_it, ...}`."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.catalogue import check_reference, code_digest, load_function
from medrobust.core import Case, Dataset, Sample
from medrobust.data.contract import checked
from medrobust.errors import DataError, MedrobustError, StudyError, reason, unknown
from medrobust.parameters import accepted

SUPPLIED = ("cache", "data_dir")
"""Arguments that the program gives to functions that take them."""


def open_own(block: Mapping[str, Any], cache: Path | None, data_dir: Path | None) -> Dataset:
    """The data set that the user's function opens.

    Args:
        block: A study's `data:` block: `load`, and the function's own keyword arguments.
        cache: Folder that the function may keep decoded arrays in; given to it if it takes `cache`.
        data_dir: Folder of the data that the user named; given to it if it takes `data_dir`.

    Returns:
        The data set, known to keep the contract; every sample is checked when it is read. Its fingerprint
        also covers the module's file and the arguments.

    Raises:
        StudyError: There is no such module, or the function takes other arguments.
        DataError: The function fails, or what it returns breaks the contract.
    """
    reference = check_reference(block["load"], "data")
    given = {key: value for key, value in block.items() if key != "load"}
    try:
        function = load_function(reference)
    except Exception as error:  # of the user's module
        raise DataError(f"data.load: `{reference}` cannot be imported: {reason(error)}.") from error
    _check_arguments(function, given)
    supplied = accepted(function, {"cache": cache, "data_dir": data_dir or Path()})
    try:
        dataset = function(**given, **supplied)
    except MedrobustError:
        raise
    except Exception as error:  # of the user's function
        raise DataError(f"data.load: `{reference}` failed: {reason(error)}.") from error
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"data.load: `{reference}` must return a medrobust.core.Dataset, got {type(dataset).__name__}."
        )
    sound = checked(dataset)
    made_by = json.dumps([sound.fingerprint, code_digest(reference), given], sort_keys=True, default=str)
    return replace(sound, fingerprint=hashlib.sha256(made_by.encode()).hexdigest())


def fingerprint(cases: Iterable[Case], read: Callable[[Case], Sample]) -> str:
    """SHA-256 over all cases and what they hold, for the `fingerprint` of a data set.

    Reads everything once. Where that takes long, hash the files that the data are read from instead.
    """
    total = hashlib.sha256()
    for case in cases:
        total.update(repr(case).encode())
        for array in read(case):
            total.update(repr((array.dtype.str, array.shape)).encode())
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    named = {
        each.name: each for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)
    }
    for key in given:
        if key in SUPPLIED:
            raise StudyError(f"data.{key}: is given to the function by the program. Leave the key out.")
        if key not in named and not takes_any:
            raise StudyError(f"data: {unknown('key', key, ['load', *(set(named) - set(SUPPLIED))])}")
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in (*given, *SUPPLIED):
            raise StudyError(f"data.{name}: this key is required; `load`'s function takes it.")

"""The user's own code: `load:` of a study, the only key that may name any."""

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medrobust.errors import StudyError, reason


def check_reference(load: object, where: str) -> str:
    """The value of a `load:` key, checked. Of `package.module`, looking for it imports the package.

    Args:
        load: `package.module:function`.
        where: Where it stands, for the message, e.g. "models.mine".

    Raises:
        StudyError: It is written otherwise, there is no such module, or its package fails.
    """
    reference = str(load)
    module, colon, function = reference.partition(":")
    if not (module and colon and function):
        raise StudyError(f"{where}.load must be `package.module:function`, got {load!r}.")
    try:
        file = module_file(reference)
    except Exception as error:  # of the user's package
        raise StudyError(f"{where}.load: importing '{module}' failed: {reason(error)}.") from error
    if file is None:
        raise StudyError(
            f"{where}.load: there is no Python module '{module}'. "
            "Install it, or put it beside the study's file."
        )
    return reference


def module_file(reference: str) -> Path | None:
    """File of the module in `package.module:function`, None if there is none."""
    try:
        found = importlib.util.find_spec(reference.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found and found.origin else None


def code_digest(reference: str) -> str | None:
    """SHA-256 of the file of the module in `package.module:function` (not of what it imports)."""
    file = module_file(reference)
    return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()


def load_function(reference: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; its module is imported, so its code runs.

    Raises:
        Exception: Whatever the module raises; the caller says whose it is.
    """
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def accepted(function: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a function takes by keyword."""
    known = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
        return dict(keywords)
    names = {parameter.name for parameter in known if parameter.kind is not parameter.POSITIONAL_ONLY}
    return {key: value for key, value in keywords.items() if key in names}

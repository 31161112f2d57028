"""Parameters of a catalogue entry have one home: the keyword-only arguments of its function.

Annotations carry the ranges (`Annotated[int, Ge(1)]`), so that one signature gives validation before a run
starts, the JSON Schema for editors, and the documentation tables.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from medrobust.errors import StudyError, unknown


def parse_ratio(value: object) -> object:
    """Turn a string such as "0.5/255" into a number; leave everything else to the validation that follows."""
    if isinstance(value, str):
        numerator, slash, denominator = value.partition("/")
        try:
            return float(numerator) / float(denominator) if slash else float(value)
        except (ValueError, ZeroDivisionError):
            return value
    return value


Ratio = Annotated[float, BeforeValidator(parse_ratio)]
"""A number that may be written as a fraction, as budgets usually are."""


def parameter_model(
    name: str, *functions: Callable[..., Any], without: Collection[str] = ()
) -> type[BaseModel]:
    """The pydantic model of the keyword-only arguments of `functions`, unknown keys refused.

    Args:
        name: Name of the model, for the JSON Schema.
        functions: Functions whose arguments are joined; the first one that has a name wins.
        without: Arguments that the program supplies, not the user.
    """
    fields: dict[str, Any] = {}
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name in without:
                continue
            annotation, default = (
                missing if given is parameter.empty else given
                for given, missing in ((parameter.annotation, Any), (parameter.default, ...))
            )
            fields.setdefault(parameter.name, (annotation, default))
    config = ConfigDict(extra="forbid", validate_default=True, arbitrary_types_allowed=True)
    return create_model(name, __config__=config, **fields)


def resolve(model: type[BaseModel], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All parameters of an entry, defaults filled in.

    Args:
        model: From `parameter_model`.
        given: What the user wrote.
        where: Where they wrote it, for the message, e.g. "perturbations.fgsm".

    Raises:
        StudyError: An unknown key (with the nearest known one), a missing key, or a value out of its range.
    """
    for key in given:
        if key not in model.model_fields:
            raise StudyError(f"{where}: {unknown('key', str(key), model.model_fields)}")
    try:
        return dict(model.model_validate(dict(given)))
    except ValidationError as error:
        raise StudyError("\n".join(describe(problem, where) for problem in error.errors())) from None


def describe(problem: Mapping[str, Any], where: str) -> str:
    """One line for one of pydantic's errors: place, rule and the value seen."""
    place = ".".join(str(part) for part in (where, *problem["loc"]) if part != "")
    if problem["type"] == "missing":
        return f"{place}: this key is required."
    says = problem["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{place}: {says}; got {problem['input']!r}."


def keywords(function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """The arguments that a function takes by keyword, and whether it takes any other (`**`)."""
    known = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = frozenset(p.name for p in known if p.kind not in (*variable, inspect.Parameter.POSITIONAL_ONLY))
    return named, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known)


def accepted(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that a function takes by keyword."""
    names, takes_any = keywords(function)
    return {key: value for key, value in values.items() if takes_any or key in names}

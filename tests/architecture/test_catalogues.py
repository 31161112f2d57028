"""Adding an entry to a catalogue is enough: it is complete, and its parameters can be validated and shown."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, get_args, get_origin

import pytest
from torch import Tensor

from medrobust.data import DATASETS
from medrobust.models import MODELS
from medrobust.models.spec import SUPPLIED as SUPPLIED_TO_MODELS
from medrobust.perturbations import PERTURBATIONS
from medrobust.perturbations.attacks.transfer import PARTS, Transfer
from medrobust.perturbations.attacks.transfer import SUPPLIED as PART_SUPPLIED
from medrobust.perturbations.request import LABEL, SUPPLIED, parameters_of

FUNCTIONS: dict[str, tuple[Callable[..., Any], frozenset[str]]] = {
    **{f"perturbations/{name}": (entry.function, SUPPLIED) for name, entry in PERTURBATIONS.items()},
    **{
        f"perturbations/{name}/targets": (entry.targets, SUPPLIED)
        for name, entry in PERTURBATIONS.items()
        if entry.targets
    },
    **{f"transfer/{name}": (part, frozenset(PART_SUPPLIED)) for name, part in PARTS.items()},
    **{f"models/{name}": (entry.build, frozenset(SUPPLIED_TO_MODELS)) for name, entry in MODELS.items()},
    **{
        f"data/{name}/{place}": (function, frozenset())
        for name, entry in DATASETS.items()
        for place, function in enumerate(entry.functions)
    },
}


def parameters(function: Callable[..., Any], without: frozenset[str]) -> list[inspect.Parameter]:
    every = inspect.signature(function).parameters.values()
    return [each for each in every if each.kind is each.KEYWORD_ONLY and each.name not in without]


def is_bounded(annotation: Any) -> bool:
    """Whether every number in an annotation has a range, or is one of a few."""
    if annotation == Transfer:  # its options are parameters of its parts
        return True
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return bool(metadata) and (type(metadata[0]).__name__ != "BeforeValidator" or len(metadata) > 1)
    inner = [part for part in get_args(annotation) if part not in (Ellipsis, Tensor)]
    return annotation not in (int, float) and all(
        is_bounded(part) for part in inner if isinstance(part, type) or get_args(part)
    )


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_every_parameter_has_a_type_and_every_number_a_range(name: str) -> None:
    for parameter in parameters(*FUNCTIONS[name]):
        assert parameter.annotation is not parameter.empty, parameter.name
        assert is_bounded(parameter.annotation), f"{parameter.name}: {parameter.annotation}"


@pytest.mark.parametrize("name", list(PERTURBATIONS))
def test_entries_of_perturbations_are_complete(name: str) -> None:
    entry = PERTURBATIONS[name]
    assert LABEL.fullmatch(name)
    assert entry.tasks
    assert entry.revision >= 1
    assert entry.summary.endswith(".")
    assert entry.source or entry.role != "attack"
    assert entry.budget is None or entry.budget in inspect.signature(entry.function).parameters
    known = parameters_of(entry).model_fields
    for preset in entry.presets.values():
        assert preset.parameters.keys() <= known.keys()
        assert preset.source
    given = {key: field.default for key, field in known.items()} | {"eps": 0.1}
    assert (entry.fits or entry.passes)(given) > 0


@pytest.mark.parametrize("name", list(PERTURBATIONS))
def test_perturbations_have_the_one_signature(name: str) -> None:
    positional = [
        parameter.name
        for parameter in inspect.signature(PERTURBATIONS[name].function).parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY
    ]
    assert positional == ["model", "images", "labels"]
    optional = set() if PERTURBATIONS[name].role in ("corruption", "transform") else {"support", "rngs"}
    assert optional <= inspect.signature(PERTURBATIONS[name].function).parameters.keys()


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_every_parameter_is_explained(name: str) -> None:
    function, without = FUNCTIONS[name]
    function = function.func if isinstance(function, partial) else function
    explained = inspect.getdoc(function) or ""
    if inspect.isclass(function):
        explained += inspect.getdoc(function.__init__) or ""
    for parameter in parameters(function, without):
        assert f"{parameter.name}:" in explained, parameter.name

"""Clinical endpoints of a study: mistakes by name, and what mistakes cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from medrobust.core import Task
from medrobust.errors import StudyError, nearest, unknown
from medrobust.metrics.catalogue import Score
from medrobust.metrics.scores import Counts, Labels, volume_error

COST = "mean cost"
"""Name of the endpoint that adds costs up."""

KEYS: Mapping[Task, tuple[str, ...]] = {
    Task.CLASSIFICATION: ("name", "truth", "not", "predicted"),
    Task.MULTILABEL: ("name", "truth", "not"),
    Task.SEGMENTATION: ("name", "structure", "volume_error", "missed"),
}
EXAMPLES: Mapping[Task, str] = {
    Task.CLASSIFICATION: "{name: missed melanoma, truth: mel, not: mel}",
    Task.MULTILABEL: "{name: missed effusion, truth: Effusion, not: Effusion}",
    Task.SEGMENTATION: "{name: lesion missed, structure: lesion, missed: true}, or {..., volume_error: 0.2}",
}
WHERE = "study.analysis.endpoints"


class Endpoint(NamedTuple):
    """A mistake, or a cost, whose rate networks are compared by.

    Attributes:
        name: Its name in tables.
        score: 1 where the mistake is made, of what it is about; of a cost, its fraction of the largest one.
        about: The true classes that it may happen to, the structure, or the finding; empty: all.
        scale: What the score is multiplied by in tables.
    """

    name: str
    score: Score
    about: tuple[str, ...]
    scale: float = 1.0


def endpoints(
    named: Sequence[Mapping[str, Any]],
    costs: Mapping[str, Mapping[str, float]],
    task: Task,
    classes: Sequence[str] | None = None,
) -> tuple[Endpoint, ...]:
    """The endpoints that a study names, then the mean cost of its mistakes.

    Args:
        named: `analysis.endpoints`.
        costs: `analysis.costs`: by true class, then by predicted class; 1 where a mistake is not named.
        task: What the networks do.
        classes: Names of the classes, structures or findings; None: they are not known yet.

    Raises:
        StudyError: A key is missing, unknown or of another task, two names are the same, or the data have no
            such class.
    """
    made = tuple(_endpoint(each, task, classes) for each in named)
    names = [each.name for each in made]
    twice = next((name for name in names if names.count(name) > 1 or name == COST), None)
    if twice is not None:
        raise StudyError(f"{WHERE}: the name '{twice}' is taken. Give each endpoint one of its own.")
    return (*made, _cost(costs, task, classes)) if costs else made


def _endpoint(given: Mapping[str, Any], task: Task, classes: Sequence[str] | None) -> Endpoint:
    name, keys = given.get("name"), KEYS[task]
    where = f"{WHERE}.{name}" if isinstance(name, str) and name else WHERE
    for key in given:
        if key not in keys:
            raise StudyError(f"{where}: no key '{key}'.{nearest(str(key), keys)} Such as {EXAMPLES[task]}.")
    rules = [key for key in keys[2:] if key in given]
    if where == WHERE or keys[1] not in given or len(rules) != 1:
        raise StudyError(
            f"{where}: an endpoint has a name, `{keys[1]}` and one of {', '.join(keys[2:])}, such as"
            f" {EXAMPLES[task]}; got {dict(given)}."
        )
    (rule,) = rules
    about = _names(given[keys[1]], f"{where}.{keys[1]}", task, classes)
    if task.has_maps:
        if len(about) > 1:
            raise StudyError(f"{where}.structure: one structure, or a region; got {', '.join(about)}.")
        return Endpoint(str(name), _of_structure(str(name), rule, given[rule], where), about)
    answers = _names(given[rule], f"{where}.{rule}", task, classes)
    if task is Task.MULTILABEL and (len(about) > 1 or answers != about):
        raise StudyError(f"{where}: `not` must be the one finding of `truth`, such as {EXAMPLES[task]}.")
    if rule == "predicted" and set(about) & set(answers):
        raise StudyError(f"{where}.predicted: {', '.join(about)} is no mistake where it is the truth.")
    if rule == "not" and not set(about) <= set(answers):
        right = ", ".join(name for name in about if name not in answers)
        raise StudyError(
            f"{where}.not: must name {right} too, which is no mistake where it is the truth; got"
            f" {', '.join(answers)}."
        )
    places = [1] if task is Task.MULTILABEL else [classes.index(each) for each in answers if classes]

    def mistaken(predictions: Labels) -> Bool[np.ndarray, "n"]:
        return np.asarray(np.isin(predictions, places, invert=rule == "not"))

    return Endpoint(str(name), Score(str(name), mistaken, higher_is_better=False), about)


def _of_structure(name: str, rule: str, value: object, where: str) -> Score:
    """NaN in scans without the structure."""
    if rule == "missed":
        if value is not True:
            raise StudyError(f"{where}.missed: must be true; got {value!r}. Leave the endpoint out instead.")

        def missed(n_true: Counts, n_both: Counts) -> Float64[np.ndarray, "n"]:
            return np.where(n_true > 0, (n_both == 0).astype(float), np.nan)

        return Score(name, missed, higher_is_better=False)
    limit = _number(value, f"{where}.volume_error", "a relative error of the volume, such as 0.2")

    def off(n_true: Counts, n_pred: Counts) -> Float64[np.ndarray, "n"]:
        error = volume_error(n_true, n_pred)
        return np.where(np.isnan(error), np.nan, (np.abs(error) > limit).astype(float))

    return Score(name, off, higher_is_better=False)


def _cost(costs: Mapping[str, Mapping[str, float]], task: Task, classes: Sequence[str] | None) -> Endpoint:
    where = "study.analysis.costs"
    if task is not Task.CLASSIFICATION:
        raise StudyError(f"{where}: applies where each image has one class; this study is one of {task}.")
    for truth, row in costs.items():
        _names([truth, *row], f"{where}.{truth}", task, classes)
        for predicted, price in row.items():
            _number(price, f"{where}.{truth}.{predicted}", "a cost")
            if predicted == truth and price:
                raise StudyError(f"{where}.{truth}.{predicted}: a right answer costs nothing; got {price}.")
    known = list(classes or {*costs, *(name for row in costs.values() for name in row)})
    table = 1.0 - np.eye(len(known))
    for truth, row in costs.items():
        for predicted, price in row.items():
            table[known.index(truth), known.index(predicted)] = price
    largest = float(table.max()) or 1.0

    def cost(labels: Labels, predictions: Labels) -> Float64[np.ndarray, "n"]:
        return np.asarray(table[labels, predictions] / largest)

    return Endpoint(COST, Score(COST, cost, higher_is_better=False), (), largest)


def _names(given: object, where: str, task: Task, classes: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not names or not all(isinstance(name, str) for name in names):
        raise StudyError(f"{where}: must be a name or a list of names; got {given!r}.")
    known: Iterable[str] = names if classes is None else classes[1:] if task.has_maps else classes
    for name in names:
        if name not in known:
            kind = {Task.SEGMENTATION: "structure", Task.MULTILABEL: "finding"}.get(task, "class")
            raise StudyError(f"{where}: {unknown(kind, str(name), known)}")
    return tuple(map(str, names))


def _number(value: object, where: str, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise StudyError(f"{where}: must be {what}, at least 0; got {value!r}.")
    return float(value)

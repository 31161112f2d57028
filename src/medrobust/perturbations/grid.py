"""Grids of budgets: an attack whose budget is a list is asked for once per budget, as points of a curve."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.parameters import parse_ratio
from medrobust.perturbations.catalogue import PERTURBATIONS
from medrobust.perturbations.request import LABEL, Request, label_of, request


def requests(entry: Mapping[str, Any], task: Task) -> tuple[Request, ...]:
    """Validate what a study asks for, once for every budget of a list.

    Args:
        entry: As for `request`, and: the budget may be a list of numbers, e.g. `eps: [0.5/255, 1/255]`;
            `curve` names the curve that an attack with one number is a point of.
        task: Task of the study.

    Returns:
        One request. For a list one per budget, in its order: the label is that of the entry, "-", and the
        budget as written with "of" for "/", e.g. `pgd-0.5of255`; the curve has the label of the entry.

    Raises:
        StudyError: As from `request`; a list that is empty, names a budget twice, or is not of budgets; a
            `curve` of an attack without a budget in numbers.
    """
    entry = dict(entry)
    curve = entry.pop("curve", None)
    lists = [key for key, value in entry.items() if isinstance(value, list | tuple)]
    if not lists or str(entry.get("name")) not in PERTURBATIONS:
        return (point_of(curve, request(entry, task)),)
    label = label_of(entry, f"perturbations.{entry['name']}")
    where, budget = f"perturbations.{label}", PERTURBATIONS[entry["name"]].budget
    for key in lists:
        if key != budget:
            raise StudyError(f"{where}.{key}: takes no list; got {entry[key]!r}. {_who_takes_lists(budget)}")
    names = budget_names(entry[lists[0]], f"{where}.{budget}")
    return tuple(
        point_of(curve or label, request(entry | {"label": f"{label}-{name}", lists[0]: value}, task))
        for name, value in names.items()
    )


def point_of(curve: object, asked: Request) -> Request:
    """The request as a point of a curve; as it is for None."""
    where = f"perturbations.{asked.label}.curve"
    if curve is None:
        return asked
    if not isinstance(curve, str) or not LABEL.fullmatch(curve):
        raise StudyError(f"{where}: may hold letters, digits, '.', '_' and '-' only; got {curve!r}.")
    if asked.perturbation.budget is None or asked.unsolved:
        raise StudyError(
            f"{where}: is for attacks whose budget is a number; got {curve!r} for {asked.name}. Leave it out."
        )
    return replace(asked, curve=curve)


def budget_names(budgets: Sequence[object], where: str) -> dict[str, float]:
    """Budgets by what stands for them in labels.

    Raises:
        StudyError: There are none, one is no number above 0, or two are the same.
    """
    names: dict[str, float] = {}
    for written in budgets:
        value = parse_ratio(written)
        if isinstance(value, bool) or not isinstance(value, float | int) or not value > 0:
            raise StudyError(
                f"{where}: a list holds numbers above 0, such as 0.5/255 (0 is the clean image, which is in "
                f"every curve); got {written!r}."
            )
        name = written.replace(" ", "").replace("/", "of") if isinstance(written, str) else f"{value:.4g}"
        names[name] = float(value)
    if not names:
        raise StudyError(f"{where}: a list must hold at least one budget; got [].")
    if len(set(names.values())) < len(budgets):
        raise StudyError(
            f"{where}: every budget once, different in its first 4 digits; got {list(budgets)!r}."
        )
    return names


def _who_takes_lists(budget: str | None) -> str:
    if budget is not None:
        return f"Only its budget, {budget}, does: one attack per number, and a curve."
    names = [name for name, entry in PERTURBATIONS.items() if entry.kind == "attack" and entry.budget]
    return f"Only budgets do; attacks with a budget: {', '.join(names)}."

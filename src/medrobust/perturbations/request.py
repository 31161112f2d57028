"""A perturbation as a study asks for it: validated once, then applied to batch after batch."""

import copy
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import BaseModel
from torch import Tensor

from medrobust.core import Task
from medrobust.errors import StudyError, unknown
from medrobust.metrics.similarity import ssim
from medrobust.parameters import accepted, parameter_model, parse_ratio, resolve
from medrobust.perturbations.catalogue import PERTURBATIONS
from medrobust.perturbations.entry import OnFailure, OnMisclassified, Perturbation, Preset, Tally
from medrobust.perturbations.gradients import Model
from medrobust.perturbations.noise import match_noise
from medrobust.perturbations.strength import solve_strength

SUPPLIED = frozenset({"support", "rngs", "targets", "spacing", "background", "tally"})
"""Arguments that the program gives to attacks and makers of targets, not the user."""

POLICIES = {"on_misclassified": ("attack", "keep", "drop"), "on_failure": ("last", "clean")}
Choice = TypeVar("Choice", bound=str)
LABEL = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Request:
    """One perturbation of a study.

    Attributes:
        label: What it is called in every table.
        name: Its name in the catalogue.
        parameters: All of its parameters, ready for JSON; without its budget for as long as that is to be
            solved.
        on_misclassified: What happens to images that the source already gets wrong.
        on_failure: What is stored where it fails.
        ssim: SSIM that the budget is to be solved for; None: the budget is given, or there is none.
        curve: The curve over budgets that it is a point of; None: of none.
    """

    label: str
    name: str
    parameters: Mapping[str, Any]
    on_misclassified: OnMisclassified
    on_failure: OnFailure
    ssim: float | None = None
    curve: str | None = None

    @property
    def perturbation(self) -> Perturbation:
        """Its entry in the catalogue."""
        return PERTURBATIONS[self.name]

    @property
    def unsolved(self) -> bool:
        """Whether its budget is missing: to be solved for an SSIM, or (noise) to be matched to an attack."""
        budget = self.perturbation.budget
        return budget is not None and budget not in self.parameters

    def with_budget(self, value: float) -> "Request":
        """The same request with its budget filled in."""
        budget = self.perturbation.budget
        if budget is None:
            raise ValueError(f"{self.name}: has no budget that could be set to {value}.")
        return replace(self, parameters={**self.parameters, budget: value})


def parameters_of(name: str, without: Collection[str] = ()) -> type[BaseModel]:
    """The parameters of a perturbation and of its targets, with ranges and defaults."""
    entry = PERTURBATIONS[name]
    functions = [entry.function] if entry.targets is None else [entry.function, entry.targets]
    return parameter_model(name, *functions, without={*SUPPLIED, *without})


def request(entry: Mapping[str, Any], task: Task) -> Request:
    """Validate what a study asks for.

    Args:
        entry: Keys `name`, `label`, `preset`, `on_misclassified`, `on_failure` and the perturbation's
            parameters. The budget may be given as `{ssim: s}`. Noise without a strength is noise to be
            matched.
        task: Task of the study.

    Returns:
        The request with every parameter resolved: explicit ones, then the preset's, then the defaults.

    Raises:
        StudyError: An unknown name, key or preset (with the nearest known one), a value out of range, a
            perturbation that does not fit the task.
    """
    name = entry.get("name")
    if not isinstance(name, str) or name not in PERTURBATIONS:
        raise StudyError(f"perturbations: {unknown('perturbation', str(name), PERTURBATIONS)}")
    perturbation, where = PERTURBATIONS[name], f"perturbations.{entry.get('label', name)}"
    if task not in perturbation.tasks:
        fitting = sorted(key for key, other in PERTURBATIONS.items() if task in other.tasks)
        raise StudyError(f"{where}: {name} is not for {task}; these are: {', '.join(fitting)}.")
    preset = preset_of(perturbation, entry.get("preset"), where)
    given = {key: value for key, value in entry.items() if key not in ("name", "label", "preset", *POLICIES)}
    parameters, ssim = without_budget(perturbation, {**preset.parameters, **given}, where)
    unsolved = {perturbation.budget or ""} - parameters.keys()
    parameters = resolve(parameters_of(name, without=unsolved), parameters, where)
    if perturbation.check is not None:
        perturbation.check(parameters, task, where)
    return Request(
        label=label_of(entry, where),
        name=name,
        parameters=parameters,
        on_misclassified=policy(
            entry, "on_misclassified", preset.on_misclassified or perturbation.on_misclassified, where
        ),
        on_failure=policy(entry, "on_failure", preset.on_failure or perturbation.on_failure, where),
        ssim=ssim,
    )


def label_of(entry: Mapping[str, Any], where: str) -> str:
    """The label of an entry, by default its name."""
    label = entry.get("label", entry["name"])
    if not isinstance(label, str) or not LABEL.fullmatch(label):
        raise StudyError(f"{where}.label: may hold letters, digits, '.', '_' and '-' only; got {label!r}.")
    return label


def preset_of(perturbation: Perturbation, name: object, where: str) -> Preset:
    """The preset of that name; an empty one where none is asked for."""
    if name is None:
        return Preset({}, source="")
    if str(name) not in perturbation.presets:
        raise StudyError(f"{where}.preset: {unknown('preset', str(name), perturbation.presets)}")
    return perturbation.presets[str(name)]


def policy(entry: Mapping[str, Any], key: str, default: Choice, where: str) -> Choice:
    """What `entry` says for a policy."""
    value = entry.get(key, default)
    if value not in POLICIES[key]:
        raise StudyError(f"{where}.{key}: must be one of {', '.join(POLICIES[key])}; got {value!r}.")
    return cast(Choice, value)


def without_budget(
    perturbation: Perturbation, parameters: dict[str, Any], where: str
) -> tuple[dict[str, Any], float | None]:
    """Take a budget that is to be solved out of the parameters; and the SSIM to solve it for, if any."""
    budget = perturbation.budget
    value = None if budget is None else parameters.get(budget)
    if budget is None or not (value is None or isinstance(value, Mapping)):
        return parameters, None
    rest = {key: other for key, other in parameters.items() if key != budget}
    if value is None:
        return rest, perturbation.default_ssim
    ssim = parse_ratio(value.get("ssim"))
    if set(value) != {"ssim"} or not isinstance(ssim, float | int) or not 0 < ssim < 1:
        raise StudyError(
            f"{where}.{budget}: must be a number or {{ssim: s}} with s in (0, 1); got {value!r}."
        )
    return rest, float(ssim)


def targets_of(
    request: Request,
    labels: Int64[Tensor, "n *space"],
    rngs: Sequence[np.random.Generator] | None,
    spacing: Sequence[float] | None = None,
) -> Int64[Tensor, "n *space"] | None:
    """Targets of a batch; None for a perturbation that needs none.

    Args:
        request: What the study asks for.
        labels: True class of every pixel.
        rngs: One generator per image; the source network takes no part in their keys.
        spacing: Size of a pixel in mm, None where unknown.
    """
    make = request.perturbation.targets
    if make is None:
        return None
    return make(labels, rngs=rngs, spacing=spacing, **accepted(make, request.parameters))


def perturb(
    request: Request,
    model: Model | None,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    spacing: Sequence[float] | None = None,
    targets: Int64[Tensor, "n *labelspace"] | None = None,
    tally: Tally | None = None,
) -> Float[Tensor, "n c *space"]:
    """Apply a request to a batch.

    Args:
        request: What the study asks for, its budget solved; noise may also be given as `{ssim: s}`, solved
            here per image.
        model: Source network; noise needs none.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change; None: everywhere.
        rngs: One generator per image.
        spacing: Size of a pixel in mm, for targets; None where unknown.
        targets: From `targets_of`; None: made here.
        tally: Is told what an iterated attack did.

    Returns:
        Perturbed images.

    Raises:
        ValueError: A wrong argument, or a budget that is not solved.
    """
    function = request.perturbation.function
    if targets is None:
        targets = targets_of(request, labels, rngs, spacing)
    parameters = dict(request.parameters)
    if request.unsolved:
        parameters.update(solved_noise(request, images, support, rngs))
    optional = accepted(function, {"targets": targets, "tally": tally})
    return function(
        model, images, labels, support=support, rngs=rngs, **optional, **accepted(function, parameters)
    )


def solved_noise(
    request: Request,
    images: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
    rngs: Sequence[np.random.Generator] | None,
) -> dict[str, Tensor]:
    """The strength of noise that is given by its SSIM."""
    if request.perturbation.kind != "noise" or request.ssim is None:
        raise ValueError(
            f"{request.label}: its {request.perturbation.budget} is not set; use solve_budget or "
            "match_noise first, then request.with_budget."
        )
    goal = torch.full((len(images),), request.ssim, device=images.device)
    return {"strength": match_noise(request.name, images, goal, support=support, rngs=rngs).strength}


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


TOLERANCE = 1e-4
FIRST_BUDGET = 4 / 255
LARGEST_BUDGET = 1.0
DIGITS = 4


def solve_budget(
    request: Request,
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor, Tensor | None, Sequence[np.random.Generator] | None]],
) -> float:
    """Find the budget at which the mean SSIM of an attack is what the request asks for.

    Args:
        request: Its `ssim` is the goal.
        model: Source network.
        batches: Images `n c *space`, labels, support and random generators of validation cases. SSIM is taken
            over the support; cases with an empty one do not count. Generators are copied: every budget is
            tried on the same draws.

    Returns:
        The budget, rounded to 4 significant digits; set it with `request.with_budget`.

    Raises:
        ValueError: The request has nothing to solve, or there are no cases.
        StudyError: The SSIM cannot be reached.
    """
    cases = list(batches)
    if request.ssim is None or not cases:
        raise ValueError(
            f"{request.label}: needs an SSIM to solve for and cases, got {request.ssim} and {len(cases)}."
        )

    def mean_ssim(_: Tensor, budget: Tensor) -> Tensor:
        solved = request.with_budget(round_budget(float(budget)))
        values = [
            ssim(
                images,
                perturb(solved, model, images, labels, support=support, rngs=copy.deepcopy(rngs)),
                support,
            )
            for images, labels, support, rngs in cases
        ]
        return torch.cat(values).nanmean()[None].cpu()

    goal, tolerance = torch.tensor([request.ssim]), torch.tensor([TOLERANCE])
    solution = solve_strength(mean_ssim, goal, tolerance, first=FIRST_BUDGET, largest=LARGEST_BUDGET)
    budget, reached = round_budget(float(solution.strength)), bool(solution.reached)
    if not reached:
        raise StudyError(
            f"perturbations.{request.label}: no {request.perturbation.budget} up to {LARGEST_BUDGET:g} "
            f"gives an SSIM of {request.ssim:g}; the nearest is {float(solution.ssim):.4f} at {budget:g}. "
            "Ask for a value that can be reached."
        )
    return budget


def round_budget(budget: float) -> float:
    """Round to 4 significant digits."""
    return float(f"{budget:.{DIGITS}g}")

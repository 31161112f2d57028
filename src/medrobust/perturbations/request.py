"""A perturbation as a study asks for it: validated once, then applied to batch after batch."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import BaseModel
from torch import Tensor

from medrobust.core import Task
from medrobust.errors import StudyError, unknown
from medrobust.parameters import accepted, parameter_model, parse_ratio, resolve
from medrobust.perturbations.catalogue import PERTURBATIONS
from medrobust.perturbations.entry import Perturbation
from medrobust.perturbations.gradients import Model
from medrobust.perturbations.noise import match_noise
from medrobust.perturbations.presets import OnFailure, OnMisclassified, Preset
from medrobust.perturbations.tally import Tally

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

"""A perturbation as a study asks for it: validated once, then applied to batch after batch."""

import copy
import inspect
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, cast, get_args, get_origin

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pydantic import BaseModel
from torch import Tensor

from medrobust.catalogue import code_digest, reference_of
from medrobust.core import UNKNOWN, Task
from medrobust.errors import MedrobustError, StudyError, reason, unknown
from medrobust.metrics.similarity import ssim
from medrobust.parameters import accepted, parameter_model, parse_ratio, resolve
from medrobust.perturbations.catalogue import PERTURBATIONS
from medrobust.perturbations.checks import task_of
from medrobust.perturbations.entry import (
    SUPPLIED,
    CraftedOn,
    Moved,
    OnFailure,
    OnMisclassified,
    Perturbation,
    Preset,
    Tally,
)
from medrobust.perturbations.geometry import acted_on, per_image, rows
from medrobust.perturbations.gradients import Informed, Model, about
from medrobust.perturbations.strength import Solution, first_strength, solve_strength
from medrobust.rng import generators_of

POLICIES = {
    "on_misclassified": get_args(OnMisclassified),
    "on_failure": get_args(OnFailure),
    "crafted_on": get_args(CraftedOn),
}
OWN_KEYS = ("name", "load", "given", "label", "preset", "finding", "ladder", "cases", *POLICIES)
"""Keys of an item of a study that are not parameters."""

LABEL = re.compile(r"[A-Za-z0-9._-]+")

TOLERANCE = 1e-4
ACCEPTED = 0.005
"""Steps of a sign jump with the budget, so some goals are only approached, as docs/protocol.md allows."""
FIRST_BUDGET = 4 / 255

CORRUPTED, FIRST_SHARE, GRID = 0.004, 0.3, 100
"""How far the SSIM of a corruption may be from its goal, the share of its extent that is tried first, and the
number of strengths that are tried at last."""

LARGEST_STRENGTH = 10.0
"""Of noise whose function does not say itself how strong it may be, e.g. by `Le(1)`."""


@dataclass(frozen=True)
class Request:
    """One perturbation of a study.

    Attributes:
        label: Its name in every table.
        perturbation: Its entry in the catalogue.
        parameters: All of its parameters, ready for JSON; without its budget until that is solved.
        on_misclassified: What happens to images that the source already gets wrong.
        on_failure: What is stored where it fails.
        crafted_on: The networks that it is crafted on.
        ssim: SSIM that the budget is to be solved for; None: the budget is given, or there is none.
        curve: The curve over budgets that it is a point of, if any.
        finding: Name or number of the one finding that an attack is to turn; None: all labels.
        preset: The preset that a severity is a step of, if any.
        severity: That step; or the parameter of that name, where it is a whole number.
        ladder: Budget, in the L-infinity norm, of the threat-model ladder that it is a rung of, if any.
        cases: Most of the study's cases that an attack is crafted on; None: all.
        supplied: Tensors from validation cases that its function takes: `others`, images that it mixes in, or
            `found`, the change that was fitted on them.
    """

    label: str
    perturbation: Perturbation
    parameters: Mapping[str, Any]
    on_misclassified: OnMisclassified
    on_failure: OnFailure
    crafted_on: CraftedOn = "surrogates"
    ssim: float | None = None
    curve: str | None = None
    finding: str | int | None = None
    preset: str | None = None
    severity: int | None = None
    ladder: float | None = None
    cases: int | None = None
    supplied: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Its name in the catalogue, or `package.module:function`; part of the key of its generators."""
        return self.perturbation.name

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

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that its images depend on besides images, network and seed, to be hashed.

        A user's own function counts by its code: the file of its module, or in a notebook its own source.

        Raises:
            StudyError: That code cannot be read.
        """
        recipe = {
            "perturbation": self.name,
            "revision": self.perturbation.revision,
            "parameters": dict(self.parameters),
            "on_misclassified": self.on_misclassified,
            "on_failure": self.on_failure,
            "ssim": self.ssim,
        }
        if self.finding is not None:
            recipe["finding"] = self.finding
        return recipe if self.perturbation.is_ours else recipe | {"code": self._code}

    @property
    def written(self) -> dict[str, Any]:
        """The item of a study that asks for it, everything filled in, as plain data.

        An object that cannot be imported again stands under `given`, for people to read.
        """
        entry = self.perturbation
        reference = reference_of(entry.function)
        if ":" not in self.name and (entry.is_ours or self.name in PERTURBATIONS.names()):
            item: dict[str, Any] = {"name": self.name}
        elif reference is not None:
            item = {"load": reference}
        else:
            item = {"given": f"{self.name} {self._code[:12]}"}
        item["label"] = self.label
        if self.curve is not None:
            item["curve"] = self.curve
        if self.ladder is not None:
            item["ladder"] = self.ladder
        if self.cases is not None:
            item["cases"] = self.cases
        if entry.role == "attack":
            item |= {key: getattr(self, key) for key in POLICIES}
        if self.finding is not None:
            item["finding"] = self.finding
        if self.preset is not None:
            item |= {"preset": self.preset, "severity": self.severity}
        item |= self.parameters
        if self.ssim is not None:
            item[str(entry.budget)] = {"ssim": self.ssim}
        return item

    @property
    def facts(self) -> dict[str, Any]:
        """What a report says about it, as plain data: a report must not need anybody's package."""
        entry = self.perturbation
        names = ("role", "needs", "budget", "unit", "minimal", "summary", "source")
        facts = {name: getattr(entry, name) for name in names}
        return facts | {
            "crafted_on": self.crafted_on,
            "beyond_paper": entry.beyond_paper or self.crafted_on == "ensemble",
            "norm": entry.norm_of(self.parameters),
            "share": self.parameters.get("share") if entry.minimal else None,
            "targeted": entry.targets is not None,
            "finding": self.finding,
            "preset": self.preset,
            "severity": self.severity,
            "ladder": self.ladder,
            "cases": self.cases,
        }

    @property
    def _code(self) -> str:
        code = code_digest(self.perturbation.function)
        if code is None:
            raise StudyError(
                f"perturbations.{self.label}: a run tells results apart by the code that made them, and that "
                f"of '{self.name}' cannot be read, or uses variables of a function that it was defined in. "
                "Define it with `def` at the top of a module or of a notebook's cell."
            )
        return code


def parameters_of(entry: Perturbation, without: Collection[str] = ()) -> type[BaseModel]:
    """The parameters of a perturbation and of its targets, with ranges and defaults."""
    functions = [entry.function] if entry.targets is None else [entry.function, entry.targets]
    return parameter_model(entry.name, *functions, without={*SUPPLIED, *without})


def request(item: object, task: Task, *, control: bool = False) -> Request:
    """Validate what a study asks for.

    Args:
        item: The name of an entry; or a mapping of `name` (or `load: package.module:function`), `label`,
            `preset`, `severity` (a step of it), `finding`, `on_misclassified`, `on_failure`,
            `crafted_on`, `ladder` (the budget as a rung of the ladder), `cases` (most of the study's cases
            that it is crafted on) and the perturbation's parameters, of which the budget may be given as
            `{ssim: s}`; or, in Python, a function of one's own, also as the value of `load`.
        task: Task of the study.
        control: Whether it is the noise that is matched to every attack, which takes no strength.

    Returns:
        The request with every parameter resolved: explicit ones, then the preset's, then the defaults.

    Raises:
        StudyError: An unknown name, key or preset (with the nearest known one), a value out of range, a
            perturbation that does not fit the task, or code of the user's that fails.
    """
    item = as_mapping(item)
    where = _where(item, "noise" if control else "perturbations")
    entry = _find(item, where)
    if task not in entry.tasks:
        others = {name: other for name, other in PERTURBATIONS.items() if other.role == entry.role}
        fitting = sorted(name for name, other in others.items() if task in other.tasks)
        raise StudyError(f"{where}: {entry.name} is not for {task}; these are: {', '.join(fitting)}.")
    given = {key: value for key, value in item.items() if key not in OWN_KEYS}
    preset, chosen = _preset(entry, item, given, where)
    parameters = {**preset.parameters, **given}
    ladder = _rung(item, entry, parameters, where)
    if control:
        _check_control(entry, parameters, where)
    parameters, goal = _without_budget(entry, parameters, where)
    solved = {str(entry.budget)} if control or goal is not None else set()
    parameters = resolve(parameters_of(entry, without=solved), parameters, where)
    _check_plain(parameters, where)
    if complaint := entry.check(parameters, task):
        raise StudyError(f"{where}.{complaint}")
    label = _label(item, entry, where)
    policies: dict[str, Any] = {}
    for key, choices in POLICIES.items():
        policies[key] = item.get(key, getattr(preset, key, None) or getattr(entry, key))
        if policies[key] not in choices:
            raise StudyError(f"{where}.{key}: must be one of {', '.join(choices)}; got {policies[key]!r}.")
    finding, cases = _finding(item, entry, task, where), _cases(item, entry, where)
    own = parameters.get("severity")
    chosen.setdefault("severity", own if isinstance(own, int) else None)
    chosen |= {"finding": finding, "ladder": ladder, "cases": cases}
    return Request(label, entry, parameters, **policies, ssim=goal, **chosen)


def requests(item: object, task: Task) -> tuple[Request, ...]:
    """Validate what a study asks for, once for every budget of a list.

    Args:
        item: As for `request`, and: the budget may be a list of numbers, e.g. `eps: [0.5/255, 1/255]`;
            `curve` names the curve that an attack with one number is a point of.
        task: Task of the study.

    Returns:
        One request; for a list one per budget, in its order. There the label is that of the item, "-", and
        the budget as written with "of" for "/", e.g. `pgd-0.5of255`; the curve has the label of the item. A
        transform's `search` may be a list likewise, e.g. `bias_field_search-worst`.

    Raises:
        StudyError: As from `request`; a list that is empty, names a budget twice, or is not of budgets; a
            `curve` of an attack without a budget in numbers.
    """
    item = as_mapping(item)
    curve = item.pop("curve", None)
    where = _where(item)
    entry = _find(item, where)
    if entry.severities and isinstance(item.get("severity"), Mapping):
        return _of_similarities(item, entry, task, where)
    if entry.role == "transform" and isinstance(item.get("search"), list | tuple):
        return _searches(item, entry, task, where, curve)
    known = parameters_of(entry).model_fields
    lists = {
        key: value
        for key, value in item.items()
        if isinstance(value, list | tuple) and not (key in known and _is_list(known[key].annotation))
    }
    budget = "severity" if entry.severities and "severity" in lists else str(entry.budget)
    budgets = None if entry.role == "transform" else lists.pop(budget, None)
    if entry.is_ours and lists:
        key, value = next(iter(lists.items()))
        raise StudyError(f"{where}.{key}: takes no list; got {value!r}. {_takes_lists(entry)}")
    if budgets is None:
        return (_point(curve, request(item, task)),)
    label = _label(item, entry, where)
    names = _budget_names(budgets, f"perturbations.{label}.{budget}")
    return tuple(
        _point(curve or label, request(item | {"label": f"{label}-{name}", budget: value}, task))
        for name, value in names.items()
    )


def _searches(
    item: dict[str, Any], entry: Perturbation, task: Task, where: str, curve: object
) -> tuple[Request, ...]:
    """A transform that is searched in several ways."""
    label, asked = _label(item, entry, where), item.pop("search")
    if not asked or len(set(map(str, asked))) < len(asked):
        raise StudyError(f"{where}.search: a list names each way to search once; got {asked!r}.")
    made = (request(item | {"label": f"{label}-{search}", "search": search}, task) for search in asked)
    return tuple(_point(curve or label, each) for each in made)


def _of_similarities(
    item: dict[str, Any], entry: Perturbation, task: Task, where: str
) -> tuple[Request, ...]:
    """A corruption at several similarities, or at all severities where SSIM says nothing about it."""
    label, asked = _label(item, entry, where), item.pop("severity")
    if entry.extent is None:
        return requests(item | {"severity": list(range(1, entry.severities + 1))}, task)
    goals = asked.get("ssim")
    if set(asked) != {"ssim"} or not isinstance(goals, list | tuple) or not goals:
        raise StudyError(f"{where}.severity: must be numbers or {{ssim: [s, ...]}}; got {asked!r}.")
    return tuple(
        _point(
            label, request(item | {"label": f"{label}-ssim{goal:g}", str(entry.budget): {"ssim": goal}}, task)
        )
        for goal in map(parse_ratio, goals)
    )


def place_of_finding(request: Request, findings: Sequence[str]) -> int | None:
    """Which finding an attack is to turn; None: all.

    Raises:
        StudyError: The data have no such finding.
    """
    asked = request.finding
    if asked is None:
        return None
    if isinstance(asked, int) and not isinstance(asked, bool) and 0 <= asked < len(findings):
        return asked
    if asked not in findings:
        raise StudyError(f"perturbations.{request.label}.finding: {unknown('finding', str(asked), findings)}")
    return findings.index(str(asked))


def aimed(
    request: Request, labels: Int64[Tensor, "n *labelspace"], findings: Sequence[str]
) -> Int64[Tensor, "n *labelspace"]:
    """The labels that an attack is to turn, and by which its success is measured.

    Args:
        request: What the study asks for.
        labels: True labels.
        findings: Names of the findings, in which its `finding` is looked up.

    Returns:
        All labels; of an attack on one finding only those, with `UNKNOWN` in place of the others.

    Raises:
        StudyError: The data have no such finding.
    """
    place = place_of_finding(request, findings)
    if place is None:
        return labels
    alone = torch.full_like(labels, UNKNOWN)
    alone[:, place] = labels[:, place]
    return alone


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
        rngs: One generator per image; their keys do not name the source network.
        spacing: Size of a pixel in mm, None where unknown.
    """
    make = request.perturbation.targets
    if make is None:
        return None
    made = make(labels, rngs=rngs, spacing=spacing, **accepted(make, request.parameters))
    return torch.where(labels == UNKNOWN, labels, made)


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
    found: Float[Tensor, "n p"] | None = None,
    tally: Tally | None = None,
) -> Float[Tensor, "n c *space"]:
    """Apply a request to a batch.

    Of a model that knows more of each image than can be seen (`Informed`), those images are attacked together
    of which it knows the same: an attack may ask about any of them, in any number.

    Args:
        request: What the study asks for, its budget solved; noise may also be given as `{ssim: s}`, solved
            here for each image.
        model: Source network; None for what needs nothing of one.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change; None: everywhere. The changes of an attack or noise that does not
            take it are cut off afterwards; corruptions ignore it.
        rngs: One generator per image; None: those of seed 0.
        spacing: Size of a pixel in mm, for targets; None where unknown.
        targets: From `targets_of`; None: made here.
        found: Of a transform: what a search found; None: it is searched here.
        tally: Filled by an iterated attack, and by a transform with its parameters.

    Returns:
        Perturbed images.

    Raises:
        ValueError: A wrong argument, a budget that is not solved, or labels of pixels that would have to move
            along; see `moved`.
        StudyError: A perturbation of the user's fails, or returns no images.
    """
    entry, given = request.perturbation, dict(request.parameters)
    if request.unsolved:
        if entry.role == "attack" or request.ssim is None:
            raise ValueError(
                f"{request.label}: its {entry.budget} is not set; use solve_budget first, then "
                "request.with_budget; or match_noise, then add_noise."
            )
        goal = torch.full((len(images),), request.ssim, device=images.device)
        drawn: dict[str, Any] = {"support": support, "rngs": rngs, "spacing": spacing}
        strength = match_noise(request, images, labels, goal, **drawn).strength
        return add_noise(request, images, labels, strength, **drawn)
    if entry.moves_labels:
        if task_of(labels).has_maps:
            raise ValueError(f"{request.label}: moves labels with the pixels; `moved` returns both.")
        others: dict[str, Any] = {"rngs": rngs, "spacing": spacing, "found": found, "tally": tally}
        return moved(request, images, labels, model, **others).images
    if targets is None:
        targets = targets_of(request, labels, rngs, spacing)
    if isinstance(model, Informed):
        groups = model.alike()
        if len(groups) > 1:
            every = images.clone()
            masks = {"support": support, "targets": targets}
            for places, own in _apart(model, groups, images, labels, rngs, tally, **masks):
                every[places] = perturb(request, spacing=spacing, **own)
            return every
        model = model.of([0])
    given |= {"support": support, "rngs": rngs, "targets": targets, "spacing": spacing}
    given |= {"found": found, "tally": tally, **request.supplied}
    made = _checked_images(request, _called(request, model, images, labels, given), images)
    if support is None or entry.role in ("corruption", "transform"):
        return made
    takes_support = "support" in inspect.signature(entry.function).parameters
    return made if takes_support else torch.where(support, made, images)


def moved(
    request: Request,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    model: Model | None = None,
    *,
    rngs: Sequence[np.random.Generator] | None = None,
    spacing: Sequence[float] | None = None,
    sides: Sequence[int] | None = None,
    found: Float[Tensor, "n p"] | None = None,
    tally: Tally | None = None,
) -> Moved:
    """Apply a request to a batch, and move the labels where the pixels move.

    Args:
        request: A corruption, noise or transform, its budget set.
        images: Clean images in [0, 1].
        labels: True classes.
        model: The network that a transform is searched on; None for what needs nothing of one.
        rngs: One generator per image; None: those of seed 0.
        spacing: Size of a pixel in mm; None where unknown.
        sides: The class that each becomes where left and right change names, see `medrobust.core.sides_of`.
        found: Of a transform: what a search found; None: it is searched here.
        tally: Filled by a transform with its parameters.

    Returns:
        Images, labels and valid pixels; of what moves nothing, the labels as they are and all pixels.

    Raises:
        ValueError: A wrong argument, or a budget that is not set.
        StudyError: A perturbation of the user's fails, or returns something else.
    """
    others: dict[str, Any] = {"rngs": rngs, "spacing": spacing, "found": found, "tally": tally}
    if not request.perturbation.moves_labels:
        made = perturb(request, model, images, labels, **others)
        return Moved(made, labels.clone(), torch.ones_like(images[:, 0], dtype=torch.bool))
    if isinstance(model, Informed):
        groups = model.alike()
        if len(groups) > 1:
            whole = Moved(images.clone(), labels.clone(), torch.ones_like(images[:, 0], dtype=torch.bool))
            for places, own in _apart(model, groups, images, labels, rngs, tally, found=found):
                for part, of_group in zip(whole, moved(request, spacing=spacing, **own), strict=True):
                    part[places] = of_group
            return whole
        model = model.of([0])
    parts = _called(request, model, images, labels, {**request.parameters, **others, "sides": sides})
    if not isinstance(parts, tuple) or len(parts) != 3:
        raise StudyError(
            f"perturbations.{request.label}: {request.name} must return (images, labels, valid), got "
            f"{type(parts).__name__}."
        )
    _checked_images(request, parts[0], images)
    for name, part, like in (("labels", parts[1], labels), ("valid", parts[2], images[:, 0].bool())):
        if not isinstance(part, Tensor) or part.shape != like.shape or part.dtype != like.dtype:
            raise StudyError(
                f"perturbations.{request.label}: {request.name} must return {name} as {like.dtype} of shape "
                f"{tuple(like.shape)}, got {_seen(part)}."
            )
    return Moved(*parts)


def _called(
    request: Request,
    model: Model | None,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    given: Mapping[str, Any],
) -> object:
    """What the function of a request returns, given those of the arguments that it takes."""
    entry = request.perturbation
    try:
        return entry.function(model, images, labels, **accepted(entry.function, given))
    except (MedrobustError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if entry.is_ours:
            raise
        raise StudyError(
            f"perturbations.{request.label}: {entry.name} fails on images of shape {tuple(images.shape)}: "
            f"{reason(error)}."
        ) from error


def _checked_images(request: Request, made: object, images: Tensor) -> Tensor:
    """The images that a function made, if they are images like those that it was given."""
    if not isinstance(made, Tensor) or made.shape != images.shape or made.dtype != images.dtype:
        raise StudyError(
            f"perturbations.{request.label}: {request.name} must return {images.dtype} images of shape "
            f"{tuple(images.shape)}, got {_seen(made)}."
        )
    return made


def _seen(made: object) -> str:
    return f"{made.dtype} of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__


def _apart(
    model: Model,
    groups: Sequence[Sequence[int]],
    images: Tensor,
    labels: Tensor,
    rngs: Sequence[np.random.Generator] | None,
    tally: Tally | None,
    **others: Tensor | None,
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """The groups of a batch, one after the other: their places, and the arguments that are about them.

    What is counted of a group joins `tally` once it is done.
    """
    rngs = generators_of(rngs, len(images))
    for group in groups:
        places, own = list(group), Tally()
        parts = {name: None if each is None else each[places] for name, each in others.items()}
        yield (
            places,
            {
                "model": about(model, places),
                "images": images[places],
                "labels": labels[places],
                "rngs": [rngs[place] for place in places],
                "tally": own,
                **parts,
            },
        )
        if tally is not None:
            tally.put(own, places, len(images))


def solve_budget(
    request: Request,
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor, Tensor | None, Sequence[np.random.Generator] | None]],
) -> float:
    """Find the budget at which the mean SSIM of an attack is what the request asks for.

    No budget beyond the norm of the change from a black image to a white one is tried.

    Args:
        request: Its `ssim` is the goal.
        model: Source network; of an `Informed` one the batch is that of all cases, in their order.
        batches: Images `n c *space`, labels, support and random generators of validation cases. SSIM is taken
            over the support; cases with an empty one do not count. Generators are copied, so that every
            budget is tried on the same draws.

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

    ends = list(accumulate(len(images) for images, *_ in cases))
    asked = request

    def mean_ssim(_: Tensor, budget: Tensor) -> Tensor:
        solved = asked.with_budget(_rounded(float(budget)))
        values = []
        for (images, labels, support, rngs), end in zip(cases, ends, strict=True):
            own = about(model, range(end - len(images), end))
            made = perturb(solved, own, images, labels, support=support, rngs=copy.deepcopy(rngs))
            values.append(ssim(images, made, support))
        return torch.cat(values).nanmean()[None].cpu()

    entries = cases[0][0][0].numel()
    norm = request.perturbation.norm_of(request.parameters)
    largest = {"2": math.sqrt(entries), "1": float(entries), "0": float(entries)}.get(norm or "inf", 1.0)
    goal, tolerance = torch.tensor([request.ssim]), torch.tensor([TOLERANCE])
    budget = FIRST_BUDGET
    # One change for all is fitted at one budget and scaled to others; then again at the one that is solved.
    for _ in range(1 if request.perturbation.fits is None else 2):
        if request.perturbation.fits is not None:
            asked = fitted(request.with_budget(budget), model, *_joined(cases))
        solution = solve_strength(mean_ssim, goal, tolerance, first=budget, largest=largest)
        budget = _rounded(float(solution.strength))
    if float((solution.ssim - goal).abs()) > ACCEPTED:
        raise StudyError(
            f"perturbations.{request.label}: no {request.perturbation.budget} up to {largest:g} "
            f"gives an SSIM of {request.ssim:g}; the nearest is {float(solution.ssim):.4f} at {budget:g}. "
            "Ask for a value that can be reached."
        )
    return budget


def _joined(
    cases: Sequence[tuple[Tensor, Tensor, Tensor | None, Sequence[np.random.Generator] | None]],
) -> tuple[Tensor, Tensor, Tensor | None, list[np.random.Generator] | None]:
    """All batches as one."""
    images, labels, support, rngs = zip(*cases, strict=True)
    return (
        torch.cat(images),
        torch.cat(labels),
        None if support[0] is None else torch.cat(support),
        None if rngs[0] is None else [rng for each in copy.deepcopy(rngs) for rng in each],
    )


def fitted(
    request: Request,
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    support: Bool[Tensor, "n 1 *space"] | None,
    rngs: Sequence[np.random.Generator] | None,
) -> Request:
    """A request for one change of all images with that change, fitted on some of them."""
    tally = Tally()
    perturb(request, model, images, labels, support=support, rngs=rngs, tally=tally)
    if tally.theta is None:
        raise StudyError(
            f"perturbations.{request.label}: {request.name} must put the change that it fits into "
            "`tally.theta`."
        )
    return replace(request, supplied={**request.supplied, "found": tally.theta[:1]})


def match_noise(
    request: Request,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    ssim_goal: Float[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    spacing: Sequence[float] | None = None,
) -> Solution:
    """Solve for the strength at which the noise, or corruption, of each image has a given SSIM.

    Args:
        request: Noise or a corruption without a strength.
        images: Clean images in [0, 1].
        labels: True classes.
        ssim_goal: Wanted SSIM, usually that of an attack. 1, or NaN (an empty support), gives a strength of
            0.
        support: Where images may change, and over which SSIM is taken; None: everywhere.
        rngs: One generator per image; None: those of seed 0. They are copied, so that the same generators
            give the noise that was solved for.
        spacing: Size of a pixel in mm along each axis; None where unknown.

    Returns:
        Strengths, for `add_noise`; a match is `reached` if its SSIM is within max(0.05 (1 - goal), 1e-5) of
        the goal, that of a corruption within 0.004.

    Raises:
        StudyError: A noise of the user's fails, or returns no images.
    """
    rngs = generators_of(rngs, len(images))
    changed = (ssim_goal < 1).nonzero()[:, 0]
    goal, clean, where = ssim_goal[changed], images[changed], rows(support, changed)

    # Numbers that are drawn once are what a noise draws again and again while its strength is solved for.
    kept = [Drawn(rngs[number]) for number in changed.tolist()]

    def noisy(some: Tensor, strength: Tensor) -> Tensor:
        place = changed[some]
        if request.perturbation.strength_of_each:
            drawing: list[np.random.Generator] = [kept[number] for number in some.tolist()]
        else:
            drawing = [copy.deepcopy(rngs[number]) for number in place.tolist()]
        return add_noise(
            request,
            clean[some],
            labels[place],
            strength,
            support=rows(where, some),
            rngs=drawing,
            spacing=spacing,
        )

    extent = request.perturbation.extent

    def values(shares: Tensor) -> Tensor:
        """Strengths; of a corruption they are looked for by the share of its extent."""
        return shares if extent is None else shares.new_tensor([extent.at(each) for each in shares.tolist()])

    def similarity(some: Tensor, share: Tensor) -> Tensor:
        made, region = noisy(some, values(share)), rows(where, some)
        if extent is not None and region is not None:
            region = acted_on(region, clean[some], made)
        return ssim(clean[some], made, region)

    if extent is None:
        tolerance, largest = (0.05 * (1 - goal)).clamp_min(1e-5), _largest_strength(request.perturbation)
        everything = torch.arange(len(changed), device=images.device)
        first = first_strength(lambda strength: noisy(everything, strength), clean, goal, where, largest)
    else:
        tolerance, largest, first = torch.full_like(goal, CORRUPTED), 1.0, torch.full_like(goal, FIRST_SHARE)
    solution = solve_strength(similarity, goal, tolerance, first=first, largest=largest)
    if extent is not None:
        solution = _nearest_on_grid(similarity, goal, tolerance, solution)
    solution = solution._replace(strength=values(solution.strength))
    strength = torch.full_like(ssim_goal, request.perturbation.neutral)
    reached_ssim = ssim_goal.clone()
    reached = torch.ones_like(ssim_goal, dtype=torch.bool)
    strength[changed], reached_ssim[changed], reached[changed] = solution
    return Solution(strength, reached_ssim, reached)


def _nearest_on_grid(
    evaluate: Callable[[Tensor, Tensor], Tensor], goal: Tensor, tolerance: Tensor, found: Solution
) -> Solution:
    """Look along the whole extent for images that are not solved: similarity may rise and fall, or jump."""
    strength, seen, reached = (each.clone() for each in found)
    for step in range(1, GRID + 1):
        missed = (~reached).nonzero()[:, 0]
        if not len(missed):
            break
        tried = torch.full_like(strength[missed], step / GRID)
        values = evaluate(missed, tried).to(seen)
        nearer = (values - goal[missed]).abs() < (seen[missed] - goal[missed]).abs()
        better = missed[nearer]
        strength[better], seen[better] = tried[nearer], values[nearer]
        reached[better] = (seen[better] - goal[better]).abs() <= tolerance[better]
    return Solution(strength, seen, reached)


def add_noise(
    request: Request,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    strength: Float[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    spacing: Sequence[float] | None = None,
) -> Float[Tensor, "n c *space"]:
    """Make each image with a strength of its own; one at which nothing happens stays as it is."""
    rngs = generators_of(rngs, len(images))
    if request.perturbation.strength_of_each and bool((strength > 0).any()):
        noise = replace(
            request, parameters={**request.parameters, str(request.perturbation.budget): strength}
        )
        noisy = perturb(noise, None, images, labels, support=support, rngs=rngs)
        return torch.where(per_image(strength, images) > 0, noisy, images)
    made = images.clone()
    for number in (strength != request.perturbation.neutral).nonzero()[:, 0].tolist():
        one = slice(number, number + 1)
        where = None if support is None else support[one]
        own = request.with_budget(float(strength[number]))
        made[one] = perturb(
            own, None, images[one], labels[one], support=where, rngs=rngs[one], spacing=spacing
        )
    return made


class Drawn(np.random.Generator):
    """A copy of a generator whose standard normal numbers of a shape are the same at every call."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(copy.deepcopy(rng.bit_generator))
        self._numbers: dict[Any, Any] = {}

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """As of the generator, the first time."""
        if (size, dtype) not in self._numbers:
            self._numbers[size, dtype] = super().standard_normal(size, dtype)
        return self._numbers[size, dtype]


def _largest_strength(entry: Perturbation) -> float:
    """The strength up to which noise is tried."""
    allowed = parameters_of(entry).model_fields[str(entry.budget)].metadata
    return min((float(each.le) for each in allowed if hasattr(each, "le")), default=LARGEST_STRENGTH)


def _rounded(budget: float) -> float:
    return float(f"{budget:.4g}")


def as_mapping(item: object) -> dict[str, Any]:
    """An item of a study that is given as a name, a mapping or a function, as a mapping."""
    if isinstance(item, Mapping):
        return dict(item)
    return {"name": item} if isinstance(item, str) else {"load": item}


def _finding(item: Mapping[str, Any], entry: Perturbation, task: Task, where: str) -> Any:
    """The finding that an item is to turn, as written; None: all."""
    finding = item.get("finding")
    if finding is not None and (task is not Task.MULTILABEL or entry.role != "attack"):
        raise StudyError(
            f"{where}.finding: is for attacks on networks for several labels at once (task: multilabel); got "
            f"{finding!r}. Leave it out."
        )
    if finding is None and task is Task.MULTILABEL and entry.one_finding:
        raise StudyError(
            f"{where}.finding: {entry.name} leads an image over one boundary, and every finding has its own. "
            f"Name the finding that it is to turn: {{name: {entry.name}, finding: ...}}."
        )
    return finding


def _cases(item: Mapping[str, Any], entry: Perturbation, where: str) -> int | None:
    """Most cases that an attack is crafted on; None: all of the study."""
    cases = item.get("cases")
    if cases is None:
        return None
    if isinstance(cases, bool) or not isinstance(cases, int) or cases < 1:
        raise StudyError(f"{where}.cases: must be a whole number of at least 1; got {cases!r}.")
    if entry.role != "attack" or item.get("ladder") is not None:
        raise StudyError(
            f"{where}.cases: is for attacks outside of the ladder; all else is compared on all cases of the "
            f"study. Leave it out, or limit these with the study's `cases`; got {cases}."
        )
    return cases


def _where(item: Mapping[str, Any], block: str = "perturbations") -> str:
    called = item.get("label", item.get("name", item.get("load")))
    return f"{block}.{called}" if isinstance(called, str) else block


def _find(item: Mapping[str, Any], where: str) -> Perturbation:
    """The entry that an item of a study names."""
    if "given" in item:
        raise StudyError(
            f"{where}: '{item['given']}' was given in Python. Give it again, or put it into a module "
            "and write `load: package.module:function`."
        )
    if isinstance(item.get("load"), Perturbation):
        return cast(Perturbation, item["load"])
    if "load" not in item:
        return PERTURBATIONS.named(item.get("name"), where.partition(".")[0])
    if "name" in item:
        raise StudyError(f"{where}: takes `name` or `load`, got both. Write `label` for its name in tables.")
    return PERTURBATIONS.loaded(item["load"], where)


def _label(item: Mapping[str, Any], entry: Perturbation, where: str) -> str:
    """The label of an item; by default its name, without the module."""
    default = item["name"] if "name" in item else entry.name.rpartition(":")[2]
    return _checked_label(item.get("label", default), f"{where}.label")


def _checked_label(label: object, where: str) -> str:
    if not isinstance(label, str) or not LABEL.fullmatch(label):
        raise StudyError(f"{where}: may hold letters, digits, '.', '_' and '-' only; got {label!r}.")
    return label


def _preset(
    entry: Perturbation, item: Mapping[str, Any], given: dict[str, Any], where: str
) -> tuple[Preset, dict[str, Any]]:
    """The preset that an item names, and what a request says about it; a step of it leaves `given`."""
    name = None if item.get("preset") is None else str(item["preset"])
    severity = given.pop("severity", None) if entry.severities else None
    try:
        preset = entry.preset_at(name, severity)
    except ValueError as error:
        raise StudyError(f"{where}.{error}") from None
    budget = str(entry.budget)
    if entry.severities and budget not in {**preset.parameters, **given}:
        raise StudyError(f"{where}: needs a severity from 1 to {entry.severities}, or {budget}.")
    if severity is None:
        return preset, {}
    named = name or next(iter(entry.presets))
    step = preset.parameters[budget]
    if parse_ratio(given.get(budget, step)) != step:
        raise StudyError(
            f"{where}.{budget}: is {step:g} at severity {severity} of {named}; got {given[budget]!r}. Give "
            "one of the two."
        )
    return preset, {"preset": named, "severity": int(severity)}


def _rung(
    item: Mapping[str, Any], entry: Perturbation, parameters: dict[str, Any], where: str
) -> float | None:
    """The budget of the ladder that an item is a rung of, which becomes its own; None: it is of none."""
    eps = parse_ratio(item.get("ladder"))
    if eps is None:
        return None
    if isinstance(eps, bool) or not isinstance(eps, float | int) or not 0 < eps < 1:
        raise StudyError(
            f"{where}.ladder: must be a number in (0, 1), such as 2/255; got {item['ladder']!r}."
        )
    norm = entry.norm_of(parameters) if entry.budget is not None else None
    if entry.role not in ("attack", "noise") or norm != "inf":
        bound = f"has one in the norm {norm}" if norm else "has none"
        raise StudyError(
            f"{where}.ladder: every rung is an attack, or noise, with a budget in the L-infinity norm; "
            f"{entry.name} {bound}. Leave it out of `threats`."
        )
    given = parse_ratio(parameters.setdefault(str(entry.budget), eps))
    if given != eps:
        raise StudyError(
            f"{where}.{entry.budget}: every rung of the ladder has the budget {eps:.4g}; got {given!r}. "
            "Leave it out."
        )
    return float(eps)


def _check_control(entry: Perturbation, given: Mapping[str, Any], where: str) -> None:
    """See that noise can be matched to attacks."""
    if entry.role != "noise":
        ours = ", ".join(name for name, other in PERTURBATIONS.items() if other.role == "noise")
        raise StudyError(
            f"{where}: '{entry.name}' is not declared to be noise; {ours} are, and a function of yours is by "
            '`@perturbation(role="noise", needs="nothing")`. Everything else stands under `perturbations`.'
        )
    strength = parameters_of(entry).model_fields.get(entry.budget or "")
    if strength is None or not (entry.strength_of_each or strength.annotation is float):
        raise StudyError(
            f"{where}: a control is matched by its strength, which must be a parameter of type float; "
            f"'{entry.name}' has none. Name it with `@perturbation(..., budget=...)`."
        )
    if entry.budget in given:
        raise StudyError(
            f"{where}: '{entry.name}' is matched to every attack, so it takes no {entry.budget}. Leave it "
            "out; noise of a fixed strength stands under `perturbations`."
        )


def _without_budget(
    entry: Perturbation, parameters: dict[str, Any], where: str
) -> tuple[dict[str, Any], float | None]:
    """The parameters without a budget that is to be solved, and the SSIM to solve it for, if any."""
    budget = entry.budget
    value = None if budget is None else parameters.get(budget)
    others = {key: other for key, other in parameters.items() if key != budget}
    if value is None and entry.default_ssim is not None:
        return others, entry.default_ssim
    if not isinstance(value, Mapping):
        return parameters, None
    goal = parse_ratio(value.get("ssim"))
    solvable = entry.role in ("attack", "noise") or entry.extent is not None
    if not solvable or set(value) != {"ssim"} or not isinstance(goal, float | int) or not 0 < goal < 1:
        form = "a number or {ssim: s} with s in (0, 1)" if solvable else "a number"
        raise StudyError(f"{where}.{budget}: must be {form}; got {value!r}.")
    return others, float(goal)


def _check_plain(parameters: Mapping[str, Any], where: str) -> None:
    """Refuse what a run folder could not record."""
    for key, value in parameters.items():
        try:
            json.dumps(value)
        except TypeError:
            raise StudyError(
                f"{where}.{key}: must be a number, text, true, false, null or a list; got {value!r}."
            ) from None


def _point(curve: object, asked: Request) -> Request:
    """The request as a point of a curve; unchanged for None."""
    if curve is None:
        return asked
    where = f"perturbations.{asked.label}.curve"
    name = _checked_label(curve, where)
    if asked.perturbation.role not in ("corruption", "transform") and (
        asked.perturbation.budget is None or asked.unsolved
    ):
        raise StudyError(
            f"{where}: applies to attacks whose budget is a number; got {curve!r} for {asked.name}. "
            "Leave it out."
        )
    return replace(asked, curve=name)


def _budget_names(budgets: Sequence[object], where: str) -> dict[str, float]:
    """Budgets by what stands for them in labels."""
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
        raise StudyError(f"{where}: budgets must differ in their first 4 digits; got {list(budgets)!r}.")
    return names


def _is_list(annotation: object) -> bool:
    """Whether a list is one value of a parameter."""
    return any(get_origin(each) in (Sequence, tuple) for each in (annotation, *get_args(annotation)))


def _takes_lists(entry: Perturbation) -> str:
    """A sentence on what may be a list."""
    if entry.role == "transform":
        return "Only `search` does; another strength is an item of its own, with a `label`."
    if entry.budget is not None:
        return f"Only its budget, {entry.budget}, does: one attack per number, and a curve."
    names = [name for name, each in PERTURBATIONS.items() if each.role == "attack" and each.budget]
    return f"Only budgets do; attacks with a budget: {', '.join(names)}."

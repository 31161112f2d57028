"""What is known of a perturbation, and how a function becomes one.

A perturbation is a function `(model, images, labels, *, support=None, rngs=None, <parameters>) -> images` and
the facts that `@perturbation` states about it. Contract tests, plans, reports and threat models read the
facts, never its name. Users' own functions become the same `Perturbation`, see `entry_of`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, cast, get_args, get_origin

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int64
from torch import Tensor, nn

from medrobust.catalogue import name_of
from medrobust.core import UNKNOWN, Task
from medrobust.errors import ModelError, StudyError, unknown
from medrobust.parameters import Ratio
from medrobust.perturbations.checks import ONE_PER_FINDING, check_inputs, task_of
from medrobust.perturbations.geometry import rows
from medrobust.perturbations.gradients import Model, frozen, ordinary, ordinary_mode
from medrobust.perturbations.outputs import main_output
from medrobust.rng import generators_of

Role = Literal["clean", "noise", "attack", "corruption", "transform"]
Needs = Literal["gradient", "scores", "decisions", "nothing"]

OnMisclassified = Literal["attack", "keep", "drop"]
"""What happens to images the source already gets wrong; `drop`: the default, and a table without them."""

OnFailure = Literal["last", "clean"]
"""What is stored where an attack fails: its last iterate, or the clean image."""

SUPPLIED = frozenset({"support", "rngs", "targets", "spacing", "background", "tally", "preset"})
"""Arguments of perturbations and makers of targets that the program supplies, or that stand for others."""

STRENGTHS = ("eps", "epsilon", "strength", "severity")
"""Parameters taken for the budget of a function that states no facts."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Tally:
    """Filled by an iterated attack that is given one; it never changes a result.

    Attributes:
        steps: Steps taken for each image.
        n_active: Pixels of each image that the attack set out to change (segmentation).
    """

    steps: Int64[Tensor, " n"] | None = None
    n_active: Int64[Tensor, " n"] | None = None

    def put(self, part: "Tally", places: Sequence[int], count: int) -> None:
        """Take over what was counted for some of `count` images."""
        for name in ("steps", "n_active"):
            counted = getattr(part, name)
            if counted is not None:
                if getattr(self, name) is None:
                    setattr(self, name, counted.new_zeros(count))
                getattr(self, name)[list(places)] = counted


@dataclass(frozen=True)
class Preset:
    """An attack as a paper, or a library, ran it.

    Attributes:
        parameters: Keyword arguments of the attack that differ from its own defaults.
        source: Where they were read.
        on_misclassified: Policy for images that the source already gets wrong; None: the attack's own.
        on_failure: Policy for attacks that fail; None: the attack's own.
    """

    parameters: Mapping[str, Any]
    source: str
    on_misclassified: OnMisclassified | None = None
    on_failure: OnFailure | None = None


@dataclass(frozen=True)
class Perturbation:
    """An entry of the catalogue: a function, and what is known of it.

    Attributes:
        function: The function; one that moves pixels returns `(images, labels, valid)`.
        name: In the catalogue or among the entry points of a package, or `package.module:function`.
        role: What it is for. Attacks are crafted on a network and stored; the others are computed again
            whenever they are read.
        tasks: Tasks it can be used for.
        needs: What it uses of the network: its gradient, its scores (logits), its decisions, or nothing.
        targets: Maker of targets `(labels, *, rngs, spacing, <parameters>)`, for attacks that need one per
            pixel.
        norms: Norms that its budget can be in: "inf", "2", "1", "0". The budget bounds every change in the
            norm that the parameter `norm` names, or else in the first one. Empty: no bound is promised.
        moves_labels: Whether it moves pixels, and labels with them.
        budget: The parameter that sets its strength, such as `eps` or `severity`; a study may give it as
            `{ssim: s}`.
        uses_whole_budget: Whether the change of every image is as large as the budget allows.
        default_ssim: SSIM that the budget is solved for where a study gives none.
        minimal: Whether it looks for the smallest perturbation, and so has no budget.
        strength_of_each: Whether its budget may be a tensor that holds one for each image, and all that it
            draws of an image's generator are standard normal numbers.
        one_finding: Whether, of several findings, it turns one, the same in all images. Its function is then
            shown a classifier of that finding into absent and present, and the images in which it is known.
        presets: By name.
        on_misclassified: What happens to images that the source already gets wrong.
        on_failure: What is stored where it fails.
        whitebox: Whether it is also run on each target itself.
        check: Takes parameters and task; returns what does not fit together, in a sentence that begins with
            the parameter's name, or None.
        passes: Passes with gradient that an image usually takes, given the parameters; to estimate times.
        beyond_paper: Whether it stays out of the averages that follow the paper.
        revision: Raised whenever its results change.
        summary: One sentence for tables.
        source: Its publication.
    """

    function: Callable[..., Any]
    name: str
    role: Role = "attack"
    tasks: tuple[Task, ...] = tuple(Task)
    needs: Needs = "gradient"
    targets: Callable[..., Tensor] | None = None
    norms: tuple[str, ...] = ()
    moves_labels: bool = False
    budget: str | None = None
    uses_whole_budget: bool = False
    default_ssim: float | None = None
    minimal: bool = False
    strength_of_each: bool = False
    one_finding: bool = False
    presets: Mapping[str, Preset] = field(default_factory=dict)
    on_misclassified: OnMisclassified = "attack"
    on_failure: OnFailure = "last"
    whitebox: bool = False
    check: Callable[[Mapping[str, Any], Task], str | None] = lambda parameters, task: None
    passes: Callable[[Mapping[str, Any]], float] = lambda parameters: float(parameters.get("steps", 1))
    beyond_paper: bool = False
    revision: int = 1
    summary: str = ""
    source: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it comes with medrobust, so that `revision` tells its versions apart."""
        return str(getattr(self.function, "__module__", "")).startswith("medrobust.")

    def norm_of(self, parameters: Mapping[str, Any]) -> str | None:
        """The norm that its budget is in, given its parameters; None where no bound is promised."""
        return str(parameters.get("norm", self.norms[0])) if self.norms else None


def perturbation(**facts: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """State facts about a function `(model, images, labels, *, ...) -> images`, which keeps its signature.

    By the time the function runs, its inputs are checked, the network is frozen in evaluation mode (and
    restored afterwards), gradients are enabled but none is tracked yet, and a `preset` is replaced by the
    parameters that it stands for. What the function returns is detached.

    Args:
        facts: Attributes of `Perturbation`. By default the name and summary are the function's own, and a
            parameter called eps, epsilon, strength or severity is its budget (the first two in the Linf norm,
            or in those that its parameter `norm` can name).

    Raises:
        StudyError: There is no such fact, or the function has another signature.
    """
    known = [each.name for each in fields(Perturbation) if each.name != "function"]
    for key in facts.keys() - set(known):
        raise StudyError(f"@perturbation: {unknown('fact', key, known)}")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = _signature(function)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind_partial(*args, **kwargs)
            given = bound.arguments
            if preset := given.pop("preset", None):
                if preset not in entry.presets:
                    raise ValueError(f"preset: {unknown('preset', preset, entry.presets)}")
                for key, value in entry.presets[preset].parameters.items():
                    given.setdefault(key, value)
            bound.apply_defaults()  # into a new dictionary
            given = bound.arguments
            with ordinary_mode(), frozen(given.get("model")):
                for key in ("images", "labels", "support", "targets"):
                    if isinstance(given.get(key), Tensor):
                        given[key] = ordinary(given[key])
                _check(entry, given)
                alone = entry.one_finding and task_of(given["labels"]) is Task.MULTILABEL
                made: Any = (_on_one_finding if alone else _called)(function, bound)
            return cast(R, made.detach()) if isinstance(made, Tensor) else made

        run.__signature__ = signature  # type: ignore[attr-defined]
        entry = Perturbation(function=run, **{**_defaults(function, signature), **facts})
        run.perturbation = entry  # type: ignore[attr-defined]
        return run

    return decorate


def _called(function: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    return function(*bound.args, **bound.kwargs)


def _on_one_finding(function: Callable[..., Any], bound: inspect.BoundArguments) -> Tensor:
    """Attack the one finding whose labels are known, in the images in which they are; others stay."""
    given = bound.arguments
    images, labels, tally = (given[name] for name in ("images", "labels", "tally"))
    known = labels != UNKNOWN
    findings = known.any(0).nonzero()[:, 0].tolist()
    if len(findings) > 1:
        raise ValueError(
            f"labels: this attack turns one finding, but {len(findings)} are known. Name it in `finding`, or "
            f"set the labels of all others to {UNKNOWN}."
        )
    made: Tensor = images.clone()
    steps = torch.zeros_like(labels[:, 0])
    for finding in findings:
        some = known[:, finding].nonzero()[:, 0]
        rngs, own = generators_of(given["rngs"], len(images)), Tally()
        given |= {
            "model": OfFinding(given["model"], finding),
            "images": images[some],
            "labels": labels[some, finding],
            "support": rows(given["support"], some),
            "rngs": [rngs[place] for place in some.tolist()],
            "tally": own,
        }
        made[some] = function(*bound.args, **bound.kwargs)
        if own.steps is not None:
            steps[some] = own.steps
    if tally is not None:
        tally.steps = steps
    return made


class OfFinding(nn.Module):
    """A network for several findings as a classifier of one of them into absent and present."""

    def __init__(self, model: Model, finding: int) -> None:
        super().__init__()
        self.model, self.finding = model, finding

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n 2"]:
        """Logits of absent and present."""
        logits = main_output(self.model(images))
        if logits.ndim != 3:
            raise ModelError(ONE_PER_FINDING)
        both: Tensor = logits[:, :, self.finding]
        return both


def corruption(function: Callable[..., Tensor], **facts: Any) -> Callable[..., Tensor]:
    """Turn a plain `(images, severity, rngs) -> images` into a corruption; `rngs` may be left out.

    Further parameters of the function stay parameters. Severities are whole numbers from 1 to 5 unless
    annotated otherwise.

    Args:
        function: Takes images `n c *space` in [0, 1] and returns such images.
        facts: Attributes of `Perturbation` other than its role and budget.
    """
    own = dict(_evaluated(function).parameters)
    images = next(iter(own))
    severity = own["severity"]
    if severity.annotation in (severity.empty, int, float):
        own["severity"] = severity.replace(annotation=Annotated[int, Ge(1), Le(5)])

    @functools.wraps(function)
    def corrupt(model: object, images: Tensor, labels: Tensor, **parameters: Any) -> Tensor:
        if "rngs" in own:
            parameters["rngs"] = generators_of(parameters.get("rngs"), len(images))
        return function(images, **parameters)

    before = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ARGUMENTS]
    after = [
        each.replace(kind=each.KEYWORD_ONLY, default=None if name == "rngs" else each.default)
        for name, each in own.items()
        if name != images
    ]
    corrupt.__signature__ = inspect.Signature([*before, *after])  # type: ignore[attr-defined]
    return perturbation(role="corruption", needs="nothing", budget="severity", **facts)(corrupt)


def entry_of(thing: object, name: str | None = None) -> Perturbation:
    """The entry of an object: a perturbation, a function with facts, or a plain function.

    Args:
        thing: What a package, a module or a person offers.
        name: Its name from now on; None: the name it has.

    Raises:
        StudyError: It is none of these.
    """
    entry = thing if isinstance(thing, Perturbation) else getattr(thing, "perturbation", None)
    if not isinstance(entry, Perturbation):
        kind = _kind(thing)
        if not callable(thing) or kind is None:
            raise StudyError(
                "must be a function (model, images, labels, *, ...) -> images or (images, severity, rngs) -> "
                f"images, got {name_of(thing)}."
            )
        made: Any = perturbation()(thing) if kind == "perturbation" else corruption(thing)
        entry = made.perturbation
    return entry if entry.is_ours or name is None else replace(entry, name=name)


def is_perturbation(thing: object) -> bool:
    """Whether an object can be an entry: it is one, states facts, or takes what perturbations take."""
    return isinstance(getattr(thing, "perturbation", thing), Perturbation) or _kind(thing) is not None


ARGUMENTS = ("model", "images", "labels")


def _kind(thing: object) -> Literal["perturbation", "corruption"] | None:
    try:
        names = list(inspect.signature(thing).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if tuple(names[:3]) == ARGUMENTS:
        return "perturbation"
    return "corruption" if "severity" in names[1:] else None


def _evaluated(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function, without annotations if they are text that cannot be evaluated."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:
        signature = inspect.signature(function)
        bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
        return signature.replace(parameters=bare)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function, everything after (model, images, labels) keyword-only."""
    signature = _evaluated(function)
    first, rest = list(signature.parameters.values())[:3], list(signature.parameters.values())[3:]
    if tuple(each.name for each in first) != ARGUMENTS:
        raise StudyError(
            f"must take (model, images, labels, *, ...), but {name_of(function)} takes {signature}."
        )
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    kept = [
        each.replace(kind=each.KEYWORD_ONLY, annotation=_annotation(each))
        for each in rest
        if each.kind in named
    ]
    return signature.replace(parameters=[*first, *kept])


def _annotation(parameter: inspect.Parameter) -> Any:
    """What a study may write for a parameter: a number also as a fraction; by default the default's type."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is parameter.empty:
        annotation = Any if default is None or default is parameter.empty else type(default)
    if get_origin(annotation) is Annotated and get_args(annotation)[0] is float:
        return Annotated[(Ratio, *get_args(annotation)[1:])]
    return Ratio if annotation is float else annotation


def _defaults(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """The facts that can be read off a function."""
    budget = next((name for name in STRENGTHS if name in signature.parameters), None)
    norm = signature.parameters.get("norm")
    norms = get_args(norm.annotation) if norm and get_args(norm.annotation) else ("inf",)
    return {
        "name": getattr(function, "__name__", type(function).__name__),
        "budget": budget,
        "norms": norms if budget in ("eps", "epsilon") else (),
        "summary": (inspect.getdoc(function) or "").partition("\n")[0],
    }


def _check(entry: Perturbation, given: Mapping[str, Any]) -> None:
    """Check the inputs of a call; Python complains of missing ones."""
    images, labels = given.get("images"), given.get("labels")
    if isinstance(images, Tensor) and isinstance(labels, Tensor):
        check_inputs(images, labels, given.get("support"), entry.tasks)
        if complaint := entry.check(given, task_of(labels)):
            raise ValueError(complaint)

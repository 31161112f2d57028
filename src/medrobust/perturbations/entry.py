"""What is known of a perturbation, and how a function becomes one.

A perturbation is a function `(model, images, labels, *, support=None, rngs=None, <parameters>) -> images` and
the facts that `@perturbation` states about it. Contract tests, plans, reports and threat models read the
facts, never its name. Users' own functions become the same `Perturbation`, see `entry_of`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
    overload,
)

import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int64
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
from medrobust.text import counted

Role = Literal["clean", "noise", "attack", "corruption", "transform"]
Needs = Literal["gradient", "scores", "decisions", "nothing"]

OnMisclassified = Literal["attack", "keep", "drop"]
"""What happens to images the source already gets wrong; `drop`: the default, and a table without them."""

OnFailure = Literal["last", "clean"]
"""What is stored where an attack fails: its last iterate, or the clean image."""

CraftedOn = Literal["surrogates", "targets", "both", "ensemble"]
"""The networks that an attack is crafted on: each surrogate, each target itself (white box), both, or all
surrogates as one network whose logits are the mean of theirs."""

SUPPLIED = frozenset(
    {"support", "rngs", "targets", "spacing", "background", "tally", "found", "others", "preset", "sides"}
)
"""Arguments of perturbations and makers of targets that the program supplies, or that stand for others."""

STRENGTHS = ("eps", "epsilon", "strength", "severity")
"""Parameters taken for the budget of a function that states no facts."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Tally:
    """Filled by an iterated attack, or a transform, that is given one; it never changes a result.

    Attributes:
        steps: Steps taken for each image.
        n_active: Pixels of each image that the attack set out to change (segmentation).
        theta: Parameters of each image that a search found; given as `found`, they make the images again.
    """

    steps: Int64[Tensor, " n"] | None = None
    n_active: Int64[Tensor, " n"] | None = None
    theta: Float[Tensor, "n p"] | None = None

    def put(self, part: "Tally", places: Sequence[int], count: int) -> None:
        """Take over what was counted for some of `count` images."""
        for name in ("steps", "n_active", "theta"):
            counted = getattr(part, name)
            if counted is not None:
                if getattr(self, name) is None:
                    setattr(self, name, counted.new_zeros((count, *counted.shape[1:])))
                getattr(self, name)[list(places)] = counted


class Moved(NamedTuple):
    """Images and what became of their labels.

    Attributes:
        images: Perturbed images.
        labels: Classes of what they show; maps have `UNKNOWN` where a pixel shows nothing of the image.
        valid: Where a pixel shows what the image held. The rest came into the field of view from outside.
    """

    images: Float[Tensor, "n c *space"]
    labels: Int64[Tensor, "n *labelspace"]
    valid: Bool[Tensor, "n *space"]


@dataclass(frozen=True)
class Preset:
    """A perturbation as a paper, or a library, ran it.

    Attributes:
        parameters: Keyword arguments of the perturbation that differ from its own defaults.
        source: Where they were read.
        on_misclassified: Policy for images that the source already gets wrong; None: the attack's own.
        on_failure: Policy for attacks that fail; None: the attack's own.
        severities: Further keyword arguments at severity 1, 2, ...; empty: it is one strength.
    """

    parameters: Mapping[str, Any]
    source: str
    on_misclassified: OnMisclassified | None = None
    on_failure: OnFailure | None = None
    severities: tuple[Mapping[str, Any], ...] = ()


class Extent(NamedTuple):
    """The values of a budget between which a strength is looked for.

    Attributes:
        neutral: Where images stay as they are (or nearly, if that would be infinite).
        extreme: The strongest value tried; less than `neutral` where less is worse, as of a JPEG's quality.
        geometric: Whether equal steps are equal ratios.
    """

    neutral: float
    extreme: float
    geometric: bool = False

    def at(self, share: float) -> float:
        """The value at a share of the way, 0 at `neutral` and 1 at `extreme`."""
        if self.geometric:
            return float(self.neutral * (self.extreme / self.neutral) ** share)
        return self.neutral + share * (self.extreme - self.neutral)


@dataclass(frozen=True)
class Perturbation:
    """An entry of the catalogue: a function, and what is known of it.

    Attributes:
        function: The function; one that moves pixels returns `(images, labels, valid)`.
        name: In the catalogue or among the entry points of a package, or `package.module:function`.
        role: What it is for. Attacks are crafted on a network and stored; the others are computed again
            whenever they are read, transforms from the parameters that a search found.
        tasks: Tasks it can be used for.
        needs: What it uses of the network: its gradient, its scores (logits), its decisions, or nothing.
        targets: Maker of targets `(labels, *, rngs, spacing, <parameters>)`, for attacks that need one per
            pixel.
        norms: Norms that its budget can be in: "inf", "2", "1", "0". The budget bounds every change in the
            norm that the parameter `norm` names, or else in the first one. Of one that is `minimal`, what it
            makes small. Empty: no bound is promised.
        moves_labels: Whether it moves pixels, and labels with them.
        dimensions: Of the images that it takes: 2, 3 or both.
        colour: Whether it takes red, green and blue only.
        budget: The parameter that sets its strength, such as `eps` or `severity`; a study may give it as
            `{ssim: s}`.
        unit: Of the budget, for tables.
        extent: Of a corruption: where its budget is looked for if an SSIM is asked for; None: SSIM says
            nothing about it, as of what moves pixels.
        uses_whole_budget: Whether the change of every image is as large as the budget allows.
        default_ssim: SSIM that the budget is solved for where a study gives none.
        minimal: Whether it looks for the smallest perturbation, and so has no budget.
        strength_of_each: Whether its budget may be a tensor that holds one for each image, and all that it
            draws of an image's generator are standard normal numbers.
        one_finding: Whether, of several findings, it turns one, the same in all images. Its function is then
            shown a classifier of that finding into absent and present, and the images in which it is known.
        presets: By name. Where a study gives a severity alone, the first one's is meant.
        on_misclassified: What happens to images that the source already gets wrong.
        on_failure: What is stored where it fails.
        crafted_on: The networks that it is crafted on where a study does not say.
        check: Takes parameters and task; returns what does not fit together, in a sentence that begins with
            the parameter's name, or None.
        passes: Passes with gradient that an image usually takes, given the parameters; to estimate times.
        mixes: Whether it mixes other images in, given the parameters; in a study, validation cases.
        fits: Of one change for all images, fitted on those that it is given and in a study on validation
            cases: passes with gradient that the fit takes, given the parameters; None: every image has its
            own change. The function puts the change in `tally.theta`, and takes it as `found`.
        is_gradient_free: Whether scores do in place of the gradient, given the parameters.
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
    dimensions: tuple[int, ...] = (2, 3)
    colour: bool = False
    budget: str | None = None
    unit: str = ""
    extent: Extent | None = None
    uses_whole_budget: bool = False
    default_ssim: float | None = None
    minimal: bool = False
    strength_of_each: bool = False
    one_finding: bool = False
    presets: Mapping[str, Preset] = field(default_factory=dict)
    on_misclassified: OnMisclassified = "attack"
    on_failure: OnFailure = "last"
    crafted_on: CraftedOn = "surrogates"
    check: Callable[[Mapping[str, Any], Task], str | None] = lambda parameters, task: None
    passes: Callable[[Mapping[str, Any]], float] = lambda parameters: float(parameters.get("steps", 1))
    mixes: Callable[[Mapping[str, Any]], bool] = lambda parameters: False
    fits: Callable[[Mapping[str, Any]], float] | None = None
    is_gradient_free: Callable[[Mapping[str, Any]], bool] = lambda parameters: False
    beyond_paper: bool = False
    revision: int = 1
    summary: str = ""
    source: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it comes with medrobust, so that `revision` tells its versions apart."""
        return str(getattr(self.function, "__module__", "")).startswith("medrobust.")

    def norm_of(self, parameters: Mapping[str, Any]) -> str | None:
        """The norm that its budget is in, or that it makes small, given its parameters; None without one."""
        return str(parameters.get("norm", self.norms[0])) if self.norms else None

    @property
    def neutral(self) -> float:
        """The strength at which images stay as they are."""
        return 0.0 if self.extent is None else self.extent.neutral

    @property
    def severities(self) -> int:
        """How many severities its presets have; 0 where `severity`, if it has one, is a parameter itself."""
        return max((len(preset.severities) for preset in self.presets.values()), default=0)

    def misfit(self, channels: int, dimensions: int) -> str | None:
        """Why it does not take images of so many channels and dimensions; None where it does."""
        if dimensions not in self.dimensions:
            return f"{self.name} takes images of {self.dimensions[0]} dimensions only, got {dimensions}."
        if self.colour and channels != 3:
            return f"{self.name} needs red, green and blue, got {counted(channels, 'channel')}."
        return None

    def preset_at(self, name: str | None, severity: object = None) -> Preset:
        """A preset, its parameters complete.

        Args:
            name: None: the first one where a severity is given, else one that says nothing.
            severity: Which of its steps, from 1 on.

        Raises:
            ValueError: There is no such preset or severity.
        """
        if name is None and severity is None:
            return Preset({}, source="")
        if name is not None and name not in self.presets:
            raise ValueError(f"preset: {unknown('preset', name, self.presets)}")
        preset = self.presets[name or next(iter(self.presets))]
        if severity is None:
            return preset
        steps = dict(enumerate(preset.severities, 1))
        if isinstance(severity, bool) or severity not in steps:
            raise ValueError(f"severity: must be a whole number from 1 to {len(steps)}, got {severity!r}.")
        return replace(preset, parameters={**preset.parameters, **steps[severity]})


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
            named: dict[str, Any] = dict(kwargs)
            severity = named.pop("severity", None) if entry.severities else None
            preset = entry.preset_at(named.pop("preset", None), severity)
            bound = signature.bind_partial(*args, **named)
            given = bound.arguments
            for key, value in preset.parameters.items():
                given.setdefault(key, value)
            if entry.severities and entry.budget not in given:
                raise ValueError(
                    f"{entry.name}: needs a severity from 1 to {entry.severities}, or {entry.budget}."
                )
            bound.apply_defaults()  # into a new dictionary
            given = bound.arguments
            with ordinary_mode(), frozen(given.get("model")):
                for key in ("images", "labels", "support", "targets"):
                    if isinstance(given.get(key), Tensor):
                        given[key] = ordinary(given[key])
                _check(entry, given)
                if entry.one_finding and task_of(given["labels"]) is Task.MULTILABEL:
                    made: Any = _on_one_finding(function, bound)
                else:
                    made = function(*bound.args, **bound.kwargs)
            return cast(R, made.detach()) if isinstance(made, Tensor) else made

        run.__signature__ = signature  # type: ignore[attr-defined]
        entry = Perturbation(function=run, **{**_defaults(function, signature), **facts})
        run.perturbation = entry  # type: ignore[attr-defined]
        return run

    return decorate


def _on_one_finding(function: Callable[..., Any], bound: inspect.BoundArguments) -> Tensor:
    """Attack the one finding whose labels are known, in the images in which they are; others stay."""
    given = bound.arguments
    images, labels, tally = given["images"], given["labels"], given.get("tally")
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
        rngs, own = generators_of(given.get("rngs"), len(images)), Tally()
        shown = {
            "model": OfFinding(given["model"], finding),
            "images": images[some],
            "labels": labels[some, finding],
            "support": rows(given.get("support"), some),
            "rngs": [rngs[place] for place in some.tolist()],
            "tally": own,
        }
        given |= {name: value for name, value in shown.items() if name in given}
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


@overload
def corruption(function: Callable[..., R], **facts: Any) -> Callable[..., R]: ...


@overload
def corruption(function: None = None, **facts: Any) -> Callable[[Callable[..., R]], Callable[..., R]]: ...


def corruption(function: Callable[..., Any] | None = None, **facts: Any) -> Any:
    """Turn a plain `(images, severity, rngs) -> images` into a corruption.

    Of these, and of `labels` and `spacing` (mm along each axis, None where unknown), the function takes what
    it needs; whatever else it takes are its parameters. One that takes `labels` moves them with the pixels,
    and returns `(images, labels, valid)`, the last true where a pixel shows what the image held.

    A function whose strength has another name than `severity` states it as its `budget`; then `severity`
    chooses a step of a preset. Severities are whole numbers from 1 to 5 unless annotated otherwise.

    Args:
        function: Takes images `n c *space` in [0, 1] and returns such images; None: to be decorated.
        facts: Attributes of `Perturbation` other than its role.
    """
    if function is None:
        return functools.partial(corruption, **facts)
    own = dict(_evaluated(function).parameters)
    images = next(iter(own))
    severity = own.get("severity")
    if severity is not None and severity.annotation in (severity.empty, int, float):
        own["severity"] = severity.replace(annotation=Annotated[int, Ge(1), Le(5)])

    @functools.wraps(function)
    def corrupt(model: object, images: Tensor, labels: Tensor, **parameters: Any) -> Any:
        if "rngs" in own:
            parameters["rngs"] = generators_of(parameters.get("rngs"), len(images))
        if "labels" in own:
            parameters["labels"] = labels
        with torch.autocast(images.device.type, enabled=False):
            return function(images, **parameters)

    before = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ARGUMENTS]
    after = [
        each.replace(kind=each.KEYWORD_ONLY, default=None if name in ("rngs", "spacing") else each.default)
        for name, each in own.items()
        if name not in (images, "labels")
    ]
    corrupt.__signature__ = inspect.Signature([*before, *after])  # type: ignore[attr-defined]
    stated = {"budget": "severity", "moves_labels": "labels" in own, **facts}
    return perturbation(role="corruption", needs="nothing", **stated)(corrupt)


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
        if complaint := entry.misfit(images.shape[1], images.ndim - 2):
            raise ValueError(f"images: {complaint}")
        if complaint := entry.check(given, task_of(labels)):
            raise ValueError(complaint)

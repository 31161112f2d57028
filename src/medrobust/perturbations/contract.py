"""The rules that every perturbation keeps, tried on small smooth networks of both tasks.

The tests of medrobust's own entries and `medrobust check` of anyone's apply the same rules; what an
entry declares (its role, needs, norms, budget) decides what they demand.
"""

import copy
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from medrobust.core import Task
from medrobust.errors import MedrobustError, StudyError, reason
from medrobust.perturbations.catalogue import PERTURBATIONS
from medrobust.perturbations.entry import Perturbation
from medrobust.perturbations.gradients import Model, one_hot
from medrobust.perturbations.request import Request, aimed, fitted, moved, parameters_of, perturb, request
from medrobust.rng import generator

SIZE = 14
CLASSES = 4
MOST_STEPS = 20

STRENGTHS = {"inf": 0.05, "2": 0.5, "1": 5.0, "0": 10.0}
"""Budgets to try, by their norm."""

SEVERITY = 3
LARGER = 64
"""Side of images that corruptions are tried on: their radii are those of large images, scaled down."""

BETWEEN = 0.2
"""The fraction of pixels on the border of two classes, which interpolation may make neither."""

SAME = 1e-4
FEW = 0.01
"""The fraction of entries that may differ: where the gradient is about zero, rounding decides."""


class Finding(NamedTuple):
    """A rule that a perturbation breaks, and how."""

    rule: str
    says: str


@dataclass(frozen=True)
class Trial:
    """A perturbation, and the network and images that it is tried on."""

    request: Request
    task: Task
    channels: int = 1
    space: tuple[int, ...] = (SIZE, SIZE)
    n: int = 3
    support: Bool[Tensor, "n 1 *space"] | None = field(default=None, compare=False)

    @property
    def entry(self) -> Perturbation:
        """What is tried."""
        return self.request.perturbation

    @cached_property
    def network(self) -> nn.Module:
        """A network; rules that change it take a copy."""
        return smooth_network(self.task, self.channels, len(self.space))

    @cached_property
    def images(self) -> Float[Tensor, "n c *space"]:
        """Random images."""
        return smooth_batch(self.task, self.network, self.n, self.channels, self.space)[0]

    @cached_property
    def labels(self) -> Int64[Tensor, "n *labelspace"]:
        """What the network sees in them, as far as it is attacked."""
        seen = smooth_batch(self.task, self.network, self.n, self.channels, self.space)[1]
        return aimed(self.request, seen, [str(finding) for finding in range(CLASSES)])

    @property
    def asked(self) -> Request:
        """The request, with images to mix in if it does."""
        others = {"others": self.images.flip(-1)} if self.entry.mixes(self.request.parameters) else {}
        return replace(self.request, supplied=others)

    @property
    def rngs(self) -> list[np.random.Generator]:
        """One fresh generator per image."""
        return [generator(0, "contract", number) for number in range(self.n)]

    def run(
        self, model: Model | None = None, place: slice = slice(None), changed: Mapping[str, Any] | None = None
    ) -> Tensor:
        """Perturb some of the images; `changed` replaces parameters."""
        asked = replace(self.asked, parameters={**self.request.parameters, **(changed or {})})
        if self.entry.fits is not None and place != slice(None):
            # What one image gets was fitted on all of them.
            given = self.network, self.images, self.labels, self.support, self.rngs
            asked = fitted(asked, *given)
        images, labels, rngs = self.images[place].clone(), self.labels[place].clone(), self.rngs[place]
        if self.entry.moves_labels:
            return moved(asked, images, labels, model or self.network, rngs=rngs).images
        support = None if self.support is None else self.support[place]
        return perturb(asked, model or self.network, images, labels, support=support, rngs=rngs)

    @cached_property
    def made(self) -> Tensor:
        """All images, perturbed."""
        return self.run()


def check_perturbation(what: object, **parameters: Any) -> tuple[Finding, ...]:
    """Try a perturbation, and report which rules of the contract it breaks.

    Args:
        what: `package.module:function`, a name of the catalogue or of an installed package, or an object.
        parameters: Values to try it with, by default its own.

    Returns:
        One finding for each rule that it breaks; none where it keeps them all.

    Raises:
        StudyError: It cannot be found or imported, or cannot be a perturbation at all.
    """
    where = "check"
    if isinstance(what, Perturbation):
        entry = what
    elif isinstance(what, str) and ":" not in what:
        entry = PERTURBATIONS.named(what, where)
    else:
        entry = PERTURBATIONS.loaded(what, where)
    found: dict[str, str] = {}
    for task in entry.tasks:
        try:
            trial = trial_of(entry, task, **parameters)
        except StudyError as error:
            return (Finding("facts", str(error)),)
        for rule, broken in RULES.items():
            if rule not in found and (says := broken(trial)):
                found[rule] = says
                if rule == "runs":  # nothing else can be asked
                    return (Finding(rule, says),)
    return tuple(Finding(rule, says) for rule, says in found.items())


def trial_of(entry: Perturbation, task: Task, preset: str | None = None, **parameters: Any) -> Trial:
    """A trial of few steps, with the parameters given, else those of the preset, else the defaults.

    Raises:
        StudyError: Its facts contradict its signature, or a parameter has no default.
    """
    known = parameters_of(entry).model_fields
    if entry.budget is not None and entry.budget not in known:
        raise StudyError(f"budget: is declared to be '{entry.budget}', which is not among its parameters.")
    if not set(entry.norms) <= STRENGTHS.keys():
        raise StudyError(f"norms: must be among {', '.join(STRENGTHS)}; got {', '.join(entry.norms)}.")
    given = dict(parameters)
    if entry.severities and entry.budget not in given:
        given.setdefault("severity", SEVERITY)
    elif entry.budget is not None and entry.budget not in {*given, *entry.preset_at(preset).parameters}:
        norm = given.get("norm", getattr(known.get("norm"), "default", None)) or next(
            iter(entry.norms), "inf"
        )
        given[entry.budget] = SEVERITY if entry.budget == "severity" else STRENGTHS[str(norm)]
    steps = known["steps"].default if "steps" in known else None
    if preset is None and isinstance(steps, int) and not entry.minimal:
        given.setdefault("steps", min(steps, MOST_STEPS))
    if preset is not None:
        given["preset"] = preset
    if entry.one_finding and task is Task.MULTILABEL:
        given["finding"] = 0
    asked = request({"load": replace(entry, moves_labels=False), "label": "tried", **given}, task)
    size = SIZE if not entry.severities else LARGER
    space = (size,) * (2 if 2 in entry.dimensions else 3)
    return Trial(replace(asked, perturbation=entry), task, channels=3 if entry.colour else 1, space=space)


def _runs(trial: Trial) -> str | None:
    try:
        trial.made  # noqa: B018
    except Exception as error:  # of the user's function
        return _failure(trial, error)
    return None


def _finite(trial: Trial) -> str | None:
    return None if trial.made.isfinite().all() else "It returns values that are NaN or infinite."


def _range(trial: Trial) -> str | None:
    low, high = (float(value) for value in trial.made.nan_to_num().aminmax())
    seen = f"It leaves [0, 1]: it returns values from {low:.3g} to {high:.3g}. End with `.clamp(0, 1)`."
    return None if low >= 0 and high <= 1 else seen


def _inputs(trial: Trial) -> str | None:
    images, labels = trial.images.clone(), trial.labels.clone()
    if trial.entry.moves_labels:
        made = moved(trial.request, images, labels, trial.network, rngs=trial.rngs).images
    else:
        made = perturb(trial.asked, trial.network, images, labels, rngs=trial.rngs)
    for name, tensor, before in (("images", images, trial.images), ("labels", labels, trial.labels)):
        if not torch.equal(tensor, before):
            return f"It changes the {name} that it is given. Work on a copy: `{name}.clone()`."
    if made.data_ptr() == images.data_ptr():
        return "It returns the very images that it is given. Return a copy: `images.clone()`."
    return None


def _support(trial: Trial) -> str | None:
    if trial.entry.role in ("corruption", "transform"):
        return None
    support = left_half(trial.images)
    changed = replace(trial, support=support).run() != trial.images
    said = "It changes pixels outside of `support`. Keep them: `torch.where(support, result, images)`."
    return said if (changed & ~support).any() else None


def _acts(trial: Trial) -> str | None:
    changed = bool((trial.made != trial.images).any())
    if changed == (trial.entry.role != "clean"):
        return None
    return "It changes clean images." if changed else "It changes nothing: it returns the clean images."


def _moves(trial: Trial) -> str | None:
    """Labels must follow the pixels: an image that shows its own label map still does so afterwards."""
    if not trial.entry.moves_labels:
        return None
    labels = trial.labels
    if not trial.task.has_maps:
        made = moved(trial.request, trial.images, labels, trial.network, rngs=trial.rngs)
        same = torch.equal(made.labels, labels)
        return None if same else "It changes the class of an image, which does not move. Return it as it is."
    rows, columns = (torch.arange(size) * 2 // size for size in trial.space[-2:])
    labels = (2 * rows[:, None] + columns).expand_as(labels).contiguous()
    shown = (labels / CLASSES).to(trial.images)[:, None].expand_as(trial.images).contiguous()
    made = moved(trial.request, shown, labels, trial.network, rngs=trial.rngs)
    if not made.valid.any():
        return "It leaves no valid pixel. `valid` is true where a pixel shows what the image held."
    off = ((made.images * CLASSES - made.labels[:, None]).abs() > 0.5)[made.valid[:, None].expand_as(shown)]
    if float(off.float().mean()) > BETWEEN:
        return "It moves labels otherwise than pixels. Move both by the same coordinates."
    return None


def _budget(trial: Trial) -> str | None:
    entry = trial.entry
    if entry.budget is None:
        return None
    has_choice = "norm" in trial.request.parameters
    for norm in entry.norms if has_choice else entry.norms[:1]:
        for value in (0.0, 0.2 * STRENGTHS[norm], 2 * STRENGTHS[norm]):
            changed = {entry.budget: value} | ({"norm": norm} if has_choice else {})
            try:
                change = (trial.run(changed=changed) - trial.images).flatten(1).double()
            except Exception as error:  # of the user's function
                return f"{_failure(trial, error)} This is with {entry.budget} = {value:g}."
            sizes = torch.linalg.vector_norm(change, ord=float(norm), dim=1)
            largest, smallest = float(sizes.max()), float(sizes.min())
            if largest > value * (1 + SAME) + 1e-6:
                return (
                    f"With {entry.budget} = {value:g} it changes an image by {largest:.3g} in the L{norm} "
                    "norm, which its budget is declared to bound."
                )
            if entry.uses_whole_budget and norm == "inf" and smallest < value * (1 - SAME) - 1e-6:
                return (
                    f"It is declared to use its whole budget, but with {entry.budget} = {value:g} changes an "
                    f"image by only {smallest:.3g} in the L{norm} norm."
                )
    return None


def _network(trial: Trial) -> str | None:
    """Mixed modes, a frozen weight and a gradient must all survive, also where the attack fails."""
    network = copy.deepcopy(trial.network)
    for module in list(network.modules())[1::2]:
        module.train()
    weights = list(network.parameters())
    weights[0].requires_grad_(False)
    weights[-1].grad = torch.ones_like(weights[-1])
    before = _state(network)
    trial.run(network)
    changed = _difference(before, _state(network))
    if changed:
        return f"It leaves the network changed: {changed}."
    hook = network.register_forward_pre_hook(_raise)
    with suppress(Exception):
        trial.run(network)
    hook.remove()
    changed = _difference(before, _state(network))
    return f"Where the network fails, it leaves it changed: {changed}." if changed else None


def _randomness(trial: Trial) -> str | None:
    before = torch.random.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    kept, made, left = random.getstate(), [], []
    try:
        for seed in (0, 1):
            random.setstate(random.Random(seed).getstate())
            made.append(trial.run())
            left.append(random.getstate())
    finally:
        random.setstate(kept)
    after = torch.random.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    draw = "Draw from `rngs`, one NumPy generator per image."
    # Type checkers at run time (beartype) draw from Python's generator too: using it counts only if it shows.
    if not torch.equal(before[0], after[0]) or before[1] != after[1] or left[0] == left[1]:
        return f"It uses or sets the global random state. {draw}"
    return None if torch.equal(*made) else f"Its results differ from call to call. {draw}"


def _alone(trial: Trial) -> str | None:
    together = trial.made
    for number in range(trial.n):
        place = slice(number, number + 1)
        try:
            alone = trial.run(place=place)
        except Exception as error:  # of the user's function
            return f"{_failure(trial, error)} This is a single image."
        differing = float(((alone - together[place]).abs() > SAME).float().mean())
        if differing > FEW:
            return (
                f"An image alone is changed differently than in a batch: {100 * differing:.0f} % of its "
                "entries differ. Take norms, sums and means for each image."
            )
    return None


def _needs(trial: Trial) -> str | None:
    """It must do with what it declares to need, and give the same."""
    network, needs = trial.network, trial.entry.needs
    if needs == "gradient":
        return None

    def limited(images: Tensor) -> Tensor:
        if needs == "nothing":
            raise MedrobustError("The network is called.")
        logits: Tensor = network(images.detach())
        return (logits if needs == "scores" else one_hot(logits.argmax(1), logits)).detach()

    declared = f"It is declared to need {needs} of the network, but"
    try:
        made = trial.run(limited)
    except Exception as error:  # of the user's function
        return f"{declared} fails without more. {_failure(trial, error)}"
    return None if torch.equal(made, trial.made) else f"{declared} returns something else with more."


def _flat(trial: Trial) -> str | None:
    """Where the network's output is constant its gradient is 0."""
    if trial.entry.needs != "gradient":
        return None
    flat = copy.deepcopy(trial.network)
    with torch.no_grad():
        next(flat.parameters()).zero_()
    try:
        made = trial.run(flat)
    except Exception as error:  # of the user's function
        return f"{_failure(trial, error)} The network's gradient is 0 here."
    if made.isfinite().all() and made.min() >= 0 and made.max() <= 1:
        return None
    return "Where the network's gradient is 0, it returns no images in [0, 1]. Do not divide by a norm of 0."


def _shapes(trial: Trial) -> str | None:
    space = (11, 17) if 2 in trial.entry.dimensions else (7, 11, 9)
    colour = replace(trial, channels=3, space=space, n=2)
    says = _runs(colour)
    return says and f"{says} Images may have any size and number of channels."


RULES: dict[str, Callable[[Trial], str | None]] = {
    "runs": _runs,
    "finite": _finite,
    "range": _range,
    "inputs": _inputs,
    "moves": _moves,
    "support": _support,
    "acts": _acts,
    "budget": _budget,
    "network": _network,
    "randomness": _randomness,
    "alone": _alone,
    "needs": _needs,
    "flat": _flat,
    "shapes": _shapes,
}
"""Each returns what is wrong in a sentence or two, or None; in the order in which they are applied."""


class Smooth(nn.Module):
    """A small smooth network with parts that an attack might leave changed: dropout and batch norm."""

    def __init__(self, task: Task, channels: int, dimensions: int, classes: int) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
        first, last = convolution(channels, 6, 3, padding=1), convolution(6, classes, 3, padding=1)
        self.body = nn.Sequential(first, norm(6), nn.Tanh(), nn.Dropout(0.5), last)
        self.task = task
        self.register_buffer("centre", torch.zeros(classes))
        self.register_buffer("scale", torch.ones(classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits = self.values(images)
        if self.task is Task.MULTILABEL:  # `with_absent`, which cannot be traced while shapes are checked
            return torch.stack([torch.zeros_like(logits), logits], 1)
        return logits

    def values(self, images: Tensor) -> Tensor:
        """A number for each class or finding."""
        logits: Tensor = self.body(images)
        if not self.task.has_maps:
            logits = logits.flatten(2).mean(2)
        shape = (-1, *[1] * (logits.ndim - 2))
        return (logits - self.get_buffer("centre").view(shape)) / self.get_buffer("scale").view(shape)


def smooth_network(task: Task, channels: int = 1, dimensions: int = 2, classes: int = CLASSES) -> Smooth:
    """A network that predicts every class: its logits have mean 0 and deviation 1 on random images."""
    drawing = torch.Generator().manual_seed(5)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = Smooth(task, channels, dimensions, classes)
        for layer in (0, 4):
            bound = network.get_parameter(f"body.{layer}.weight")[0].numel() ** -0.5
            for kind in ("weight", "bias"):
                network.get_parameter(f"body.{layer}.{kind}").uniform_(-bound, bound, generator=drawing)
        space = [SIZE if dimensions == 2 else 6] * dimensions
        images = torch.rand(32, channels, *space, generator=drawing)
        network.train()(images)
        logits = network.eval().values(images).movedim(1, 0).flatten(1)
        network.get_buffer("centre").add_(logits.mean(1))
        network.get_buffer("scale").mul_(logits.std(1))
    return network


def smooth_batch(
    task: Task, network: nn.Module, n: int = 3, channels: int = 1, space: tuple[int, ...] = (SIZE, SIZE)
) -> tuple[Float[Tensor, "n c *space"], Int64[Tensor, "n *labelspace"]]:
    """Random images, and the classes that a network predicts for them."""
    draw = np.random.default_rng(3)
    images = torch.from_numpy(draw.random((n, channels, *space), dtype=np.float32))
    with torch.no_grad():
        return images, network(images).argmax(1)


def left_half(images: Float[Tensor, "n c *space"]) -> Bool[Tensor, "n 1 *space"]:
    """A support."""
    support = torch.zeros_like(images[:, :1], dtype=torch.bool)
    support[..., : images.shape[-1] // 2] = True
    return support


def _failure(trial: Trial, error: Exception) -> str:
    """What failed, in a sentence about "it"."""
    says = str(error) if isinstance(error, MedrobustError) else f"fails: {reason(error)}."
    return f"It {says.removeprefix(f'perturbations.{trial.request.label}: {trial.entry.name} ')}"


def _raise(*_: object) -> None:
    raise MedrobustError("This network fails, to see how it is left.")


def _state(network: nn.Module) -> dict[tuple[str, str], Any]:
    """Everything about a network that must stay, by its kind and place."""
    state: dict[tuple[str, str], Any] = {}
    for key, value in network.state_dict().items():
        state["values", key] = value.clone()
    for key, weight in network.named_parameters():
        state["gradients", key] = None if weight.grad is None else weight.grad.clone()
        state["requires_grad", key] = weight.requires_grad
    for key, module in network.named_modules():
        hooks = (module._forward_hooks, module._backward_hooks, module._forward_pre_hooks)
        state["mode", key] = module.training
        state["hooks", key] = sum(map(len, hooks))
    return state


def _difference(before: dict[tuple[str, str], Any], after: dict[tuple[str, str], Any]) -> str:
    """What changed in a network, and where; empty if nothing did."""
    for (kind, key), value in before.items():
        now = after.get((kind, key))
        if isinstance(value, Tensor) and isinstance(now, Tensor):
            same = torch.equal(value, now)
        else:
            same = value == now
        if not same:
            return f"{kind} of '{key}'" if key else kind
    return ""

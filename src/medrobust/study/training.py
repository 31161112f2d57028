"""How networks are trained: what a study may say."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Len, Lt
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from medrobust.core import Task
from medrobust.errors import StudyError, unknown
from medrobust.parameters import Ratio
from medrobust.perturbations import Request, requests


class Augmentation(BaseModel):
    """How far images are moved in training; every amount is drawn evenly from minus to plus its value.

    Attributes:
        rotation: Degrees, in every plane.
        scale: Relative change of size, per axis.
        shear: Degrees.
        shift: Share of the image's side, per axis.
        flip: Reflect half of the images left to right. Not for labels that tell left from right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: Annotated[float, Interval(ge=0, le=180)] = 10.0
    scale: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    shear: Annotated[float, Interval(ge=0, lt=90)] = 5.0
    shift: Annotated[float, Ge(0)] = 0.05
    flip: bool = False


Families = Annotated[tuple[str | dict[str, Any], ...], Len(1)]
"""Corruptions, or noise of a given strength: names, or items of `perturbations`."""


class Corrupting(BaseModel):
    """What training images go through besides being moved.

    Attributes:
        affine: How far they are moved: true, false, or how far.
        corruptions: Half of the images go through one of these corruptions, at a random severity. `tested`:
            those that the study tests.
        gaussian: Standard deviation of Gaussian noise, of a range of 1, that is added to every image last,
            everywhere, and without clipping.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    affine: bool | Augmentation = True
    corruptions: Literal["tested"] | Families | None = None
    gaussian: Annotated[Ratio, Gt(0)] | None = None


REACH = 2.5
"""Length of all steps of an adversarial training together, in budgets (Madry et al. 2018)."""


class Adversarial(BaseModel):
    """Training on the worst images within a budget.

    Attributes:
        method: `fast`: one step from a random start (Wong, Rice, Kolter 2020). `pgd`: several (Madry et al.
            2018). `trades`: several away from the clean answer, beside the clean images (Zhang et al. 2019).
        eps: Largest change of any entry of an image.
        steps: Steps of each climb. null: 7 of `pgd`, 10 of `trades`; `fast` has 1.
        step: Length of one. null: 1.25 eps of `fast`, else 2.5 eps / steps.
        beta: Of `trades`: weight of the distance between the answers. null: 6.
        support: Where images may change: auto, image, foreground. null: as the study says of attacks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["fast", "pgd", "trades"]
    eps: Annotated[Ratio, Gt(0), Lt(1)]
    steps: Annotated[int, Ge(1)] | None = None
    step: Annotated[Ratio, Gt(0)] | None = None
    beta: Annotated[float, Gt(0)] | None = None
    support: Literal["auto", "image", "foreground"] | None = None

    @model_validator(mode="after")
    def _only_what_the_method_has(self) -> "Adversarial":
        if self.method == "fast" and (self.steps or 1) > 1:
            raise ValueError(f"`fast` takes one step; got steps: {self.steps}. Use `pgd`")
        if self.method != "trades" and self.beta is not None:
            raise ValueError(f"beta is of `trades`, not of `{self.method}`; got {self.beta}. Leave it out")
        return self

    @property
    def n_steps(self) -> int:
        """Steps of each climb."""
        return self.steps or {"fast": 1, "pgd": 7, "trades": 10}[self.method]

    @property
    def length(self) -> float:
        """Length of a step."""
        return self.step or (1.25 * self.eps if self.method == "fast" else REACH * self.eps / self.n_steps)

    @property
    def weight(self) -> float:
        """Weight of the distance between the answers."""
        return self.beta or 6.0

    def filled(self, support: Literal["auto", "image", "foreground"]) -> "Adversarial":
        """The same with every number in place, and where images may change if it does not say."""
        beta = self.weight if self.method == "trades" else None
        known = {"steps": self.n_steps, "step": self.length, "beta": beta, "support": self.support or support}
        return self.model_copy(update=known)


def _form_of(augment: object) -> str | None:
    """Which of its forms an `augment` has, so that messages are about that one only."""
    if isinstance(augment, Mapping):
        return "Corrupting" if augment.keys() & Corrupting.model_fields.keys() else "Augmentation"
    if isinstance(augment, list | tuple):
        return "list"
    known = isinstance(augment, bool | str | Augmentation | Corrupting)
    return ("corruptions" if isinstance(augment, str) else type(augment).__name__) if known else None


Augment = Annotated[
    Annotated[bool, Tag("bool")]
    | Annotated[Literal["corruptions"], Tag("corruptions")]
    | Annotated[Families, Tag("list")]
    | Annotated[Augmentation, Tag("Augmentation")]
    | Annotated[Corrupting, Tag("Corrupting")],
    Discriminator(
        _form_of,
        custom_error_type="augment",
        custom_error_message="must be true, false, `corruptions`, a list of families, or a block",
    ),
]

Precision = Literal[32, "16-mixed", "bf16-mixed"]

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
"""Lightning's names of how devices work together, of those in which every device has the whole network."""


def _known_strategy(name: str) -> str:
    if name not in STRATEGIES:
        raise ValueError(
            f"{unknown('strategy', name, STRATEGIES)} Strategies that shard a network (fsdp, deepspeed) are "
            "not supported, because training resumes from the whole network"
        )
    return name


Strategy = Annotated[
    str, AfterValidator(_known_strategy), Field(json_schema_extra={"enum": list(STRATEGIES)})
]


class TrainingConfig(BaseModel):
    """The `training:` block of a study. None leaves a number to the recipe.

    Attributes:
        recipe: `paper`: the paper's, until convergence. `quick`: few epochs, for CPUs.
        epochs: At most this many passes over the training cases.
        batch_size: Cases per step, on each device.
        learning_rate: Highest learning rate.
        patience: Stop after this many epochs without a better validation score, and keep the best epoch.
        augment: What training images go through: `true`, `false` or how far they are moved (affine);
            `corruptions`, those that the study tests, or a list of families; or a block for all of it.
        adversarial: Training on the worst images within a budget.
        slices_per_scan: In each epoch, train on this many random slices of every scan; None is all.
        precision: Of training: 32, or `16-mixed` or `bf16-mixed` on a GPU.
        devices: GPUs (or processes) of each node that train one network together.
        nodes: Machines that do; torchrun or srun starts the run on them.
        strategy: How they work together: `auto` or `ddp`; `ddp_find_unused_parameters_true` for networks
            that do not use all weights in every step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Literal["quick", "paper"] = "quick"
    epochs: Annotated[int, Ge(1)] | None = None
    batch_size: Annotated[int, Ge(1)] | None = None
    learning_rate: Annotated[float, Gt(0)] | None = None
    patience: Annotated[int, Ge(1)] | None = None
    augment: Augment = True
    adversarial: Adversarial | None = None
    slices_per_scan: Annotated[int, Ge(1)] | None = None
    precision: Precision = 32
    devices: Annotated[int, Ge(1)] = 1
    nodes: Annotated[int, Ge(1)] = 1
    strategy: Strategy = "auto"

    @model_validator(mode="after")
    def _one_change_of_all_pixels(self) -> "TrainingConfig":
        if self.adversarial is not None and self.corrupting.gaussian is not None:
            raise ValueError(
                "adversarial training within a budget and Gaussian noise beyond [0, 1] are not combined. "
                "Leave `adversarial` or `augment: {gaussian: ...}` out"
            )
        return self

    @property
    def corrupting(self) -> Corrupting:
        """What images go through, as a block."""
        if isinstance(self.augment, Corrupting):
            return self.augment
        if isinstance(self.augment, bool | Augmentation):
            return Corrupting(affine=self.augment)
        families = "tested" if self.augment == "corruptions" else self.augment
        return Corrupting.model_validate({"corruptions": families})

    def deciding(self) -> dict[str, Any]:
        """The settings that the trained weights depend on, as JSON-able data."""
        without = {"strategy"} if self.nodes > 1 else {"strategy", "nodes"}
        if self.adversarial is None:  # recipes from before it was known still hold
            without.add("adversarial")
        return self.model_dump(mode="json", exclude=without)


def corruptions_of(
    config: TrainingConfig, task: Task, where: str = "training.augment"
) -> tuple[Request, ...]:
    """The corruptions and noise that training images go through, each at every strength.

    Raises:
        StudyError: One is unknown, is neither corruption nor noise, or stands there twice.
    """
    items = config.corrupting.corruptions
    if not isinstance(items, tuple):
        return ()
    if any(not isinstance(each, str) and not isinstance(each.get("load", ""), str) for each in items):
        raise StudyError(f"{where}: name a function of yours as `load: package.module:function`.")
    try:
        found = [each for item in items for each in requests(item, task)]
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from None
    labels = [each.label for each in found]
    for each in found:
        if each.perturbation.role not in ("corruption", "noise") or each.unsolved:
            raise StudyError(
                f"{where}: must be corruptions, or noise of a given strength; got {each.label}. Leave it out."
            )
        if labels.count(each.label) > 1:
            raise StudyError(f"{where}: '{each.label}' appears twice. Leave one out, or give it a `label`.")
    return tuple(found)

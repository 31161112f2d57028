"""How networks are trained: what a study may say."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from medrobust.errors import unknown


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
        augment: Affine augmentation: true, false, or how far.
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
    augment: bool | Augmentation = True
    slices_per_scan: Annotated[int, Ge(1)] | None = None
    precision: Precision = 32
    devices: Annotated[int, Ge(1)] = 1
    nodes: Annotated[int, Ge(1)] = 1
    strategy: Strategy = "auto"

    def deciding(self) -> dict[str, Any]:
        """The settings that the trained weights depend on, as JSON-able data."""
        without = {"strategy"} if self.nodes > 1 else {"strategy", "nodes"}
        return self.model_dump(mode="json", exclude=without)

"""What a study, or Python, says around a network: `input:`, `output:` and `weights:`."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Len
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_serializer, field_validator
from pydantic.json_schema import SkipJsonSchema

from medrobust.catalogue import code_digest, name_of
from medrobust.errors import StudyError
from medrobust.models.purifier import Purifier
from medrobust.models.windows import Sides, SlidingWindow
from medrobust.parameters import resolve

_Numbers = BeforeValidator(lambda given: given.tolist() if hasattr(given, "tolist") else given)
"""Python's own numbers, of those of NumPy and torch."""


class Attribute(BaseModel):
    """A number of a case, made of what the data know of it (its age, sex, site)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: str = Field(description="Name of the attribute, as the data have it.")
    equals: tuple[str, ...] | None = Field(
        None,
        description="1 where the attribute is this word, or one of these, else 0; `unknown` stands for what "
        "is not known. null: the attribute is a number itself.",
    )
    divide: Annotated[float, Gt(0)] = Field(1.0, description="The attribute is divided by it.")
    unknown: float | None = Field(
        None, description="In place of a number that is not known, before it is divided."
    )

    @field_validator("equals", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    def number(self, known: Mapping[str, str | float]) -> float | None:
        """The number of a case of which this is known; None: it is not known, and nothing stands for it.

        Raises:
            ValueError: The attribute is no number.
        """
        value = known.get(self.of)
        if self.equals is not None:
            return float((UNKNOWN_WORD if value is None else str(value)) in self.equals)
        number = self.unknown if value is None else float(value)
        return None if number is None else number / self.divide


UNKNOWN_WORD = "unknown"

Further = Mapping[str, tuple[float | Attribute, ...]]
"""The inputs of a network besides the image, by name: their numbers, or where each case has them from."""


def numbers_of(further: Further, known: Mapping[str, str | float]) -> dict[str, list[float | None]]:
    """What a network is told of a case besides its image; None where nothing says it."""
    return {
        name: [each.number(known) if isinstance(each, Attribute) else each for each in numbers]
        for name, numbers in further.items()
    }


_Name = Annotated[str, BeforeValidator(lambda given: str(given) if type(given) is int else given)]


class InputSpec(BaseModel):
    """What a network expects; None is what the architecture declares, or what the data have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Annotated[int, Ge(1)] | None = Field(
        None, description="Channels; a grey image is repeated to fill them."
    )
    mean: Annotated[float | tuple[float, ...] | None, _Numbers] = Field(
        None, description="Subtracted from the image, after `scale`: one number, or one per channel."
    )
    std: Annotated[
        Annotated[float, Gt(0)] | tuple[Annotated[float, Gt(0)], ...] | None,
        _Numbers,
    ] = Field(None, description="The image is divided by it: one number, or one per channel.")
    size: Sides | None = Field(
        None, description="Images are resized to it, and maps of logits back: one number, or one per side."
    )
    scale: tuple[float, float] | None = Field(
        None,
        description="The numbers that the network knows 0 and 1 as, e.g. [0, 255] or [-1024, 1024]; before "
        "`mean` and `std`.",
    )
    normalise: Literal["volume", "foreground"] | None = Field(
        None,
        description="Mean 0 and standard deviation 1 in every channel of an image or volume: over all of it,"
        " or over what is not 0, while 0 stays. In place of `scale`, `mean` and `std`.",
    )
    pad: Sides | None = Field(
        None,
        description="Sides are padded with zeros to a multiple of it, and maps of logits cropped: one "
        "number, or one per side.",
    )
    window: SlidingWindow | None = Field(
        None, description="Predict in sliding windows: `size` and `overlap`."
    )
    further: dict[str, Annotated[tuple[float | Attribute, ...], Len(1)]] | None = Field(
        None,
        description="Inputs besides the image, by the names of the network's arguments: lists of numbers, or "
        "of what the data know of a case, as `{of: age, divide: 90}` or `{of: sex, equals: female}`. No "
        "attack changes them.",
    )
    purifier: dict[str, Any] | None = Field(
        None,
        description="A defence that images go through first: a corruption that draws nothing, as "
        "`{name: jpeg, quality: 75}`, or `{load: package.module:function}`, images -> images. Where it has "
        "no gradient, attacks pass straight through it.",
    )

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """What differs between cases besides their images."""
        numbers = chain.from_iterable((self.further or {}).values())
        return tuple(each for each in numbers if isinstance(each, Attribute))


OutputKind = Literal["logits", "probabilities", "regions", "decisions"]


class OutputSpec(BaseModel):
    """What a network returns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    take: str | int | SkipJsonSchema[Callable[..., Any]] | None = Field(
        None,
        description="Where the logits are: name of an entry or attribute, position, or a path such as "
        "`heads.0`. null: the entry `logits` or `out`, or the first of several.",
    )
    kind: OutputKind | None = Field(
        None,
        description="Of probabilities the logarithms are taken. Of regions each has one logit, that of a "
        "sigmoid, from which those of the classes are made. Decisions are numbers of classes, or 0 and 1 of "
        "each finding, and nothing is said of confidence. null: logits, and what looks like probabilities is "
        "refused.",
    )
    classes: Annotated[tuple[_Name, ...], Len(1)] | None = Field(
        None, description="Names of the classes, or regions, in the network's order. null: that of the data."
    )

    @field_serializer("take", when_used="json")
    def _written(self, take: Any) -> Any:
        return f"{name_of(take)} {code_digest(take)}" if callable(take) else take


class WeightsSpec(BaseModel):
    """A file of weights, and which of its tensors are the network's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(description="A state dict, or a checkpoint that holds one.")
    prefix: str | None = Field(
        None,
        description="What stands before the names of the network's tensors. null: found where they all have "
        "the same.",
    )
    ignore: tuple[str, ...] = Field((), description="Patterns of names that are not read, as `criterion.*`.")


def read_input(given: object, where: str) -> InputSpec:
    """Check what is said of a network's input.

    Args:
        given: A mapping of `channels`, `mean`, `std`, `size`, `scale`, `normalise`, `pad`, `window`,
            `further` and `purifier`.
        where: Where it stands, for messages.

    Raises:
        StudyError: A key or value that cannot be, or keys that exclude each other.
    """
    values = _mapping(given, where, "channels, mean, std and size")
    window = values.get("window")
    if window is not None and not isinstance(window, SlidingWindow):
        values["window"] = SlidingWindow(
            **resolve(
                SlidingWindow, _mapping(window, f"{where}.window", "size and overlap"), f"{where}.window"
            )
        )
    spec = InputSpec(**resolve(InputSpec, values, where))
    if spec.purifier is not None:
        Purifier(spec.purifier, f"{where}.purifier")
    said = [key for key in ("scale", "mean", "std") if getattr(spec, key) is not None]
    if spec.normalise and said:
        raise StudyError(
            f"{where}.normalise: '{spec.normalise}' takes the place of {', '.join(said)}. Leave one of the "
            "two out."
        )
    if spec.pad and spec.window:
        raise StudyError(f"{where}.pad: windows are padded to their own size. Leave `pad` out.")
    if spec.scale and spec.scale[0] == spec.scale[1]:
        raise StudyError(f"{where}.scale needs two different numbers, got {list(spec.scale)}.")
    return spec


def read_output(given: object, where: str) -> OutputSpec:
    """Check what is said of a network's output: `take`, `kind` and `classes`.

    Raises:
        StudyError: A key or value that cannot be, or a class that is named twice.
    """
    spec = OutputSpec(**resolve(OutputSpec, _mapping(given, where, "take, kind and classes"), where))
    for name in spec.classes or ():
        if spec.classes and spec.classes.count(name) > 1:
            raise StudyError(f"{where}.classes names '{name}' twice, but a class has one output.")
    return spec


def read_weights(given: object, where: str) -> WeightsSpec:
    """Check what is said of a network's weights: `none`, `imagenet`, a package, a file, or keys.

    Raises:
        StudyError: A key or value that cannot be.
    """
    if not isinstance(given, Mapping):
        return WeightsSpec(file=str(given or "none"))
    return WeightsSpec(**resolve(WeightsSpec, given, where))


def _mapping(given: object, where: str, keys: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise StudyError(f"{where} must hold keys such as {keys}; got {given!r}.")
    return dict(given)

"""What the numbers in label files mean: classes with names and colours, as data.

Several numbers may be one class; numbers that are listed as such are background; any other is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import UInt8, UInt16

from medrobust.data.findings import quoted
from medrobust.errors import DataError, StudyError

Number = Annotated[int, Ge(0), Le(65535)]

Labels = dict[str, Number | list[Number]]
"""Numbers of each class, as a study gives them: `{liver: [1, 2], tumour: 3}`, and perhaps of `background`."""

Colour = tuple[int, int, int]

BACKGROUND = "background"

UNKNOWN = 255
"""Entry of the table for numbers that mean nothing; so there are at most 255 classes."""

NUMBERS = 2**16
"""Label files hold whole numbers below this."""


class Label(NamedTuple):
    """One line of a label file.

    Attributes:
        number: What the voxels hold.
        name: What it is.
        colour: Red, green and blue in 0 to 255, None where the file gives none.
    """

    number: int
    name: str
    colour: Colour | None = None


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Classes by number; called with the numbers of a file it gives class indices.

    Attributes:
        names: Of the classes; the first is the background.
        numbers: Of each class; those of the background are seen and left out.
        colours: Of each class, None where unknown; empty where none is.
        advice: What numbers outside of it may mean, for the message.
    """

    names: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]
    colours: tuple[Colour | None, ...] = ()
    advice: str = "Name it in the labels, or list it under background."

    def __call__(self, labels: UInt16[np.ndarray, "x y z"], path: Path) -> UInt8[np.ndarray, "x y z"]:
        """Class indices of the numbers in a file.

        Raises:
            DataError: A number that means nothing; names the file.
        """
        table, classes = self.table, np.empty_like(labels, np.uint8)
        for place in range(labels.shape[-1]):  # all at once, the numbers would be copied as 64-bit indices
            classes[..., place] = table[labels[..., place]]
        if classes.max(initial=0) == UNKNOWN:
            unknown = ", ".join(map(str, self.unknown(labels)[:5]))
            raise DataError(
                f"{path} holds the label {unknown}, which is none of {quoted(self.names[1:])}. {self.advice}"
            )
        return classes

    @property
    def table(self) -> UInt8[np.ndarray, "65536"]:
        """Class index of every number, `UNKNOWN` where it means nothing."""
        return _table(self.numbers)

    def unknown(self, labels: UInt16[np.ndarray, "*space"]) -> tuple[int, ...]:
        """Numbers that mean nothing, in rising order."""
        present = {int(number) for part in np.moveaxis(labels, -1, 0) for number in np.unique(part)}
        return tuple(number for number in sorted(present) if self.table[number] == UNKNOWN)


@lru_cache(maxsize=8)
def _table(numbers: tuple[tuple[int, ...], ...]) -> UInt8[np.ndarray, "65536"]:
    table = np.full(NUMBERS, UNKNOWN, np.uint8)
    for index, own in enumerate(numbers):
        table[list(own)] = index
    table.setflags(write=False)
    return table


def map_of_study(labels: Labels) -> LabelMap:
    """The map that a study's `labels:` gives.

    Raises:
        StudyError: No class, too many, a number twice, out of range, or 0 for a class.
    """
    own = {name: [numbers] if isinstance(numbers, int) else numbers for name, numbers in labels.items()}
    background = own.pop(BACKGROUND, [])
    try:
        return _map({BACKGROUND: sorted({0, *background}), **own}, {})
    except ValueError as error:
        raise StudyError(f"data.labels: {error}") from None


def map_of_file(labels: list[Label], path: Path) -> LabelMap:
    """The map of a label file; labels of one name are one class.

    Raises:
        DataError: No class, too many, or a number twice.
    """
    numbers: dict[str, list[int]] = {BACKGROUND: [0]}
    colours: dict[str, Colour | None] = {}
    for number, name, colour in labels:
        name = BACKGROUND if number == 0 else name
        numbers.setdefault(name, [])
        numbers[name] += [] if number == 0 else [number]
        colours.setdefault(name, colour)
    try:
        return _map(numbers, colours)
    except ValueError as error:
        raise DataError(
            f"{path}: {error} Correct it, or give `labels` in the study, e.g. {{liver: [1, 2], tumour: 3}}."
        ) from None


def _map(numbers: Mapping[str, list[int]], colours: Mapping[str, Colour | None]) -> LabelMap:
    """Raises a ValueError that says what is wrong."""
    if len(numbers) < 2:
        raise ValueError("names no class.")
    if len(numbers) > UNKNOWN:
        raise ValueError(f"names {len(numbers) - 1} classes; at most {UNKNOWN - 1} are possible.")
    owner: dict[int, str] = {}
    for name, own in numbers.items():
        if not name.strip() or not own:
            raise ValueError(f"the class '{name}' needs a name and a number.")
        for number in own:
            if not 0 <= number < NUMBERS:
                raise ValueError(f"'{name}' has the number {number}; labels are from 0 to {NUMBERS - 1}.")
            if number in owner:
                raise ValueError(f"the number {number} means both '{owner[number]}' and '{name}'.")
            owner[number] = name
    kept = tuple(colours.get(name) for name in numbers) if any(colours.values()) else ()
    return LabelMap(tuple(numbers), tuple(tuple(own) for own in numbers.values()), kept)

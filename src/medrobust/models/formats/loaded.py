"""What an adapter makes of a file or folder, and the parts that several adapters share."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nibabel.orientations import axcodes2ornt, ornt_transform
from torch import Tensor, nn

from medrobust.errors import ModelError
from medrobust.perturbations.outputs import main_output

UNSAID = "Normalisation and the meaning of its output are not in the file; they are those of the study."
"""What is assumed of a format that holds a network and no more."""


@dataclass(frozen=True)
class Loaded:
    """A network read from a file or folder, and what that says of how images go in and logits come out.

    Attributes:
        body: Images to logits; whether a gradient passes is said in `assumed`.
        input: What the file says of a study's `input:`; the study's own keys go first.
        output: What the file says of a study's `output:`; the study's own keys go first.
        assumed: Sentences for the report: what was read from where, and what could not be taken over.
        further: Inputs besides the image, by name: how many numbers each takes. A study must say them all
            (`input.further`). None where the file does not say; the body's forward pass does.
    """

    body: nn.Module
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    further: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Format:
    """A kind of file or folder.

    Attributes:
        name: What messages call it.
        read: `(path, *, <options>) -> Loaded`; the options are what a study may say beside `load:`.
        files: The files that the network is made of, which is what tells its versions apart.
        revision: Raised with every change of what networks of this kind say, so that finished work is not
            taken for theirs.
    """

    name: str
    read: Callable[..., Loaded]
    files: Callable[[Path], Sequence[Path]]
    revision: int = 1


def library(name: str, extra: str) -> Any:
    """An optional package.

    Raises:
        ModelError: It is not installed; the message says how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise ModelError(
            f"reading it needs the package '{missing}', which is not installed. "
            f"Run: pip install 'medrobust[{extra}]'"
        ) from None


def of_shape(body: nn.Module, shape: Sequence[int | None]) -> tuple[nn.Module, dict[str, Any], list[str]]:
    """What the shape `n c *space` that a file was made for asks for; None is a side that may be anything.

    Returns:
        The body, for batches of any size; keys of `input`; sentences on what was assumed.
    """
    batch, channels, *sides = shape
    declared: dict[str, Any] = {} if channels is None else {"channels": channels}
    assumed = []
    if all(side is not None for side in sides):
        declared["size"] = sides
        assumed.append(
            f"It was saved for images of {' x '.join(map(str, sides))}, to which others are resized."
        )
    if batch is not None:
        body = FixedBatch(body, batch)
        assumed.append(f"It was saved for batches of {batch}.")
    return body, declared, assumed


class FixedBatch(nn.Module):
    """A network for batches of one size only: the last one is filled up with copies of its last image."""

    def __init__(self, body: nn.Module, size: int) -> None:
        super().__init__()
        self.body, self.size = body, size

    def forward(self, images: Tensor, **further: Tensor) -> Tensor:
        """Logits of any number of images."""
        lacking = -len(images) % self.size

        def filled(rows: Tensor) -> Tensor:
            return torch.cat([rows, rows[-1:].expand(lacking, *rows.shape[1:])])

        shown, besides = filled(images), {name: filled(rows) for name, rows in further.items()}
        parts = [slice(start, start + self.size) for start in range(0, len(shown), self.size)]
        made = (
            self.body(shown[part], **{name: rows[part] for name, rows in besides.items()}) for part in parts
        )
        return torch.cat([main_output(each) for each in made])[: len(images)]


def sorted_out(shapes: Mapping[str, Sequence[int | None]]) -> tuple[str, dict[str, int]]:
    """The image among the inputs of a file, which has sides, and how many numbers each of the others takes.

    Raises:
        ModelError: Several are images, or none, or an input is neither an image nor `n d`.
    """
    images = [name for name, shape in shapes.items() if len(shape) > 2]
    further = {name: shape[1] for name, shape in shapes.items() if len(shape) == 2}
    if len(images) != 1 or len(further) < len(shapes) - 1 or None in further.values():
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ModelError(
            f"it takes {listed}, but a case has one image, and numbers besides (`n d`, for a known d). "
            "Export a network that takes these."
        )
    return images[0], {name: length for name, length in further.items() if length is not None}


class Positional(nn.Module):
    """A network whose inputs have an order instead of names."""

    def __init__(self, body: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.body, self.names = body, list(names)

    def forward(self, images: Tensor, **further: Tensor) -> object:
        """What the network returns; the input that nobody names is the image."""
        return self.body(*[further.get(name, images) for name in self.names])


class ChannelsLast(nn.Module):
    """A network for images `n *space c`, as TensorFlow has them, that takes and returns `n c *space`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor, **further: Tensor) -> Tensor:
        """Logits `n k *space` of images `n c *space`."""
        output = main_output(self.body(images.movedim(1, -1), **further))
        return output.movedim(-1, 1) if output.ndim == images.ndim else output


class Turned(nn.Module):
    """A network for volumes whose axes run another way."""

    def __init__(self, body: nn.Module, axes: str, wanted: str) -> None:
        super().__init__()
        self.body = body
        start, end = (axcodes2ornt(codes) for codes in (axes, wanted))  # type: ignore[no-untyped-call]
        turn = ornt_transform(start, end).astype(int)  # type: ignore[no-untyped-call]
        self.order: list[int] = turn[:, 0].tolist()  # where each axis of the study goes
        self.flipped = [2 + axis for axis, direction in enumerate(turn[:, 1]) if direction < 0]

    def window(self, size: int | Sequence[int]) -> dict[str, Any]:
        """Keys of `input.window` for windows of a size, and from an end, as the network's axes have them."""
        return {
            "size": size if isinstance(size, int) else [size[axis] for axis in self.order],
            "backwards": [axis - 2 for axis in self.flipped],
        }

    def forward(self, images: Tensor, **further: Tensor) -> Tensor:
        """Maps of volumes, with the axes of these."""
        there = [2 + self.order.index(axis) for axis in range(len(self.order))]
        maps = main_output(self.body(images.flip(self.flipped).permute(0, 1, *there), **further))
        return maps.permute(0, 1, *(2 + axis for axis in self.order)).flip(self.flipped)

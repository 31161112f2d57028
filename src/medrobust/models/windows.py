"""Sliding windows: an image in parts, with the gradient of the whole and the memory of one part."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil
from types import EllipsisType
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Len, Lt
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from medrobust.errors import ModelError
from medrobust.perturbations.gradients import AffineNorm

Side = Annotated[int, Ge(1)]
Sides = Side | Annotated[tuple[Side, ...], Len(2, 3)]
"""One number for all sides of an image, or one for each."""

SPREAD = 1 / 8
"""Standard deviation of the weights of a window, in sides of the window (nnU-Net, MONAI)."""

SMALLEST_WEIGHT = 1e-3
"""In the corners of a window, where the centre has 1 (MONAI)."""

Place = tuple[EllipsisType | slice, ...]


class SlidingWindow(BaseModel):
    """Predict large images in overlapping windows, blended with Gaussian weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Sides = Field(description="Of a window: one number, or one per side.")
    overlap: Annotated[float, Ge(0), Lt(1)] = Field(0.5, description="Of neighbours, in sides of a window.")
    like: Literal["monai", "nnunet"] = Field(
        "monai",
        description="Whose places of windows: steps of one length of which the last is cut short (MONAI), or "
        "of equal lengths as long or shorter (nnU-Net); and whose weights in a window.",
    )
    backwards: tuple[Annotated[int, Ge(0)], ...] | None = Field(
        None,
        description="Sides, counted from 0, along which windows start from the end, as where the network's "
        "own volumes run the other way.",
    )


def sides_of(given: int | Sequence[int], space: int, key: str) -> tuple[int, ...]:
    """One number per side.

    Raises:
        ModelError: There are more or fewer numbers than the image has sides.
    """
    sides = (given,) * space if isinstance(given, int) else tuple(given)
    if len(sides) != space:
        raise ModelError(f"input.{key} must have {space} sides, as the images have; got {list(sides)}.")
    return sides


def padded(
    images: Float[Tensor, "n c *space"], size: Sequence[int], backwards: Sequence[int] | None = None
) -> Float[Tensor, "n c *size"]:
    """Images in the middle of zeros, which convolutions see beyond a border; long enough sides stay.

    Of an odd number of zeros the last one stands at the end, or along axes that run `backwards` at the start.
    """
    around: list[int] = []
    for start, inner, outer in zip(
        _starts(images.shape[2:], size, backwards), images.shape[2:], size, strict=True
    ):
        around = [start, max(0, outer - inner) - start, *around]  # the last side comes first
    return F.pad(images, around) if any(around) else images


def middle(inner: Sequence[int], outer: Sequence[int], backwards: Sequence[int] | None = None) -> Place:
    """Where an image of size `inner` is after `padded` to size `outer`."""
    return _place(_starts(inner, outer, backwards), inner)


def _starts(inner: Sequence[int], outer: Sequence[int], backwards: Sequence[int] | None) -> list[int]:
    return [
        (max(0, long - short) + (axis in (backwards or ()))) // 2
        for axis, (short, long) in enumerate(zip(inner, outer, strict=True))
    ]


def stitched(
    network: Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c *space"],
    window: SlidingWindow,
    *,
    weights: Sequence[Tensor] = (),
    recompute: bool = True,
) -> Float[Tensor, "n k *space"]:
    """Maps of whole images from those of overlapping windows, as those of MONAI or nnU-Net.

    Windows advance by `(1 - overlap)` of their size (in nnU-Net by equal steps that are no longer), the last
    one of a row ends with the image, and their maps are averaged with Gaussian weights. Images smaller than a
    window are padded with zeros.

    Args:
        network: From a window `n c *size` to its maps `n k *size`.
        images: As the network takes them.
        window: Size and overlap.
        weights: Tensors besides the images that the maps may be differentiated with respect to.
        recompute: Run every window again for its gradient, so that the activations of one window at a time
            are in memory, whatever the size of the image. The network must return the same again; else
            those of all windows are kept.

    Raises:
        ModelError: The window has another number of sides than the images.
    """
    size = sides_of(window.size, images.ndim - 2, "window.size")
    whole = padded(images, size, window.backwards)
    if tuple(whole.shape[2:]) == size:
        maps = network(whole)
    elif recompute:
        maps = _Recomputed.apply(network, size, window, whole, *weights)
    else:
        maps = _stitch(network, size, window, whole)
    return maps[middle(images.shape[2:], whole.shape[2:], window.backwards)]


def windows_of(
    images: Float[Tensor, "n c *space"], window: SlidingWindow
) -> Iterator[Float[Tensor, "n c *size"]]:
    """The windows of images, row by row.

    Raises:
        ModelError: The window has another number of sides than the images.
    """
    size = sides_of(window.size, images.ndim - 2, "window.size")
    whole = padded(images, size, window.backwards)
    return (whole[place].clone() for place in _places(whole.shape[2:], size, window))


def _places(shape: Sequence[int], size: Sequence[int], window: SlidingWindow) -> list[Place]:
    """Where the windows of an image are, which is at least as large as a window."""
    starts = []
    for axis, (side, part) in enumerate(zip(shape, size, strict=True)):
        last = side - part
        if window.like == "monai":
            step = max(1, int(part * (1 - window.overlap)))
            along = [min(n * step, last) for n in range(ceil(last / step) + 1)]
        else:
            steps = ceil(last / (part * (1 - window.overlap)))
            along = [round(last / max(steps, 1) * n) for n in range(steps + 1)]
        starts.append([last - start for start in along] if axis in (window.backwards or ()) else along)
    return [_place(corner, size) for corner in product(*starts)]


def _place(corner: Sequence[int], size: Sequence[int]) -> Place:
    return (..., *(slice(start, start + side) for start, side in zip(corner, size, strict=True)))


def _stitch(
    network: Callable[[Tensor], Tensor], size: Sequence[int], window: SlidingWindow, images: Tensor
) -> Tensor:
    maps: Tensor | None = None
    for place, share in _shares(images, size, window):
        part = network(images[place].clone())  # networks may work in place
        if maps is None:
            maps = part.new_zeros(*part.shape[:2], *images.shape[2:])
        maps[place].add_(part * share)
    assert maps is not None
    return maps


def _shares(images: Tensor, size: Sequence[int], window: SlidingWindow) -> Iterator[tuple[Place, Tensor]]:
    """Each window's place, and the share of its maps `*size` in the whole; shares of a pixel add up to 1."""
    shape, weights = images.shape[2:], _gaussian(size, window).to(images.device)
    windows, total = _places(shape, size, window), torch.zeros(shape, device=images.device)
    for place in windows:
        total[place] += weights
    for place in windows:
        yield place, weights / total[place]


def _gaussian(size: Sequence[int], window: SlidingWindow) -> Tensor:
    weights = torch.ones(())
    for side in size:
        centre = (side - 1) / 2 if window.like == "monai" else side // 2
        distances = (torch.arange(side) - centre) / (SPREAD * side)
        weights = weights[..., None] * (-(distances**2) / 2).exp()
    weights = weights.flip(window.backwards or ())  # nnU-Net's centre is not in the middle of an even side
    return weights.clamp_min(SMALLEST_WEIGHT) if window.like == "monai" else weights


class _Recomputed(torch.autograd.Function):
    """`_stitch`, which keeps nothing but the images, and runs every window again on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        network: Callable[[Tensor], Tensor],
        size: Sequence[int],
        window: SlidingWindow,
        images: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        ctx.asked = network, size, window
        kind = images.device.type
        ctx.autocast = {
            "device_type": kind,
            "enabled": torch.is_autocast_enabled(kind),
            "dtype": torch.get_autocast_dtype(kind),
        }
        ctx.save_for_backward(images, *weights)
        return _stitch(network, size, window, images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        network, size, window = ctx.asked
        tensors = ctx.saved_tensors  # the images, then weights
        images = tensors[0]
        asked = [number for number, wanted in enumerate(ctx.needs_input_grad[3:]) if wanted]
        sums: dict[int, Tensor] = {}
        for place, share in _shares(images, size, window):
            part = images[place].detach().requires_grad_(0 in asked)
            # The norm of attacks, which is torch's but for rounding, has the faster gradient.
            with torch.enable_grad(), torch.autocast(**ctx.autocast), AffineNorm():
                maps = network(part.clone())
            if not maps.requires_grad:
                continue
            inputs = [part if number == 0 else tensors[number] for number in asked]
            gradients = torch.autograd.grad(maps, inputs, gradient[place] * share, allow_unused=True)
            for number, of_part in zip(asked, gradients, strict=True):
                if of_part is not None:
                    whole = sums.setdefault(number, torch.zeros_like(tensors[number]))
                    whole[place if number == 0 else ...].add_(of_part)
        return None, None, None, *map(sums.get, range(len(tensors)))

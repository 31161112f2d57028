"""A purifier: what images go through before a network, so that small changes are lost on the way.

A purifier without a gradient stops attacks that follow one, and withstands none that knows of it. Gradients
therefore pass: through the purifier where it has one, and else straight through, as if it changed nothing
(BPDA). Source: Athalye, Carlini, Wagner 2018, "Obfuscated gradients give a false sense of security".
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medrobust.catalogue import imported
from medrobust.errors import ModelError, StudyError
from medrobust.parameters import resolve
from medrobust.perturbations import PERTURBATIONS, Perturbation, entry_of, is_perturbation
from medrobust.perturbations.request import parameters_of


class Purifier(nn.Module):
    """What images in [0, 1] go through; part of the network for whoever attacks it, and never trained.

    Attributes:
        entry: The corruption that it is; None for a function of images.
        has_gradient: Whether gradients pass through it; None until it has seen an image. Where they vanish,
            as behind rounding, it has none.
    """

    def __init__(self, given: Mapping[str, Any], where: str = "purifier") -> None:
        """Find it.

        Args:
            given: `name` of a corruption, with its parameters, or `preset` and `severity`; or `load`, a
                function images -> images (in a study `package.module:function`).
            where: Where it stands, for messages.

        Raises:
            StudyError: There is no such corruption, parameter or function, or it draws at random or moves
                pixels.
        """
        super().__init__()
        self.entry, self.function = _found(dict(given), where)
        self.has_gradient: bool | None = None

    def train(self, mode: bool = True) -> Self:
        """Stay as it is: it has been trained elsewhere, if at all."""
        return self

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
        """Purified images.

        Raises:
            ModelError: It does not take such images, or returns others.
        """
        if self.has_gradient is None:
            misfit = self.entry and self.entry.misfit(images.shape[1], images.ndim - 2)
            if misfit:
                raise ModelError(f"input.purifier: {misfit}")
            self.has_gradient = self._passes_gradient(images)
        if self.has_gradient:
            return self._purified(images)
        with torch.no_grad():
            made = self._purified(images)
        return made + (images - images.detach())  # 0, with the gradient of images

    def _purified(self, images: Tensor) -> Tensor:
        made: Any = self.function(images)
        if not isinstance(made, Tensor) or made.shape != images.shape:
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ModelError(
                f"input.purifier: must return images of the shape that it is given, {tuple(images.shape)}; "
                f"got {got}."
            )
        return made

    def _passes_gradient(self, images: Tensor) -> bool:
        """Try it at an image of random grey, where nothing is clipped."""
        drawn = torch.rand(2, *images[:1].shape, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode(False), torch.enable_grad():
            image, weights = (0.25 + 0.5 * drawn).to(images).unbind()
            image.requires_grad_()
            try:
                made = self.function(image)
                (gradient,) = torch.autograd.grad((weights * made).sum(), image)
            except RuntimeError:  # it leaves torch, or was made without a gradient
                return False
        return bool((gradient != 0).any())


def _found(item: dict[str, Any], where: str) -> tuple[Perturbation | None, Callable[..., Any]]:
    """The corruption that an item names, if it is one, and the function of images."""
    name, load = item.pop("name", None), item.pop("load", None)
    if (name is None) == (load is None):
        raise StudyError(
            f"{where}: takes either `name`, that of a corruption such as {{name: jpeg, quality: 75}}, or "
            f"`load`, a function images -> images; got {'both' if name else 'neither'}."
        )
    thing: Any = PERTURBATIONS.named(name, where) if load is None else imported(load, where)
    if not callable(thing) and not is_perturbation(thing):
        raise StudyError(f"{where}.load: must be a function images -> images, got {load!r}.")
    if not is_perturbation(thing):
        if item:
            raise StudyError(f"{where}.{next(iter(item))}: a function of images alone takes no further keys.")
        if isinstance(thing, nn.Module):
            thing = copy.deepcopy(thing).eval().requires_grad_(False)
        return None, thing
    entry = entry_of(thing)
    if entry.role != "corruption" or entry.moves_labels:
        raise StudyError(
            f"{where}: '{entry.name}' cannot purify; that takes a corruption that leaves pixels where they "
            "are, such as jpeg, gaussian_blur or pixelate."
        )
    if "rngs" in inspect.signature(entry.function).parameters:
        raise StudyError(
            f"{where}: '{entry.name}' draws at random, but a network must answer the same for the same "
            "image. Name one that draws nothing, such as jpeg, gaussian_blur or pixelate."
        )
    severity = item.pop("severity", None) if entry.severities else None
    try:
        preset = entry.preset_at(item.pop("preset", None), severity)
    except ValueError as error:
        raise StudyError(f"{where}.{error}") from None
    parameters = resolve(parameters_of(entry), {**preset.parameters, **item}, where)
    return entry, partial(inspect.unwrap(entry.function), **parameters)

"""A network as a study uses it: images in [0, 1] go in, logits come out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medrobust.errors import ModelError
from medrobust.perturbations.outputs import main_output

Features = Callable[[nn.Module, Tensor], Tensor]
"""`(body, prepared images n c *space) -> features n d`: one vector per image."""


class Network(nn.Module):
    """A network that takes images in [0, 1] and returns logits, whatever its body expects and returns.

    Channels, size and normalisation are adapted inside, differentiably and on a copy of the images. A single
    logit z becomes the two logits (0, z); logit maps of another size are resized to that of the image.

    Attributes:
        body: The network itself; weight files hold its state dict.
        recipe: What the body was made from, as plain data.
        channels_last: Whether kernels and images may use that memory format, the fastest one. It does not
            suit a body that takes a `view` of its feature maps.
        note: A sentence on what was changed to make the body run; empty if nothing was.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module | Callable[[Tensor], object],
        *,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        size: int | Sequence[int] | None = None,
        channels: int | None = None,
        output: str | int | Callable[[Any], Tensor] | None = None,
        features: Features | None = None,
        recipe: Mapping[str, object] | None = None,
    ) -> None:
        """Describe how images enter a network, and how logits come out.

        Args:
            body: A module, or a function, from images `n channels *size` to logits `n classes` or
                `n classes *space`.
            mean: Subtracted from images in [0, 1]: one number, or one per channel.
            std: Images are divided by it: one number, or one per channel.
            size: Images are resized to it: one number, or one per side. By default they keep their size.
            channels: Number that the body takes; a grey image is repeated to fill them. By default what its
                first convolution takes, if that is 1 or 3, else any number.
            output: Where the logits are in what the body returns: the name of an entry or attribute, a
                position, or a function that extracts them. By default the entry `logits` or `out`, or the
                first of several outputs.
            features: Computes one vector per image, for t-SNE. By default the input of the last linear or
                convolution layer.
            recipe: What the body was made from, as plain data.

        Raises:
            ModelError: `mean` or `std` has neither one number nor one per channel.
        """
        super().__init__()
        self.body = body if isinstance(body, nn.Module) else _Function(body)
        self.size = size
        convolutions = (part for part in self.body.modules() if isinstance(part, nn.Conv2d | nn.Conv3d))
        first = next((part.in_channels for part in convolutions), None)
        channels = channels or (first if first in (1, 3) else None)
        self.channels = channels
        self.output = output
        self.features_of = features or last_layer_input
        self.recipe = dict(recipe or {})
        self.channels_last = True
        self.note = ""
        for name, given in (("mean", mean), ("std", std)):
            values = torch.tensor(given, dtype=torch.float32).reshape(-1)
            if channels is not None and len(values) not in (1, channels):
                raise ModelError(
                    f"input.{name} must be one number or {channels} (one per channel), got {given}."
                )
            self.register_buffer(name, values, persistent=False)

    @property
    def description(self) -> str:
        """The name of the body in its own code, e.g. "my_nets.Small"."""
        named = self.body.function if isinstance(self.body, _Function) else type(self.body)
        name = getattr(named, "__qualname__", type(named).__qualname__)
        return f"{getattr(named, '__module__', None) or type(named).__module__}.{name}"

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *maps"]:
        """Logits of images in [0, 1]."""
        logits = self.raw(images)
        if logits.shape[1] == 1:  # the same decision and probability as a sigmoid's
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        if logits.ndim > 2 and logits.shape[2:] != images.shape[2:]:
            logits = _resized(logits, tuple(images.shape[2:]))
        return logits

    def raw(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *maps"]:
        """The body's logits before they are adapted, in float32 and with all axes.

        Axes that a `squeeze` or `flatten` removed are restored: that of a batch of one, or of a single logit.
        Where deep supervision stacks several levels behind the batch axis, the first is taken.

        Raises:
            ModelError: There are not as many outputs as images.
        """
        logits = self.returned(images).float()
        if logits.shape[:1] != images.shape[:1]:
            if len(images) > 1:
                raise ModelError(
                    f"The network returns an output of shape {tuple(logits.shape)} for {len(images)} images. "
                    "Return one row of logits for each image."
                )
            logits = logits.unsqueeze(0)
        if logits.ndim in (1, images.ndim - 1):
            logits = logits.unsqueeze(1)
        return logits[:, 0] if logits.ndim == images.ndim + 1 else logits

    def returned(self, images: Float[Tensor, "n c *space"]) -> Tensor:
        """The logits exactly as the body returns them."""
        output: Any = self.body(self.prepared(images))
        if callable(self.output):
            return self.output(output)
        if self.output is None:
            return main_output(output)
        is_attribute = isinstance(self.output, str) and not isinstance(output, Mapping)
        found: Tensor = getattr(output, str(self.output)) if is_attribute else output[self.output]
        return found

    def prepared(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d *size"]:
        """Images with the size, channels and normalisation that the body expects."""
        space = images.ndim - 2
        if self.size is not None:
            size = (self.size,) * space if isinstance(self.size, int) else tuple(self.size)
            if len(size) != space:
                raise ModelError(f"input.size must have {space} sides, as the images have; got {list(size)}.")
            images = images if tuple(images.shape[2:]) == size else _resized(images, size)
        if images.shape[1] == 1 and self.channels is not None:
            images = images.expand(-1, self.channels, *images.shape[2:])
        per_channel = (-1, *[1] * space)
        prepared = (images - self.mean.view(per_channel)) / self.std.view(per_channel)
        return prepared if self.channels_last else prepared.contiguous()

    def features(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
        """One vector per image: the input of the last layer; in segmentation the mean of the bottleneck.

        Raises:
            ModelError: The network has no such features, or not one vector per image.
        """
        features = self.features_of(self.body, self.prepared(images))
        if features.ndim != 2 or len(features) != len(images):
            raise ModelError(
                f"The input of its last layer has the shape {tuple(features.shape)} for {len(images)} "
                "images, so it is not one vector per image."
            )
        return features

    def train(self, mode: bool = True) -> "Network":
        """Set the mode, as `nn.Module.train`. A program of torch.export has no mode and stays as it is."""
        try:
            return super().train(mode)
        except NotImplementedError:
            if mode:
                raise ModelError(
                    "The network is a program of torch.export, which cannot be trained. Load the network "
                    "that was exported instead."
                ) from None
            for part in self.modules():
                part.training = False
            return self


class _Function(nn.Module):
    """A plain function in the place of a module."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> object:
        return self.function(images)


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    if len(size) == 3:
        return F.interpolate(maps, size, mode="trilinear", align_corners=False)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)


def last_layer_input(body: nn.Module, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
    """The input of the linear or convolution layer that runs last, averaged over space.

    Raises:
        ModelError: The network runs no such layer.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = inputs[:1]

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [part.register_forward_pre_hook(keep) for part in body.modules() if isinstance(part, kinds)]
    try:
        body(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ModelError(
            "The network has no linear or convolution layer whose input could serve as its features. "
            "Put one at its end."
        )
    return seen[0].flatten(2).mean(2) if seen[0].ndim > 2 else seen[0]


def prepare(network: Network, device: torch.device) -> Network:
    """Make a network ready to be attacked, in place and once: eval mode, frozen, channels last."""
    return to_channels_last(network.to(device)).eval().requires_grad_(False)


def to_channels_last(network: Network) -> Network:
    """Put the kernels of a network for slices into the memory format in which convolutions are fastest."""
    if network.channels_last and any(parameter.ndim == 4 for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)
    return network


def parameter_count(network: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in network.parameters())

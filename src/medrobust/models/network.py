"""A network as a study uses it: images in [0, 1] go in, logits come out."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import ceil
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from medrobust.errors import ModelError, StudyError, reason, unknown
from medrobust.models.form import Further, InputSpec, OutputKind, numbers_of, read_input, read_output
from medrobust.models.purifier import Purifier
from medrobust.models.windows import SlidingWindow, middle, padded, sides_of, stitched, windows_of
from medrobust.perturbations.outputs import logits_of, main_output, part_of, with_absent

Rows = Mapping[str, Tensor]
"""What a body takes besides the images, by name, `n d` each; one row may stand for all."""

Features = Callable[[nn.Module, Tensor], Tensor]
"""`(body, prepared images n c *space) -> features n d`: one vector per image."""

SMALLEST_DEVIATION = 1e-8
"""By which an image of one colour is divided (nnU-Net)."""


class Network(nn.Module):
    """A network that takes images in [0, 1] and returns logits, whatever its body expects and returns.

    Images are purified first, if asked for. Channels, size and normalisation are adapted inside,
    differentiably and on a copy of the images. A single logit z becomes the two logits (0, z); logit maps of
    another size are resized to that of the image; logits of regions become logits of classes, see
    `of_regions`.

    Attributes:
        body: The network itself; weight files hold its state dict.
        input: What the body expects.
        output: What it returns.
        recipe: What the body was made from, as plain data.
        channels_last: Whether kernels and images may use that memory format, the fastest one. It does not
            suit a body that takes a `view` of its feature maps.
        assumed: Sentences on what nobody said and was assumed, or changed, to make the body run.
    """

    factor: Tensor
    offset: Tensor
    order: Tensor | None
    members: Tensor | None

    def __init__(
        self,
        body: nn.Module | Callable[[Tensor], object],
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        size: int | Sequence[int] | None = None,
        channels: int | None = None,
        scale: Sequence[float] | None = None,
        normalise: Literal["volume", "foreground"] | None = None,
        pad: int | Sequence[int] | None = None,
        window: SlidingWindow | Mapping[str, Any] | None = None,
        further: Mapping[str, Sequence[float | Mapping[str, Any]]] | None = None,
        purifier: Mapping[str, Any] | Callable[[Tensor], Tensor] | None = None,
        output: str | int | Callable[[Any], Tensor] | None = None,
        kind: OutputKind | None = None,
        classes: Sequence[str] | None = None,
        findings: bool = False,
        features: Features | None = None,
        recipe: Mapping[str, object] | None = None,
    ) -> None:
        """Describe how images enter a network, and how logits come out.

        Args:
            body: A module, or a function, from images `n channels *size` to logits `n classes` or
                `n classes *space`.
            mean: Subtracted from images, after `scale`: one number, or one per channel.
            std: Images are divided by it: one number, or one per channel.
            size: Images are resized to it: one number, or one per side. By default they keep their size.
            channels: Number that the body takes; a grey image is repeated to fill them. By default what its
                first convolution takes, if that is 1 or 3, else any number.
            scale: The two numbers that the body knows 0 and 1 as, e.g. (0, 255) or (-1024, 1024).
            normalise: Give every channel of an image or volume mean 0 and standard deviation 1, over all of
                it ("volume") or over what is not 0 ("foreground"), in place of `scale`, `mean` and `std`.
            pad: Sides are padded with zeros to a multiple of it, and maps of logits cropped: one number, or
                one per side.
            window: Predict in sliding windows: `{"size": (96, 96, 96), "overlap": 0.5}`.
            further: Inputs besides the image, which the body takes by these names: numbers, or what is made
                of what is known of a case (`told`), such as `{"of": "age", "divide": 90}`.
            purifier: A defence that images go through before all else: a function images -> images, or a
                corruption by name, `{"name": "jpeg", "quality": 75}`. Gradients pass through it where it has
                one, else straight through.
            output: Where the logits are in what the body returns: the name of an entry or attribute, a
                position, a path such as "heads.0", or a function that extracts them. By default the entry
                `logits` or `out`, or the first of several outputs.
            kind: What the body returns; of "probabilities" the logarithms are taken, and "regions", which may
                overlap, have the logit of a sigmoid each. "decisions" are the number of a class for each
                image or pixel, or 0 or 1 for each finding; they become logits 100 apart. By default logits; a
                study then refuses what looks like probabilities.
            classes: Names of the classes, or regions, in the body's order; by default it is that of the data.
            findings: Whether each logit is that of a finding, of which an image may show several: a logit z
                becomes the two logits (0, z), and `n findings` becomes `n 2 findings`.
            features: Computes one vector per image, for t-SNE. By default the input of the last linear or
                convolution layer.
            recipe: What the body was made from, as plain data.

        Raises:
            ModelError: A value cannot be, or `mean` or `std` has neither one number nor one per channel.
        """
        super().__init__()
        self.body = as_module(body)
        convolutions = (part for part in self.body.modules() if isinstance(part, nn.Conv2d | nn.Conv3d))
        first = next((part.in_channels for part in convolutions), None)
        said: dict[str, Any] = {
            "channels": channels or (first if first in (1, 3) else None),
            "mean": mean,
            "std": std,
        }
        said |= {"size": size, "scale": scale, "normalise": normalise, "pad": pad, "window": window}
        said["further"] = further
        said["purifier"] = {"load": purifier} if callable(purifier) else purifier
        try:
            self.input = read_input(said, "input")
            self.output = read_output({"take": output, "kind": kind, "classes": classes}, "output")
        except StudyError as error:
            raise ModelError(str(error)) from None
        self.purifier = None if self.input.purifier is None else Purifier(self.input.purifier)
        if self.input.window is not None and self.output.kind == "decisions":
            raise ModelError(
                "input.window: windows are joined by their logits, which a network of decisions does not "
                "give. Put the windows into the network."
            )
        self.findings = findings
        self.features_of = features or last_layer_input
        self.recipe = dict(recipe or {})
        self.channels_last = True
        self.n_decided = max(2, len(self.output.classes or ()))
        self.assumed: tuple[str, ...] = ()
        factor, offset = _affine(self.input)
        self._usual = _rows(self.input.further or {}, [{}])
        self._is_affine = bool((factor != 1).any() or (offset != 0).any())
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("order", None, persistent=False)
        self.register_buffer("members", None, persistent=False)

    @property
    def description(self) -> str:
        """The name of the body in its own code, e.g. "my_nets.Small"."""
        named = self.body.function if isinstance(self.body, _Function) else type(self.body)
        name = getattr(named, "__qualname__", type(named).__qualname__)
        return f"{getattr(named, '__module__', None) or type(named).__module__}.{name}"

    @property
    def device(self) -> torch.device:
        """Where it takes images."""
        return self.factor.device

    def put_in_order(self, names: Sequence[str], regions: Mapping[str, Sequence[int]] | None = None) -> None:
        """Return the classes in the order of the data, where `classes` says another one.

        A single output is for the one class named, or for the second of two.

        Args:
            names: Of the classes, in the order of the data.
            regions: Numbers of the classes of each region, for a network with a logit for each; by default
                each class but the first, the background, is one.

        Raises:
            ModelError: The network's classes or regions are not those of the data, or no output of a network
                for regions tells some of the classes apart.
        """
        if self.output.kind == "regions":
            members = self._members(
                names, regions or {name: (place,) for place, name in enumerate(names) if place}
            )
            self.members = members.to(self.device)
            return
        own = list(self.output.classes or names)
        if len(own) == 1 and len(names) == 2:
            own = [name for name in names if name not in own] + own
        for name in own:
            if name not in names:
                raise ModelError(
                    f"output.classes: {unknown('class', name, names)} A network for further classes cannot "
                    "be judged on these data, unless a function in `load` leaves their outputs out."
                )
        for name in names:
            if name not in own:
                raise ModelError(
                    f"output.classes: '{name}', a class of the data, is missing. Name all classes of the "
                    "network in its own order."
                )
        self.n_decided = len(own)
        places = [own.index(name) for name in names]
        self.order = None if places == sorted(places) else torch.tensor(places, device=self.device)

    def _members(self, names: Sequence[str], regions: Mapping[str, Sequence[int]]) -> Bool[Tensor, "r k"]:
        """Which classes of the data are part of what each output is for."""
        own = list(self.output.classes or regions)
        for name in own:
            if name not in regions:
                raise ModelError(
                    f"output.classes: {unknown('region', name, regions)} Say in data.regions of which "
                    "classes each consists, and in output.classes what the network's outputs are for."
                )
        members = torch.tensor([[place in regions[name] for place in range(len(names))] for name in own])
        alike: dict[tuple[bool, ...], str] = {}
        for name, column in zip(names, members.T.tolist(), strict=True):
            other = alike.setdefault(tuple(column), name)
            if other != name:
                raise ModelError(
                    f"output.kind: no output of the network tells '{name}' from '{other}', since they are "
                    "part of the same regions. Make them one class in data.labels, or give a region that "
                    "holds one of them."
                )
        return members

    def told(self, known: Sequence[Mapping[str, str | float]]) -> "Told":
        """The network for a batch of which more is known than the images, see `input.further`.

        Args:
            known: Attributes of each image of the batch, by name.

        Raises:
            ModelError: An attribute that is to be a number is none.
        """
        return Told(self, _rows(self.input.further or {}, known))

    def forward(
        self, images: Float[Tensor, "n c *space"], further: Rows | None = None
    ) -> Float[Tensor, "n k *labelspace"]:
        """Logits of images in [0, 1].

        Args:
            images: Any number of them.
            further: What the body takes besides each image, `n d`; None: what stands for unknown attributes.
        """
        logits = self.raw(images, further)
        if self.output.kind == "regions":
            if self.members is None:
                raise ModelError(
                    "output.kind: of which classes its regions consist is not known. Say it with "
                    "Network.put_in_order, or judge it on data with regions."
                )
            if logits.shape[2:] != images.shape[2:]:
                logits = _resized(logits, tuple(images.shape[2:]))
            return of_regions(logits, self.members)
        if logits.shape[1] == 1 and not self.findings:  # the same decision and probability as a sigmoid's
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        if self.order is not None:
            logits = logits.index_select(1, self.order)
        if logits.ndim > 2 and logits.shape[2:] != images.shape[2:]:
            logits = _resized(logits, tuple(images.shape[2:]))
        return with_absent(logits) if self.findings else logits

    def raw(
        self, images: Float[Tensor, "n c *space"], further: Rows | None = None
    ) -> Float[Tensor, "n k *maps"]:
        """The body's logits before their number, order and size are adapted, in float32 and with all axes.

        Raises:
            ModelError: There are not as many outputs as images, or decisions for no class.
        """
        returned = self.returned(images, further)
        if self.output.kind == "decisions":
            logits = of_decisions(returned, len(images), None if self.findings else self.n_decided)
        else:
            logits = _with_all_axes(returned, images)
        if self.output.kind == "probabilities":
            logits = logits_of(logits, findings=self.findings)
        if self.input.pad is not None and logits.ndim > 2:
            size, whole = self._sizes(images)
            logits = logits if tuple(logits.shape[2:]) == whole else _resized(logits, whole)
            logits = logits[middle(size, whole)]
        return logits

    def returned(self, images: Float[Tensor, "n c *space"], further: Rows | None = None) -> Tensor:
        """What the body returns: logits, probabilities or decisions; or maps stitched from windows."""
        prepared = self.prepared(images)
        if self.input.window is None:
            return self._taken(prepared, further)
        return stitched(
            partial(self._of_window, further=further),
            prepared,
            self.input.window,
            weights=[weight for weight in self.body.parameters() if weight.requires_grad],
            recompute=not self.body.training,
        )

    def prepared(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d *size"]:
        """Images with the size, channels and normalisation that the body expects; a copy."""
        size, whole = self._sizes(images)
        if self.purifier is not None:
            images = self.purifier(images)
        if tuple(images.shape[2:]) != size:
            images = _resized(images, size)
        if images.shape[1] == 1 and self.input.channels is not None:
            images = images.expand(-1, self.input.channels, *images.shape[2:])
        if self.input.normalise is not None:
            images = z_scored(images, foreground=self.input.normalise == "foreground")
        elif self._is_affine:
            per_channel = (1, -1, *[1] * len(size))
            images = torch.addcmul(self.offset.view(per_channel), images, self.factor.view(per_channel))
        else:
            images = images.clone()
        prepared = padded(images, whole)
        return prepared if self.channels_last else prepared.contiguous()

    def _sizes(self, images: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of images for the body, before and after they are padded."""
        size, pad = tuple(images.shape[2:]), self.input.pad
        if self.input.size is not None:
            size = sides_of(self.input.size, len(size), "size")
        if pad is None:
            return size, size
        steps = sides_of(pad, len(size), "pad")
        return size, tuple(ceil(side / step) * step for side, step in zip(size, steps, strict=True))

    def _besides(self, prepared: Tensor, further: Rows | None) -> dict[str, Tensor]:
        """Arguments of the body besides prepared images, a row for each of them."""
        rows = self._usual if further is None else further
        return {name: each.to(prepared).expand(len(prepared), -1) for name, each in rows.items()}

    def _taken(self, prepared: Tensor, further: Rows | None) -> Tensor:
        """The part of what the body returns that the study asks for."""
        output: Any = self.body(prepared, **self._besides(prepared, further))
        take = self.output.take
        if callable(take):
            taken: Tensor = take(output)
            return taken
        return main_output(output if take is None else part_of(output, take))

    def _of_window(self, part: Tensor, further: Rows | None) -> Tensor:
        """Maps of a window, in float32 and of its size."""
        maps = _with_all_axes(self._taken(part, further), part)
        if maps.ndim != part.ndim:
            raise ModelError(
                f"input.window: the network returns an output of shape {tuple(maps.shape)} for a window, but "
                "maps are needed, which can be stitched. Leave the key out."
            )
        return maps if maps.shape[2:] == part.shape[2:] else _resized(maps, tuple(part.shape[2:]))

    def features(
        self, images: Float[Tensor, "n c *space"], further: Rows | None = None
    ) -> Float[Tensor, "n d"]:
        """One vector per image: the input of the last layer; in segmentation the mean of the bottleneck.

        Of windows the mean is taken.

        Raises:
            ModelError: The network has no such features, or not one vector per image.
        """
        prepared, window = self.prepared(images), self.input.window
        parts = [prepared] if window is None else windows_of(prepared, window)
        body = self.body
        if self.input.further:
            body = _Given(body, self._besides(prepared, further))
        features = torch.stack([self.features_of(body, part) for part in parts]).mean(0)
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


class Told(nn.Module):
    """A network for the images of a batch, of which more is known than can be seen.

    Attributes:
        network: What is told.
        rows: What its body takes besides the images, by name: a row for each image, or one for all.
    """

    def __init__(self, network: Network, rows: Rows) -> None:
        super().__init__()
        self.network, self.rows = network, rows

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *labelspace"]:
        """Logits of the images of the batch.

        Raises:
            ModelError: These are not as many images as the batch has.
        """
        logits: Tensor = self.network(images, self._of(images))
        return logits

    def features(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n d"]:
        """One vector per image, see `Network.features`."""
        return self.network.features(images, self._of(images))

    def of(self, places: Sequence[int]) -> "Told":
        """The network for some images of the batch. For a single one it takes any number of its versions."""
        return Told(self.network, {name: rows[list(places)] for name, rows in self.rows.items()})

    def alike(self) -> list[list[int]]:
        """Places of the images of the batch, together where the same is known of them."""
        every = torch.cat(list(self.rows.values()), 1).tolist()
        groups: dict[tuple[float, ...], list[int]] = {}
        for place, row in enumerate(every):
            groups.setdefault(tuple(row), []).append(place)
        return list(groups.values())

    def _of(self, images: Tensor) -> Rows:
        known = len(next(iter(self.rows.values())))
        if known not in (1, len(images)):
            raise ModelError(
                f"The network knows more of each of {known} images, and is shown {len(images)}. Ask it about "
                "all of them, or about some by `of`."
            )
        return self.rows


def _rows(further: Further, known: Sequence[Mapping[str, str | float]]) -> Rows:
    """What a network is told of cases besides their images; 0 where nothing is known of a number."""
    try:
        every = [numbers_of(further, each) for each in known]
    except (TypeError, ValueError) as error:
        raise ModelError(f"input.further: an attribute is no number: {reason(error)}.") from None
    return {
        name: torch.tensor([[number or 0.0 for number in each[name]] for each in every]) for name in further
    }


class _Given(nn.Module):
    """A body with its arguments besides the images."""

    def __init__(self, body: nn.Module, besides: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.body, self.besides = body, besides

    def forward(self, images: Tensor) -> object:
        return self.body(images, **self.besides)


class _Function(nn.Module):
    """A plain function in the place of a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor, **further: Tensor) -> object:
        answer = self.function(images, **further)
        first = answer
        while isinstance(first, list) and first:
            first = first[0]
        if isinstance(first, int | float):  # lists of numbers, as services return them
            answer = np.array(answer, np.float32)
        return torch.as_tensor(answer, device=images.device) if isinstance(answer, np.ndarray) else answer


def as_module(body: nn.Module | Callable[[Tensor], object]) -> nn.Module:
    """A module, that of a method such as `network.forward`, or one around a plain function."""
    if isinstance(body, nn.Module):
        return body
    owner = getattr(body, "__self__", None)
    if isinstance(owner, nn.Module) and getattr(body, "__name__", "") in ("forward", "__call__"):
        return owner
    return _Function(body)


def of_regions(
    logits: Float[Tensor, "n r *space"], members: Bool[Tensor, "r k"]
) -> Float[Tensor, "n k *space"]:
    """Logits of classes from those of regions: of each class, the sum of those of the regions that hold it.

    The probability that a pixel is in exactly the regions that hold a class is the product of sigmoid(z) over
    these and of sigmoid(-z) over the others, if each region is decided alone. As log sigmoid(z) is
    z + log sigmoid(-z), its logarithm is the sum made here plus a term that is the same for all classes, and
    that neither softmax, nor a difference of logits, nor argmax sees. So the largest logit is that of the
    class whose regions are exactly those with a positive logit, wherever there is such a class, and elsewhere
    of the most probable one that there is.

    Args:
        logits: Of a sigmoid for each region.
        members: Which classes each region consists of; the first class, the background, is in none.
    """
    return torch.einsum("nr...,rk->nk...", logits, members.to(logits.dtype))


def z_scored(images: Float[Tensor, "n c *space"], *, foreground: bool) -> Float[Tensor, "n c *space"]:
    """Images with mean 0 and standard deviation 1 in every channel, as nnU-Net's.

    Args:
        images: Any images.
        foreground: Of pixels that are not 0 only; the others stay 0.
    """
    space = tuple(range(2, images.ndim))
    counted = images != 0 if foreground else torch.ones_like(images, dtype=torch.bool)
    count = counted.sum(space, keepdim=True).clamp_min(1)
    centred = torch.where(counted, images - images.sum(space, keepdim=True) / count, 0)
    variance = centred.square().sum(space, keepdim=True) / count
    return centred / variance.clamp_min(SMALLEST_DEVIATION**2).sqrt()


def _affine(said: InputSpec) -> tuple[Tensor, Tensor]:
    """`scale`, `mean` and `std` as a factor and an offset, one per channel or one for all."""
    low, high = said.scale or (0.0, 1.0)
    mean, std = (
        torch.tensor(default if given is None else given, dtype=torch.float64).reshape(-1)
        for given, default in ((said.mean, 0.0), (said.std, 1.0))
    )
    for name, values in (("mean", mean), ("std", std)):
        if said.channels is not None and len(values) not in (1, said.channels):
            raise ModelError(
                f"input.{name} must be one number or {said.channels} (one per channel), got "
                f"{values.tolist()}."
            )
    return ((high - low) / std).float(), ((low - mean) / std).float()


SURE = 100.0
"""By how much the logit of a decision leads, so that its probability is 1 in single precision."""


def of_decisions(
    decisions: Shaped[Tensor, "n *labelspace"], images: int, classes: int | None
) -> Float[Tensor, "n k *space"]:
    """Logits of which the one of the class decided for leads by 100; of a finding, 100 or -100.

    Args:
        decisions: Numbers of classes, `n` or `n *space`, or, for findings, 0 and 1, `n findings`.
        images: Number of images.
        classes: Number of classes; None: these are findings.

    Raises:
        ModelError: They are no whole numbers from 0 up to those of the classes, or not as many as the images.
    """
    whole = decisions.reshape(1) if decisions.ndim == 0 else decisions
    if whole.shape[:1] != (images,):
        raise ModelError(
            f"The network returns decisions of shape {tuple(decisions.shape)} for {images} images. Return "
            "one for each image, or a map for each."
        )
    numbers = 2 if classes is None else classes
    wrong = whole[(whole != whole.long()) | (whole < 0) | (whole >= numbers)]
    if len(wrong):
        raise ModelError(
            f"It returns the decision {wrong[0].item():.6g}. With output.kind: decisions, a network returns "
            f"whole numbers from 0 to {numbers - 1}, in the order of output.classes or else of the data."
        )
    if classes is None:
        return SURE * (2 * whole.reshape(images, -1).float() - 1)
    if whole.ndim > 1 and whole.shape[1] == 1:
        whole = whole[:, 0]
    return SURE * F.one_hot(whole.long(), classes).movedim(-1, 1).float()


def _with_all_axes(output: Tensor, images: Tensor) -> Tensor:
    """An output in float32 with the axes that a `squeeze` or `flatten` removed: of a batch or logit of one.

    Where deep supervision stacks several levels behind the batch axis, the first is taken.
    """
    logits = output.float()
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
            "The network has no linear or convolution layer of PyTorch whose input could serve as its "
            "features; TorchScript, other runtimes and functions show none. Scores need none. To see "
            "features, bring it as a module, or in Python say what they are: medrobust.Network(network, "
            "features=...)."
        )
    return seen[0].flatten(2).mean(2) if seen[0].ndim > 2 else seen[0]


class Ensemble(Network):
    """Networks that answer together: logits are the mean of theirs, and features stand side by side.

    Source: Liu et al. 2017, Delving into transferable adversarial examples and black-box attacks.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        """Join networks of the same classes."""
        super().__init__(nn.ModuleList(networks))

    def forward(
        self, images: Float[Tensor, "n c *space"], further: Rows | None = None
    ) -> Float[Tensor, "n k *labelspace"]:
        """Mean logits of images in [0, 1]."""
        return torch.stack([network(images) for network in self.networks]).mean(0)

    def features(
        self, images: Float[Tensor, "n c *space"], further: Rows | None = None
    ) -> Float[Tensor, "n d"]:
        """The features of all networks, of which the mean of their last layers is a linear function."""
        return torch.cat([network.features(images) for network in self.networks], 1)

    @property
    def networks(self) -> list[Network]:
        """The networks that answer together."""
        return [network for network in self.body.children() if isinstance(network, Network)]


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

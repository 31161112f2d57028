"""Parts that make attacks transfer to networks that the attacker does not know; for `mi_fgsm` and `pgd`.

A network's gradient fits that network: it changes with the size, brightness and spectrum of the image,
and from pixel to pixel. Parts of images (`admix`, `si`, `ssm`, `bsr`, `di`) add up the gradients at changed
versions of an image; `ti` blurs the sum, `ni` takes it a step ahead, and `vmi` steadies it by those around.
`guide` makes one gradient of all of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int64
from pydantic import BeforeValidator
from torch import Tensor, nn
from torch.nn import functional

from medrobust.core import UNKNOWN, Task
from medrobust.errors import StudyError, unknown
from medrobust.parameters import Ratio, accepted, parameter_model, resolve
from medrobust.perturbations.checks import check_logits, task_of
from medrobust.perturbations.geometry import Ball, per_image
from medrobust.perturbations.gradients import Loss, Model, linearise, log_size

Part = Literal["admix", "si", "ssm", "bsr", "di", "ti", "ni", "vmi"]

Copies = Annotated[int, Ge(1)]
Rngs = Sequence[np.random.Generator]
"""One for each image, so that no image's draws depend on its batch."""

MOST_GROWN = 60.0
"""By which the logarithm of a gradient's size may grow from the first step on, so that sums stay finite."""

PIXELS_PER_BLOCK = 4


class View(NamedTuple):
    """A version of a batch of images: all draws are made, so it is a function of the images alone.

    Attributes:
        of: Makes it of the images, differentiably.
        labels: The labels that go with it.
    """

    of: Callable[[Tensor], Tensor]
    labels: Callable[[Tensor], Tensor] = lambda labels: labels

    def after(self, first: "View") -> "View":
        """This version of another version."""
        return View(lambda x: self.of(first.of(x)), lambda y: self.labels(first.labels(y)))


def admix(
    images: Float[Tensor, "n c *space"],
    rngs: Rngs,
    *,
    others: Float[Tensor, "m c *space"] | None = None,
    partners: Copies = 3,
    strength: Annotated[Ratio, Ge(0)] = 0.2,
    copies: Copies = 5,
) -> Iterator[View]:
    """Images with a share of another one added, each at several brightnesses.

    The authors mix in images of other classes of the batch; here any of `others`, so that images do not
    depend on their batch.

    Args:
        images: A batch.
        rngs: They draw the partners.
        others: Images to mix in.
        partners: How many, one after the other.
        strength: Share of a partner that is added.
        copies: Brightnesses 1, 1/2, 1/4, ... of each mixture.

    Source: Wang et al. 2021, "Admix: enhancing the transferability of adversarial attacks".
    """
    if others is None:
        raise ValueError(
            "others: admix adds a share of another image; give some (m c *space) that are not attacked."
        )
    for _ in range(partners):
        partner = strength * others[[int(rng.integers(len(others))) for rng in rngs]].to(images)
        for number in range(copies):
            yield View(partial(_mixed, partner=partner, fading=2**number))


def si(images: Float[Tensor, "n c *space"], rngs: Rngs, *, copies: Copies = 5) -> Iterator[View]:
    """Images at several brightnesses.

    Args:
        images: A batch.
        rngs: Unused: nothing is drawn.
        copies: Brightnesses 1, 1/2, 1/4, ...

    Source: Lin et al. 2020, "Nesterov accelerated gradient and scale invariance for adversarial attacks".
    """
    for number in range(copies):
        yield View(partial(_mixed, partner=0.0, fading=2**number))


def ssm(
    images: Float[Tensor, "n c *space"],
    rngs: Rngs,
    *,
    amplitude: float,
    copies: Copies = 20,
    spread: Annotated[Ratio, Ge(0), Le(1)] = 0.5,
) -> Iterator[View]:
    """Images with noise, and each frequency of their cosine transform weakened or strengthened at random.

    Args:
        images: A batch.
        rngs: They draw the noise and the factors.
        amplitude: Standard deviation of the noise: the budget of an entry.
        copies: How many.
        spread: Factors are uniform within 1 - spread and 1 + spread.

    Source: Long et al. 2022, "Frequency domain model augmentation for adversarial attack".
    """
    shape = tuple(images.shape[1:])
    there = [_cosines(size) for size in shape[1:]]
    back = [basis.T for basis in there]
    for _ in range(copies):
        noise, factors = torch.empty_like(images), torch.empty_like(images)
        for place, rng in enumerate(rngs):
            noise[place] = torch.from_numpy(amplitude * rng.standard_normal(shape))
            factors[place] = torch.from_numpy(rng.uniform(1 - spread, 1 + spread, shape))

        def altered(images: Tensor, noise: Tensor = noise, factors: Tensor = factors) -> Tensor:
            return _along_axes(factors * _along_axes(images + noise, there), back)

        yield View(altered)


def bsr(
    images: Float[Tensor, "n c *space"],
    rngs: Rngs,
    *,
    copies: Copies = 20,
    blocks: Annotated[int, Ge(2), Le(6)] = 3,
    degrees: Annotated[float, Ge(0), Le(180)] = 24.0,
) -> Iterator[View]:
    """Images cut into strips, each of them turned and cut into blocks, strips and blocks shuffled.

    A volume is cut and turned in the plane of two axes drawn at random.

    Args:
        images: A batch.
        rngs: They draw axes, sizes, orders and angles.
        copies: How many.
        blocks: Along each of the two axes; fewer where a block would have less than about four pixels.
        degrees: Largest angle.

    Source: Wang et al. 2024, "Boosting adversarial transferability by block shuffle and rotation".
    """
    space = images.shape[2:]
    for _ in range(copies):
        drawn = [_Shuffle.draw(rng, space, blocks, degrees) for rng in rngs]

        def shuffled(images: Tensor, drawn: Sequence[_Shuffle] = drawn) -> Tensor:
            return torch.stack([shuffle(image) for shuffle, image in zip(drawn, images, strict=True)])

        yield View(shuffled)


def di(
    images: Float[Tensor, "n c *space"],
    rngs: Rngs,
    *,
    rate: Annotated[Ratio, Ge(0.5), Le(2)] = 1.1,
    probability: Annotated[Ratio, Ge(0), Le(1)] = 0.5,
) -> Iterator[View]:
    """Images resized at random and padded with zeros at random; label maps move along.

    Args:
        images: A batch.
        rngs: They draw who is resized, the size and the place.
        rate: Size of the padded image, in which the image takes from 1 to `rate` of its own size; it is
            resized to that in the end. Below 1: the image takes from `rate` to 1 of its own place.
        probability: Of being resized at all.

    Source: Xie et al. 2019, "Improving transferability of adversarial examples with input diversity".
    """
    space = tuple(images.shape[2:])
    padded = tuple(int(rate * size) for size in space) if rate > 1 else space
    low, high = (space[0], padded[0]) if rate > 1 else (int(rate * space[0]), space[0])
    placed: list[tuple[tuple[int, ...], list[int]] | None] = []
    for rng in rngs:
        if rng.random() >= probability:
            placed.append(None)
            continue
        first = int(rng.integers(low, high)) if high > low else low
        sizes = tuple(
            min(round(size * first / space[0]), end) for size, end in zip(space, padded, strict=True)
        )
        pads: list[int] = []
        for size, end in zip(sizes, padded, strict=True):
            before = int(rng.integers(end - size + 1))
            pads = [before, end - size - before, *pads]  # torch counts axes from the last
        placed.append((sizes, pads))

    def moved(values: Tensor, mode: str, fill: float) -> Tensor:
        parts = []
        for one, place in zip(torch.split(values, 1), placed, strict=True):
            if place is not None:
                one = functional.pad(_resized(one, place[0], mode), place[1], value=fill)
                one = _resized(one, space, mode)
            parts.append(one)
        return torch.cat(parts)

    def labels_too(labels: Tensor) -> Tensor:
        if not task_of(labels).has_maps:
            return labels
        return moved(labels[:, None].to(images.dtype), "nearest-exact", UNKNOWN)[:, 0].to(labels.dtype)

    linear = "bilinear" if len(space) == 2 else "trilinear"
    yield View(lambda x: moved(x, linear, 0.0), labels_too)


def ti(
    gradient: Float[Tensor, "n c *space"],
    *,
    side: Annotated[int, Ge(0)] = 7,
    radius: Annotated[float, Gt(0)] = 3.0,
) -> Float[Tensor, "n c *space"]:
    """A gradient blurred by a Gaussian, which stands for those of the image shifted a little.

    Args:
        gradient: Of a batch of images.
        side: Pixels of the kernel on either side of its middle.
        radius: Of the kernel, in standard deviations.

    Source: Dong et al. 2019, "Evading defenses to transferable adversarial examples by translation-invariant
    attacks".
    """
    points = radius * torch.arange(-side, side + 1, dtype=torch.float64) / max(side, 1)
    kernel = (-(points**2) / 2).exp()
    return _along_axes(gradient, [_blurring(kernel / kernel.sum(), length) for length in gradient.shape[2:]])


def ni() -> None:
    """The gradient a step ahead along the momentum.

    Source: Lin et al. 2020, "Nesterov accelerated gradient and scale invariance for adversarial attacks".
    """


def vmi(*, neighbours: Copies = 20, reach: Annotated[float, Ge(0)] = 1.5) -> None:
    """The gradient plus how much more it was, on average, around the image of the step before.

    Args:
        neighbours: Images around it.
        reach: Largest distance of their entries from it, in budgets.

    Source: Wang, He 2021, "Enhancing the transferability of adversarial attacks through variance tuning".
    """


PARTS: dict[str, Callable[..., Any]] = {
    "admix": admix,
    "si": si,
    "ssm": ssm,
    "bsr": bsr,
    "di": di,
    "ti": ti,
    "ni": ni,
    "vmi": vmi,
}
"""Every part, in the order in which an image passes through those that change it."""

OF_IMAGES = ("admix", "si", "ssm", "bsr", "di")
SUPPLIED = ("others", "amplitude")


def resolved(transfer: object) -> dict[str, dict[str, Any]]:
    """Parts with all of their options, in the order of `PARTS`; of names alone, the defaults.

    Raises:
        ValueError: There is no such part or option, a value is out of range, or two parts do the same.
    """
    if not isinstance(transfer, Sequence | Mapping) or isinstance(transfer, str):
        raise ValueError("takes names of parts, or a mapping from names to options")
    given: dict[str, Any] = {}
    for part in transfer:
        given[part] = transfer[part] if isinstance(transfer, Mapping) else {}
        if part not in PARTS:
            raise ValueError(unknown("part", part, PARTS))
    if "si" in given and "admix" in given:
        raise ValueError("'admix' already shows images at the brightnesses of 'si'; leave 'si' out.")
    try:
        return {
            name: resolve(parameter_model(name, part, without=SUPPLIED), given[name] or {}, name)
            for name, part in PARTS.items()
            if name in given
        }
    except StudyError as error:
        raise ValueError(str(error)) from None


Transfer = Annotated[Sequence[Part] | Mapping[Part, Mapping[str, Any] | None], BeforeValidator(resolved)]
"""Names of parts, or a mapping from them to options."""


def misfit(parameters: Mapping[str, Any], task: Task) -> str | None:
    """Why parts do not go with the other parameters or the task; None where they do."""
    parts = parameters["transfer"]
    loss = parameters.get("loss", "cross_entropy")
    if parts and loss not in ("cross_entropy", "margin"):
        return (
            f"transfer: parts add up gradients of several images, and those of {loss!r} have no common unit; "
            "use 'cross_entropy' or 'margin'."
        )
    if "bsr" in parts and task.has_maps:
        return (
            "transfer: 'bsr' shuffles blocks of an image, and no network for label maps has seen anatomy in "
            "that order; 'di' moves label maps along."
        )
    return None


def passes(parts: object, steps: int) -> float:
    """Passes with gradient that so many steps take."""
    known = resolved(parts)
    copies = math.prod(known[name].get("copies", 1) for name in OF_IMAGES if name in known)
    copies *= known.get("admix", {}).get("partners", 1)
    neighbours = known.get("vmi", {}).get("neighbours", 0)
    return float(copies * (steps + (steps - 1) * neighbours))


Guide = Callable[..., Tensor]


def guide(
    model: Model,
    labels: Int64[Tensor, "n *labelspace"],
    ball: Ball,
    weigh: Callable[[int, Tensor, Tensor], Tensor],
    *,
    transfer: object = (),
    loss: Loss = "cross_entropy",
    rngs: Rngs = (),
    others: Float[Tensor, "m c *space"] | None = None,
) -> Guide:
    """The gradient that an attack follows, a function `(number of the step, images, momentum=None)`.

    Args:
        model: Network under attack.
        labels: True labels.
        ball: Where the attack may go.
        weigh: Weights of the logits in the ascent, for the number of the step, logits and labels.
        transfer: Parts, see `resolved`; none: the gradient of the images as they are.
        loss: What the weights are of, which decides how gradients of several images add up.
        rngs: One generator per image.
        others: Images that `admix` mixes in.
    """
    parts = resolved(transfer)
    shown = {name: parts[name] for name in OF_IMAGES if name in parts}
    tuning, entries = parts.get("vmi"), ball.clean[0].numel()
    amplitude = float(ball.eps) if ball.norm == "inf" else float(ball.eps) / math.sqrt(entries)
    supplied = {"others": others, "amplitude": amplitude}
    first: Tensor | None = None  # the size of the first gradient
    last: tuple[Tensor, Tensor] | None = None  # the images of the step before, and their gradient

    def gradient_of(number: int, images: Tensor) -> Tensor:
        nonlocal first
        total = torch.zeros_like(images)
        for view in _views(shown, images, rngs, supplied):
            logits, pullback = linearise(Shown(model, view.of) if shown else model, images)
            seen = view.labels(labels)
            if number == 0:
                check_logits(logits, seen)
            gradient = pullback(weigh(number, logits, seen))
            if not parts:
                return gradient
            size = log_size(loss, logits, seen)
            first = size if first is None else first
            total += per_image((size - first).clamp_max(MOST_GROWN).exp(), images) * gradient
        return total

    def surplus(number: int, images: Tensor, gradient: Tensor, options: Mapping[str, Any]) -> Tensor:
        """By how much the gradient is larger around images."""
        far, total = options["reach"] * amplitude, torch.zeros_like(images)
        for _ in range(options["neighbours"]):
            drawn = torch.from_numpy(np.stack([rng.uniform(-far, far, images.shape[1:]) for rng in rngs]))
            total += gradient_of(number, images + ball.supported(drawn.to(images)))
        mean: Tensor = total / options["neighbours"]
        return mean - gradient

    def follow(number: int, images: Tensor, momentum: Tensor | None = None) -> Tensor:
        nonlocal last
        correction = surplus(number, *last, tuning) if tuning and last else None
        ahead = images if "ni" not in parts or momentum is None else images + momentum
        gradient = gradient_of(number, ahead)
        last = images, gradient
        if correction is not None:
            gradient = gradient + correction
        return ti(gradient, **parts["ti"]) if "ti" in parts else gradient

    return follow


class Shown(nn.Module):
    """A network that is shown a version of its images."""

    def __init__(self, model: Model, version: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.version = model, version

    def forward(self, images: Float[Tensor, "n c *space"]) -> object:
        """What the network returns for the version."""
        full = images.to(torch.promote_types(images.dtype, torch.float32))
        return self.model(self.version(full).to(images.dtype))


def _views(
    parts: Mapping[str, Mapping[str, Any]], images: Tensor, rngs: Rngs, supplied: Mapping[str, Any]
) -> Iterator[View]:
    """Every version of the images under all parts, one after the other."""
    if not parts:
        yield View(lambda images: images)
        return
    (name, options), *rest = parts.items()
    part = PARTS[name]
    for outer in part(images, rngs, **options, **accepted(part, supplied)):
        for inner in _views(dict(rest), images, rngs, supplied):
            yield inner.after(outer)


def _mixed(images: Tensor, partner: Tensor | float, fading: int) -> Tensor:
    return (images + partner) / fading


def _along_axes(
    images: Float[Tensor, "n c *space"], matrices: Sequence[Tensor]
) -> Float[Tensor, "n c *space"]:
    """Every line along each axis of space multiplied by the matrix of that axis."""
    with torch.autocast(images.device.type, enabled=False):
        for axis, matrix in enumerate(matrices, 2):
            images = (images.movedim(axis, -1) @ matrix.T.to(images)).movedim(-1, axis)
    return images


def _cosines(size: int) -> Float[Tensor, "size size"]:
    """The orthonormal cosine transform of a line, a frequency in each row."""
    places = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * (places + 0.5) * places[:, None]) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def _blurring(kernel: Float[Tensor, " odd"], size: int) -> Float[Tensor, "size size"]:
    """The convolution of a line with a kernel, zeros beyond its ends."""
    places = torch.arange(size)
    offsets = places - places[:, None] + len(kernel) // 2
    return torch.where((offsets >= 0) & (offsets < len(kernel)), kernel[offsets.clamp(0, len(kernel) - 1)], 0)


def _resized(values: Tensor, space: tuple[int, ...], mode: str) -> Tensor:
    if tuple(values.shape[2:]) == space:
        return values
    linear = mode in ("bilinear", "trilinear")
    return functional.interpolate(values, size=space, mode=mode, align_corners=False if linear else None)


def _turned(images: Float[Tensor, "n c h w"], degrees: float) -> Float[Tensor, "n c h w"]:
    """Images turned about their middle, black beyond their edges."""
    height, width = images.shape[2:]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    theta = images.new_tensor([[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]])
    grid = functional.affine_grid(
        theta[None].expand(len(images), 2, 3), list(images.shape), align_corners=False
    )
    framed = torch.cat([images, torch.ones_like(images[:, :1])], 1)
    turned = functional.grid_sample(framed, grid, align_corners=False)
    return turned[:, :-1] * turned[:, -1:]  # fades towards the edge once more, as in the authors' code


class _Shuffle(NamedTuple):
    """How one image is cut, turned and put together again."""

    axes: tuple[int, int]
    lengths: list[int]
    order: list[int]
    angles: list[float]
    cuts: list[tuple[list[int], list[int]]]  # lengths and order of the blocks of the strips in that order

    @classmethod
    def draw(cls, rng: np.random.Generator, space: Sequence[int], blocks: int, degrees: float) -> "_Shuffle":
        """Draw one for an image of that size."""
        first, second = (int(axis) for axis in rng.permutation(len(space))[:2])

        def cut(size: int) -> tuple[list[int], list[int]]:
            count = max(1, min(blocks, size // PIXELS_PER_BLOCK))
            shares = rng.uniform(1, 2, count)
            lengths = np.round(shares / shares.sum() * size).astype(int)
            lengths[lengths.argmax()] += size - lengths.sum()
            return lengths.tolist(), rng.permutation(count).tolist()

        lengths, order = cut(space[first])
        angles, cuts = [], []
        for _ in lengths:
            angles.append(float(rng.uniform(-degrees, degrees)))
            cuts.append(cut(space[second]))
        return cls((first, second), lengths, order, angles, cuts)

    def __call__(self, image: Float[Tensor, "c *space"]) -> Float[Tensor, "c *space"]:
        """The image, shuffled."""
        ends = [1 + axis for axis in sorted(self.axes)]
        first, second = (-2, -1) if self.axes[0] < self.axes[1] else (-1, -2)
        plane = image.movedim(ends, [-2, -1])
        strips = plane.reshape(1, -1, *plane.shape[-2:]).split_with_sizes(self.lengths, dim=first)
        made = []
        for place, angle, (lengths, order) in zip(self.order, self.angles, self.cuts, strict=True):
            pieces = _turned(strips[place], angle).split_with_sizes(lengths, dim=second)
            made.append(torch.cat([pieces[piece] for piece in order], second))
        return torch.cat(made, first).view(plane.shape).movedim([-2, -1], ends)

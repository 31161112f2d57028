"""Gradients with respect to the input; the network and the caller's tensors stay as they are."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, Literal, Protocol, TypeVar, cast, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from medrobust.core import UNKNOWN, Task
from medrobust.errors import MedrobustError, ModelError, reason
from medrobust.perturbations.checks import all_finite, check_logits
from medrobust.perturbations.geometry import lengths, per_image
from medrobust.perturbations.outputs import main_output

NO_WAY_BACK = (
    "The network's output does not depend on its input, or cannot be differentiated with respect to it; "
    "look for torch.no_grad, .detach, NumPy or an unused input in its forward pass."
)

Model = Callable[[Tensor], object]
"""Gives logits `n k` or `n k *space` for images `n c *space in [0, 1]`, alone or as `main_output` finds them;
usually a module."""


AModel = TypeVar("AModel", bound=Model)


@runtime_checkable
class Informed(Protocol):
    """A model of a batch, of whose images it knows more than can be seen, such as the age of the patient."""

    def of(self, places: Sequence[int]) -> Model:
        """The model for some images of the batch; for a single one it takes any number of its versions."""
        ...

    def alike(self) -> list[list[int]]:
        """Places of the images, together where the same is known of them."""
        ...


def about(model: AModel, places: Sequence[int]) -> AModel:
    """A model for some images of its batch."""
    return cast(AModel, model.of(places)) if isinstance(model, Informed) else model


@runtime_checkable
class Pullback(Protocol):
    """Turns weights of the logits into the gradient of their weighted sum with respect to the images."""

    def __call__(self, weights: Tensor, *, keep: bool = False) -> Tensor:
        """The gradient; `keep` if another call follows."""
        ...


@contextmanager
def ordinary_mode() -> Iterator[None]:
    """The mode that a perturbation runs in, whatever that of its caller.

    Inference mode, in which nothing can be differentiated, is left, and gradients are enabled; a compiled
    network runs uncompiled, since a compiled graph yields its gradient only once.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        # Without this import, which takes seconds, nothing can have been compiled.
        if "torch._dynamo" in sys.modules:
            modes.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def ordinary(tensor: Tensor) -> Tensor:
    """A tensor that takes part in no graph, and can: those of inference mode never could."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


@contextmanager
def frozen(model: object) -> Iterator[None]:
    """Put a module into evaluation mode, and its parameters out of the graph, while it is under attack.

    Dropout would make the attack chase a moving target, batch norm would learn from it, and activations would
    be kept for gradients of weights that nobody asks for. A module that `models.prepare` made ready is not
    touched.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    # Modules of torch.jit.freeze have no mode, those of torch.export refuse .eval().
    training = [module for module in modules if getattr(module, "training", False)]
    free = [
        weight
        for module in modules
        for weight in module.parameters(recurse=False)
        if weight.requires_grad and not weight.is_inference()
    ]
    for module in training:
        module.training = False
    for weight in free:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for weight in free:
            weight.requires_grad_(True)


def answer(model: Model, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *outspace"]:
    """Logits of a copy of the images, which a network may normalise in place, in the network's precision.

    Raises:
        ModelError: The network fails, or it is unclear which part of its output the logits are.
    """
    with _blamed(f"cannot be run on images of shape {tuple(images.shape)}"):
        return main_output(model(images.to(_precision(model), copy=True)))


def predict(model: Model, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *outspace"]:
    """The `answer` in the precision of the images, without a graph."""
    with torch.no_grad():
        return answer(model, images).to(images.dtype)


def linearise(
    model: Model, images: Float[Tensor, "n c *space"], *, as_is: bool = False
) -> tuple[Float[Tensor, "n k *outspace"], Pullback]:
    """One forward pass, and the way back from its output to its input.

    Images do not interact in evaluation mode, so no image's gradient depends on the others.

    Args:
        model: Network under attack.
        images: Images in [0, 1].
        as_is: Leave NaN and infinite gradients as they come, rather than make them `finite`.

    Returns:
        Logits, and a function that turns weights w of the logits' shape into sum_j w_j d logit_j / d image of
        every image. All calls but the last need `keep=True`, which keeps the graph for another one.

    Raises:
        ModelError: The network fails, or its output cannot be differentiated with respect to the input.
    """
    leaf = ordinary(images).requires_grad_(True)

    def run(mode: AbstractContextManager[object]) -> Tensor:
        with torch.enable_grad(), mode:
            return answer(model, leaf).to(images.dtype)

    logits = run(AffineNorm())
    if not logits.requires_grad:
        raise ModelError(NO_WAY_BACK)

    def pullback(weights: Tensor, *, keep: bool = False) -> Tensor:
        way = partial(
            torch.autograd.grad, inputs=leaf, grad_outputs=weights, retain_graph=keep, allow_unused=True
        )
        with _blamed("cannot be differentiated"):
            try:
                (gradient,) = way(logits)
            except CheckpointError:
                # On the way back, a checkpointed network repeats its pass with torch's own batch norm.
                (gradient,) = way(run(nullcontext()))
        if gradient is None:
            raise ModelError(NO_WAY_BACK)
        return gradient if as_is else finite(gradient)

    return logits.detach(), pullback


def finite(gradient: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
    """A gradient that attacks can use: NaN becomes 0, infinite slopes keep their sign.

    Infinite slopes become as steep as the steepest finite one of their image, because a single one, such as
    that of a root at a black pixel, must not be all that a norm sees. An image without finite slopes gets 0
    everywhere.
    """
    if all_finite(gradient):
        return gradient
    steepest = lengths(torch.where(gradient.isfinite(), gradient, 0), torch.inf)
    return gradient.nan_to_num().clamp(-steepest, steepest)


def cross_entropy_gradient(
    model: Model, images: Float[Tensor, "n c *space"], labels: Int64[Tensor, "n *labelspace"]
) -> tuple[Float[Tensor, "n k *labelspace"], Float[Tensor, "n c *space"]]:
    """Logits, and the gradient of every image's cross-entropy, summed over pixels.

    The gradient of each image has a positive factor, see `LOSSES`.
    """
    logits, pullback = linearise(model, images)
    check_logits(logits, labels)
    return logits, pullback(cross_entropy_weights(logits, labels))


def _precision(model: Model) -> torch.dtype:
    """That of all weights and buffers of a module; float32 where they differ, or where there are none."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    # One walk: those of .parameters() and .buffers() take up to 2 % of a pass through a small network.
    tensors = (chain(module._parameters.values(), module._buffers.values()) for module in modules)
    kinds = {
        each.dtype for each in chain.from_iterable(tensors) if each is not None and each.is_floating_point()
    }
    return kinds.pop() if len(kinds) == 1 else torch.float32


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Turn what a network raises into one sentence; memory that runs out is nobody's fault."""
    try:
        yield
    except (MedrobustError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ModelError(f"The network {what}: {reason(error)}.") from error


class AffineNorm(TorchFunctionMode):
    """While entered, networks compute their batch norms as `x * factor + offset`.

    torch's own gradient of a batch norm reads its input again and takes up to a third of the whole backward
    pass on a CPU; that of a product is a product. Values agree up to rounding.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        if func is functional.batch_norm:
            return affine_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def affine_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.batch_norm`, with its arguments, as a product and a sum.

    Statistics of the batch, and reduced precision, are left to torch.
    """
    if training or running_mean is None or running_var is None or input.dtype != running_mean.dtype:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    factor = (running_var + eps).rsqrt()
    if weight is not None:
        factor = factor * weight
    offset = -running_mean * factor
    if bias is not None:
        offset = offset + bias
    per_channel = (1, -1, *[1] * (input.ndim - 2))
    return torch.addcmul(offset.view(per_channel), input, factor.view(per_channel))


DenseLoss = Literal[
    "balanced_cross_entropy",
    "masked_cross_entropy",
    "masked_balanced_cross_entropy",
    "jensen_shannon",
    "dice",
]
"""Losses of label maps."""

Loss = Literal["cross_entropy", "margin", "dlr"] | DenseLoss

DLR_CLASSES = 3
"""The difference of logits ratio divides by the gap to the third largest logit."""

TARGETED_DLR_CLASSES = 4
"""That of a rival that is given divides by the gap to the mean of the third and the fourth."""


def cross_entropy_weights(
    logits: Float[Tensor, "n k *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    shares: Float[Tensor, "n *labelspace"] | None = None,
) -> Float[Tensor, "n k *labelspace"]:
    """Of the cross-entropy: the probabilities of the other classes, and for the label minus their sum.

    Each label counts by its share, at least 0 (None: all count the same); what is `UNKNOWN` counts nothing.
    The largest probability of another class in an image becomes 1.
    """
    known = known_labels(labels)
    if known is not None:
        shares = known.float() if shares is None else known * shares
        labels = labels.clamp_min(0)
    logs = logits.log_softmax(1)
    if shares is not None:
        logs = logs + shares.log()[:, None]
    logs = logs.scatter(1, labels[:, None], -torch.inf)
    # Where no label counts, all are -inf, and so all weights 0.
    largest = logs.flatten(1).amax(1).clamp_min(torch.finfo(logs.dtype).min)
    others = (logs - per_image(largest, logs)).exp()
    return others.scatter(1, labels[:, None], -others.sum(1, keepdim=True))


def margin_weights(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n k *labelspace"]:
    """Of the `margin`: 1 for the largest wrong logit, the first of equal ones, and -1 for the label's."""
    known = known_labels(labels)
    if known is not None:
        return margin_weights(logits, labels.clamp_min(0)) * known[:, None]
    return one_hot(_rivals(logits, labels), logits) - one_hot(labels, logits)


def dlr_weights(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n k *labelspace"]:
    """Of the margin divided by the gap between the largest and the third largest logit: the scale cancels.

    A gap is at least what float32 resolves in logits as large as these three.

    Raises:
        ValueError: There are fewer than three classes.

    Source: Croce, Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks".
    """
    if logits.shape[1] < DLR_CLASSES:
        raise ValueError(
            f"loss: 'dlr' needs at least {DLR_CLASSES} classes, the network has {logits.shape[1]}; use "
            "'margin'."
        )
    known = known_labels(labels)
    if known is not None:
        return dlr_weights(logits, labels.clamp_min(0)) * known[:, None]
    return _ratio_weights(logits, labels, _rivals(logits, labels), DLR_CLASSES)


def targeted_weights(
    logits: Float[Tensor, "n k *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    targets: Int64[Tensor, "n *labelspace"],
) -> Float[Tensor, "n k *labelspace"]:
    """Of the target's logit minus the label's, divided by a gap in which the scale cancels.

    The gap is that between the largest logit and the mean of the third and the fourth. Where there are fewer
    than four classes, nothing is divided.
    """
    known = known_labels(labels)
    if known is not None:
        return targeted_weights(logits, labels.clamp_min(0), targets) * known[:, None]
    if logits.shape[1] < TARGETED_DLR_CLASSES:
        return one_hot(targets, logits) - one_hot(labels, logits)
    return _ratio_weights(logits, labels, targets, TARGETED_DLR_CLASSES)


def _ratio_weights(
    logits: Float[Tensor, "n k *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    rivals: Int64[Tensor, "n *labelspace"],
    count: int,
) -> Float[Tensor, "n k *labelspace"]:
    """Of the rival's logit minus the label's, divided by the gap between the first `count` logits."""
    ranked = logits.topk(count, dim=1).indices
    ends = ranked[:, DLR_CLASSES - 1 :]
    spread = one_hot(ranked[:, 0], logits)
    spread.scatter_add_(1, ends, torch.full_like(logits[:, : ends.shape[1]], -1 / ends.shape[1]))
    gaps = _gaps(logits, count)
    weights = one_hot(rivals, logits) - one_hot(labels, logits)
    weights = weights - _rise(logits, labels, rivals)[:, None] / gaps * spread
    return weights * (per_image(gaps.flatten(1).amin(1), gaps) / gaps)


def _gaps(logits: Float[Tensor, "n k *labelspace"], count: int) -> Float[Tensor, "n 1 *labelspace"]:
    """The largest logit minus the mean of the third to the last of the first `count`."""
    largest = logits.topk(count, dim=1).values
    kinds = torch.finfo(logits.dtype)
    resolved = kinds.eps * largest.abs().amax(1, keepdim=True)
    low = largest[:, DLR_CLASSES - 1 :].mean(1, keepdim=True)
    return (largest[:, :1] - low + resolved).clamp_min(kinds.tiny)


def check_loss(loss: str, task: Task) -> str | None:
    """Why a loss is none of that task, in a sentence for `Perturbation.check`; None where it is."""
    if loss in get_args(DenseLoss) and not task.has_maps:
        return f"loss: {loss!r} is for label maps; use 'cross_entropy' or 'margin'."
    return None


def known_labels(labels: Int64[Tensor, "n *labelspace"]) -> Bool[Tensor, "n *labelspace"] | None:
    """Which labels are not `UNKNOWN`; None where all are known."""
    known = labels != UNKNOWN
    return None if bool(known.all()) else known


def fraction_wrong(
    predictions: Int64[Tensor, "n *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float64[Tensor, " n"]:
    """Fraction of the known labels of each image that are predicted wrong; NaN where none is known."""
    known = (labels != UNKNOWN).reshape(len(labels), -1)
    wrong = (predictions != labels).reshape(len(labels), -1) & known
    return wrong.sum(1).double() / known.sum(1)


def balanced_weights(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> Float[Tensor, "n k *space"]:
    """Of the cross-entropy in which all classes of an image count the same, however many pixels they have."""
    return cross_entropy_weights(logits, labels, _share_of_class(logits, labels))


def masked_weights(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> Float[Tensor, "n k *space"]:
    """Of the cross-entropy of those pixels that are still right.

    Source: Croce, Singh, Hein 2024, "Towards reliable evaluation and fast training of robust semantic
    segmentation models"; so are `masked_balanced_weights` and `jensen_shannon_weights`.
    """
    return cross_entropy_weights(logits, labels, (logits.max(1).indices == labels).to(logits))


def masked_balanced_weights(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> Float[Tensor, "n k *space"]:
    """Of the cross-entropy of those pixels that are still right, all classes of an image alike."""
    shares = (logits.max(1).indices == labels) * _share_of_class(logits, labels)
    return cross_entropy_weights(logits, labels, shares)


def jensen_shannon_weights(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> Float[Tensor, "n k *space"]:
    """Of the Jensen-Shannon divergence of the probabilities p and the label.

    It depends on the label's probability p alone, and its gradient is that of the cross-entropy times half of
    p log(1 + 1/p): pixels that are sure, and wrong, weigh little.
    """
    logs = logits.log_softmax(1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return cross_entropy_weights(logits, labels, _largest_one(logs + functional.softplus(-logs).log()))


def cosine_weights(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> Float[Tensor, "n k *space"]:
    """Of the cross-entropy of pixels that count by the cosine of their probabilities and their label."""
    logs = logits.log_softmax(1)
    cosines = logs.gather(1, labels.clamp_min(0)[:, None])[:, 0] - (2 * logs).logsumexp(1) / 2
    return cross_entropy_weights(logits, labels, _largest_one(cosines))


def dice_weights(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> Float[Tensor, "n k *space"]:
    """Of minus the mean Dice of probabilities, over the structures (classes but 0) that an image has.

    Of an image without any, that of the background. The largest probability of a class that is not shown
    becomes 1 in each image.
    """
    both, sizes, true, counted = _overlaps(logits, labels)
    # Of each class: what its probability at a pixel takes from its Dice, or adds to it where it is true.
    slopes = torch.where(counted, both / sizes**2, 0) - torch.where(counted, true / sizes, 0)
    slopes = slopes * (labels != UNKNOWN)[:, None]
    logs = logits.log_softmax(1)
    shown = logs.max(1, keepdim=True).indices
    slopes = slopes - slopes.gather(1, shown)
    others = logs.scatter(1, shown, -torch.inf)
    scale = per_image(others.flatten(1).amax(1), logs)
    scaled = (others - scale).exp()
    mean = (scaled * slopes).sum(1, keepdim=True)
    weights = scaled * (slopes - mean * scale.exp())
    return weights.scatter(1, shown, -logs.gather(1, shown).exp() * mean)


def _overlaps(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What Dice is made of, by image and class, of probabilities.

    Returns:
        The overlap with the truth, both sizes together, where the class is true, and whether it counts.
    """
    known = (labels != UNKNOWN)[:, None]
    chances = logits.softmax(1) * known
    true = one_hot(labels.clamp_min(0), logits) * known
    axes = tuple(range(2, logits.ndim))
    present = true.sum(axes, keepdim=True)
    counted = present > 0
    background = torch.zeros_like(counted)
    background[:, 0] = True
    structures = counted & ~background
    counted = torch.where(structures.any(1, keepdim=True), structures, counted)
    return (chances * true).sum(axes, keepdim=True), chances.sum(axes, keepdim=True) + present, true, counted


def _share_of_class(
    logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
) -> Float[Tensor, "n *space"]:
    """Of each pixel, one by the number of pixels of its class in the image."""
    k, flat = logits.shape[1], labels.flatten(1)
    image = k * torch.arange(len(labels), device=labels.device)[:, None]
    counts = torch.bincount((image + flat)[flat != UNKNOWN], minlength=k * len(labels)).clamp_min(1)
    return (1 / counts.to(logits)[image + flat.clamp_min(0)]).view_as(labels)


def _largest_one(logs: Float[Tensor, "n *space"]) -> Float[Tensor, "n *space"]:
    """Shares with these logarithms, up to a factor of each image that makes the largest one 1."""
    return (logs - per_image(logs.flatten(1).amax(1), logs)).exp()


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy_weights,
    "margin": margin_weights,
    "dlr": dlr_weights,
    "balanced_cross_entropy": balanced_weights,
    "masked_cross_entropy": masked_weights,
    "masked_balanced_cross_entropy": masked_balanced_weights,
    "jensen_shannon": jensen_shannon_weights,
    "dice": dice_weights,
}
"""Gradient of each loss, summed over the labels of an image, with respect to the logits.

Logits are finite. The gradient of each image has a positive factor, so that it neither vanishes nor overflows
whatever the size of the logits.
"""


def loss_of_each(
    loss: Loss,
    logits: Float[Tensor, "n k *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
) -> Float[Tensor, " n"]:
    """A number for each image that is the larger, the larger its loss is; other images have other units.

    A cross-entropy that is 0 in float32 still falls: of a single label, the logarithm of the others' total
    odds is returned. That of pixels still right, and the Jensen-Shannon divergence, would fall as pixels go
    wrong or forget those that did, so for these it is the cross-entropy of all.
    """
    if loss == "dice":
        both, sizes, _, counted = _overlaps(logits, labels)
        return -(torch.where(counted, both / sizes, 0).sum(1) / counted.sum(1).clamp_min(1)).flatten()
    known, truth = labels != UNKNOWN, labels.clamp_min(0)
    if loss in ("margin", "dlr"):
        values = margin(logits, truth)
        if loss == "dlr":
            values = values / _gaps(logits, DLR_CLASSES)[:, 0]
    else:
        others = logits.scatter(1, truth[:, None], -torch.inf).logsumexp(1)
        values = others - logits.gather(1, truth[:, None])[:, 0]
        if labels.ndim == 1:
            return values
        values = functional.softplus(values)
        if loss in ("balanced_cross_entropy", "masked_balanced_cross_entropy"):
            values = values * _share_of_class(logits, labels)
    return torch.where(known, values, 0).reshape(len(labels), -1).sum(1)


def targeted_loss_of_each(
    logits: Float[Tensor, "n k *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    targets: Int64[Tensor, "n *labelspace"],
) -> Float[Tensor, " n"]:
    """That of `targeted_weights`."""
    values = _rise(logits, labels.clamp_min(0), targets)
    if logits.shape[1] >= TARGETED_DLR_CLASSES:
        values = values / _gaps(logits, TARGETED_DLR_CLASSES)[:, 0]
    return torch.where(labels != UNKNOWN, values, 0).reshape(len(labels), -1).sum(1)


def log_size(
    loss: Loss, logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, " n"]:
    """Logarithm of the factor that the gradient in `LOSSES` lacks: of the cross-entropy; else 0."""
    if loss != "cross_entropy":
        return logits.new_zeros(len(logits))
    known = labels != UNKNOWN
    logs = logits.log_softmax(1).scatter(1, labels.clamp_min(0)[:, None], -torch.inf)
    largest = torch.where(known[:, None], logs, -torch.inf).flatten(1).amax(1)
    return largest.clamp_min(torch.finfo(logs.dtype).min)


def margin(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, "n *labelspace"]:
    """Largest wrong logit minus the right one; above 0 where the prediction is wrong. Labels are known.

    Source: Carlini, Wagner 2017, "Towards evaluating the robustness of neural networks".
    """
    return _rise(logits, labels, _rivals(logits, labels))


def _rise(
    logits: Float[Tensor, "n k *labelspace"],
    labels: Int64[Tensor, "n *labelspace"],
    rivals: Int64[Tensor, "n *labelspace"],
) -> Float[Tensor, "n *labelspace"]:
    """The logit of each rival minus that of the label."""
    values = logits.gather(1, torch.stack([rivals, labels], 1))
    return values[:, 0] - values[:, 1]


def one_hot(
    classes: Int64[Tensor, "n *labelspace"], logits: Float[Tensor, "n k *labelspace"]
) -> Float[Tensor, "n k *labelspace"]:
    """1 at each class, 0 elsewhere, in the shape of the logits: the weights that single out a logit."""
    return torch.zeros_like(logits).scatter_(1, classes[:, None], 1)


def _rivals(
    logits: Float[Tensor, "n k *labelspace"], labels: Int64[Tensor, "n *labelspace"]
) -> Int64[Tensor, "n *labelspace"]:
    """The class of the largest wrong logit."""
    return logits.scatter(1, labels[:, None], -torch.inf).max(1).indices

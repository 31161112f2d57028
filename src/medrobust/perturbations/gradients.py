"""Gradients with respect to the input; the network and the caller's tensors leave as they came."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from medrobust.errors import MedrobustError, ModelError, reason
from medrobust.outputs import main_output
from medrobust.perturbations.affine_norm import AffineNorm
from medrobust.perturbations.checks import all_finite, check_logits
from medrobust.perturbations.losses import cross_entropy_weights
from medrobust.perturbations.norms import lengths

NO_WAY_BACK = (
    "The network's output does not depend on its input, or cannot be differentiated with respect to it; look "
    "for torch.no_grad, .detach, NumPy, and an input that is left out, in its forward."
)

Model = Callable[[Tensor], object]
"""Gives logits `n k` or `n k *space` for images `n c *space in [0, 1]`, alone or as `main_output` finds them;
usually a module."""


@runtime_checkable
class Pullback(Protocol):
    """Turns weights of the logits into the gradient of their weighted sum with respect to the images."""

    def __call__(self, weights: Tensor, *, keep: bool = False) -> Tensor:
        """The gradient; `keep` if another call follows."""
        ...


@contextmanager
def ordinary_mode() -> Iterator[None]:
    """What a perturbation runs in, whatever mode its caller is in; as a rule its decorator.

    Inference mode is left, in which nothing can be differentiated; graphs are built by `linearise` alone;
    and what `torch.compile` made runs as it was written, since compiled graphs give one gradient each.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.no_grad())
        # Nothing is compiled where this was never imported, which takes seconds.
        if "torch._dynamo" in sys.modules:
            modes.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def frozen(model: Model) -> Iterator[None]:
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
    """Logits of a copy of the images, which a network may normalise in place.

    All is in the precision of the network's weights.

    Raises:
        ModelError: The network fails, or there is no telling which part of its output the logits are.
    """
    with _blamed(f"cannot be run on images of shape {tuple(images.shape)}"):
        return main_output(model(images.to(_precision(model), copy=True)))


def predict(model: Model, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n k *outspace"]:
    """The `answer` in float32, without a graph."""
    with torch.no_grad():
        return answer(model, images).float()


def linearise(
    model: Model, images: Float[Tensor, "n c *space"]
) -> tuple[Float[Tensor, "n k *outspace"], Pullback]:
    """One forward pass, and the way back from its output to its input.

    Returns:
        Logits, and a function that gives sum_j w_j d logit_j / d image of every image, made `finite`, for
        weights w of the logits' shape. Images do not interact in evaluation mode, so no image's gradient
        depends on the others. Only the last call may go without `keep=True`, which keeps the graph for
        another one.

    Raises:
        ModelError: The network fails, or its output does not depend on the input in a way that can be
            differentiated.
    """
    logits, pullback = differentiate(model, images)

    def finite_pullback(weights: Tensor, *, keep: bool = False) -> Tensor:
        return finite(pullback(weights, keep=keep))

    return logits, finite_pullback


def differentiate(
    model: Model, images: Float[Tensor, "n c *space"]
) -> tuple[Float[Tensor, "n k *outspace"], Pullback]:
    """What `linearise` gives, with gradients as they come: NaN and infinite ones too."""
    leaf = (images.clone() if images.is_inference() else images.detach()).requires_grad_(True)

    def run(mode: AbstractContextManager[object]) -> Tensor:
        with torch.enable_grad(), mode:
            return answer(model, leaf).float()

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
                # Batch norm of torch's own is what a network computes again on the way back.
                (gradient,) = way(run(nullcontext()))
        if gradient is None:
            raise ModelError(NO_WAY_BACK)
        return gradient

    return logits.detach(), pullback


def finite(gradient: Float[Tensor, "n c *space"]) -> Float[Tensor, "n c *space"]:
    """A gradient that attacks can use: NaN says nothing and becomes 0, infinite slopes keep their sign.

    They become as steep as the steepest finite one of their image: a single one, such as that of a root at a
    black pixel, must not be all that a norm sees. An image without any other than these gets 0.
    """
    if all_finite(gradient):
        return gradient
    steepest = lengths(torch.where(gradient.isfinite(), gradient, 0), torch.inf)
    return gradient.nan_to_num().clamp(-steepest, steepest)


def cross_entropy_gradient(
    model: Model, images: Float[Tensor, "n c *space"], labels: Int64[Tensor, "n *labelspace"]
) -> tuple[Float[Tensor, "n k *labelspace"], Float[Tensor, "n c *space"]]:
    """Logits, and the direction of the gradient of every image's cross-entropy, summed over pixels.

    It is the gradient but for a positive factor for each image, see `losses`.

    Raises:
        ModelError: The network's output cannot be attacked.
        ValueError: A label that the network has no class for.
    """
    logits, pullback = linearise(model, images)
    check_logits(logits, labels)
    return logits, pullback(cross_entropy_weights(logits, labels))


def _precision(model: Model) -> torch.dtype:
    """That of all weights and buffers of a module; float32 where they differ, or where there are none."""
    tensors = chain(model.parameters(), model.buffers()) if isinstance(model, nn.Module) else ()
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
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

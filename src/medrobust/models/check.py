"""Whether a network does what a study needs, checked before anything is trained or attacked."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from inspect import Parameter, signature

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medrobust.core import Task
from medrobust.errors import ModelError, reason, unknown
from medrobust.models.build import build
from medrobust.models.network import Network
from medrobust.models.spec import model_spec
from medrobust.models.weights import is_plain
from medrobust.perturbations.outputs import SAME, depends_on_batch, relative_difference

IMAGES = 3
"""An odd number, so that layers that take pairs are noticed."""

TRIED = [(3, (64, 64)), (1, (64, 64)), (3, (32, 32)), (3, (224, 224)), (1, (32, 32, 32))]
"""Channels and sizes of images that a network of unknown purpose is tried on."""

LARGER = (3.0, 1e3, 1e6)
"""Factors by which weights are multiplied to see whether outputs stay in [0, 1], as only probabilities do: a
small one for deep networks, which soon overflow, and a large one for those that normalise."""

ALIKE = 0.9999
"""Correlation of two networks' answers above which they are one network, perhaps in another precision."""


def check_network(
    network: Network,
    name: str,
    *,
    task: Task,
    classes: int,
    images: Float[Tensor, "n c *space"],
    attackable: bool = True,
) -> None:
    """Check that a network returns logits of the right shape, differentiable, for each image its own.

    It is shown made-up images of the real size, together, again, and one by one, and then the real ones. Its
    weights, buffers and mode stay as they are, and so do the global generators.

    Args:
        network: In evaluation mode, in the layout and on the device that it will be used in.
        name: What the study calls it, for messages.
        task: The study's task.
        classes: Number of classes, or findings, of the data.
        images: A few images of the study, in [0, 1], on the network's device.
        attackable: Whether attacks will follow its gradient.

    Raises:
        ModelError: It fails; returns no logits, probabilities, another number of classes, maps for
            classification or none for segmentation, or values that are not finite; has no gradient with
            respect to the image where it needs one; returns other logits for an image in a second pass or
            beside other images; or changes its weights or buffers.
    """
    made_up = made_up_images(IMAGES, images.shape[1], tuple(images.shape[2:])).to(images.device)
    try:
        with kept_generators(images.device), _kept_state(network), _stirred(network):
            _check_logits(network, made_up, task, classes)
            if attackable:
                _check_gradient(network, made_up.clone().requires_grad_())
            _check_passes(network, made_up)
            _check_real(network, images, made_up)
    except ModelError as error:
        raise ModelError(f"models.{name}: {error}") from error.__cause__


def has_gradient(network: Network, channels: int, shape: tuple[int, ...]) -> bool:
    """Whether the logits of a network have a gradient with respect to the image that is not zero everywhere.

    Rounded images, for one, have only zeros. A network that fails without a gradient too counts as having
    one: `check_network` says why it fails.
    """
    images = made_up_images(IMAGES, channels, shape).to(network.device).requires_grad_()
    with kept_generators(images.device), _stirred(network), torch.enable_grad():
        try:
            logits = network(images)
        except Exception:  # whatever a user's network raises, such as NumPy for images with a gradient
            with torch.no_grad():
                return not _is_taken(network, images.detach())
        if not logits.requires_grad:
            return False
        weights = torch.linspace(1, 2, logits.numel(), device=logits.device).view_as(logits)
        try:
            (gradient,) = torch.autograd.grad((weights * logits).sum(), images, allow_unused=True)
        except RuntimeError:  # an operation without a derivative
            return False
    return gradient is not None and bool(gradient.any())


def _is_taken(network: Network, images: Tensor) -> bool:
    try:
        network(images)
    except Exception:  # whatever a user's network raises
        return False
    return True


def have_same_features(first: Network, second: Network, images: Float[Tensor, "n c *space"]) -> bool:
    """Whether two networks have the same learned features, as those with another last layer do.

    Features that do not hang on any weight, such as mean colours, are nobody's.
    """
    with torch.no_grad(), kept_generators(images.device):
        try:
            features = [network.features(images) for network in (first, second)]
            with _changed(first, lambda weight: weight.flatten().flip(0).view_as(weight)):
                without = first.features(images)
        except ModelError:  # a network without any
            return False
    return say_the_same(*features) and not say_the_same(features[0], without)


def say_the_same(first: Float[Tensor, "n k *maps"], second: Float[Tensor, "n l *others"]) -> bool:
    """Whether two networks answer alike, by their logits or features of the same images.

    An offset of each class or feature, or a factor, does not count: neither changes what an attacker learns.
    """
    if first.shape != second.shape:
        return False
    columns = (each.double().transpose(0, 1).flatten(1) for each in (first, second))
    one, other = (each - each.mean(1, keepdim=True) for each in columns)
    size = float(one.norm() * other.norm())
    return size > 0 and float((one * other).sum()) / size > ALIKE


def check_builder(load: str) -> tuple[str, ...]:
    """What is wrong with a function that makes a network, where the study is not known yet.

    Args:
        load: `package.module:function`, as in a study.

    Returns:
        A message; none if its networks can be judged and attacked.

    Raises:
        StudyError: It cannot be imported.
    """
    spec, wrong = model_spec({"name": "network", "load": load}, Task.CLASSIFICATION), ""
    for channels, shape in TRIED:
        try:
            network, other = (build(spec, classes=3, channels=channels, shape=shape) for _ in range(2))
            images = made_up_images(IMAGES, channels, shape)
            with torch.no_grad(), _telling_why(images):
                logits = network.raw(images)
        except ModelError as error:
            wrong = wrong or str(error)  # it may be made for other images
            continue
        if {*map(id, network.parameters())} & {*map(id, other.parameters())}:
            return ("It returns the same weights in every call. Let it make a new network each time.",)
        task = Task.CLASSIFICATION if logits.ndim == 2 else Task.SEGMENTATION
        try:
            check_network(network, "network", task=task, classes=logits.shape[1], images=images)
        except ModelError as error:
            wrong = str(error)
            break
        return ()
    return (wrong.removeprefix("models.network: ").removeprefix("models.network."),)


def made_up_images(count: int, channels: int, shape: tuple[int, ...]) -> Tensor:
    """Noise of different brightness, which shows where images of a batch are mixed."""
    noise = torch.rand((count, channels, *shape), generator=torch.Generator().manual_seed(0))
    return noise * torch.linspace(0.4, 1, count).view(-1, *[1] * (noise.ndim - 1))


def kept_generators(device: torch.device) -> AbstractContextManager[None]:
    """Leave torch's global generators as they are found."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def _kept_state(network: Network) -> Iterator[None]:
    """Restore weights and buffers, and refuse a network that changes them in evaluation mode."""
    body, changed = network.body, []

    def state() -> dict[str, Tensor]:
        every = {**dict(body.named_parameters()), **dict(body.named_buffers())}
        return {name: tensor for name, tensor in every.items() if is_plain(tensor)}

    before = {name: value.detach().clone() for name, value in state().items()}
    try:
        yield
    finally:
        for name, value in state().items():
            former = before.get(name)
            # What changes its shape is a cache.
            if former is None or value.shape != former.shape:
                continue
            if ((value != former) & ~value.isnan()).any():
                changed.append(name)
                value.data.copy_(former)
    if changed:
        raise ModelError(
            f"It changes its {', '.join(changed[:3])} in evaluation mode, so it is a different "
            "network after every batch. Let it change weights and buffers in training mode only."
        )


@contextmanager
def _stirred(network: Network) -> Iterator[None]:
    """Replace weights that are all zero, for a while.

    A last layer, or the end of a residual branch, that starts at zero hides all that goes on before it.
    """
    stirred = [weight for weight in _weights(network) if not weight.any()]
    with torch.no_grad():
        for weight in stirred:
            weight.normal_(0, 0.1)
        try:
            yield
        finally:
            for weight in stirred:
                weight.zero_()


@contextmanager
def _telling_why(images: Tensor) -> Iterator[None]:
    """Turn whatever a network raises into the message that it cannot take these images."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        batch = "a single image" if len(images) == 1 else f"{len(images)} images"
        channels = "1 channel" if images.shape[1] == 1 else f"{images.shape[1]} channels"
        raise ModelError(
            f"It cannot take {batch} with {channels} and size {tuple(images.shape[2:])}: {reason(error)}. "
            "Batches hold one image or any number of them. A network for images of another size needs "
            "`input: {size: ...}`, one for sides that are multiples of a number `{pad: ...}`, and one for "
            "other channels `{channels: ...}`, or images.mean(1, keepdim=True) before it where it takes grey "
            "ones only."
        ) from error


def _check_logits(network: Network, images: Tensor, task: Task, classes: int) -> None:
    """Check that a batch yields finite logits for the task."""
    _require_inputs(network)
    with torch.no_grad(), _telling_why(images):
        output, logits = network.returned(images), network.raw(images)
    if not output.is_floating_point() and network.output.kind != "decisions":
        raise ModelError(
            f"It returns whole numbers ({output.dtype}), such as the classes that it decides for, but scores "
            "and attacks need its logits. Return the input of the last argmax, or, where nothing else is to "
            "be had, write `output: {kind: decisions}`."
        )
    axes = images.ndim if task.has_maps else 2
    if network.output.kind == "regions":
        if not task.has_maps:
            raise ModelError(f"output.kind: regions are of segmentation, and the task is {task}.")
        _check_values(logits, output, axes, 0 if network.members is None else len(network.members), "regions")
    else:
        _check_values(logits, output, axes, classes)


def _require_inputs(network: Network) -> None:
    """Refuse a forward pass that takes other inputs than the image and what `input.further` says."""
    try:
        given = list(signature(network.body.forward).parameters.values())[1:]
    except (TypeError, ValueError):  # of compiled code
        return
    further, variable = network.input.further or {}, (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    names = [each.name for each in given if each.kind not in variable]
    missing = [
        each.name
        for each in given
        if each.default is each.empty and each.kind not in variable and each.name not in further
    ]
    if missing:
        names_of, said = (", ".join(map(form.format, missing)) for form in ("`{}`", "{}: [...]"))
        raise ModelError(
            f"It takes {names_of} besides the image. Say it in `input: {{further: {{{said}}}}}`: numbers, or "
            "what the data know of a case, such as {of: age}. Or name a function in `load` that puts it into "
            "a module whose forward pass takes the image alone."
        )
    if not any(each.kind is Parameter.VAR_KEYWORD for each in given):
        for name in further.keys() - {*names}:
            raise ModelError(f"input.further: {unknown('argument', name, names)}")


def _check_gradient(network: Network, images: Tensor) -> None:
    with torch.enable_grad(), _telling_why(images):
        logits = network(images)
        if logits.grad_fn is None:
            raise ModelError(NO_GRADIENT)
        (gradient,) = torch.autograd.grad(logits.sum(), images, allow_unused=True)
        if gradient is None:
            raise ModelError(NO_GRADIENT)


NO_GRADIENT = (
    "It has no gradient with respect to the image, so it cannot be attacked directly. Remove no_grad, "
    "inference_mode, detach, NumPy, argmax and the like from its forward pass, or write `attackable: false`: "
    "it is then judged on attacks on other networks."
)


def _check_real(network: Network, images: Tensor, made_up: Tensor) -> None:
    """Check that real images have finite logits, which are no probabilities.

    Probabilities stay in [0, 1] whatever made them; logits leave it, at the latest with larger weights.
    """
    every = (images, made_up)
    with torch.no_grad(), _telling_why(images):
        seen = torch.cat([network.raw(some) for some in every])
        if not seen.isfinite().all():
            raise ModelError(f"It returns non-finite values for images of the study. {LOOK_FOR_NAN}")
        if network.output.kind not in (None, "regions") or not _are_fractions(seen):
            return
        for factor in LARGER if any(True for _ in network.parameters()) else ():
            with _changed(network, partial(torch.mul, other=factor)):
                larger = torch.cat([network.raw(some) for some in every])
            if larger.isnan().any():
                break
            if not _are_fractions(larger):
                return
    raise ModelError(
        f"It returns probabilities: all values lie in [0, 1], from {float(seen.min()):.3g} to "
        f"{float(seen.max()):.3g}. Attacks need logits: return the input of the last activation, or write "
        "`output: {kind: probabilities}`, which takes logarithms, or `{kind: logits}` if this is wrong."
    )


def _are_fractions(values: Tensor) -> bool:
    return bool((values >= 0).all() and (values <= 1).all())


@contextmanager
def _changed(network: Network, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change all weights, for a while."""
    weights = _weights(network)
    kept = [weight.clone() for weight in weights]
    try:
        for weight in weights:
            weight.copy_(change(weight))
        yield
    finally:
        for weight, value in zip(weights, kept, strict=True):
            weight.copy_(value)


def _check_values(logits: Tensor, output: Tensor, axes: int, classes: int, what: str = "classes") -> None:
    """Check that logits, one for each class or region, have the right shape and are finite."""
    if logits.ndim != axes:
        expected = "(n, classes)" + (" and the image's size" if axes > 2 else "")
        raise ModelError(
            f"It must return logits of shape {expected}, got {tuple(output.shape)} for {IMAGES} images."
        )
    if logits.shape[1] != classes and not (logits.shape[1] == 1 and classes == 2 and what == "classes"):
        returned = f"{logits.shape[1]} {what}"
        if logits.shape[1] == 1 and what == "classes":
            returned = "one output, as for two classes or in regression (which is not judged)"
        raise ModelError(
            f"It returns {returned}, but the data have {classes} {what}. "
            f"Use a network for these {what}, or, if it returns several things, say in output.take which are "
            "the logits."
        )
    if not logits.isfinite().all():
        raise ModelError(f"It returns non-finite values for made-up images in [0, 1]. {LOOK_FOR_NAN}")


LOOK_FOR_NAN = (
    "Look for NaN in its weights, and for a division, root or logarithm at 0, an overflow, or a class masked "
    "with -inf (-1e4 does the same) in its forward pass."
)


def _check_passes(network: Network, images: Tensor) -> None:
    """Check that an image's logits are the same in every pass and in any company.

    TF32 would round batches of different sizes differently.
    """
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        with _telling_why(images):
            first, second = (network(images.clone()) for _ in range(2))
        with _telling_why(images[:1]):
            network(images[:1].clone())
        with _telling_why(images):
            mixed = depends_on_batch(network, images)
    difference = relative_difference(first, second)
    if difference > SAME:
        raise ModelError(
            f"It returns different logits for the same images (they differ by {100 * difference:.3g} % of "
            "the largest): something in it is random in evaluation mode too, such as dropout with "
            "training=True, added noise or a random crop. Scores would depend on chance and on the size of "
            "batches. Remove the randomness from evaluation mode."
        )
    if mixed > 0:
        raise ModelError(
            "It returns different logits for an image alone and in a batch (they differ by "
            f"{100 * mixed:.3g} % of the largest): something in it mixes the images of a batch, such as "
            "batch norm without running statistics (track_running_stats=False), a normalisation or attention "
            "along the batch axis, or dynamic quantisation. Scores would depend on the size of batches. "
            "Process each image independently in evaluation mode, if need be one after the other: "
            "torch.cat([network(image) for image in images.split(1)])."
        )


def _weights(network: Network) -> list[nn.Parameter]:
    """Parameters with values to change: quantised ones, and the integers of a Keras dropout, have none."""
    return [each for each in network.parameters() if is_plain(each) and each.is_floating_point()]

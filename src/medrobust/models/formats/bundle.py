"""MONAI bundles: the network, preprocessing and inferer that configs/inference.json or .yaml describes.

A configuration may hold expressions, which are Python, and name any class there is. Here it is data: its
references are followed, nothing is evaluated, and only networks of MONAI and torch are made.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from medrobust.errors import ModelError
from medrobust.models.formats.loaded import Loaded, Turned, library
from medrobust.models.network import Network
from medrobust.models.weights import load_weights

_OF_LIBRARIES = ("monai.", "torch.nn.")

_OF_DATA = (
    "LoadImage",
    "EnsureChannelFirst",
    "EnsureType",
    "ToTensor",
    "CastToType",
    "ToDevice",
    "Identity",
    "SelectItems",
)
"""Transforms that do what medrobust's data do anyway."""

_UNSAID_MODE = "constant"
"""How MONAI blends windows where nothing is said."""


def read(path: Path, *, checkpoint: str = "models/model.pt", axes: str = "SPL") -> Loaded:
    """The network of a bundle.

    Args:
        path: The bundle's folder.
        checkpoint: Name of the file in it that holds the state dict.
        axes: Where the axes of the study's volumes grow to, e.g. RAS; those of medrobust's own data are
            stacks of axial slices. Volumes are turned to where the bundle wants them to grow.

    Raises:
        ModelError: It is described by code, is of a library other than MONAI, or is used as no study can say.
    """
    bundle = library("monai.bundle", "monai")
    config = bundle.ConfigParser()
    config.read_config(_configuration(path))
    described = _resolved(config, "@network_def")
    _refuse_other_code(described)
    network = bundle.ConfigParser({"network_def": described}).get_parsed_content("network_def")
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"its network_def makes a {type(network).__name__}, but a torch.nn.Module is needed."
        )
    load_weights(Network(network), path / checkpoint)
    declared, output, assumed = _metadata(path)
    for said, sentence in _preprocessing(config):
        declared |= said
        assumed.append(sentence)
    if "normalise" in declared:  # which undoes what was scaled before
        declared = {key: value for key, value in declared.items() if key not in ("scale", "mean", "std")}
    for said, sentence in _inferer(config):
        declared |= said
        assumed.append(sentence)
    body, turn = network.eval(), declared.pop("axes", axes)
    if turn != axes:
        body = Turned(body, axes, turn)
        if isinstance(declared.get("size"), list):
            declared["size"] = [declared["size"][axis] for axis in body.order]
        if "window" in declared:
            declared["window"] |= body.window(declared["window"]["size"])
    return Loaded(body, input=declared, output=output, assumed=tuple(assumed))


def files(path: Path) -> list[Path]:
    """Its configurations and weights."""
    return [*path.glob("configs/inference.*"), *path.glob("configs/metadata.json"), *path.glob("models/*.pt")]


def _configuration(path: Path) -> Path:
    return sorted(path.glob("configs/inference.*"))[0]


def _resolved(config: Any, value: Any) -> Any:
    """A part of a configuration with its references followed.

    Raises:
        ModelError: There is an expression in it, which only running code could evaluate.
    """
    if isinstance(value, Mapping):
        return {key: _resolved(config, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(config, each) for each in value]
    if (
        isinstance(value, str)
        and value.startswith(("@", "$@"))
        and value.strip("$@").replace("#", "").isidentifier()
    ):
        return _resolved(config, config[value.lstrip("$@")])
    if isinstance(value, str) and value.startswith("$"):
        raise ModelError(
            f"its configuration holds the expression '{value}', which is code. Write its value into the "
            "configuration, or name a function that makes the network in `load`."
        )
    return value


def _refuse_other_code(described: Any) -> None:
    """See that a resolved part names classes of MONAI and torch only."""
    for each in described.values() if isinstance(described, Mapping) else described:
        if isinstance(each, Mapping | list):
            _refuse_other_code(each)
    target = described.get("_target_") if isinstance(described, Mapping) else None
    if target is not None and "." in target and not target.startswith(_OF_LIBRARIES):
        raise ModelError(
            f"its network is '{target}', which is no part of MONAI. Name a function that makes it in `load`."
        )


def _metadata(path: Path) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Channels and class names of metadata.json."""
    file = path / "configs" / "metadata.json"
    if not file.is_file():
        return {}, {}, []
    form = json.loads(file.read_text()).get("network_data_format", {})
    given, made = (dict(next(iter(form.get(key, {}).values()), {})) for key in ("inputs", "outputs"))
    declared = {"channels": given["num_channels"]} if "num_channels" in given else {}
    names = made.get("channel_def", {})
    output = {"classes": [names[number] for number in sorted(names, key=int)]} if names else {}
    return declared, output, ["Channels and the names of classes are those of its metadata.json."]


def _preprocessing(config: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Each transform that changes images, as keys of `input`, and what is assumed of it."""
    transforms = config.get("preprocessing", {}).get("transforms", []) if "preprocessing" in config else []
    for transform in transforms:
        name = str(transform.get("_target_", "")).rpartition(".")[2].removesuffix("d").removesuffix("Dict")
        if name in _OF_DATA:
            continue
        try:
            said = _resolved(config, dict(transform))
        except ModelError:
            said = {}
        known = _TRANSLATED.get(name)
        if known is None or not said:
            yield {}, f"Its transform {name} is not done here: the data must be so already."
        else:
            yield known(said)


def _range(said: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    low, high = said.get("b_min"), said.get("b_max")
    scale = {} if low is None or high is None else {"scale": [low, high]}
    return scale, (
        f"It knows intensities from {said['a_min']:g} to {said['a_max']:g}, which the 0 and 1 of the study's "
        f"images must stand for (`intensity` of the data); they enter the network as {low} and {high}."
    )


def _percentiles(said: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    return {"scale": [said["b_min"], said["b_max"]]}, (
        f"It scales images by their percentiles {said['lower']:g} and {said['upper']:g}, as the intensities "
        "of the study must."
    )


def _scale(said: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    low, high = said.get("minv", 0.0), said.get("maxv", 1.0)
    return {
        "scale": [low, high]
    }, f"It scales every image to [{low:g}, {high:g}]: the 0 and 1 of the study's images are taken for them."


def _normalise(said: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    if said.get("subtrahend") is not None:
        return {
            "mean": said["subtrahend"],
            "std": said.get("divisor", 1.0),
        }, "Its mean and standard deviation are those of NormalizeIntensity."
    kind = "foreground" if said.get("nonzero") else "volume"
    return {"normalise": kind}, f"NormalizeIntensity became `normalise: {kind}`, for every channel."


def _resize(said: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    return {"size": said["spatial_size"]}, f"Images are resized to {said['spatial_size']}."


def _spacing(said: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    return {}, f"The data must have its spacing, {said['pixdim']} mm: nothing is resampled."


def _orientation(said: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    return {"axes": said["axcodes"]}, f"Volumes are turned to {said['axcodes']} for it, and its maps back."


_TRANSLATED = {
    "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ScaleIntensity": _scale,
    "NormalizeIntensity": _normalise,
    "Resize": _resize,
    "Spacing": _spacing,
    "Orientation": _orientation,
}


def _inferer(config: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Its sliding window as `input.window`.

    Raises:
        ModelError: It is something else.
    """
    said = _resolved(config, "@inferer") if "inferer" in config else {"_target_": "SimpleInferer"}
    name = said["_target_"].rpartition(".")[2]
    if name == "SlidingWindowInferer":
        window = {"size": said["roi_size"], "overlap": said.get("overlap", 0.25)}
        mode = said.get("mode", _UNSAID_MODE)
        blending = "" if mode == "gaussian" else f" They are blended with Gaussian weights (its own: {mode})."
        yield (
            {"window": window},
            f"Its inferer gave windows of {window['size']} that overlap by {window['overlap']}.{blending}",
        )
    elif name != "SimpleInferer":
        raise ModelError(
            f"its inferer is {name}, but a study has sliding windows only. Name a function that uses it in "
            "`load`."
        )

"""Results of nnU-Net v2: the network of its plans, the weights of its folds, normalisation and windows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from torch import Tensor, nn

from medrobust.errors import ModelError
from medrobust.models.formats.loaded import Loaded, Turned, library
from medrobust.models.weights import read_pickle

OVERLAP = 0.5
"""Of the windows of its predictor."""

_OF_LIBRARIES = ("torch.nn.", "dynamic_network_architectures.")


def read(
    path: Path,
    *,
    folds: tuple[int | str, ...] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    stored: str = "LPS",
) -> Loaded:
    """The network of a folder that nnU-Net's training made, without its mirroring.

    Args:
        path: `nnUNetTrainer__nnUNetPlans__3d_fullres` or alike, with plans.json, dataset.json and folds.
        folds: Those whose logits are averaged; by default all there are but `all`, as its predictor does.
        checkpoint: Name of the file in each fold.
        stored: Where the axes of the files that it was trained on grow to, e.g. RAS. nnU-Net takes volumes as
            they are stored, and the study's are turned to that.

    Raises:
        ModelError: A fold is missing, `stored` is no orientation, or plans do not describe the network.
    """
    plans, data = (json.loads((path / name).read_text()) for name in ("plans.json", "dataset.json"))
    found = {file.parent.name.removeprefix("fold_"): file for file in _checkpoints(path, checkpoint)}
    chosen = [str(fold) for fold in folds or [fold for fold in sorted(found) if fold != "all"] or found]
    for fold in chosen or ["0"]:
        if fold not in found:
            known = ", ".join(found) or "none"
            raise ModelError(f"there is no '{checkpoint}' in its folder 'fold_{fold}'. Folds: {known}.")
    checkpoints: list[dict[str, Any]] = [read_pickle(found[fold]) for fold in chosen]
    configuration = _configuration(plans, checkpoints[0]["init_args"]["configuration"])
    if configuration.get("previous_stage"):
        raise ModelError(
            f"its configuration takes the segmentation of '{configuration['previous_stage']}' besides the "
            "image. Use the results of 3d_fullres, 3d_lowres or 2d."
        )
    channels = len(data.get("channel_names", data.get("modality")))
    labels = {name: value for name, value in data["labels"].items() if name != "ignore"}
    has_regions = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
    regions = [name for name, value in labels.items() if value not in (0, [0])]
    outputs = len(regions) if has_regions else len(labels)
    members = [_network(configuration, channels, outputs, each["network_weights"]) for each in checkpoints]
    # Plans turn volumes; slices are cut along the first axis that they turn to.
    axes = plans["transpose_forward"] if len(configuration["patch_size"]) == 3 else [0, 1]
    declared, clip, assumed = _normalisation(plans, configuration)
    size = [configuration["patch_size"][axes.index(axis)] for axis in range(len(axes))]
    spacing = [configuration["spacing"][axes.index(axis)] for axis in range(len(axes))]
    body: nn.Module = _Folds(members, axes, clip)
    window: dict[str, Any] = {"size": size, "overlap": OVERLAP, "like": "nnunet"}
    if len(size) == 3:
        body = Turned(body, "SPL", _checked(stored)[::-1])
        spacing = [spacing[axis] for axis in body.order]
        window |= body.window(size)
    declared |= {"channels": channels, "window": window}
    assumed = (
        f"Its plans.json gave the network, {_said(declared)}.",
        f"Logits are the mean of the folds {', '.join(chosen)}, without nnU-Net's mirroring.",
        *assumed,
        f"The data must have its spacing, {' x '.join(f'{side:.3g}' for side in spacing)} mm: nothing is "
        "resampled.",
        f"Volumes are turned to {stored}, as nnU-Net, which turns none, is taken to have read its training "
        "files (`stored`), and are not cropped to what is not 0.",
    )
    if has_regions:
        assumed += (
            f"Its regions are {', '.join(regions)}; of the classes that the data have, each pixel gets the "
            "most probable one, which is what nnU-Net paints where regions contain each other.",
        )
    output: dict[str, Any] = {"kind": "regions", "classes": regions}
    if not has_regions:
        output = {"classes": sorted(labels, key=labels.__getitem__)}
    return Loaded(body, input=declared, output=output, assumed=assumed)


def files(path: Path) -> list[Path]:
    """What its predictions depend on."""
    return [path / "plans.json", path / "dataset.json", *path.glob("fold_*/checkpoint_*.pth")]


class _Folds(nn.Module):
    """The mean of networks on images whose axes and intensities are as nnU-Net has them."""

    low: Tensor
    high: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        axes: Sequence[int],
        clip: tuple[list[float], list[float]] | None,
    ) -> None:
        super().__init__()
        self.members, self.clips = nn.ModuleList(members), clip is not None
        self.there = [0, 1, *(2 + axis for axis in axes)]
        self.back = [self.there.index(axis) for axis in range(len(self.there))]
        for name, bounds in zip(("low", "high"), clip or ([], []), strict=True):
            self.register_buffer(name, torch.tensor(bounds).view(1, -1, *[1] * len(axes)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `n k *space` of images `n c *space`."""
        if self.clips:
            images = images.clamp(self.low, self.high)
        turned = images.permute(self.there).contiguous()
        return torch.stack([member(turned) for member in self.members]).mean(0).permute(self.back)


def _checked(stored: str) -> str:
    if sorted("RASLPI".find(letter) % 3 for letter in stored) != [0, 1, 2]:
        raise ModelError(f"stored: three letters such as RAS or LPS say where axes grow to; got '{stored}'.")
    return stored


def _checkpoints(path: Path, name: str) -> list[Path]:
    return sorted(path.glob(f"fold_*/{name}"))


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits from others."""
    said = plans["configurations"][name]
    parent = said.get("inherits_from")
    return {**(_configuration(plans, parent) if parent else {}), **said}


def _network(
    configuration: Mapping[str, Any], channels: int, outputs: int, weights: dict[str, Tensor]
) -> nn.Module:
    library("dynamic_network_architectures", "nnunet")
    said = configuration.get("architecture") or _of_older_plans(configuration)
    arguments = dict(said["arch_kwargs"])
    for key in said["_kw_requires_import"]:
        arguments[key] = arguments[key] and _imported(arguments[key])
    made = _imported(said["network_class_name"])
    network: nn.Module = made(
        input_channels=channels, num_classes=outputs, **arguments | {"deep_supervision": False}
    )
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ModelError(
            "its weights do not fit the network of its plans: its trainer made another one. Name a function "
            "that makes that in `load`, and the checkpoint in `weights`."
        ) from None
    return network.eval()


def _imported(name: str) -> Any:
    """A class that plans name, of the libraries that plans may name."""
    found = locate(name) if name.startswith(_OF_LIBRARIES) else None
    if found is None:
        raise ModelError(
            f"its plans name '{name}', which is no part of dynamic_network_architectures. Name a function "
            "that makes the network in `load`, and the checkpoint in `weights`."
        )
    return found


def _of_older_plans(said: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture as plans before nnU-Net 2.4 describe it."""
    name, stages, space = said["UNet_class_name"], said["n_conv_per_stage_encoder"], len(said["patch_size"])
    widths = [said["UNet_base_num_features"] * 2**stage for stage in range(len(stages))]
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
        "arch_kwargs": {
            "n_stages": len(stages),
            "features_per_stage": [min(width, said["unet_max_num_features"]) for width in widths],
            "conv_op": f"torch.nn.Conv{space}d",
            "kernel_sizes": said["conv_kernel_sizes"],
            "strides": said["pool_op_kernel_sizes"],
            "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": stages,
            "n_conv_per_stage_decoder": said["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{space}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }


def _normalisation(
    plans: Mapping[str, Any], configuration: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[list[float], list[float]] | None, tuple[str, ...]]:
    """Keys of `input`, bounds after normalisation, and what is assumed.

    Raises:
        ModelError: Channels are normalised in different ways.
    """
    schemes, masked = configuration["normalization_schemes"], configuration["use_mask_for_norm"]
    if len(set(zip(schemes, masked, strict=True))) > 1:
        raise ModelError(
            f"its channels are normalised in different ways ({', '.join(schemes)}), which `input` cannot "
            "say. Name a function that normalises them in `load`."
        )
    if schemes[0] == "ZScoreNormalization":
        said = (
            "Each slice is normalised by its own mean and standard deviation, where nnU-Net takes those of "
            "the whole scan: compare its clean score with nnU-Net's (`expect`).",
        )
        is_flat = len(configuration["patch_size"]) == 2
        return {"normalise": "foreground" if masked[0] else "volume"}, None, said if is_flat else ()
    if schemes[0] == "CTNormalization":
        per_channel = plans["foreground_intensity_properties_per_channel"]
        known = [per_channel[str(channel)] for channel in range(len(schemes))]
        mean, std = [each["mean"] for each in known], [max(each["std"], 1e-8) for each in known]
        low, high = (
            [(each[bound] - centre) / spread for each, centre, spread in zip(known, mean, std, strict=True)]
            for bound in ("percentile_00_5", "percentile_99_5")
        )
        return (
            {"mean": mean, "std": std},
            (low, high),
            ("It knows Hounsfield units: say in input.scale what the 0 and 1 of the study's images are.",),
        )
    if schemes[0] in ("NoNormalization", "RGBTo01Normalization"):
        return {}, None, ()
    if schemes[0] == "RescaleTo01Normalization":
        return {}, None, ("It rescales every image to [0, 1], as the intensities of the study must.",)
    raise ModelError(
        f"its normalisation is '{schemes[0]}', which is not one of nnU-Net's. Name a function that does it "
        "in `load`."
    )


def _said(declared: Mapping[str, Any]) -> str:
    shown = {key: value["size"] if key == "window" else value for key, value in declared.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items())

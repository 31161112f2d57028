"""Folders of Hugging Face: networks of transformers or timm with their weights and their preprocessing."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from medrobust.errors import ModelError
from medrobust.models.formats.loaded import UNSAID, Loaded, library

_TASKS = ("ForImageClassification", "ForSemanticSegmentation")
_RESAMPLING = {0: "nearest", 1: "Lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "Hamming"}


def read(path: Path) -> Loaded:
    """A network for classification or semantic segmentation; code in the folder is not run.

    Raises:
        ModelError: It is for something else, or its weights do not fit.
    """
    config = json.loads((path / "config.json").read_text())
    if "pretrained_cfg" in config:
        return _of_timm(path, config)
    transformers = library("transformers", "huggingface")
    architecture = next(iter(config.get("architectures") or ()), "none")
    if not architecture.endswith(_TASKS):
        raise ModelError(
            f"its architecture is {architecture}, but a study judges networks for image classification or "
            "semantic segmentation. Write a function that returns logits, and name it in `load`."
        )
    transformers.utils.logging.disable_progress_bar()
    auto = (
        "AutoModelForImageClassification"
        if architecture.endswith(_TASKS[0])
        else "AutoModelForSemanticSegmentation"
    )
    body, loading = getattr(transformers, auto).from_pretrained(
        path, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )
    if loading["missing_keys"]:
        raise ModelError(
            f"its weights lack {', '.join(sorted(loading['missing_keys'])[:3])}. Use the folder of a trained "
            "network."
        )
    declared = {"channels": body.config.num_channels} if hasattr(body.config, "num_channels") else {}
    names = [body.config.id2label[number] for number in sorted(body.config.id2label)]
    processed, assumed = _preprocessing(path / "preprocessor_config.json")
    return Loaded(body.eval(), input=declared | processed, output={"classes": names}, assumed=assumed)


def files(path: Path) -> list[Path]:
    """Its configurations and weights."""
    return [*path.glob("*config.json"), *path.glob("*.safetensors"), *path.glob("*.safetensors.index.json")]


def _preprocessing(file: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`input` as an image processor describes it, whose images are bytes."""
    if not file.is_file():
        return {}, (UNSAID,)
    said = json.loads(file.read_text())
    declared: dict[str, Any] = {}
    if not said.get("do_rescale", True):
        declared["scale"] = [0.0, 255.0]
    elif abs(255 * said.get("rescale_factor", 1 / 255) - 1) > 1e-6:
        declared["scale"] = [0.0, 255 * said["rescale_factor"]]
    if said.get("do_normalize", "image_mean" in said):
        declared |= {"mean": said["image_mean"], "std": said["image_std"]}
    assumed = [f"Its preprocessor_config.json gave {', '.join(declared) or 'no normalisation'}."]
    size = said.get("crop_size") if said.get("do_center_crop") else said.get("size")
    if said.get("do_resize", True) and size:
        size = {"height": size, "width": size} if isinstance(size, int) else size
        side = size.get("shortest_edge", size.get("longest_edge"))
        declared["size"] = [size.get("height", side), size.get("width", side)]
        how = _RESAMPLING.get(said.get("resample", 2), "unknown")
        crop = " without its crop of the middle" if said.get("do_center_crop") else ""
        sides = " x ".join(map(str, declared["size"]))
        assumed.append(f"Images are resized to {sides}{crop}, bilinearly (its own: {how}).")
    if said.get("do_reduce_labels"):
        assumed.append("It was trained without the background: its first class is the second label.")
    return declared, tuple(assumed)


def _of_timm(path: Path, config: dict[str, Any]) -> Loaded:
    import timm  # takes seconds

    said = config["pretrained_cfg"]
    body: nn.Module = timm.create_model(
        config["architecture"], num_classes=config["num_classes"], **config.get("model_args", {})
    )
    body.load_state_dict(load_file(path / "model.safetensors"))
    declared: dict[str, Any] = {"mean": said["mean"], "std": said["std"], "channels": said["input_size"][0]}
    if said.get("fixed_input_size"):
        declared["size"] = said["input_size"][1:]
    names = {"classes": config["label_names"]} if "label_names" in config else {}
    return Loaded(
        body.eval(),
        input=declared,
        output=names,
        assumed=(f"Its config.json of timm gave {', '.join(declared)}.",),
    )

"""The catalogue of networks, and how a study's `models:` become networks.

Any classification network of timm is known under its name there, without being listed.
"""

from collections.abc import Mapping
from typing import Any

from medrobust.core import Task
from medrobust.models.build import build, prepare, to_channels_last
from medrobust.models.check import check_network
from medrobust.models.classifiers import find_in_timm, timm_architecture
from medrobust.models.fc_densenet import FCDenseNet
from medrobust.models.network import Network
from medrobust.models.segnet import SegNet
from medrobust.models.size import flops, parameter_count
from medrobust.models.spec import Architecture, InputSpec, ModelSpec, read_spec, recipe
from medrobust.models.unet import UNet
from medrobust.models.weights import load_weights, weights_content

__all__ = [
    "MODELS",
    "Architecture",
    "InputSpec",
    "ModelSpec",
    "Network",
    "build",
    "check_network",
    "find",
    "flops",
    "load_weights",
    "model_spec",
    "parameter_count",
    "prepare",
    "recipe",
    "to_channels_last",
    "weights_content",
]

MODELS: dict[str, Architecture] = {
    "inception_v3": timm_architecture(
        "inception_v3", "Inception v3, 22 M parameters, images from 75 px", "Szegedy et al., CVPR 2016"
    ),
    "inception_v4": timm_architecture(
        "inception_v4", "Inception v4, 41 M parameters, images from 75 px", "Szegedy et al., AAAI 2017"
    ),
    "mobilenet_v1": timm_architecture(
        "mobilenet_v1",
        "MobileNet v1, 3 M parameters (timm's mobilenetv1_100)",
        "Howard et al., arXiv 1704.04861",
    ),
    "segnet": Architecture(
        build=SegNet,
        task=Task.SEGMENTATION,
        summary="Encoder and decoder that share the places of maxima only; no skip connections",
        source="Badrinarayanan, Kendall & Cipolla, IEEE TPAMI 2017",
        presets={
            "small": {},
            "paper": {"width": 64, "repeats": 2, "keep_probability": 0.8},
            "tiny": {"width": 16, "levels": 3},
        },
    ),
    "unet": Architecture(
        build=UNet,
        task=Task.SEGMENTATION,
        summary="Encoder and decoder joined by long skip connections",
        source="Ronneberger, Fischer & Brox, MICCAI 2015",
        presets={
            "small": {},
            "paper": {"width": 27, "levels": 5, "keep_probability": 0.8},
            "tiny": {"width": 8, "levels": 3},
        },
    ),
    "fc_densenet": Architecture(
        build=FCDenseNet,
        task=Task.SEGMENTATION,
        summary="Dense blocks (short skip connections) joined by long skip connections",
        source="Jégou et al., CVPR workshops 2017",
        presets={
            "small": {},
            "paper": {
                "width": 48,
                "growth": 16,
                "layers_per_block": (5, 5, 5, 5, 5),
                "bottleneck_layers": 5,
                "keep_probability": 0.8,
            },
            "tiny": {"width": 8, "growth": 8, "layers_per_block": (1, 2), "bottleneck_layers": 2},
        },
    ),
}


def find(name: str) -> Architecture:
    """Catalogue entry of a network, also of those that only timm knows.

    Raises:
        StudyError: Nobody knows it; names the nearest.
    """
    return MODELS[name] if name in MODELS else find_in_timm(name, MODELS)


def model_spec(entry: Mapping[str, Any], task: Task) -> ModelSpec:
    """Check one item of a study's `models:`.

    Raises:
        StudyError: A key, name or value that cannot be; a file, package or module that is not there.
    """
    return read_spec(entry, task, find)

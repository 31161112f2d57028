"""The catalogue of networks: medrobust's own, those of timm, and those of installed packages."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any

from torch import nn

from medrobust.catalogue import Catalogue
from medrobust.core import Task
from medrobust.errors import StudyError, unknown
from medrobust.models.architectures.classifiers import before_classifier, classifier
from medrobust.models.architectures.fc_densenet import FCDenseNet
from medrobust.models.architectures.layers import bottleneck_mean
from medrobust.models.architectures.segnet import SegNet
from medrobust.models.architectures.unet import UNet
from medrobust.models.network import Features
from medrobust.parameters import accepted, keywords

USUAL: Mapping[str, tuple[str, ...]] = {
    "classes": ("num_classes", "n_classes", "num_labels", "classes", "out_channels"),
    "channels": ("in_channels", "input_channels", "in_chans", "n_channels", "channels"),
    "dimensions": ("spatial_dims", "dimensions"),
}
"""What libraries call the arguments that the data decide; the first that a function has is meant."""


@dataclass(frozen=True)
class Architecture:
    """An entry of the catalogue.

    Attributes:
        build: `(*, classes, channels, dimensions, <parameters>) -> nn.Module`, with random weights.
        task: The task it is for; None: both.
        summary: One line for lists.
        source: Citation.
        presets: Named sets of parameters; the first is the default.
        features: Computes one vector per image from prepared images; None: the input of the last layer.
        timm: Whether it is a network of timm, which has ImageNet weights.
        own: Whether somebody else wrote it: nothing is known of the layout and precision that it runs in.
        revision: Raised whenever its results change.
    """

    build: Callable[..., Any]
    task: Task | None
    summary: str
    source: str
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    features: Features | None = None
    timm: bool = False
    own: bool = False
    revision: int = 1

    @property
    def keywords(self) -> tuple[frozenset[str], bool]:
        """The arguments that `build` takes, and whether it takes any other.

        What goes on by `**` is found out: a function such as torchvision's says which class it returns, and a
        class such as MONAI's has a parent.
        """
        names, takes_any = keywords(self.build)
        is_class = isinstance(self.build, type)
        made = self.build if is_class else inspect.signature(self.build).return_annotation
        for kind in made.__mro__ if isinstance(made, type) else ():
            if not takes_any or kind is nn.Module:
                break
            if "__init__" in vars(kind):
                more, takes_any = keywords(vars(kind)["__init__"])
                names |= more - {"self"}
        return names, takes_any

    def supplied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the data decide, under the names that `build` has for it.

        Args:
            values: `classes`, `channels`, `dimensions`, `pretrained`.
        """
        if not self.own:
            return accepted(self.build, values)
        names, takes_any = self.keywords
        called = {key: next((name for name in USUAL[key] if name in names), None) for key in USUAL}
        if takes_any and all(name in (None, key) for key, name in called.items()):
            called |= {"classes": "classes", "channels": "channels"}
        return {name: values[key] for key, name in called.items() if name}


def find(name: str, where: str) -> Architecture:
    """The entry of a name: medrobust's, an installed package's, or any classification network of timm.

    Raises:
        StudyError: There is no such network (suggests the nearest).
    """
    if name in MODELS.names():
        return MODELS.named(name, where)
    import timm  # takes seconds

    # Names that begin with "hf" would be looked for on a hub.
    if not name.startswith("hf") and timm.is_model(name):
        return _timm(name)
    known = [*MODELS.names(), *get_close_matches(name, timm.list_models(), n=3)]
    raise StudyError(
        f"{where}: {unknown('model', name, known)} Any classification network of timm is known too."
    )


def _own(thing: object, name: str) -> Architecture:
    """The entry of a user's function or class."""
    if isinstance(thing, Architecture):
        return thing
    if not callable(thing) or isinstance(thing, nn.Module):
        raise StudyError(
            f"a network is made by a function or class that returns a torch.nn.Module, got "
            f"{type(thing).__name__}. Write a function that returns it."
        )
    summary = (getattr(thing, "__doc__", None) or "").strip().partition("\n")[0]
    return Architecture(build=thing, task=None, summary=summary, source=name, own=True)


def _timm(name: str, summary: str = "", source: str = "") -> Architecture:
    return Architecture(
        build=partial(classifier, {"mobilenet_v1": "mobilenetv1_100"}.get(name, name)),
        task=Task.CLASSIFICATION,
        summary=summary or f"timm's {name}",
        source=source or "Wightman, PyTorch Image Models (timm)",
        features=before_classifier,
        timm=True,
    )


MODELS: Catalogue[Architecture] = Catalogue(
    "model",
    "medrobust.models",
    {
        "inception_v3": _timm(
            "inception_v3", "Inception v3, 22 M parameters, images from 75 px", "Szegedy et al., CVPR 2016"
        ),
        "inception_v4": _timm(
            "inception_v4", "Inception v4, 41 M parameters, images from 75 px", "Szegedy et al., AAAI 2017"
        ),
        "mobilenet_v1": _timm(
            "mobilenet_v1",
            "MobileNet v1, 3 M parameters (timm's mobilenetv1_100)",
            "Howard et al., arXiv 1704.04861",
        ),
        "segnet": Architecture(
            build=SegNet,
            task=Task.SEGMENTATION,
            summary="Encoder and decoder that share the positions of maxima only; no skip connections",
            source="Badrinarayanan, Kendall & Cipolla, IEEE TPAMI 2017",
            presets={
                "small": {},
                "paper": {"width": 64, "repeats": 2, "keep_probability": 0.8},
                "tiny": {"width": 16, "levels": 3},
            },
            features=bottleneck_mean,
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
            features=bottleneck_mean,
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
            features=bottleneck_mean,
        ),
    },
    _own,
)

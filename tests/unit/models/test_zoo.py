"""The networks that people use most, from the libraries they have them from: built, judged and attacked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import medrobust as mr
from medrobust.core import Task
from medrobust.models import Network, build, check_network, model_spec
from medrobust.perturbations.outputs import main_output

# Libraries warn of their own future.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COUNT, CLASSES, EPS = 4, 3, 2 / 255
MISSING = "needs {}: pip install 'medrobust[zoo]'"

TIMM = [
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "resnetv2_50",
    "seresnet18",
    "convnext_tiny",
    "efficientnet_b0",
    "tf_efficientnet_lite0",
    "tf_efficientnetv2_b0",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "regnetx_002",
    "densenet121",
    "inception_v3",
    "inception_v4",
    "legacy_xception",
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "deit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
]

UNET = {"channels": [8, 16, 32], "strides": [2, 2]}
DYNAMIC = {
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [8, 16, 32],
}
MONAI: dict[str, dict[str, Any]] = {
    "UNet": UNET,
    "AttentionUnet": UNET,
    "BasicUNet": {"features": [8, 8, 16, 32, 64, 8]},
    "DynUNet": {**DYNAMIC, "deep_supervision": True},
    "SegResNet": {"init_filters": 8},
    "SegResNetDS": {"init_filters": 8, "dsdepth": 2},
    "UNETR": {"img_size": 32, "feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 4},
    "SwinUNETR": {"feature_size": 12, "depths": [1, 1, 1, 1], "norm_name": "batch"},
    "VNet": {},
    "HighResNet": {},
}
MONAI_CLASSIFIERS: dict[str, dict[str, Any]] = {
    "DenseNet121": {},
    "SEResNet50": {},
    "EfficientNetBN": {"model_name": "efficientnet-b0", "pretrained": False},
    "ViT": {
        "img_size": 32,
        "patch_size": 16,
        "hidden_size": 24,
        "mlp_dim": 48,
        "num_layers": 2,
        "num_heads": 4,
        "classification": True,
        "post_activation": "none",
    },
}

SMP = ["Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN"]
RESNET = {"encoder_name": "resnet18", "encoder_weights": None}


@dataclass(frozen=True)
class Brought:
    """A network as its library's users have it.

    Attributes:
        entry: As under `models:`, without what the data decide.
        plain: Makes it without medrobust.
        shape: Channels and size of the images.
        task: What it does.
        shown: What its users do with an image before it sees it.
    """

    entry: Mapping[str, Any]
    plain: Callable[[], nn.Module]
    shape: tuple[int, ...]
    task: Task
    shown: Callable[[nn.Module, Tensor], Tensor] = lambda _, images: images

    def images(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(COUNT, *self.shape, generator=generator)
        if self.task is Task.CLASSIFICATION:
            return images, torch.arange(COUNT) % CLASSES
        return images, torch.randint(CLASSES, (COUNT, *self.shape[1:]), generator=generator)

    def network(self) -> tuple[Network, nn.Module]:
        """The network of a study, and the plain one with the same weights."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            plain = self.plain()
            settle(plain, self.shown(plain, self.images()[0]))
            network = build(
                model_spec(self.entry, self.task),
                classes=CLASSES,
                channels=self.shape[0],
                shape=self.shape[1:],
            )
        network.body.load_state_dict(plain.state_dict())
        return network, plain

    def logits(self, plain: nn.Module, images: Tensor) -> Tensor:
        """What its own users would compute."""
        with torch.no_grad():
            output = plain(self.shown(plain, images))
        logits = main_output(output)
        assert logits.shape[2:] in (images.shape[2:], ())
        return logits


def settle(plain: nn.Module, images: Tensor) -> None:
    """Give batch norms the statistics of images, as a training does: without, deep networks say nothing."""
    for part in plain.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = 1.0
    with torch.no_grad():
        plain.train()(images)
    plain.eval()


def as_timm_shows(plain: nn.Module, images: Tensor) -> Tensor:
    """Images of the size and normalisation that timm's own transforms give."""
    data = timm.data.resolve_model_data_config(plain)
    if plain.pretrained_cfg.get("fixed_input_size"):
        size = data["input_size"][1:]
        images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(data[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (images - mean) / std


def of_timm(name: str) -> Brought:
    return Brought(
        {"name": name, "weights": "none"},
        lambda: timm.create_model(name, num_classes=CLASSES),
        (3, 96, 96),
        Task.CLASSIFICATION,
        as_timm_shows,
    )


def of_library(
    load: str, args: Mapping[str, Any], decided: Mapping[str, Any], *shape: int, task: Task
) -> Brought:
    """A class that `load` names; `decided` are its arguments that the data decide."""
    module, _, name = load.partition(":")
    entry = {"name": name, "load": load, "args": dict(args)}
    return Brought(entry, lambda: getattr(import_module(module), name)(**args, **decided), shape, task)


def of_monai(name: str, sides: int) -> Brought:
    is_classifier = name in MONAI_CLASSIFIERS
    args = {**MONAI, **MONAI_CLASSIFIERS}[name]
    if "img_size" in args:
        args = {**args, "img_size": [32] * sides}
    classes = "out_channels" if name == "DenseNet121" or not is_classifier else "num_classes"
    if name == "ViT":
        args = {**args, "patch_size": [16] * sides}
    decided = {"spatial_dims": sides, "in_channels": 1, classes: CLASSES}
    task = Task.CLASSIFICATION if is_classifier else Task.SEGMENTATION
    return of_library(f"monai.networks.nets:{name}", args, decided, 1, *[32] * sides, task=task)


def of_smp(name: str) -> Brought:
    decided = {"in_channels": 3, "classes": CLASSES}
    side = 128 if name == "PAN" else 64
    return of_library(
        f"segmentation_models_pytorch:{name}", RESNET, decided, 3, side, side, task=Task.SEGMENTATION
    )


GROUPS: dict[str, tuple[str, Callable[[], list[Brought]]]] = {
    "timm": ("timm", lambda: [of_timm(name) for name in TIMM]),
    "MONAI 2D": ("monai", lambda: [of_monai(name, 2) for name in MONAI]),
    "MONAI 3D": ("monai", lambda: [of_monai(name, 3) for name in MONAI]),
    "MONAI classifiers 2D": ("monai", lambda: [of_monai(name, 2) for name in MONAI_CLASSIFIERS]),
    "MONAI classifiers 3D": ("monai", lambda: [of_monai(name, 3) for name in MONAI_CLASSIFIERS]),
    "smp": ("segmentation_models_pytorch", lambda: [of_smp(name) for name in SMP]),
}
EACH = [
    pytest.param(library, brought, id=f"{group} {brought.entry['name']}")
    for group, (library, make) in GROUPS.items()
    for brought in make()
]


@pytest.mark.parametrize(("library", "brought"), EACH)
def test_it_fits_is_shown_images_as_by_its_users_and_can_be_attacked(library: str, brought: Brought) -> None:
    pytest.importorskip(library, reason=MISSING.format(library))
    network, plain = brought.network()
    images, labels = brought.images()
    check_network(network, "mine", task=brought.task, classes=CLASSES, images=images)
    with torch.no_grad():
        clean = network(images)
    # mobilenetv2_100 makes 1.4e-4 of the rounding of its images, and 3.5e-13 in double precision, of logits
    # up to 9: relative to them, as little as other networks.
    expected = brought.logits(plain, images)
    torch.testing.assert_close(clean, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    attacked = mr.attack(network, images, labels, "fgsm", eps=EPS)
    assert (attacked.linf <= EPS + 1e-6).all()
    with torch.no_grad():
        assert F.cross_entropy(network(attacked.images), labels) > F.cross_entropy(clean, labels)


@pytest.mark.parametrize("group", GROUPS)
def test_a_library_in_one_report(group: str, tmp_path: Path) -> None:
    library, make = GROUPS[group]
    pytest.importorskip(library, reason=MISSING.format(library))
    every = [brought for brought in make() if brought.shape == make()[0].shape]
    images, labels = every[0].images()
    pairs = {str(brought.entry["name"]): (brought, *brought.network()) for brought in every}
    run = mr.evaluate(
        {name: network for name, (_, network, _) in pairs.items()},
        (images, labels),
        attacks=["fgsm"],
        surrogates="none",
        out=tmp_path / "run",
        device="cpu",
    )
    table = run.table1()
    assert table["model"].to_list() == list(pairs)
    for row in table.iter_rows(named=True):
        brought, _, plain = pairs[row["model"]]
        decided = brought.logits(plain, images).argmax(1)
        assert row["clean"] == pytest.approx(score(decided, labels, brought.task), abs=1e-6)


def score(decided: Tensor, labels: Tensor, task: Task) -> float:
    """Accuracy, or the mean Dice of the structures, which are all classes but the first."""
    if task is Task.CLASSIFICATION:
        return (decided == labels).float().mean().item()
    both, either = (
        torch.stack([measure(decided == k, labels == k).flatten(1).sum(1) for k in range(1, CLASSES)])
        for measure in (lambda one, other: one & other, lambda one, other: one.int() + other.int())
    )
    return (2 * both / either).mean().item()

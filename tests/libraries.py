"""Builders as libraries have them: the usual names of arguments, and `**` that goes to a class."""

from typing import Any

from torch import nn

from made_networks import classifier, segmenter


class Residual(nn.Sequential):
    """As torchvision's."""

    def __init__(self, num_classes: int = 1000, width: int = 4) -> None:
        super().__init__(classifier(num_classes, 3))
        self.width = width


def torchvision_like(*, weights: object = None, progress: bool = True, **kwargs: Any) -> Residual:
    return Residual(**kwargs)


class Squeezing(Residual):
    """As MONAI's SEResNet50."""

    def __init__(self, layers: tuple[int, ...] = (3, 4), **kwargs: Any) -> None:
        super().__init__(**kwargs)


class MonaiLike(nn.Sequential):
    """As MONAI's UNet, where `channels` are widths."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, channels: tuple[int, ...], norm="batch"
    ) -> None:
        assert spatial_dims == 2
        super().__init__(segmenter(out_channels, in_channels))
        self.channels, self.norm = channels, norm


def timm_like(in_chans: int = 3, n_classes: int = 1000, **_: Any) -> nn.Module:
    return classifier(n_classes, in_chans)


def keyword_only(*, num_classes: int, norm: nn.Module = nn.BatchNorm2d(3), depth=3) -> nn.Module:  # noqa: B008
    return classifier(num_classes, 3)


def both(classes: int, out_channels: int = 8, *, channels: int, width=2) -> nn.Module:
    assert out_channels == 8
    return classifier(classes, channels)

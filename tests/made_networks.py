"""Networks as users bring them: right ones and wrong ones, for `load: made_networks:<name>`."""

import torch
from torch import nn

from fitted_networks import Pooled


def classifier(classes: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes)
    )


def segmenter(classes: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, classes, 1))


def with_weights_of_its_own(classes: int, channels: int) -> nn.Module:
    """As where a user's function loads a trained checkpoint."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return classifier(classes, channels)


_ONE = classifier(10, 3)


def the_same_again() -> nn.Module:
    """As where a module makes its network once."""
    return _ONE


def of_seven() -> nn.Module:
    return classifier(7, 3)


def any_keywords(**keywords: int) -> nn.Module:
    return classifier(**keywords)


def one_logit(channels: int) -> nn.Module:
    return classifier(1, channels)


def flat_logit(channels: int) -> nn.Module:
    return nn.Sequential(classifier(1, channels), nn.Flatten(0))


def sigmoid(classes: int, channels: int) -> nn.Module:
    return nn.Sequential(
        classifier(classes, channels), nn.Sigmoid(), nn.Unflatten(1, (classes, 1)), nn.Flatten()
    )


def softmax(classes: int, channels: int) -> nn.Module:
    return nn.Sequential(classifier(classes, channels), nn.Softmax(1))


def log_softmax(classes: int, channels: int) -> nn.Module:
    return nn.Sequential(classifier(classes, channels), nn.LogSoftmax(1))


def no_module() -> int:
    return 3


def broken() -> nn.Module:
    raise RuntimeError("the user's bug")


class _TwoOutputs(nn.Module):
    def forward(self, images):
        return images, images


def two_outputs() -> nn.Module:
    return _TwoOutputs()


class _NoGradient(nn.Module):
    @torch.no_grad()
    def forward(self, images):
        return images.mean((2, 3))[:, :2] - 1


def no_gradient() -> nn.Module:
    return _NoGradient()


class _HalfSize(nn.Module):
    def __init__(self, classes: int, channels: int):
        super().__init__()
        self.convolution = nn.Conv2d(channels, classes, 3, padding=1, stride=2)

    def forward(self, images):
        return self.convolution(images)


def half_size(classes: int, channels: int) -> nn.Module:
    return _HalfSize(classes, channels)


class _LastRunsFirst(nn.Module):
    """Its layers are registered in the wrong order."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.stem = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.head(self.stem(images).mean((2, 3)))


def last_runs_first() -> nn.Module:
    return _LastRunsFirst()


class _Quantised(Pooled):
    """Rounds its input, which hides its gradient from attacks."""

    def forward(self, images):
        return super().forward((images * 32).round() / 32)


def quantised(classes: int, channels: int) -> nn.Module:
    return _Quantised(classes, channels, 6)

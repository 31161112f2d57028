"""Batch norm in evaluation mode, written as what it is: a factor and an offset for every channel."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class AffineNorm(TorchFunctionMode):
    """While it is entered, networks compute their batch norms as `x * factor + offset`.

    torch's own gradient of a batch norm reads its input again and takes up to a third of the whole way back
    through a network on a CPU; that of a product is a product. Values agree but for rounding.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        if func is functional.batch_norm:
            return affine_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def affine_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """What `torch.nn.functional.batch_norm` gives, whose arguments these are.

    Statistics of the batch, and reduced precision, are left to torch.
    """
    if training or running_mean is None or running_var is None or input.dtype != running_mean.dtype:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    factor = (running_var + eps).rsqrt()
    if weight is not None:
        factor = factor * weight
    offset = -running_mean * factor
    if bias is not None:
        offset = offset + bias
    per_channel = (1, -1, *[1] * (input.ndim - 2))
    return torch.addcmul(offset.view(per_channel), input, factor.view(per_channel))

"""What a network returns, and which part of it are the logits."""

from collections.abc import Mapping

from torch import Tensor

from medrobust.errors import ModelError

_NAMES = ("logits", "out")
"""Where Hugging Face and torchvision put their main output."""


def main_output(output: object) -> Tensor:
    """The logits among what a network returned.

    Libraries return them alone, as the entry `logits` (Hugging Face) or `out` (torchvision) of a mapping or
    an object, or first in a tuple or list, before auxiliary heads and the coarser levels of deep supervision.

    Args:
        output: Whatever the network's forward gave.

    Raises:
        ModelError: There is no telling which part the logits are.
    """
    if isinstance(output, Tensor):
        return output
    for name in _NAMES:
        part = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if part is not None:
            return main_output(part)
    if isinstance(output, Mapping):
        if len(output) == 1:
            return main_output(next(iter(output.values())))
        seen = f"a {type(output).__name__} with the entries {', '.join(map(repr, output)) or 'none'}"
    elif isinstance(output, tuple | list) and output:
        return main_output(output[0])
    else:
        seen = type(output).__name__
    raise ModelError(
        f"The network must return its logits as a tensor, got {seen}. Return the tensor alone, first in a "
        "tuple, or as the entry 'logits' of a dict."
    )

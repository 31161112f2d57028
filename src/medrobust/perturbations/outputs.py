"""What a network returns: which part of it is the logits, and whether each image gets its own."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from medrobust.errors import ModelError, nearest

SAME = 1e-4
"""Largest difference of two passes, relative to the largest logit: GPUs add in no fixed order."""

_NAMES = ("logits", "out")
"""Where Hugging Face and torchvision put their main output."""

SMALLEST_PROBABILITY = 1e-30
SMALLEST_REST = 2.0**-25
"""Half of what float32 resolves below 1: what a probability that was rounded to 1 leaves for the others."""

_ROUNDING = 1e-3
_ROUNDING_STEPS = 16
"""Differences that the order of summation explains, relative to the largest logit; the second in steps of
a reduced precision."""


def main_output(output: object) -> Tensor:
    """The logits in whatever a network returned.

    Libraries return them alone, as the entry `logits` (Hugging Face) or `out` (torchvision) of a mapping or
    an object, first in a tuple or list, before auxiliary heads, or as the largest of several maps (levels of
    deep supervision).

    Raises:
        ModelError: It is unclear which part the logits are.
    """
    if isinstance(output, Tensor):
        return output
    for name in _NAMES:
        part = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if part is not None:
            return main_output(part)
    if isinstance(output, Mapping) and len(output) == 1:
        return main_output(next(iter(output.values())))
    if isinstance(output, tuple | list) and output:
        return main_output(max(output, key=_pixels) if _are_levels(output) else output[0])
    if isinstance(output, Mapping) and "boxes" in output:
        raise ModelError(
            "The network detects objects (it returns 'boxes'), but classification and segmentation only are "
            "judged here. Leave it out."
        )
    raise ModelError(
        f"The network must return its logits as a tensor, got {_seen(output)}. Return the tensor alone, "
        "first in a tuple, or as the entry 'logits' of a dict, or say in output.take where they are."
    )


def part_of(output: object, path: str | int) -> object:
    """What stands at a place in whatever a network returned.

    Args:
        output: Mappings, tuples, lists and objects.
        path: Name of an entry or attribute, position, or several of them, such as `heads.0`.

    Raises:
        ModelError: There is nothing there.
    """
    if isinstance(output, Mapping) and path in output:
        whole: object = output[path]  # names of entries may hold dots
        return whole
    step, _, rest = str(path).partition(".")
    if isinstance(output, Mapping):
        parts = {str(name): part for name, part in output.items()}
    elif isinstance(output, tuple | list):
        parts = {str(place): output[place] for place in range(-len(output), len(output))}
    else:
        parts = {}
    if step in parts:
        found = parts[step]
    elif not isinstance(output, Mapping | Tensor) and hasattr(output, step):
        found = getattr(output, step)
    else:
        raise ModelError(
            f"output.take: what the network returns ({_seen(output)}) has no '{step}'."
            f"{nearest(step, parts)} Name another part, or leave the key out."
        )
    return part_of(found, rest) if rest else found


def logits_of(
    probabilities: Float[Tensor, "n k *maps"], *, findings: bool = False
) -> Float[Tensor, "n k *maps"]:
    """Logits that have these probabilities: their logarithms, or the log odds of a single one or of findings.

    Probabilities below 1e-30 count as 1e-30, so that a gradient stays finite, and keeps its size down to
    there: what a logarithm divides by, the softmax in the network has multiplied by. A single probability
    that was rounded to 1 counts as 1 - 2^-25; it has passed no gradient on.
    """
    logs = probabilities.clamp_min(SMALLEST_PROBABILITY).log()
    if probabilities.shape[1] > 1 and not findings:
        return logs
    return logs - (1 - probabilities).clamp_min(SMALLEST_REST).log()


def _are_levels(outputs: Sequence[object]) -> bool:
    """Whether these are maps of the same classes."""
    kinds = {each.shape[:2] if isinstance(each, Tensor) and each.ndim > 3 else None for each in outputs}
    return len(kinds) == 1 and None not in kinds


def _pixels(maps: object) -> int:
    return maps.shape[2:].numel() if isinstance(maps, Tensor) else 0


def _seen(output: object) -> str:
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with the entries {', '.join(map(repr, output)) or 'none'}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {len(output)}"
    return type(output).__name__


def with_absent(logits: Float[Tensor, "n k *space"]) -> Float[Tensor, "n 2 k *space"]:
    """The logit z of each finding as two, (0, z): absent and present are the answers of a question each.

    They have the decision, the probability and the cross-entropy of a sigmoid.
    """
    return torch.stack([torch.zeros_like(logits), logits], 1)


def depends_on_batch(
    network: Callable[[Tensor], object],
    images: Tensor,
    *,
    alone: Callable[[int], Callable[[Tensor], object]] | None = None,
) -> float:
    """By how much the logits of an image depend on the rest of its batch.

    They must not, or scores would depend on the size of batches. Batch norm without running statistics mixes
    images, and so does whatever sums, sorts or normalises along the first axis. The images are shown
    together, twice, and one by one, without gradients and without autocast.

    Args:
        network: Returns logits `n k` or `n k *space`, alone or as `main_output` finds them; in evaluation
            mode.
        images: A few different images `n c *space`, as the network takes them. They stay as they are.
        alone: The network for the image at a place, where it knows more of each; None: the same for all.

    Returns:
        Largest difference of a logit, relative to the largest logit; 1.0 where a logit exists or is finite
        only alone or only in company. 0.0 where rounding explains the difference, where the network is random
        (two passes of one batch differ as well), and for a single image.

    Raises:
        Exception: Whatever the network raises; some take only one image, or only several.
    """

    def answer(some: Tensor, place: int | None = None) -> Tensor:
        asked = network if alone is None or place is None else alone(place)
        return main_output(asked(some.clone()))

    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        together, again = answer(images), answer(images)
        singles = [answer(images[place : place + 1], place).flatten() for place in range(len(images))]
    if any(one.numel() * len(images) != together.numel() for one in singles):
        return 1.0
    apart = torch.stack(singles).view_as(together)
    step = torch.finfo(together.dtype).eps if together.is_floating_point() else 0.0
    rounding = max(_ROUNDING, _ROUNDING_STEPS * step)
    difference = relative_difference(together, apart)
    return difference if difference > rounding >= relative_difference(together, again) else 0.0


def relative_difference(logits: Tensor, others: Tensor) -> float:
    """The largest difference, relative to the largest logit; 1.0 where only one of two logits is finite.

    A logit that is the same for every image, such as -1e9 for a class that is masked, does not count.
    """
    counts = logits.isfinite()
    if not torch.equal(counts, others.isfinite()):
        return 1.0
    counts = counts & ((logits != logits[:1]) | (others != logits[:1])).any(0)
    first, second = (torch.where(counts, each, 0).cpu().double() for each in (logits, others))
    largest = first.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    return float((first - second).abs().max() / largest)

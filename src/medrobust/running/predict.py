"""Asking networks about images, and making sure that they are still the same networks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medrobust.core import Case
from medrobust.errors import ModelError, RunError
from medrobust.perturbations.checks import all_finite
from medrobust.rng import generator
from medrobust.running.batches import Limit
from medrobust.storage import RunFolder

Columns = dict[str, list[Any]]
"""Values of each column, by name, in the order of the cases."""


@torch.inference_mode()
def output_of(
    network: Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c *space"],
    *,
    name: str,
    cases: Sequence[Case],
) -> Float[Tensor, "n ..."]:
    """What a network, or a method of it, says about images.

    Args:
        network: Called with the images.
        images: Images in [0, 1], where the network is.
        name: The network's name, for the message.
        cases: What the images are of, for the message.

    Raises:
        ModelError: An output is not finite.
    """
    output = network(images)
    check_finite(output, name, cases, network)
    return output


def outputs_of(
    network: Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c *space"],
    *,
    name: str,
    cases: Sequence[Case],
    device: torch.device | str,
    limit: Limit,
) -> Iterator[tuple[slice, Float[Tensor, "b ..."]]]:
    """`output_of` batch by batch, on the network's device; each output with its place among the images."""
    return limit.parts(
        len(images),
        lambda place: output_of(network, images[place].to(device), name=name, cases=cases[place]),
    )


def check_finite(
    output: Float[Tensor, "n ..."], name: str, cases: Sequence[Case], network: Callable[[Tensor], Tensor]
) -> None:
    """Refuse outputs that are NaN or infinite.

    Args:
        output: Of a network, or of a method of it.
        name: The network's name.
        cases: What the output is of.
        network: What gave it.

    Raises:
        ModelError: Names the network and the first case, and says whether its weights are to blame.
    """
    if all_finite(output):
        return
    finite = output.isfinite().flatten(1).all(1)
    case = cases[int((~finite).nonzero()[0])].case_id
    module = getattr(network, "__self__", network)
    weights = module.state_dict().values() if isinstance(module, nn.Module) else ()
    if all(bool(weight.isfinite().all()) for weight in weights if isinstance(weight, Tensor)):
        advice = (
            "Its weights are finite, so the cause is its forward pass: look for a division, root or "
            "logarithm at 0 (a black pixel, an image of one colour) or an overflow, or leave it out."
        )
    else:
        advice = (
            "Its weights are not finite: if it was trained here, look at its log.csv and train it with a "
            "lower learning rate; if they were brought, provide others; or leave it out."
        )
    raise ModelError(f"Network '{name}' returns non-finite values for case '{case}'. {advice}")


def generators(seed: int, name: str, cases: Sequence[Case]) -> list[np.random.Generator]:
    """The generator of each case for one perturbation; depends on nothing else."""
    return [generator(seed, name, case.case_id) for case in cases]


def check_weights(card: Mapping[str, Any], weights: str, name: str, what: str) -> None:
    """Refuse to go on with other weights than those that finished work was made with.

    Args:
        card: Card of the finished work; `weights` is the SHA-256 of the network's weights.
        weights: That of the network at hand.
        name: Its name, for the message.
        what: Path of the work in the run folder, for the message.

    Raises:
        RunError: The network was trained again, or its weights file was exchanged.
    """
    if card["weights"] != weights:
        raise RunError(
            f"{what} was made with other weights of '{name}' than the present ones: the network was trained "
            f"again, or its weights were replaced. Restore the former weights, delete {what}, or use "
            "another run folder."
        )


def remember_weights(folder: RunFolder, weights: str, name: str, *parts: str) -> None:
    """Record the SHA-256 of a network's weights beside what is made with it, or compare it with the record.

    Raises:
        RunError: The recorded one differs.
    """
    if folder.exists(*parts, "card.json"):
        check_weights(folder.read_json(*parts, "card.json"), weights, name, "/".join(parts))
    else:
        folder.write_json({"network": name, "weights": weights}, *parts, "card.json")

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
from medrobust.running.setup import Setup, StudyNetwork
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
    """What a network, or a method of it, returns for images in [0, 1] on its device.

    Raises:
        ModelError: An output is not finite; names the network and the first such case, and says whether the
            weights are to blame.
    """
    output = network(images)
    if all_finite(output):
        return output
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


def outputs_of(
    setup: Setup,
    network: StudyNetwork,
    images: Float[Tensor, "n c *space"],
    cases: Sequence[Case],
    *,
    features: bool = False,
) -> Iterator[tuple[slice, Float[Tensor, "b ..."]]]:
    """Logits, or features, of images on any device: batch by batch, each with its place among the images.

    Raises:
        ModelError: An output is not finite.
    """

    def ask(place: slice) -> Tensor:
        told = setup.told(network, cases[place])
        asked = told.features if features else told
        return output_of(asked, images[place].to(setup.device), name=network.id.folder, cases=cases[place])

    return setup.limit.parts(len(images), ask)


def generators(seed: int, name: str, cases: Sequence[Case]) -> list[np.random.Generator]:
    """The generator of each case for one perturbation; depends on nothing else."""
    return [generator(seed, name, case.case_id) for case in cases]


def check_weights(card: Mapping[str, Any], weights: str, name: str, what: str) -> None:
    """Refuse to continue finished work with other weights than those that it was made with.

    Weights are given by their SHA-256, those of the work by its card.

    Raises:
        RunError: The network was trained again, or its weights file was replaced.
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

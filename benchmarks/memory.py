"""Peak memory of the saliency map attack beyond what the network itself needs, on photos of 299 x 299 pixels.

Each measurement is a process of its own, whose peak the system knows: `python benchmarks/memory.py`.
"""

import argparse
import resource
import subprocess
import sys

import torch

from medrobust.models import to_channels_last
from medrobust.models.architectures.classifiers import classifier
from medrobust.perturbations import saliency_map
from medrobust.perturbations.gradients import cross_entropy_gradient

SIZE = 299
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="tf_efficientnet_lite0", help="any of timm's")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--only", choices=["network", "attack"], help="print the peak of one of them, in MB")
    options = parser.parse_args()
    if options.only:
        measure(options.network, options.images, attack=options.only == "attack")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    network, attack = (
        float(subprocess.check_output([sys.executable, __file__, *sys.argv[1:], "--only", which]))
        for which in ("network", "attack")
    )
    print(
        f"{options.network}, {options.images} images of {SIZE} x {SIZE}: the network takes {network:.0f} MB, "
        f"the attack {attack - network:.0f} MB more"
    )


def measure(name: str, count: int, *, attack: bool) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    network = to_channels_last(classifier(name, classes=7, channels=3, dimensions=2))  # type: ignore[arg-type]
    network.eval().requires_grad_(False)
    images = torch.rand(count, 3, SIZE, SIZE)
    with torch.no_grad():
        labels = network(images).argmax(1)
    for _ in range(STEPS):
        cross_entropy_gradient(network, images, labels)
    if attack:
        saliency_map(network, images, labels, preset="foolbox-0.8", target="runner_up", steps=STEPS)


if __name__ == "__main__":
    main()

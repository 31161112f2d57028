"""Draws docs/images/targets.png: the three types of target on a slice of a phantom brain.

python docs/images/draw_targets.py
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from medrobust.data import open_dataset
from medrobust.perturbations.targets import all_background, dilated, scattered
from medrobust.report import style
from medrobust.report.style import coloured
from medrobust.rng import generator

STRUCTURE = "left thalamus"


def main() -> None:
    """Write the picture beside this file."""
    dataset = open_dataset({"name": "phantom_brains", "subjects": 2, "spacing": 1.5}, None, None)
    structure = dataset.classes.index(STRUCTURE)
    slices = [dataset.read(case).label for case in dataset.cases if case.patient_id == "brain000"]
    labels = torch.from_numpy(max(slices, key=lambda one: (one == structure).sum()))[None]
    rngs = [generator(0, "picture")]
    drawn = {
        "truth": labels,
        "type A: all background": all_background(labels),
        "type B: 5 % scattered": scattered(labels, rngs=rngs, structure=structure),
        "type C: one structure dilated": dilated(
            labels, rngs=rngs, spacing=dataset.spacing, structure=structure
        ),
    }
    with style.look():
        figure = Figure(figsize=(11, 3))
        for axes, (title, targets) in zip(figure.subplots(1, len(drawn)), drawn.items(), strict=True):
            axes.imshow(coloured(targets[0].numpy(), dataset.classes), interpolation="nearest")
            axes.set_title(title)
            axes.set_axis_off()
        figure.subplots_adjust(wspace=0.04)
    Path(__file__).with_name("targets.png").write_bytes(style.png(figure))


if __name__ == "__main__":
    main()

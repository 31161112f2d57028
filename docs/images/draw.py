"""Draws the pictures of the documentation, which show phantoms only.

python docs/images/draw.py                              targets.png, corruptions.jpg and transforms.jpg
python docs/images/draw.py demo/segmentation      also demo-report.png and explorer.png
"""

import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from medrobust.core import Task
from medrobust.data import open_dataset
from medrobust.perturbations import CORRUPTIONS, PERTURBATIONS, TRANSFORM_SUITES, entry_of, moved, request
from medrobust.perturbations.targets import all_background, dilated, scattered
from medrobust.report import style
from medrobust.rng import generator

HERE = Path(__file__).parent
STRUCTURE = "left thalamus"


def draw_targets() -> None:
    """The three types of target of DAG on a slice of a phantom brain."""
    dataset = open_dataset({"name": "phantom_brains", "subjects": 2, "spacing": 1.5}, None, None)
    structure, colours = dataset.classes.index(STRUCTURE), style.structure_colours(dataset.classes)
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
            axes.imshow(style.coloured(targets[0].numpy(), colours), interpolation="nearest")
            axes.set_title(title)
            axes.set_axis_off()
        figure.subplots_adjust(wspace=0.04)
    (HERE / "targets.png").write_bytes(style.png(figure))


ON_BRAINS = (
    *("rician_noise", "low_dose", "lognormal_speckle", "smoothing", "anisotropic_sampling"),
    *("gamma_up", "gamma_down", "bias_field", "hu_shift", "hu_scale"),
    *("ghosting", "spikes", "gibbs_ringing", "rigid_motion", "line_motion"),
    *("metal_streaks", "acoustic_shadow", "reverberation", "vessel_shadows", "blink", "row_shift"),
    *("affine", "elastic", "rotation", "shrinking", "translation"),
)
"""Families that are shown on a phantom brain; all others are on a phantom lesion."""

SEVERITIES = (1, 3, 5)


def draw_corruptions() -> None:
    """Every family that has severities, at three of those of its first preset, or of ROOD-MRI's."""
    lesions = open_dataset({"name": "phantom_lesions"}, None, None)
    brains = open_dataset({"name": "phantom_brains", "subjects": 2, "spacing": 1.5}, None, None)
    brain = max(brains.cases, key=lambda case: case.foreground)
    families = [entry.name for entry in map(entry_of, CORRUPTIONS) if entry.severities]
    on_lesions = [name for name in families if name not in ON_BRAINS]
    rows = -(-max(len(on_lesions), len(ON_BRAINS)) // 2)
    with style.look():
        figure = Figure(figsize=(10, rows))
        axes = figure.subplots(rows, 4 * len(SEVERITIES))
        for one in axes.flat:
            one.set_axis_off()
        for block, (dataset, case, names) in enumerate(
            ((lesions, lesions.cases[0], on_lesions), (brains, brain, ON_BRAINS))
        ):
            image = torch.from_numpy(dataset.read(case).image)[None]
            for number, name in enumerate(names):
                column = (2 * block + number // rows) * len(SEVERITIES)
                shown = axes[number % rows, column : column + len(SEVERITIES)]
                draw_family(name, image, dataset.spacing, shown)
        figure.subplots_adjust(wspace=0.04, hspace=0.25, left=0.01, right=0.99, bottom=0.01, top=0.98)
    picture = Image.open(io.BytesIO(style.png(figure))).convert("RGB")
    picture.thumbnail((1000, 4000))
    picture.save(HERE / "corruptions.jpg", quality=80)


def draw_family(name: str, image: Tensor, spacing: Sequence[float] | None, axes: Sequence[Axes]) -> None:
    """One family, a severity on each of the axes."""
    preset = "rood-mri" if "rood-mri" in PERTURBATIONS[name].presets else None
    for shown, severity in zip(axes, SEVERITIES, strict=True):
        made = moved(
            request({"name": name, "preset": preset, "severity": severity}, Task.CLASSIFICATION),
            image,
            torch.zeros(1, dtype=torch.int64),
            rngs=[generator(1, "picture", name)],
            spacing=spacing,
        )
        shown.imshow(made.images[0].movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    axes[len(axes) // 2].set_title(name, fontsize=7)


def draw_transforms() -> None:
    """A phantom brain and a phantom lesion, and two random draws of the transforms that fit it."""
    lesions = open_dataset({"name": "phantom_lesions"}, None, None)
    brains = open_dataset({"name": "phantom_brains", "subjects": 2, "spacing": 1.5}, None, None)
    brain = max(brains.cases, key=lambda case: case.foreground)
    label, suites = torch.zeros(1, dtype=torch.int64), ("mri", "dermoscopy")
    with style.look():
        figure = Figure(figsize=(10, 8.8))
        axes = figure.subplots(5, 6)
        for block, (dataset, case) in enumerate(((brains, brain), (lesions, lesions.cases[0]))):
            image = torch.from_numpy(dataset.read(case).image)[None]
            for row, name in enumerate(TRANSFORM_SUITES[suites[block]]):
                asked = request({"name": name, "search": "random"}, Task.CLASSIFICATION)
                drawn = [
                    moved(
                        asked,
                        image,
                        label,
                        rngs=[generator(seed, "picture", name)],
                        spacing=dataset.spacing,
                    ).images
                    for seed in (0, 1)
                ]
                for place, made in enumerate((image, *drawn)):
                    shown = axes[row, 3 * block + place]
                    shown.imshow(made[0].movedim(0, -1).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
                    shown.set_axis_off()
                    shown.set_title(name if place == 1 else "" if place else "clean", fontsize=8)
        figure.subplots_adjust(wspace=0.04, hspace=0.2, left=0.01, right=0.99, bottom=0.01, top=0.96)
    picture = Image.open(io.BytesIO(style.png(figure))).convert("RGB")
    picture.thumbnail((1000, 4000))
    picture.save(HERE / "transforms.jpg", quality=80)


def photograph(run: Path) -> None:
    """The first screen of a report, and its explorer."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1150})
        page.goto((run / "report.html").resolve().as_uri())
        save(page.screenshot(), "demo-report.png")
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        save(page.locator("#explorer-view").screenshot(), "explorer.png", height=1200)
        browser.close()


def save(content: bytes, name: str, height: int | None = None) -> None:
    """Keep a picture small: at most 1000 pixels wide and so high, in 256 colours."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(picture.height, height or picture.height)))
    picture.thumbnail((1000, 4000))
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        HERE / name, optimize=True
    )


if __name__ == "__main__":
    draw_targets()
    draw_corruptions()
    draw_transforms()
    for folder in sys.argv[1:]:
        photograph(Path(folder))

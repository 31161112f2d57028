"""Draws the pictures of the documentation, which show phantoms only.

python docs/images/draw.py                              targets.png
python docs/images/draw.py demo/segmentation      also demo-report.png and explorer.png
"""

import io
import shutil
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

from medrobust.data import open_dataset
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
    for folder in sys.argv[1:]:
        photograph(Path(folder))

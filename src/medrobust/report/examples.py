"""Example images as in the paper's Fig. 2: what perturbations do to an image and to the prediction."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch

from medrobust.report import style
from medrobust.report.style import coloured, family, image_uri, labels_uri, structure_colours

CELL, GAP, TITLE, BETWEEN = 1.5, 0.07, 0.45, 0.1
"""In inches: width of an image, space beside it, head of the columns, space between cases."""
BELOW = {True: (0.07, 0.24, 0.24), False: (0.42, 0.24)}
"""In inches: space for words below each row of images, in segmentation and in classification."""
LEGEND_COLUMNS, LEGEND_LINE = 4, 0.2
LONGEST = 20
"""Characters of a class that fit below an image."""
FEW = 0.01
"""Fraction of changed pixels below which each of them gets a ring, so that it can be found."""


@dataclass(frozen=True)
class Examples:
    """Images that one network sees, perturbed in several ways.

    Attributes:
        target: The network whose predictions are shown.
        source: The network that the attacks were crafted on.
        classes: Names of all classes; in segmentation the first is the background.
        colours: Hexadecimal colours of the classes.
        columns: Perturbations, the first being "clean".
        case_ids: A name per case.
        images: In [0, 1].
        labels: Truth: a class per case, or a label map.
        predictions: What the target says: a class, or a label map.
        probabilities: Of the predicted class, in classification.
    """

    target: str
    source: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    columns: tuple[str, ...]
    case_ids: tuple[str, ...]
    images: Float[np.ndarray, "case column c *space"]
    labels: Int[np.ndarray, "case *labelspace"]
    predictions: Int[np.ndarray, "case column *labelspace"]
    probabilities: Float[np.ndarray, "case column"] | None = None

    @property
    def segmentation(self) -> bool:
        """Whether labels are maps."""
        return self.labels.ndim > 1


class Shot(NamedTuple):
    """One image of a row.

    Attributes:
        name: Perturbation.
        image: The image.
        change: Its difference to the clean one around middle grey; None for the clean image.
        factor: What the difference is multiplied by; 0 for no change.
        answer: The predicted label map, in segmentation.
        said: The predicted class and its probability, in classification.
        right: Whether that is the truth.
    """

    name: str
    image: str
    change: str | None
    factor: float
    answer: str | None
    said: str
    right: bool


class Row(NamedTuple):
    """One case as a page shows it: its name, its truth, and its images as `target` sees them."""

    name: str
    target: str
    truth: str | None
    said: str
    shots: tuple[Shot, ...]


def example_rows(examples: Examples) -> tuple[Row, ...]:
    """The examples as rows of a page, pictures as data URIs."""
    flat = in_plane(examples)
    return tuple(_row(flat, case) for case in range(len(flat.case_ids)))


def _row(examples: Examples, case: int) -> Row:
    maps = examples.segmentation
    shots = []
    for column, name in enumerate(examples.columns):
        image = examples.images[case, column]
        change = image - examples.images[case, 0]
        factor = difference_scale(change)
        answer = examples.predictions[case, column]
        shots.append(
            Shot(
                name,
                image_uri(_bytes(image)),
                image_uri(_bytes(0.5 + factor * change)) if column else None,
                factor,
                labels_uri(answer, examples.colours) if maps else None,
                "" if maps else _predicted(examples, case, column),
                not maps and int(answer) == int(examples.labels[case]),
            )
        )
    truth = examples.labels[case]
    return Row(
        examples.case_ids[case],
        examples.target,
        labels_uri(truth, examples.colours) if maps else None,
        "" if maps else examples.classes[int(truth)],
        tuple(shots),
    )


def _bytes(image: Float[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "c h w"]:
    pixels: UInt8[np.ndarray, "c h w"] = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return pixels


def _predicted(examples: Examples, case: int, column: int) -> str:
    name = examples.classes[int(examples.predictions[case, column])]
    return name if examples.probabilities is None else f"{name}, {examples.probabilities[case, column]:.2f}"


@dataclass(frozen=True)
class Grid:
    """Places of the images on a figure. Column 0 is the margin for words and for the true label map."""

    figure: Figure
    tall: float
    below: tuple[float, ...]

    @property
    def block(self) -> float:
        """Height of the images of one case, in inches."""
        return sum(self.tall + words for words in self.below) + BETWEEN

    def axes(self, case: int, row: int, column: int) -> Axes:
        """Empty axes of one image."""
        width, height = self.figure.get_size_inches()
        top = TITLE + case * self.block + sum(self.tall + words for words in self.below[:row])
        left = column * (CELL + GAP)
        axes = self.figure.add_axes(
            (left / width, 1 - (top + self.tall) / height, CELL / width, self.tall / height)
        )
        axes.set_axis_off()
        return axes


def examples_figure(examples: Examples) -> Figure:
    """Draw the examples.

    Returns:
        A block of rows per case: the image and its scaled difference to the clean one; in classification the
        predicted class with its probability below the image, right or wrong by colour and sign; in
        segmentation the predicted label map beside the truth, and a legend.
    """
    flat = in_plane(examples)
    shown = families_shown(flat) if flat.segmentation else []
    legend = LEGEND_LINE * -(-len(shown) // LEGEND_COLUMNS) + 0.3 if shown else 0.0
    with style.look():
        figure = Figure()
        grid = Grid(figure, CELL * flat.images.shape[-2] / flat.images.shape[-1], BELOW[flat.segmentation])
        figure.set_size_inches(
            (1 + len(flat.columns)) * (CELL + GAP), TITLE + len(flat.case_ids) * grid.block + legend
        )
        for case in range(len(flat.case_ids)):
            _draw_case(grid, flat, case)
        if shown:
            _draw_legend(figure, flat, shown)
    return figure


def in_plane(examples: Examples) -> Examples:
    """Volumes become the plane with the most foreground (in classification the middle one); images stay."""
    if examples.images.ndim == 5:
        return examples
    depth = examples.images.shape[3]
    case = np.arange(len(examples.case_ids))
    plane = np.full(len(case), depth // 2)
    if not examples.segmentation:
        return replace(examples, images=examples.images[case, :, :, plane])
    plane = np.count_nonzero(examples.labels, axis=(2, 3)).argmax(1)
    return replace(
        examples,
        images=examples.images[case, :, :, plane],
        labels=examples.labels[case, plane],
        predictions=examples.predictions[case, :, plane],
    )


def difference_scale(change: Float[np.ndarray, "c h w"]) -> float:
    """Factor of two digits that stretches the largest change to half of the grey range; 0 for no change."""
    largest = float(np.abs(change).max())
    return float(f"{0.5 / largest:.1e}") if largest > 0 else 0.0


def families_shown(examples: Examples) -> list[str]:
    """Structures, without their side, in any label map of the figure; in the order of the classes."""
    present = np.union1d(examples.labels, examples.predictions)
    return list(dict.fromkeys(family(examples.classes[index]) for index in present if index > 0))


def _draw_case(grid: Grid, examples: Examples, case: int) -> None:
    _draw_words(grid, examples, case)
    clean = examples.images[case, 0]
    for column, name in enumerate(examples.columns):
        image = examples.images[case, column]
        axes = grid.axes(case, 0, column + 1)
        _show(axes, image)
        if case == 0:
            axes.set_title(name.replace("@", "\nmatched to "), fontsize=9.5, fontweight="bold", pad=5)
        if column:
            _show_difference(grid.axes(case, 1, column + 1), image - clean)
        if examples.segmentation:
            axes = grid.axes(case, 2, column + 1)
            axes.imshow(
                coloured(examples.predictions[case, column], examples.colours), interpolation="nearest"
            )
        else:
            _say_prediction(axes, examples, case, column)


def _draw_words(grid: Grid, examples: Examples, case: int) -> None:
    """What the rows show, in the margin; in segmentation the true label map too."""
    words = grid.axes(case, 0, 0)
    words.text(0.94, 0.5, _title(examples, case), ha="right", va="center", linespacing=1.5)
    grid.axes(case, 1, 0).text(0.94, 0.5, "difference\nto clean", ha="right", va="center", linespacing=1.5)
    if examples.segmentation:
        axes = grid.axes(case, 2, 0)
        axes.imshow(coloured(examples.labels[case], examples.colours), interpolation="nearest")
        _caption(axes, "truth", style.INK)
        _caption(grid.axes(case, 2, 1), f"as {examples.target} sees it  →", style.MUTED, left=True)


def _title(examples: Examples, case: int) -> str:
    name = examples.case_ids[case]
    return (
        name if examples.segmentation else f"{name}\ntruth:\n{examples.classes[int(examples.labels[case])]}"
    )


def _show(axes: Axes, image: Float[np.ndarray, "c h w"]) -> None:
    """An image of one or three channels; of any other number, the first one."""
    if len(image) == 3:
        axes.imshow(np.moveaxis(image, 0, -1), interpolation="nearest")
    else:
        axes.imshow(image[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _show_difference(axes: Axes, change: Float[np.ndarray, "c h w"]) -> None:
    """The change times its factor, around middle grey; rings around the pixels where few of them changed."""
    factor = difference_scale(change)
    _show(axes, np.clip(0.5 + factor * change, 0, 1))
    _caption(axes, f"\u00d7 {factor:g}" if factor else "no change", style.MUTED)
    rows, columns = np.nonzero((change != 0).any(0))
    if 0 < len(rows) <= FEW * change[0].size:
        axes.plot(
            columns,
            rows,
            "o",
            markersize=7,
            markerfacecolor="none",
            markeredgecolor=style.INK,
            markeredgewidth=0.9,
        )


def _say_prediction(axes: Axes, examples: Examples, case: int, column: int) -> None:
    predicted = int(examples.predictions[case, column])
    right = predicted == int(examples.labels[case])
    probability = "" if examples.probabilities is None else f"\n{examples.probabilities[case, column]:.2f}"
    sign, colour = ("✓", style.GREEN) if right else ("✗", style.RED)
    _caption(axes, f"{sign} {_short(examples.classes[predicted])}{probability}", colour)


def _short(name: str) -> str:
    """A name that fits below an image."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"


def _caption(axes: Axes, text: str, colour: str, left: bool = False) -> None:
    place, align = (0.0, "left") if left else (0.5, "center")
    axes.text(place, -0.03, text, transform=axes.transAxes, ha=align, va="top", fontsize=8, color=colour)


def _draw_legend(figure: Figure, examples: Examples, shown: list[str]) -> None:
    """One entry per structure, with a patch for each side it has."""
    classes, colours = examples.classes, examples.colours
    handles = [
        tuple(
            Patch(color=colours[index])
            for index, name in enumerate(classes)
            if index and family(name) == wanted
        )
        for wanted in shown
    ]
    shaded = colours == structure_colours(classes) and any(len(patches) == 2 for patches in handles)
    figure.legend(  # type: ignore[call-overload]  # tuples of handles are allowed, see HandlerTuple
        handles,
        shown,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
        loc="lower center",
        ncols=LEGEND_COLUMNS,
        fontsize=8,
        handlelength=2.2,
        title="left side light, right side dark" if shaded else None,
        title_fontsize=8,
    )

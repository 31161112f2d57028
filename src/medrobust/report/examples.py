"""Example images as in the paper's Fig. 2: what perturbations do to images and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch

from medrobust.core import UNKNOWN, names_in
from medrobust.report import style
from medrobust.report.style import coloured, family, image_uri, labels_uri

CELL = 1.5
"""Width of an image in inches."""
LEGEND_COLUMNS = 4
LONGEST = 20
"""Characters of a class name that fit below an image."""
FEW = 0.01
"""Fraction of changed pixels up to which each gets a ring, so that it can be found."""


@dataclass(frozen=True)
class Examples:
    """Images that one network sees, perturbed in several ways.

    Attributes:
        target: The network whose predictions are shown.
        source: The network that the attacks were crafted on, or whose surrogate that was.
        classes: Names of all classes; in segmentation the first is the background.
        colours: Hexadecimal colours of the classes.
        columns: Perturbations, the first being "clean".
        case_ids: Names of the cases.
        images: In [0, 1].
        labels: The true classes, findings or label maps.
        predictions: The predicted ones.
        probabilities: Probabilities of the predicted classes, in classification.
        spacing: Size of a pixel along each spatial axis; None where unknown.
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
    spacing: tuple[float, ...] | None = None

    @property
    def tall(self) -> float:
        """Height of a pixel that is shown, relative to its width."""
        down, across = (self.spacing or (1.0, 1.0))[-2:]
        return down / across

    @property
    def segmentation(self) -> bool:
        """Whether labels are label maps."""
        return self.labels.ndim > 2


class Shot(NamedTuple):
    """One image of a row.

    Attributes:
        name: Name of the perturbation.
        image: The image.
        change: Its difference from the clean image, around middle grey; None for the clean image itself.
        factor: Factor by which the difference is multiplied; 0 if there is none.
        answer: The predicted label map, in segmentation.
        text: The predicted class and its probability, in classification.
        right: Whether that class is true.
    """

    name: str
    image: str
    change: str | None
    factor: float
    answer: str | None
    text: str
    right: bool


class Row(NamedTuple):
    """One case on a page: its name, target and source, the true label map or class, and its images.

    `aspect` is the width of each picture relative to its height, as it is to be shown.
    """

    name: str
    target: str
    source: str
    truth: str | None
    text: str
    shots: tuple[Shot, ...]
    aspect: float = 1.0


def example_rows(examples: Examples) -> tuple[Row, ...]:
    """The examples as rows on a page, with pictures as data URIs."""
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
                name=name,
                image=image_uri(_bytes(image)),
                change=image_uri(_bytes(0.5 + factor * change)) if column else None,
                factor=factor,
                answer=labels_uri(answer, examples.colours) if maps else None,
                text="" if maps else _predicted(examples, case, column),
                right=not maps and np.array_equal(answer, examples.labels[case]),
            )
        )
    truth = examples.labels[case]
    return Row(
        name=examples.case_ids[case],
        target=examples.target,
        source=examples.source,
        truth=labels_uri(truth, examples.colours) if maps else None,
        text="" if maps else _named(examples, truth),
        shots=tuple(shots),
        aspect=examples.images.shape[-1] / (examples.images.shape[-2] * examples.tall),
    )


def _bytes(image: Float[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "c h w"]:
    pixels: UInt8[np.ndarray, "c h w"] = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return pixels


def _named(examples: Examples, label: Int[np.ndarray, "findings"] | np.integer[Any]) -> str:
    """A class, or findings, by name; `label` is a number of an array, or a row of one."""
    return ", ".join(names_in(label.tolist(), examples.classes)) or "no finding"


def _predicted(examples: Examples, case: int, column: int) -> str:
    name = _short(_named(examples, examples.predictions[case, column]))
    return name if examples.probabilities is None else f"{name}, {examples.probabilities[case, column]:.2f}"


def examples_figure(examples: Examples, crafted_on: str) -> Figure:
    """The examples as in the paper's Fig. 2, for print.

    Args:
        examples: Images or volumes.
        crafted_on: Where the attacks were crafted, in words.

    Returns:
        A figure with several rows per case: the images, their scaled differences from the clean one and, in
        segmentation, the predicted label maps; in classification the predicted classes stand below the
        images, with a sign and colour for right or wrong. What a row shows, and the truth, stand at its left.
    """
    flat = in_plane(examples)
    kinds = ["image", "difference", *(["prediction"] if flat.segmentation else [])]
    tall = CELL * flat.tall * flat.images.shape[-2] / flat.images.shape[-1] + 0.3
    shape = (len(flat.case_ids) * len(kinds), len(flat.columns) + 1)
    legend = _legend(flat) if flat.segmentation else {}
    with style.look():
        figure = Figure((CELL * shape[1], tall * shape[0] + 0.5 + 0.06 * len(legend)), layout="constrained")
        grid = figure.subplots(*shape, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for place, line in enumerate(grid):
            case, kind = place // len(kinds), kinds[place % len(kinds)]
            _draw_margin(line[0], flat, case, kind)
            for column, axes in enumerate(line[1:]):
                if not place:
                    axes.set_title(flat.columns[column].replace("@", "\nmatched to "), fontweight="bold")
                _draw_image(axes, flat, case, column, kind)
        figure.suptitle(f"As {flat.target} sees them; attacks crafted on {crafted_on}", fontsize=9)
        if legend:
            figure.legend(  # type: ignore[call-overload]  # tuples of handles are allowed, see HandlerTuple
                [*legend.values()],
                [*legend],
                handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
                loc="outside lower center",
                ncols=LEGEND_COLUMNS,
                fontsize=8,
                handlelength=2.2,
            )
    return figure


def corruption_figure(examples: Examples, families: Mapping[str, Sequence[str]]) -> Figure:
    """One case under every corruption: a row for each family, from clean to its largest strength.

    Args:
        examples: One image or volume, under clean and every corruption.
        families: Labels of the corruptions by family, mildest first.
    """
    flat = in_plane(examples)
    place = {name: column for column, name in enumerate(flat.columns)}
    wide = 2 + max(map(len, families.values()))
    tall = 0.75 * CELL * flat.images.shape[-2] / flat.images.shape[-1] + 0.12
    with style.look():
        figure = Figure((0.75 * CELL * wide, tall * len(families) + 0.4), layout="constrained")
        grid = figure.subplots(len(families), wide, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for line, (name, labels) in zip(grid, families.items(), strict=True):
            line[0].text(0.98, 0.5, name.replace("_", "\n"), ha="right", va="center", fontsize=8)
            for axes, label in zip(line[1:], (flat.columns[0], *labels), strict=False):
                _draw_image(axes, flat, 0, place[label], "image")
        figure.suptitle(f"{flat.case_ids[0]}, clean and at rising severity", fontsize=9)
    return figure


def _draw_margin(axes: Axes, examples: Examples, case: int, kind: str) -> None:
    """What a row shows, and the truth."""
    if kind == "prediction":
        _show(axes, coloured(examples.labels[case], examples.colours), examples.tall)
        _below(axes, "truth", style.INK)
        return
    truth = "" if examples.segmentation else f"\ntruth:\n{_short(_named(examples, examples.labels[case]))}"
    text = f"{examples.case_ids[case]}{truth}" if kind == "image" else "difference\nto clean"
    axes.text(0.94, 0.5, text, ha="right", va="center", linespacing=1.5)


def _draw_image(axes: Axes, examples: Examples, case: int, column: int, kind: str) -> None:
    image, answer = examples.images[case, column], examples.predictions[case, column]
    change = image - examples.images[case, 0]
    if kind == "prediction":
        _show(axes, coloured(answer, examples.colours), examples.tall)
    elif kind == "image":
        _show(axes, style.visible(image), examples.tall)
        if not examples.segmentation:
            right = np.array_equal(answer, examples.labels[case])
            sign, colour = ("✓", style.GREEN) if right else ("✗", style.RED)
            _below(axes, f"{sign} {_predicted(examples, case, column)}", colour)
    elif column:
        factor = difference_scale(change)
        _show(axes, style.visible(np.clip(0.5 + factor * change, 0, 1)), examples.tall)
        _below(axes, f"\u00d7 {factor:g}" if factor else "no change", style.MUTED)
        rows, columns = np.nonzero((change != 0).any(0))
        if 0 < len(rows) <= FEW * change[0].size:
            axes.plot(columns, rows, "o", ms=7, mfc="none", mec=style.INK, mew=0.9)


def _show(axes: Axes, picture: np.ndarray, tall: float) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect=tall)


def _below(axes: Axes, text: str, colour: str) -> None:
    axes.text(0.5, -0.03, text, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=colour)


def _short(name: str) -> str:
    """A name shortened to fit below an image."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"


def _legend(examples: Examples) -> dict[str, tuple[Patch, ...]]:
    """The structures in any label map, without their side; a patch for each side."""
    present = np.union1d(examples.labels, examples.predictions)
    sides: dict[str, tuple[Patch, ...]] = {}
    for index in (int(index) for index in present if index > 0):
        name = family(examples.classes[index])
        sides[name] = (*sides.get(name, ()), Patch(color=examples.colours[index]))
    return sides | ({"not labelled": (Patch(color=style.UNLABELLED),)} if UNKNOWN in present else {})


def in_plane(examples: Examples) -> Examples:
    """Volumes as the plane with the most foreground, or in classification the middle plane."""
    if examples.images.ndim == 5:
        return examples
    depth = examples.images.shape[3]
    case = np.arange(len(examples.case_ids))
    plane = np.full(len(case), depth // 2)
    if not examples.segmentation:
        return replace(examples, images=examples.images[case, :, :, plane])
    plane = np.count_nonzero(examples.labels > 0, axis=(2, 3)).argmax(1)
    return replace(
        examples,
        images=examples.images[case, :, :, plane],
        labels=examples.labels[case, plane],
        predictions=examples.predictions[case, :, plane],
    )


def difference_scale(change: Float[np.ndarray, "c h w"]) -> float:
    """Factor, to two digits, that stretches the largest change to half the grey range; 0 without a change."""
    largest = float(np.abs(change).max())
    return float(f"{0.5 / largest:.1e}") if largest > 0 else 0.0

"""One look for all figures, and files that are the same bytes every time.

Colours follow Okabe and Ito, which colour-blind readers can tell apart. They never carry meaning alone: a
marker, a sign or a word says the same, so that figures also work in grey.

Source: Okabe & Ito, "Color Universal Design", 2008.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
import polars as pl
from jaxtyping import Float, Int, Shaped, UInt8
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from medrobust.core import UNKNOWN

INK = "#1b2733"
MUTED = "#5b6874"
HAIRLINE = "#d5dbe1"
BLUE = "#0072b2"
VERMILION = "#c8500a"
GREEN = "#00795a"
RED = "#b3261e"
PURPLE = "#a14f83"
OCHRE = "#946800"
CATEGORIES = (VERMILION, BLUE, GREEN, PURPLE, OCHRE, INK)

PNG_DPI = 180
PADDING = 0.08
"""Around what is drawn, in inches."""

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # names may hold dollar signs
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "medrobust",
    "hatch.linewidth": 0.6,
}


class Picture(NamedTuple):
    """A plot on a page: an SVG, what it shows for those who cannot see it, and its caption."""

    svg: bytes
    alt: str
    caption: str

    @property
    def uri(self) -> str:
        """The plot as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


def look() -> AbstractContextManager[None]:
    """The settings in which figures are built and saved, whatever the user's own matplotlib settings."""
    return matplotlib.style.context(RC, after_reset=True)


def png(figure: Figure) -> bytes:
    """The figure as a PNG without date or program version."""
    return _saved(figure, "png", {"Software": None}, dpi=PNG_DPI)


def svg(figure: Figure) -> bytes:
    """The figure as an SVG without date, its text as paths, which look the same everywhere."""
    return _saved(figure, "svg", {"Date": None, "Creator": None})


def _saved(figure: Figure, kind: str, metadata: dict[str, None], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with look():
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine(None)  # the next file has the same layout
        box = figure.get_tightbbox().padded(PADDING)
        figure.savefig(buffer, format=kind, metadata=metadata, bbox_inches=box, facecolor="white", **options)
    return buffer.getvalue()


# ---- colours of scores ----

COLOURS = LinearSegmentedColormap.from_list("score", ["#7a1f0c", "#c8500a", "#f0a35e", "#fbe3c8", "#fffaf2"])
"""Low scores dark, high scores light: the order survives in grey."""

DARK = 0.18
"""Luminance at which white and black text on a colour have the same contrast, above 4.5 to 1."""


def limits(scores: pl.Series) -> Normalize:
    """Colour limits at the tenths that enclose all scores."""
    known = scores.fill_nan(None).drop_nulls().to_numpy()
    if not known.size:
        return Normalize(0.0, 1.0)
    low, high = np.floor(known.min() * 10) / 10, np.ceil(known.max() * 10) / 10
    return Normalize(low, max(high, low + 0.1))


def shades(value: float, norm: Normalize) -> tuple[str, str]:
    """The colour of a score, and that of text on it."""
    colour = COLOURS(norm(value))
    return to_hex(colour), "#ffffff" if luminance(colour) < DARK else "#000000"


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance in [0, 1] of an sRGB colour (WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---- colours of label maps ----

HUES = (
    *("#9db4c8", "#e8923c", "#3f88c5", "#8a6f4e", "#d65f7f", "#56a36c", "#d3ad1f", "#8560b8"),
    *("#4fc0ba", "#fff07a", "#ff5c4d", "#98a83a", "#e58bd3", "#e6dcc8", "#c7e38a", "#2e5bd0"),
)
SIDES = ("left ", "right ")
RIGHT_SHADE = 0.62
BLACK = np.zeros(3)

CLOSE = 0.1
"""Distance in RGB above which two colours can be told apart; the cube's edge is 1."""


def family(name: str) -> str:
    """The structure without its side: "left thalamus" -> "thalamus"."""
    for side in SIDES:
        name = name.removeprefix(side)
    return name


def structure_colours(classes: Sequence[str], given: Sequence[Sequence[int] | None] = ()) -> tuple[str, ...]:
    """Hexadecimal colour of each class; the first is the background and black.

    Args:
        classes: Their names.
        given: Red, green and blue of each class in 0 to 255, from the data. They are used if they tell all
            classes and the background apart; a right side of the same colour as the left one is darkened.
            Otherwise hues are chosen here, which repeat after 16 structures.
    """
    own = _of_data(classes, given)
    families = list(dict.fromkeys(family(name) for name in classes[1:]))
    hues = [HUES[families.index(family(name)) % len(HUES)] for name in classes[1:]]
    chosen = [_shaded(np.array(to_rgb(hue)), name) for hue, name in zip(hues, classes[1:], strict=True)]
    return tuple(to_hex(tuple(colour)) for colour in own or (BLACK, *chosen))


UNLABELLED = "#585858"
"""Of pixels whose truth is not known."""


def region_colours(colours: Sequence[str], regions: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Colours of the background and of each region in the order of `regions`, by those of the classes.

    A region has the colour of the first of its classes that is in the fewest regions: the one that sets it
    apart from those within it.
    """
    depth = Counter(number for own in regions.values() for number in own)
    chosen = (min(own, key=lambda number: (depth[number], number)) for own in regions.values())
    return (colours[0], *(colours[number] for number in chosen))


def coloured(labels: Int[np.ndarray, "h w"], colours: Sequence[str]) -> Float[np.ndarray, "h w 3"]:
    """A label map as an RGB image in [0, 1], in the colours of the classes; what is `UNKNOWN` is grey."""
    painted: Float[np.ndarray, "h w 3"] = np.array([to_rgb(each) for each in (*colours, UNLABELLED)])[labels]
    return painted


def _of_data(
    classes: Sequence[str], given: Sequence[Sequence[int] | None]
) -> list[Float[np.ndarray, "3"]] | None:
    """RGB of each class in [0, 1] as the data give it, the background black; None if that will not do."""
    if not given or None in given[1:]:
        return None
    plain = dict(zip(classes, given, strict=True))
    own = [BLACK]
    for name, colour in list(plain.items())[1:]:
        rgb = np.array(colour) / 255
        own.append(_shaded(rgb, name) if colour == plain.get(SIDES[0] + family(name)) else rgb)
    apart = np.linalg.norm(np.array(own)[:, None] - np.array(own), axis=-1)
    return own if apart[~np.eye(len(own), dtype=bool)].min() > CLOSE else None


def _shaded(colour: Float[np.ndarray, "3"], name: str) -> Float[np.ndarray, "3"]:
    return colour * RIGHT_SHADE if name.startswith(SIDES[1]) else colour


# ---- images as data URIs ----


def visible(image: Shaped[np.ndarray, "c h w"]) -> Shaped[np.ndarray, "h w *c"]:
    """An image of three channels in colour; of any other number of channels, the first in grey."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]


def image_uri(image: UInt8[np.ndarray, "c h w"]) -> str:
    """An image in [0, 255] as a PNG, see `visible`."""
    return _uri(Image.fromarray(np.ascontiguousarray(visible(image))))


def labels_uri(labels: Shaped[np.ndarray, "h w"], colours: tuple[str, ...]) -> str:
    """A label map in the hexadecimal colours of the classes; the background is transparent.

    What is `UNKNOWN` is grey.
    """
    palette, entry = _palette((*colours, UNLABELLED) if (labels == UNKNOWN).any() else colours)
    picture = Image.fromarray(entry[labels]).convert("P")
    picture.putpalette(palette.tobytes())
    return _uri(picture, transparency=0, bits=(len(palette) - 1).bit_length())


@cache
def _palette(colours: tuple[str, ...]) -> tuple[UInt8[np.ndarray, "colours 3"], UInt8[np.ndarray, " k"]]:
    """The palette, in which the background comes first, and the entry of each class in it."""
    values = np.array([ImageColor.getrgb(colour) for colour in colours], np.uint8)
    palette, entry = np.unique(values[1:], axis=0, return_inverse=True)
    return np.concatenate([values[:1], palette]), np.concatenate([[0], 1 + entry.ravel()]).astype(np.uint8)


def _uri(picture: Image.Image, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=6, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

"""One look for all figures, and files that are the same bytes every time.

Colours are after Okabe and Ito, which colour-blind readers can tell apart. They never carry a meaning alone:
a marker, a sign or a word says the same, so that figures also work in grey.

Source: Okabe & Ito, "Color Universal Design", 2008.
"""

import io
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

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
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "medrobust",
    "hatch.linewidth": 0.6,
}


def look() -> AbstractContextManager[None]:
    """The settings in which figures are built and saved, whatever the user's own matplotlib settings are."""
    return matplotlib.style.context(RC, after_reset=True)


def png(figure: Figure) -> bytes:
    """The figure as a PNG without date or program version."""
    return _saved(figure, "png", {"Software": None}, dpi=PNG_DPI)


def svg(figure: Figure) -> bytes:
    """The figure as an SVG without date; text is drawn as paths, so that it looks the same everywhere."""
    return _saved(figure, "svg", {"Date": None, "Creator": None})


def _saved(figure: Figure, kind: str, metadata: dict[str, None], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with look():
        figure.savefig(
            buffer,
            format=kind,
            metadata=metadata,
            bbox_inches="tight",
            pad_inches=0.08,
            facecolor="white",
            **options,
        )
    return buffer.getvalue()

"""Colours of label maps: the two sides of a structure share a hue, the left lighter than the right."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.colors import to_rgb

HUES = (
    *("#9db4c8", "#e8923c", "#3f88c5", "#8a6f4e", "#d65f7f", "#56a36c", "#d3ad1f", "#8560b8"),
    *("#4fc0ba", "#fff07a", "#ff5c4d", "#98a83a", "#e58bd3", "#e6dcc8", "#c7e38a", "#2e5bd0"),
)
SIDES = ("left ", "right ")
RIGHT_SHADE = 0.62


def family(name: str) -> str:
    """The structure without its side: "left thalamus" -> "thalamus"."""
    for side in SIDES:
        name = name.removeprefix(side)
    return name


def structure_colours(classes: Sequence[str]) -> Float[np.ndarray, "k 3"]:
    """RGB in [0, 1] of each class; the first is the background and black. Hues repeat after 16 structures."""
    families = list(dict.fromkeys(family(name) for name in classes[1:]))
    colours = np.zeros((len(classes), 3))
    for index, name in enumerate(classes[1:], start=1):
        hue = np.array(to_rgb(HUES[families.index(family(name)) % len(HUES)]))
        colours[index] = hue * RIGHT_SHADE if name.startswith(SIDES[1]) else hue
    return colours


def coloured(labels: Int[np.ndarray, "h w"], classes: Sequence[str]) -> Float[np.ndarray, "h w 3"]:
    """A label map as an RGB image."""
    painted: Float[np.ndarray, "h w 3"] = structure_colours(classes)[labels]
    return painted

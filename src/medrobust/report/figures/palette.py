"""Colours of label maps: the two sides of a structure share a hue, the left lighter than the right."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.colors import to_hex, to_rgb

HUES = (
    *("#9db4c8", "#e8923c", "#3f88c5", "#8a6f4e", "#d65f7f", "#56a36c", "#d3ad1f", "#8560b8"),
    *("#4fc0ba", "#fff07a", "#ff5c4d", "#98a83a", "#e58bd3", "#e6dcc8", "#c7e38a", "#2e5bd0"),
)
SIDES = ("left ", "right ")
RIGHT_SHADE = 0.62
BLACK = np.zeros(3)

CLOSE = 0.1
"""Distance in RGB from which on two colours can be told apart; the cube's edge is 1."""


def family(name: str) -> str:
    """The structure without its side: "left thalamus" -> "thalamus"."""
    for side in SIDES:
        name = name.removeprefix(side)
    return name


def structure_colours(classes: Sequence[str], given: Sequence[Sequence[int] | None] = ()) -> tuple[str, ...]:
    """Hexadecimal colour of each class; the first is the background and black.

    Args:
        classes: Their names.
        given: Red, green and blue in 0 to 255 of each class, as the data give them. They are taken where they
            tell all classes apart, and from the background; a right side of the same colour as the left one
            is darkened. Otherwise hues are chosen here, which repeat after 16 structures.
    """
    own = _of_data(classes, given)
    families = list(dict.fromkeys(family(name) for name in classes[1:]))
    hues = [HUES[families.index(family(name)) % len(HUES)] for name in classes[1:]]
    chosen = [_shaded(np.array(to_rgb(hue)), name) for hue, name in zip(hues, classes[1:], strict=True)]
    return tuple(to_hex(tuple(colour)) for colour in own or (BLACK, *chosen))


def coloured(labels: Int[np.ndarray, "h w"], colours: Sequence[str]) -> Float[np.ndarray, "h w 3"]:
    """A label map as an RGB image in [0, 1], by the colour of each class."""
    painted: Float[np.ndarray, "h w 3"] = np.array([to_rgb(colour) for colour in colours])[labels]
    return painted


def _of_data(
    classes: Sequence[str], given: Sequence[Sequence[int] | None]
) -> list[Float[np.ndarray, "3"]] | None:
    """RGB in [0, 1] of each class as the data give it, the background black; None where that will not do."""
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

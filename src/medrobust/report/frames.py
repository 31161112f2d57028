"""Frames: what the explorer shows at once, as JSON: a photo, a slice, or a plane of a volume."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Shaped

from medrobust.report.pixels import change_uri, image_uri, labels_uri
from medrobust.steps.views import View


def planes(view: View) -> list[View]:
    """A view of an image as it is; of a volume, a view of each plane."""
    if view.clean.ndim == 3:
        return [view]
    maps = view.truth.ndim > 0
    return [
        replace(
            view,
            clean=view.clean[:, plane],
            changes=view.changes[:, :, plane],
            truth=view.truth[plane] if maps else view.truth,
            answers=view.answers[:, plane] if maps else view.answers,
        )
        for plane in range(view.clean.shape[1])
    ]


def frame(view: View, colours: tuple[str, ...]) -> dict[str, Any]:
    """Everything about one plane; `colours` are those of the classes in label maps.

    Returns:
        `clean`, `changes` (null for an unchanged image) and `largest` by set; `answers` by pair. In
        segmentation also `truth`, and `dice` by pair and structure, in thousandths.
    """
    shown: dict[str, Any] = {
        "clean": image_uri(view.clean),
        "changes": [change_uri(change) if change.any() else None for change in view.changes],
        "largest": [float(f"{largest:.4g}") for largest in view.largest],
    }
    if view.truth.ndim == 0:
        return shown | {"answers": [[round(float(p), 4) for p in answer] for answer in view.answers]}
    return shown | {
        "truth": labels_uri(view.truth, colours),
        "answers": [labels_uri(answer, colours) for answer in view.answers],
        "dice": [dice_of(view.truth, answer, len(colours)) for answer in view.answers],
    }


def dice_of(
    truth: Shaped[np.ndarray, "h w"], answer: Shaped[np.ndarray, "h w"], classes: int
) -> list[int | None]:
    """Dice of each structure in thousandths; null where neither has it. The background's is null too."""
    n_true = np.bincount(truth.ravel(), minlength=classes)
    n_pred = np.bincount(answer.ravel(), minlength=classes)
    n_both = np.bincount(truth[truth == answer].ravel(), minlength=classes)
    return [None, *_thousandths(n_true[1:] + n_pred[1:], 2 * n_both[1:])]


def _thousandths(whole: Shaped[np.ndarray, " k"], part: Shaped[np.ndarray, " k"]) -> Iterator[int | None]:
    return (round(1000 * p / w) if w else None for w, p in zip(whole.tolist(), part.tolist(), strict=True))

"""Frames: what the explorer shows at once, as JSON: a photo, a slice, or a plane of a volume."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped

from medrobust.metrics.counts import overlap_counts
from medrobust.metrics.scores import dice, mean_defined
from medrobust.report.pixels import change_uri, image_uri, labels_uri
from medrobust.running.explorer import View


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
        segmentation also `truth`, and `overlap` by pair, see `overlap_of`.
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
        "overlap": [_overlap(view.truth, answer, len(colours)) for answer in view.answers],
    }


def overlap_of(
    n_true: Int[np.ndarray, " k"], n_pred: Int[np.ndarray, " k"], n_both: Int[np.ndarray, " k"]
) -> dict[str, Any]:
    """How structures overlap, as a page says it of a slice and of a scan alike.

    Args:
        n_true: Pixels of every class in the truth; the first is the background.
        n_pred: Pixels in the prediction.
        n_both: Pixels in both.

    Returns:
        `dice` in thousandths by class, null where it is undefined and for the background; their `mean`, in
        [0, 1] or null; and `extra`, the pixels shown of structures that the truth does not have, by their
        numbers.
    """
    values = dice(n_true, n_pred, n_both)
    values[0] = np.nan
    mean = float(mean_defined(values))
    extra = (n_true == 0) & (n_pred > 0) & (np.arange(len(values)) > 0)
    return {
        "dice": [None if np.isnan(value) else round(1000 * value) for value in values.tolist()],
        "mean": None if np.isnan(mean) else round(mean, 6),
        "extra": {str(place): int(n_pred[place]) for place in np.flatnonzero(extra).tolist()},
    }


def _overlap(
    truth: Shaped[np.ndarray, "h w"], answer: Shaped[np.ndarray, "h w"], classes: int
) -> dict[str, Any]:
    labels, predictions = (torch.from_numpy(each[None].astype(np.int64)) for each in (truth, answer))
    return overlap_of(*overlap_counts(labels, predictions, classes)[0].numpy().T)

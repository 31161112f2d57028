"""Distances between the boundaries of true and predicted structures, as sums that add up over cases.

The boundary of a structure is its pixels with a neighbour, across an edge (in 3D: a face), that is not in
it; beyond the image there is nothing. Class 0, the background, has none. Distances are Euclidean, between
pixel centres, in the unit of `spacing`, the size of a pixel along each spatial axis.

A pixel whose truth is unknown is in no boundary, neither of the truth nor of the prediction, and none runs
between it and its neighbours: a structure that reaches into such pixels has no boundary there.

MONAI computes the same scores structure by structure; here all structures of many images share one tree of
boundary pixels, which takes a twenty-fifth of the time. Tests compare the two.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.spatial import KDTree
from torch import Tensor

from medrobust.core import UNKNOWN
from medrobust.metrics.overlap import LabelMaps, as_maps
from medrobust.metrics.scores import hd95_of_sums, nsd_of_sums

PERCENTILE = 0.95
ROUNDING = 1e-6
"""Relative slack of the tolerance: sides such as 0.7 mm have no exact multiples."""

SUMS = ("n_boundary", "n_within", "hd95_sum", "n_both", "n_missed", "n_added")
"""What `surface_sums` gives of each structure, in this order."""


def nsd(
    labels: LabelMaps,
    predictions: LabelMaps,
    classes: int | None = None,
    *,
    tolerance: float,
    spacing: Sequence[float] | None = None,
) -> Float64[np.ndarray, "n k"]:
    """Normalised surface distance of every class in every image.

    The fraction of the boundary pixels of truth and prediction that lie within a tolerance of the other
    boundary.

    Args:
        labels: True classes, of shape `n *space`; 0 is the background, which has no boundary.
        predictions: Predicted classes, of the same shape.
        classes: Number of classes `k`; None: as many as occur in either.
        tolerance: Distance up to which boundaries count as the same.
        spacing: Size of a pixel along each spatial axis; None: 1 along each.

    Returns:
        Values in [0, 1], 0 where a class is not predicted; NaN where it is absent from the truth.

    >>> truth = np.zeros((1, 9, 9), dtype=int)
    >>> truth[0, 2:6, 2:6] = 1
    >>> nsd(truth, np.roll(truth, 1, axis=2), tolerance=1.0).tolist()
    [[nan, 1.0]]
    """
    sums = _sums_of(labels, predictions, classes, spacing, tolerance)
    return nsd_of_sums(sums["n_boundary"], sums["n_within"], sums["n_both"] + sums["n_missed"])


def hd95(
    labels: LabelMaps,
    predictions: LabelMaps,
    classes: int | None = None,
    *,
    spacing: Sequence[float] | None = None,
) -> Float64[np.ndarray, "n k"]:
    """The larger of the two directed 95th percentiles of the distances between boundaries, of every class.

    Arguments are those of `nsd`.

    Returns:
        Distances in the unit of `spacing`; NaN where a class is not in both maps.

    >>> truth = np.zeros((1, 9, 9), dtype=int)
    >>> truth[0, 2:6, 2:6] = 1
    >>> hd95(truth, np.roll(truth, 1, axis=2), spacing=(2.0, 2.0)).tolist()
    [[nan, 2.0]]
    """
    sums = _sums_of(labels, predictions, classes, spacing, tolerance=0.0)
    return hd95_of_sums(sums["hd95_sum"], sums["n_both"])


def _sums_of(
    labels: LabelMaps,
    predictions: LabelMaps,
    classes: int | None,
    spacing: Sequence[float] | None,
    tolerance: float,
) -> dict[str, Float64[np.ndarray, "n k"]]:
    true, shown, classes = as_maps(labels, predictions, classes)
    spacing = (1.0,) * (true.ndim - 1) if spacing is None else spacing
    sums = surface_sums(true, shown, classes, spacing=spacing, tolerance=tolerance)
    return dict(zip(SUMS, np.moveaxis(sums, -1, 0), strict=True))


def surface_sums(
    labels: Int64[Tensor, "n *space"],
    predictions: Int64[Tensor, "n *space"],
    classes: int,
    *,
    spacing: Sequence[float],
    tolerance: float,
    members: Bool[np.ndarray, "r k"] | None = None,
) -> Float64[np.ndarray, "n s 6"]:
    """What normalised surface distance (NSD) and 95 % Hausdorff distance (HD95) are computed from.

    Args:
        labels: True classes, in [0, classes), or `UNKNOWN`.
        predictions: Predicted classes, in [0, classes).
        classes: Number of classes `k`.
        spacing: Size of a pixel along each spatial axis.
        tolerance: Distance up to which boundaries count as the same.
        members: Which classes each of `r` structures consists of, the first being the background; None: each
            class is a structure.

    Returns:
        Of each image and structure, in the order of `SUMS`: boundary pixels of truth and prediction together;
        those of them that lie within the tolerance of the other boundary (none where there is no other); HD95
        (0 where it is undefined); and 1 where the structure has a boundary in both, in the truth only, in the
        prediction only. They add up; `nsd_of_sums` and `hd95_of_sums` take the sums.

    Raises:
        ValueError: Shapes differ, or spacing and shape do not fit.
    """
    if labels.shape != predictions.shape or len(spacing) != labels.ndim - 1:
        raise ValueError(
            f"labels {tuple(labels.shape)} and predictions {tuple(predictions.shape)} must have one shape, "
            f"and spacing a size for each side; got {tuple(spacing)}."
        )
    maps = labels.cpu().numpy(), predictions.cpu().numpy()
    known = maps[0] != UNKNOWN
    structures = classes if members is None else len(members)
    true, shown = (_boundaries(each, known, spacing, structures, members) for each in maps)
    apart = 1 + math.dist((0,) * len(spacing), np.multiply(labels.shape[1:], spacing))
    groups = len(labels) * structures
    sides = [_Side.of(true, shown, apart, groups), _Side.of(shown, true, apart, groups)]
    slack = tolerance * (1 + ROUNDING)
    sizes = [side.sizes for side in sides]
    within = [np.bincount(side.group[side.distance <= slack], minlength=groups) for side in sides]
    in_true, in_shown = (size > 0 for size in sizes)
    both = in_true & in_shown
    hd95 = np.where(both, np.maximum(*(side.quantile(PERCENTILE) for side in sides)), 0.0)
    sums = (sum(sizes), sum(within), hd95, both, in_true & ~in_shown, in_shown & ~in_true)
    return np.stack(sums, axis=-1).astype(np.float64).reshape(len(labels), structures, len(SUMS))


class _Points(NamedTuple):
    """Boundary pixels: the image and structure of each as one number, and where it is."""

    group: Int64[np.ndarray, "p"]
    place: Float64[np.ndarray, "p d"]


class _Side(NamedTuple):
    """Boundary pixels of one map, sorted by group, and the distance of each to the boundary in the other."""

    group: Int64[np.ndarray, "p"]
    distance: Float64[np.ndarray, "p"]
    sizes: Int64[np.ndarray, "g"]

    @classmethod
    def of(cls, points: _Points, others: _Points, apart: float, groups: int) -> "_Side":
        """Distances to the nearest other of the same group, infinite where there is none.

        `apart` is longer than any image: groups lie that far from each other along an axis of their own, so
        that one tree serves them all.
        """
        distance = np.full(points.group.size, np.inf)
        if others.group.size:
            here, there = (np.column_stack([each.group * apart, each.place]) for each in (points, others))
            distance[:] = KDTree(there).query(here, distance_upper_bound=apart)[0]
        order = np.lexsort((distance, points.group))
        return cls(points.group[order], distance[order], np.bincount(points.group, minlength=groups))

    def quantile(self, fraction: float) -> Float64[np.ndarray, "g"]:
        """Of the distances of each group, with linear interpolation; 0 for groups without pixels."""
        first = np.cumsum(self.sizes) - self.sizes
        position = fraction * np.maximum(self.sizes - 1, 0)
        below = np.floor(position).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(self.sizes - 1, 0))
        distance = np.append(np.where(np.isinf(self.distance), 0.0, self.distance), 0.0)
        last = len(self.distance)
        low, high = (distance[np.minimum(first + place, last)] for place in (below, above))
        return np.asarray(low + (position - below) * (high - low))


def _boundaries(
    maps: Int64[np.ndarray, "n *space"],
    known: Bool[np.ndarray, "n *space"],
    spacing: Sequence[float],
    structures: int,
    members: Bool[np.ndarray, "r k"] | None,
) -> _Points:
    """Boundary pixels of all structures."""
    if members is None:
        return _boundary(maps, known, spacing, structures)
    of_each = [
        _boundary(np.where(members[number][maps], number, 0), known, spacing, structures)
        for number in range(1, structures)
    ]
    groups, places = zip(*of_each, strict=True)
    return _Points(np.concatenate(groups), np.concatenate(places))


def _boundary(
    maps: Int64[np.ndarray, "n *space"],
    known: Bool[np.ndarray, "n *space"],
    spacing: Sequence[float],
    classes: int,
) -> _Points:
    edge = np.zeros(maps.shape, dtype=bool)
    all_known = known.all()
    for axis in range(1, maps.ndim):
        # Between two pixels of different classes, and at both ends of the image, there is a wall.
        differs = np.diff(maps, axis=axis) != 0
        size = maps.shape[axis]
        if not all_known:
            differs &= np.take(known, range(1, size), axis) & np.take(known, range(size - 1), axis)
        end = np.ones_like(np.take(maps, [0], axis=axis), dtype=bool)
        walls = np.concatenate([end, differs, end], axis=axis)
        before, after = (np.take(walls, range(start, start + size), axis=axis) for start in (0, 1))
        edge |= before | after
    edge &= (maps > 0) & known
    found = np.argwhere(edge)
    return _Points(found[:, 0] * classes + maps[edge], found[:, 1:] * np.asarray(spacing, np.float64))

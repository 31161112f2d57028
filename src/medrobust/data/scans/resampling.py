"""Volumes on a coarser or finer grid.

A new voxel is the mean of the old ones over its own extent, as the signal of a scanner with larger voxels
would be. Labels get the structure that fills most of the new voxel. On three scans taken from 1 to 2 mm and
back, labels agree better with the original than those by nearest neighbour or by linear interpolation with
antialiasing (mean Dice .878 against .860 and .876).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from scipy.ndimage import find_objects

ROUNDING = np.float32(1e-5)
"""Shares of a voxel that differ by less are equal."""


def resample_image(
    image: Float32[np.ndarray, "x y z"], spacing: Sequence[float], new: float
) -> Float32[np.ndarray, "x2 y2 z2"]:
    """An image on an isotropic grid over the same extent.

    Args:
        image: Any intensities.
        spacing: Size of its voxels in mm along each axis.
        new: Size of the new voxels in mm.
    """
    return _mean(image, [overlaps(n, size, new) for n, size in zip(image.shape, spacing, strict=True)])


def resample_labels(
    labels: UInt8[np.ndarray, "x y z"], spacing: Sequence[float], new: float
) -> UInt8[np.ndarray, "x2 y2 z2"]:
    """Labels, all below 255, on an isotropic grid over the same extent.

    Where two structures fill the same share of a voxel, it goes to the one that is smaller in this scan.
    """
    weights = [overlaps(n, size, new) for n, size in zip(labels.shape, spacing, strict=True)]
    if all(map(_changes_nothing, weights)):
        return labels
    resampled = np.zeros([len(matrix) for matrix in weights], np.uint8)
    largest = np.zeros(resampled.shape, np.float32)
    boxes = find_objects(labels + 1)
    # By planes: whole volumes would be copied as 64-bit numbers.
    sizes = np.zeros(256, np.int64)
    for plane in np.moveaxis(labels, -1, 0):
        sizes += np.bincount(plane.ravel(), minlength=256)
    for label in sorted(np.flatnonzero(sizes), key=lambda label: -sizes[label]):
        box = boxes[label]
        place = tuple(_reached(matrix, old) for matrix, old in zip(weights, box, strict=True))
        inside = [matrix[new, old] for matrix, new, old in zip(weights, place, box, strict=True)]
        share = _mean((labels[box] == label).astype(np.float32), inside)
        wins = share >= np.maximum(largest[place] - ROUNDING, ROUNDING)
        resampled[place][wins] = label
        largest[place][wins] = share[wins]
    return resampled


def overlaps(n: int, spacing: float, new: float) -> Float32[np.ndarray, "m n"]:
    """Weights of `n` old voxels in each new one: the shares of its length that they cover, rows summing to 1.

    The new grid is centred on the old one and is the smallest that covers it.
    """
    extent = n * spacing
    count = max(math.ceil(extent / new - 1e-3), 1)
    old = np.linspace(0, extent, n + 1)
    edges = (extent - count * new) / 2 + new * np.arange(count + 1)
    begins = np.maximum(edges[:-1, None], old[None, :-1])
    ends = np.minimum(edges[1:, None], old[None, 1:])
    covered = np.clip(ends - begins, 0, None)
    weights: np.ndarray = (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def _reached(weights: Float32[np.ndarray, "m n"], old: slice) -> slice:
    """The new voxels that some of the old ones lie in."""
    reached = np.flatnonzero(weights[:, old].any(axis=1))
    return slice(int(reached[0]), int(reached[-1]) + 1)


def _mean(volume: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    for matrix in weights:
        # The new axis comes last, so that three turns restore the order.
        if _changes_nothing(matrix):  # a product would take two more copies of a large volume
            volume = np.moveaxis(volume, 0, -1)
        else:
            volume = np.tensordot(volume, matrix, axes=(0, 1))
    return volume


def _changes_nothing(weights: Float32[np.ndarray, "m n"]) -> bool:
    """Whether every new voxel is an old one."""
    return np.array_equal(weights, np.eye(len(weights), dtype=np.float32))

"""What is exported of a scan or photograph: its images in order, and the files and grids they go to."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is not annotated.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Shaped
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from torch import Tensor

from medrobust.core import UNKNOWN, Case, Dataset, Grid, names_in
from medrobust.data.scans.geometry import region
from medrobust.running.plan import ImageSet
from medrobust.storage import digest
from medrobust.storage.picture_files import levels, read_nifti, read_png, write_nifti, write_png

OFF_GRID = 0.01
"""Fraction of a voxel by which a voxel may lie off the grid of a file."""

AS_IT_IS = np.array([[0, 1], [1, 1], [2, 1]])
"""The orientation of an array that is not turned."""

Steps = Float64[np.ndarray, "4 4"]
"""From the indices of one array to those of another: turned by quarters and shifted by whole voxels."""

UNLABELLED, UNLABELLED_WIDE = 2**8 - 1, 2**16 - 1
"""Number of pixels in exported label maps that are not labelled, of 8 bits and of 16."""

MEASURED = ("outcome", "ssim", "linf")
"""Columns of the `crafted` rows that the description of an image repeats."""

ORIGINAL = "that of the original file: its shape, its affine and the order of its voxels"
OWN = "that of the study; axes of volumes grow to the right, to the front and to the top"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """A photograph, or a scan: its slices one above the other, its patches, or all of it as one case.

    Attributes:
        name: Start of its files' names.
        cases: In the order of their positions.
        images: As stored in the run.
        labels: The truth.
        changed: Which images are perturbed; the others are clean.
        affine: From slice, row and column of the scan to world millimetres; None where images lie nowhere.
        original: Grid of the scan's own file; None where there is none.
        patches: How many patches tile the scan along each axis; None if its cases are no patches.
    """

    name: str
    cases: tuple[Case, ...]
    images: Float32[Tensor, "n c *space"]
    labels: Int64[Tensor, "n *labelspace"]
    changed: tuple[bool, ...]
    affine: Float64[np.ndarray, "4 4"] | None
    original: Grid | None = None
    patches: tuple[int, ...] | None = None

    @property
    def is_volume(self) -> bool:
        """Whether it becomes NIfTI: it lies somewhere, or has no two axes that a picture needs."""
        return self.affine is not None or self.images.ndim != 4

    @property
    def is_stack(self) -> bool:
        """Whether it is a volume of slices, rather than one that is a case as a whole."""
        return self.is_volume and self.images.ndim == 4

    @property
    def grid(self) -> Grid:
        """Grid of its volume, which begins with its first slice; voxels of 1 mm if their size is unknown."""
        affine = np.eye(4) if self.affine is None else self.affine
        first = np.eye(4)
        first[0, 3] = self.cases[0].position if self.is_stack else 0
        shape = (side * count for side, count in zip(self.sides, self.tiles, strict=True))
        return Grid(tuple(shape), affine @ first)

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of an image in its volume; a slice is one voxel thick."""
        return (1, *self.images.shape[2:])[-3:]

    @property
    def tiles(self) -> tuple[int, ...]:
        """Images in its volume along each axis, with those between its cases that are none."""
        if self.is_stack:
            return self.cases[-1].position - self.cases[0].position + 1, 1, 1
        return self.patches or (1, 1, 1)

    @property
    def boxes(self) -> list[tuple[slice, ...]]:
        """Where each image lies in its volume."""
        first = self.cases[0].position if self.patches is None else 0
        places = (np.unravel_index(case.position - first, self.tiles) for case in self.cases)
        begins = (np.multiply(place, self.sides).tolist() for place in places)
        return [
            tuple(slice(start, start + side) for start, side in zip(begin, self.sides, strict=True))
            for begin in begins
        ]

    @cached_property
    def file(self) -> Grid:
        """Grid of its files: that of the original, if every voxel is one of its voxels and none is lost."""
        volume = _volume(self, np.moveaxis(self.images.numpy(), 1, -1))
        steps = None if self.original is None else steps_between(self.grid, self.original)
        if self.original is not None and steps is not None:
            kept = take(put(volume, steps, self.original.shape), steps, self.grid.shape)
            if np.array_equal(kept, volume):
                return self.original
        return canonical(self.grid)

    @property
    def steps(self) -> Steps:
        """From the indices of its volume to those of its files."""
        steps = steps_between(self.grid, self.file)
        assert steps is not None
        return steps


def write_image(item: Item, folder: Path, bits: int | None) -> list[str]:
    """Write the images of an item as they are stored and, if `bits` are given, rounded to them.

    Returns:
        Names of the files; the rounded ones come last.
    """
    exact = item.images.numpy()
    if not item.is_volume:
        names = [f"{item.name}.npy"]
        np.save(folder / names[0], exact[0], allow_pickle=False)
        if bits is not None:
            names.append(f"{item.name}-{bits}bit.png")
            write_png(folder / names[-1], levels(exact[0], bits))
        return names
    voxels = _in_file(item, np.moveaxis(exact, 1, -1))
    voxels = voxels[..., 0] if voxels.shape[-1] == 1 else voxels
    names = [f"{item.name}.nii.gz"]
    write_nifti(folder / names[0], voxels, item.file.affine)
    if bits is not None:
        names.append(f"{item.name}-{bits}bit.nii.gz")
        write_nifti(folder / names[-1], levels(voxels, bits), item.file.affine, slope=1 / (2**bits - 1))
    return names


def read_image(item: Item, file: Path) -> Float32[Tensor, "n c *space"]:
    """The images of an item from a file that `write_image` wrote."""
    if file.suffix == ".npy":
        return torch.from_numpy(np.load(file, allow_pickle=False)[None])
    if file.suffix == ".png":
        return torch.from_numpy(read_png(file)[None])
    voxels = take(read_nifti(file), item.steps, item.grid.shape)
    voxels = voxels[..., None] if voxels.ndim == 3 else voxels
    images = np.stack([voxels[box].reshape(*item.images.shape[2:], -1) for box in item.boxes])
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1), np.float32))


def write_labels(item: Item, folder: Path, maps: Mapping[str, Int64[Tensor, "n *space"]]) -> list[str]:
    """Write label maps by their names, numbers unchanged but for `UNLABELLED`; returns the files' names."""
    names = []
    for what, labels in maps.items():
        numbers = np.where(labels == UNKNOWN, _unlabelled(labels), labels.numpy())
        numbers = numbers.astype(np.uint8 if _unlabelled(labels) == UNLABELLED else np.uint16)
        names.append(f"{item.name}-{what}" + (".nii.gz" if item.is_volume else ".png"))
        if item.is_volume:
            write_nifti(folder / names[-1], _in_file(item, numbers), item.file.affine)
        else:
            write_png(folder / names[-1], numbers)
    return names


def _unlabelled(labels: Tensor) -> int:
    """Number of pixels that are not labelled in the file of a label map."""
    return UNLABELLED if labels.max() < UNLABELLED else UNLABELLED_WIDE


def _in_file(item: Item, images: np.ndarray) -> np.ndarray:
    return put(_volume(item, images), item.steps, item.file.shape)


def _volume(item: Item, images: np.ndarray) -> np.ndarray:
    """Images where they lie, and black where a slice or patch of the scan is not a case."""
    channels = images.shape[item.images.ndim - 1 :]
    volume = np.zeros((*item.grid.shape, *channels), images.dtype)
    for box, image in zip(item.boxes, images, strict=True):
        volume[box] = image
    return volume


def describe(
    image_set: ImageSet,
    item: Item,
    dataset: Dataset,
    rows: Mapping[str, Row],
    shown: Mapping[str, Int64[Tensor, "n *labelspace"]],
) -> dict[str, Any]:
    """What the files of an item are, as JSON-able data.

    `rows` are the `crafted` rows of the set by case, `shown` the predictions of networks by name.
    """
    has_unlabelled = dataset.task.has_maps and bool((item.labels == UNKNOWN).any())
    return {
        "data": dataset.name,
        "perturbation": image_set.perturbation,
        "source": image_set.source.id.folder if image_set.source else None,
        "scan_id": item.cases[0].scan_id,
        "patient_id": item.cases[0].patient_id,
        "values": "0 to 1, as the networks see them, not in the units of the original file",
        "grid": ORIGINAL if item.is_volume and item.file is item.original else OWN,
        "facts": dict(dataset.facts or {}),
        "classes": list(dataset.classes),
        **(
            {"regions": {name: list(own) for name, own in dataset.regions.items()}} if dataset.regions else {}
        ),
        **({"not_labelled": _unlabelled(item.labels)} if has_unlabelled else {}),
        "images": _images(item, rows, shown, dataset),
    }


def _images(
    item: Item, rows: Mapping[str, Row], shown: Mapping[str, Tensor], dataset: Dataset
) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = []
    for number, (case, changed) in enumerate(zip(item.cases, item.changed, strict=True)):
        image: dict[str, Any] = {"case_id": case.case_id, "perturbed": changed}
        if item.is_stack:
            axis = int(np.flatnonzero(item.steps[:3, 0])[0])  # along which slices lie in the file
            image["xyz"[axis]] = int(item.steps[axis] @ [item.boxes[number][0].start, 0, 0, 1])
        elif item.patches is not None:
            box = item.boxes[number]
            ends = [[each.start for each in box], [each.stop - 1 for each in box]]
            corners = np.array([item.steps @ [*end, 1] for end in ends], int)[:, :3]
            image |= {"from_voxel": corners.min(0).tolist(), "to_voxel": corners.max(0).tolist()}
        row = rows.get(case.case_id, {}) if changed else {}
        image |= {column: row[column] for column in MEASURED if column in row}
        if not dataset.task.has_maps:
            image["truth"] = _said(item.labels[number], dataset)
            image["predicted"] = {name: _said(seen[number], dataset) for name, seen in shown.items()}
        images.append(image)
    return images


def _said(label: Tensor, dataset: Dataset) -> str | list[str]:
    """The class of an image, or all of its findings."""
    names = names_in(label.tolist(), dataset.classes)
    return names if dataset.labelspace else names[0]


def file_name(name: str) -> str:
    """A name for files of a case, scan or set, whose own name may be anything, e.g. a path.

    >>> file_name("1003_3"), file_name("mel/a.jpg")
    ('1003_3', 'mel_a.jpg-ce30cb')
    """
    safe = "".join(letter if letter.isalnum() or letter in "._-+@" else "_" for letter in name)[:100]
    return safe if safe == name else f"{safe}-{digest(name)[:6]}"


def canonical(grid: Grid) -> Grid:
    """The same voxels, their axes growing to the right, to the front and to the top."""
    turn = io_orientation(grid.affine)
    shape = _turned(grid.shape, turn)
    return Grid(shape, grid.affine @ inv_ornt_aff(turn, grid.shape))


def steps_between(volume: Grid, file: Grid) -> Steps | None:
    """Where the voxels of a volume are in a file; None where they lie between those of the file."""
    exact = np.linalg.solve(file.affine, volume.affine)
    steps: Steps = np.rint(exact)
    beside = abs(exact - steps)[:3] @ [*volume.shape, 1]
    quarters = (abs(steps[:3, :3]).sum(axis=side) for side in (0, 1))
    on_grid = beside.max() <= OFF_GRID and all((sums == 1).all() for sums in quarters)
    return steps if on_grid else None


def put(
    voxels: Shaped[np.ndarray, "i j k *c"], steps: Steps, shape: Sequence[int]
) -> Shaped[np.ndarray, "x y z *c"]:
    """A volume in a file of a shape, which is black elsewhere; what lies outside is cut off."""
    turned = apply_orientation(voxels, io_orientation(steps))
    channels = voxels.shape[3:]
    begin = [-place for place in _first(steps, voxels.shape)]
    return region(turned, [*begin, *(0 for _ in channels)], (*shape, *channels))


def take(
    file: Shaped[np.ndarray, "x y z *c"], steps: Steps, shape: Sequence[int]
) -> Shaped[np.ndarray, "i j k *c"]:
    """A volume of a shape back from the file that it was put in; black where it reached outside."""
    turn, channels = io_orientation(steps), file.shape[3:]
    sides = (*_turned(shape, turn), *channels)
    turned = region(file, [*_first(steps, shape), *(0 for _ in channels)], sides)
    volume: np.ndarray = apply_orientation(turned, ornt_transform(AS_IT_IS, turn))
    return volume


def _first(steps: Steps, shape: Sequence[int]) -> list[int]:
    """Where in a file a volume of a shape begins."""
    reach = steps[:3, :3] * (np.array(shape[:3]) - 1)
    return [int(place) for place in steps[:3, 3] + np.minimum(reach, 0).sum(axis=1)]


def _turned(shape: Sequence[int], turn: np.ndarray) -> tuple[int, ...]:
    """Shape of an array that is turned."""
    return tuple(shape[int(axis)] for axis in np.argsort(turn[:, 0]))

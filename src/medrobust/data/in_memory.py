"""Data sets in memory: arrays, tensors, or what a PyTorch data set or loader yields."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medrobust.core import UNKNOWN, Case, Dataset, Sample, Task, Unit
from medrobust.data.contract import checked
from medrobust.data.files import is_missing
from medrobust.data.findings import quoted
from medrobust.data.own import fingerprint
from medrobust.data.regions import MOST_MASKS, Regions, combined, with_regions
from medrobust.errors import DataError, reason

BITS = 8
"""Assumed for images of unknown origin; only `quantise` uses it."""


def as_dataset(
    data: Any,
    *,
    patients: Iterable[object] | None = None,
    scans: Iterable[object] | None = None,
    classes: Sequence[str] | None = None,
    spacing: Sequence[float] | None = None,
    regions: Regions | None = None,
    name: str = "in-memory",
) -> Dataset:
    """The data set that a notebook has at hand.

    Args:
        data: A `core.Dataset`, which only has to keep its contract; a tuple `(images, labels)` or a mapping
            with these two keys, see `in_memory`; or a PyTorch data set or data loader whose items are such
            pairs, or mappings with `image` and `label`, all of which is read once and stays in memory.
        patients: As for `in_memory`, like the rest.
        scans: The scan of each image.
        classes: Names of the classes.
        spacing: Size of a pixel in mm along each spatial axis.
        regions: Structures that are unions of classes.
        name: Name of the data set in reports.

    Raises:
        DataError: The data are of another kind, or break a rule of `in_memory` or the contract.
    """
    given: dict[str, Any] = {"patients": patients, "scans": scans, "classes": classes, "spacing": spacing}
    given["regions"] = regions
    if isinstance(data, Dataset):
        options = [key for key, value in given.items() if value is not None]
        if options:
            raise DataError(f"{options[0]}: a medrobust.core.Dataset has its own. Leave the argument out.")
        return checked(data)
    if isinstance(data, Mapping) and data.keys() >= {"images", "labels"}:
        images, labels = data["images"], data["labels"]
    elif isinstance(data, tuple) and len(data) == 2:
        images, labels = data
    elif hasattr(data, "__iter__") or hasattr(data, "__getitem__"):
        images, labels = _gathered(data)
    else:
        raise DataError(
            "data: must be a tuple (images, labels), a PyTorch data set or data loader, or a "
            f"medrobust.core.Dataset; got {type(data).__name__}."
        )
    return in_memory(images, labels, **given, name=name)


def in_memory(
    images: Any,
    labels: Any,
    *,
    patients: Iterable[object] | None = None,
    scans: Iterable[object] | None = None,
    classes: Sequence[str] | None = None,
    spacing: Sequence[float] | None = None,
    regions: Regions | None = None,
    name: str = "in-memory",
) -> Dataset:
    """A data set of images and labels in memory.

    Args:
        images: Array or tensor `n c *space` of floats in [0, 1], with two or three spatial axes.
        labels: Array or tensor of whole numbers: `n`, the class of each image; `n findings`, 1 where an image
            shows a finding, 0 where it does not, -1 where that is not known; or `n *space`, the class of each
            pixel, where 0 is the background and -1 a pixel that nobody labelled. Or of booleans `n k *space`,
            masks of `k` structures that may overlap: classes are the combinations that occur, and structures
            are regions of them. Images in which nothing is labelled are left out.
        patients: The patient of each image, for splits and confidence intervals; None: each scan is one.
        scans: The scan of each image: slices of one scan are scored together; None: each image is one.
        classes: Names of the classes or findings, or of the structures that have masks; None: "0" (in
            segmentation "background"), "1" and so on.
        spacing: Size of a pixel in mm along each spatial axis; None: unknown.
        regions: Structures that are unions of classes, and are scored in their place, see `with_regions`.
        name: Name of the data set in reports.

    Returns:
        The data set; cases are named by their position, from "0" on.

    Raises:
        DataError: An argument breaks a rule above; the message names it.
    """
    pixels, given = _images(_array(images, "images")), _array(labels, "labels")
    structures: dict[str, tuple[int, ...]] | None = None
    if given.dtype == bool and given.shape == (len(pixels), *given.shape[1:2], *pixels.shape[2:]):
        truth, names, structures = _of_masks(given, classes)
        task = Task.SEGMENTATION
    else:
        truth = _labels(given, pixels)
        task = {1: Task.CLASSIFICATION, 2: Task.MULTILABEL}.get(truth.ndim, Task.SEGMENTATION)
        names = _classes(classes, truth, task)
    width = len(str(len(pixels) - 1))
    case_ids = [f"{place:0{width}d}" for place in range(len(pixels))]
    scan_ids = _of_images("scans", scans, len(pixels)) or case_ids
    patient_ids = _of_images("patients", patients, len(pixels)) or scan_ids
    unit: Unit = "patient" if patients is not None else "image" if scans is None else "scan"
    positions: dict[str, Iterator[int]] = {scan: itertools.count() for scan in scan_ids}
    cases = tuple(
        Case(
            case_id,
            scan,
            patient,
            label=None if task.has_maps else _plain(label),
            position=next(positions[scan]),
            foreground=int(np.count_nonzero(label > 0)) if task.has_maps else 0,
        )
        for case_id, scan, patient, label in zip(case_ids, scan_ids, patient_ids, truth, strict=True)
        if not task.has_maps or (label != UNKNOWN).any()
    )
    left_out = len(pixels) - len(cases)
    if not cases:
        raise DataError(f"labels: must be known (not {UNKNOWN}) in some image; nothing is labelled.")
    sizes = None if spacing is None else tuple(float(size) for size in spacing)
    read = Arrays(pixels, truth)
    identity = repr((names, unit, sizes, fingerprint(cases, read)))
    dataset = checked(
        Dataset(
            name=name,
            task=task,
            classes=names,
            unit=unit,
            channels=pixels.shape[1],
            shape=pixels.shape[2:],
            spacing=sizes,
            cases=cases,
            read=read,
            fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
            facts={
                "images": f"{len(pixels)} in memory, given in Python",
                "grouping": "by patient, as given"
                if patients is not None
                else f"none: no patients were given, so every {unit} counts by itself",
                **({"ignored": f"{left_out} images in which nothing is labelled"} if left_out else {}),
            },
            bits=BITS,
            regions=structures,
        )
    )
    if regions is not None and not task.has_maps:
        raise DataError(f"regions: are of label maps, and these labels are of {task}. Leave them out.")
    return with_regions(dataset, regions=regions)


def _of_masks(
    masks: np.ndarray, names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Label maps of masks `n k *space`, the names of their classes, and the classes of each structure."""
    structures = list(names or map(str, range(1, masks.shape[1] + 1)))
    if len(structures) != masks.shape[1] or not all(isinstance(each, str) for each in structures):
        raise DataError(
            f"classes: must name the {masks.shape[1]} structures that have masks (the background has none); "
            f"got {quoted(list(map(str, structures)))}."
        )
    if masks.shape[1] > MOST_MASKS:
        raise DataError(f"labels: at most {MOST_MASKS} masks are possible; got {masks.shape[1]}.")
    codes = np.zeros((len(masks), *masks.shape[2:]), np.int64)
    for place in range(masks.shape[1]):
        codes |= masks[:, place].astype(np.int64) << place
    present, numbers = np.unique(np.append(codes, 0), return_inverse=True)
    classes, regions = combined(present.tolist(), structures)
    return numbers[:-1].reshape(codes.shape), classes, regions


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """Reads cases from arrays, by the number that is their name."""

    images: np.ndarray
    labels: np.ndarray

    def __call__(self, case: Case) -> Sample:
        """A copy of the image and label of a case."""
        place = int(case.case_id)
        return Sample(self.images[place].copy(), np.array(self.labels[place]))


def _array(values: Any, argument: str) -> np.ndarray:
    """An array from an array, a list, or a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # NumPy has no such type
            values = values.float()
    try:
        array = np.asarray(values)
    except Exception as error:  # from lists of different lengths, or another library's arrays
        raise DataError(f"{argument}: must be one array or tensor; {reason(error)}.") from error
    if array.dtype == object:
        raise DataError(f"{argument}: must be one array or tensor of numbers; got {type(values).__name__}.")
    return array


def _images(images: np.ndarray) -> np.ndarray:
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"images: must be floating-point numbers in [0, 1]; got {images.dtype}. Divide by the largest "
            "possible value, e.g. images / 255."
        )
    if images.ndim not in (4, 5) or 0 in images.shape:
        raise DataError(
            "images: must have the shape (images, channels, height, width), or one more spatial axis, and no "
            f"axis of length 0; got {images.shape}."
        )
    images = images.astype(np.float32)  # a copy, so that nothing changes the data behind their fingerprint
    broken = np.flatnonzero(~np.isfinite(images).all(axis=tuple(range(1, images.ndim))))
    if broken.size:
        raise DataError(
            f"images: must be finite; {broken.size} hold NaN or infinity, the first is number {broken[0]}."
        )
    low, high = images.min(), images.max()
    if low < 0 or high > 1:
        raise DataError(
            f"images: must lie in [0, 1]; got {low:g} to {high:g}. Undo the normalisation (it belongs to the "
            "network's input), or divide by the largest possible value."
        )
    return images


def _labels(labels: np.ndarray, images: np.ndarray) -> np.ndarray:
    if labels.ndim == 2 and len(labels) == len(images) and labels.shape[1] > 1:
        return _findings(labels)
    wanted = {(len(images),), (len(images), *images.shape[2:])}
    if labels.shape not in wanted:
        shapes = " or ".join(map(str, sorted(wanted, key=len)))
        hint = "."
        if labels.ndim > 1 and labels.shape[1] == 1 and (labels.shape[0], *labels.shape[2:]) in wanted:
            hint = ": remove the axis of length 1, e.g. labels.squeeze(1)."
        elif labels.ndim == images.ndim and len(labels) == len(images):
            hint = (
                ": give the number of the class, e.g. labels.argmax(1), and not one column per class. Masks "
                "that may overlap are booleans, e.g. labels > 0."
            )
        raise DataError(f"labels: must have the shape {shapes}, as the images; got {labels.shape}{hint}")
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool:
        raise DataError(f"labels: must be whole numbers; got {labels.dtype}. Convert them to integers.")
    least = 0 if labels.ndim == 1 else UNKNOWN
    if labels.min() < least:
        also = f", and {UNKNOWN} is what nobody labelled" if least < 0 else ""
        raise DataError(f"labels: must number the classes from 0{also}; got {labels.min()}.")
    return labels.astype(np.int64)


def _findings(labels: np.ndarray) -> np.ndarray:
    values = set(np.unique(labels).tolist())
    if not values <= {0, 1, UNKNOWN}:
        raise DataError(
            f"labels: several columns are findings, 1 (present), 0 (absent) or {UNKNOWN} (not known); got "
            f"{quoted(sorted(map(str, values)))}. Regression is not supported. Of classes give one number per"
            " image."
        )
    if UNKNOWN not in values and (labels.sum(1) == 1).all():
        raise DataError(
            "labels: exactly one column is 1 in every row, so these are classes: give the number of the "
            "class, e.g. labels.argmax(1). (Several columns are findings: an image shows any number.)"
        )
    return labels.astype(np.int64)


def _plain(label: Any) -> int | tuple[int, ...]:
    """The class of an image, or its findings."""
    return tuple(label.tolist()) if np.ndim(label) else int(label)


def _classes(classes: Sequence[str] | None, labels: np.ndarray, task: Task) -> tuple[str, ...]:
    largest = labels.shape[1] - 1 if task is Task.MULTILABEL else int(labels.max())
    if classes is None:
        if largest > np.iinfo(np.uint16).max:
            raise DataError(f"labels: must number the classes from 0 without gaps; got {largest}.")
        first = "background" if task.has_maps else "0"
        return (first, *map(str, range(1, max(largest, 1) + 1)))
    if isinstance(classes, str) or not all(isinstance(each, str) for each in classes):
        raise DataError(f"classes: must be a sequence of names; got {classes!r}.")
    if largest >= len(classes):
        raise DataError(
            f"labels: must be below {len(classes)}, the number of classes given; got {largest}. Name every "
            "class or finding, including the background in segmentation."
        )
    if task is Task.MULTILABEL and len(classes) != labels.shape[1]:
        raise DataError(
            f"classes: must name the {labels.shape[1]} findings, the columns of labels; got {len(classes)}."
        )
    return tuple(classes)


def _of_images(argument: str, values: Iterable[object] | None, count: int) -> list[str] | None:
    """A name for each image; numbers become texts."""
    if values is None:
        return None
    array = values.detach().cpu().tolist() if hasattr(values, "detach") else values
    names = [str(value).strip() for value in array]
    if len(names) != count:
        raise DataError(f"{argument}: must have one entry per image, {count} in all; got {len(names)}.")
    lacking = [str(place) for place, value in enumerate(names) if is_missing(value)]
    if lacking:
        raise DataError(
            f"{argument}: must be known for every image, but number {quoted(lacking)} has none. Give each of "
            "these a name of its own."
        )
    return names


def _gathered(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Everything that a PyTorch data set (single items) or data loader (batches) yields."""
    is_loader = hasattr(data, "batch_size") and hasattr(data, "dataset")
    collates = is_loader and (data.batch_size is not None or getattr(data, "batch_sampler", None) is not None)
    images, labels = [], []
    try:
        items = iter(data) if hasattr(data, "__iter__") else (data[place] for place in range(len(data)))
        for number, item in enumerate(items):
            image, label = _pair(item, number)
            images.append(image if collates else image[None])
            labels.append(label if collates else label[None])
    except DataError:
        raise
    except Exception as error:  # of the user's code
        raise DataError(f"data: reading item {len(images)} failed: {reason(error)}.") from error
    if not images:
        raise DataError("data: must hold at least one image; got none.")
    shapes = sorted({image.shape[1:] for image in images})
    if len(shapes) > 1:
        raise DataError(
            f"data: all images must have one shape; got {' and '.join(map(str, shapes[:3]))}. Resize them."
        )
    try:
        return np.concatenate(images), np.concatenate(labels)
    except ValueError as error:
        raise DataError(f"data: labels must all have one shape; {reason(error)}.") from error


def _pair(item: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(item, Mapping) and item.keys() >= {"image", "label"}:
        item = (item["image"], item["label"])
    if not isinstance(item, tuple | list) or len(item) != 2:
        held = (
            f"a mapping with {quoted(sorted(map(str, item)))}"
            if isinstance(item, Mapping)
            else type(item).__name__
        )
        raise DataError(
            "data: items must be pairs (image, label), or mappings with `image` and `label`; item "
            f"{number} is {held}."
        )
    return _array(item[0], "data: images"), _array(item[1], "data: labels")

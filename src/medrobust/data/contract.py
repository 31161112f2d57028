"""What every data set promises, as checks that raise a DataError naming the field that breaks the promise.

The catalogue is tested with these; the user's own data are checked whenever they are opened and read.
`core.Dataset` and `core.Sample` state the contract.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from medrobust.core import UNKNOWN, Case, Dataset, Part, Sample, Task, Unit
from medrobust.data.files import is_missing
from medrobust.data.findings import quoted
from medrobust.errors import DataError, MedrobustError, reason

Faults = Iterator[tuple[str, str]]
"""Fields that break a rule, each with the rule, the value seen and what to do."""


def check_dataset(dataset: Dataset) -> None:
    """Check everything that a data set says about itself; `check_sample` checks its images."""
    where = f"Data set {dataset.name!r}"
    for rules in (_of_the_whole, _of_the_grid, _of_cases, _of_labels, _of_the_rest):
        _require_none(rules(dataset), where)


def check_sample(dataset: Dataset, case: Case, sample: Sample) -> None:
    """Check what a data set has read; the message also names the case."""
    _require_none(_of_sample(dataset, case, sample), f"Data set {dataset.name!r}, case '{case.case_id}'")


def _require_none(faults: Faults, where: str) -> None:
    """Stop at the first fault: later rules rely on earlier ones."""
    try:
        for field, says in faults:
            raise DataError(f"{where}: {field} {says}")
    except (TypeError, ValueError, AttributeError) as error:  # something that no rule foresaw
        raise DataError(f"{where}: a field has the wrong type ({reason(error)}).") from error


@dataclass(frozen=True, slots=True)
class CheckedReader:
    """The `read` of a data set, which checks every sample."""

    dataset: Dataset

    def __call__(self, case: Case) -> Sample:
        """The sample of a case; a DataError if it cannot be read or breaks the contract."""
        try:
            sample = Sample(*self.dataset.read(case))
        except MedrobustError:
            raise
        except Exception as error:  # of the user's code
            raise DataError(
                f"Data set {self.dataset.name!r}, case '{case.case_id}': `read` failed: {reason(error)}."
            ) from error
        check_sample(self.dataset, case, sample)
        return sample


def checked(dataset: Dataset) -> Dataset:
    """The same data set, known to keep the contract; its samples are checked whenever they are read."""
    check_dataset(dataset)
    return replace(dataset, read=CheckedReader(dataset))


def _of_the_whole(dataset: Dataset) -> Faults:
    if not isinstance(dataset.name, str) or not dataset.name:
        yield "name", f"must be a string; got {dataset.name!r}."
    if not isinstance(dataset.task, Task):
        yield "task", f"must be a medrobust.core.Task; got {dataset.task!r}."
    if not _is_tuple_of(dataset.classes, str) or len(dataset.classes) < 2:
        yield "classes", f"must be a tuple of at least two names; got {dataset.classes!r}."
    if len(set(dataset.classes)) < len(dataset.classes) or "" in dataset.classes:
        yield "classes", f"must be different names; got {dataset.classes!r}."
    if dataset.unit not in get_args(Unit):
        yield "unit", f"must be one of {', '.join(get_args(Unit))}; got {dataset.unit!r}."
    if not isinstance(dataset.fingerprint, str) or not dataset.fingerprint:
        yield (
            "fingerprint",
            f"must be a string that changes with every image and label; got {dataset.fingerprint!r}. "
            "`medrobust.data.own.fingerprint` makes one.",
        )


def _of_the_grid(dataset: Dataset) -> Faults:
    if not _is_count(dataset.channels):
        yield "channels", f"must be a whole number of at least 1; got {dataset.channels!r}."
    if not isinstance(dataset.shape, tuple) or not all(map(_is_count, dataset.shape)):
        yield "shape", f"must be a tuple of whole numbers of at least 1; got {dataset.shape!r}."
    if len(dataset.shape) not in (2, 3):
        yield "shape", f"must have 2 or 3 sides; got {dataset.shape!r}."
    if dataset.spacing is not None and len(dataset.spacing) != len(dataset.shape):
        yield "spacing", f"must have a size in mm for each side of {dataset.shape}; got {dataset.spacing!r}."
    if not all(size > 0 and np.isfinite(size) for size in dataset.spacing or ()):
        yield "spacing", f"must be sizes above 0 mm; got {dataset.spacing!r}."
    if not _is_count(dataset.bits) or dataset.bits > 16:
        yield "bits", f"must be a whole number from 1 to 16; got {dataset.bits!r}."


def _of_cases(dataset: Dataset) -> Faults:
    if not _is_tuple_of(dataset.cases, Case) or not dataset.cases:
        yield "cases", "must be a tuple of at least one medrobust.core.Case."
    for field in ("case_id", "scan_id", "patient_id"):
        names = [getattr(case, field) for case in dataset.cases]
        if not all(isinstance(name, str) and name for name in names):
            yield f"cases.{field}", "must be a non-empty string in every case."
    ids = [case.case_id for case in dataset.cases]
    if twice := _repeated(ids):
        yield "cases.case_id", f"must be unique; twice: {quoted(twice)}."
    if ids != sorted(ids):
        yield "cases", "must be sorted by case_id: tuple(sorted(cases, key=lambda case: case.case_id))."
    if twice := _repeated(f"{case.scan_id} at {case.position}" for case in dataset.cases):
        yield "cases.position", f"must be unique in a scan; twice: {quoted(twice)}."
    owners = {(case.scan_id, case.patient_id) for case in dataset.cases}
    nobody = [patient for _, patient in owners if is_missing(patient)]
    if len(nobody) > 1:
        yield (
            "cases.patient_id",
            f"must say whose scan it is; got {quoted(sorted(set(nobody)))} for {len(nobody)} scans. If the "
            "patient is unknown, give each scan one of its own.",
        )
    if shared := _repeated(scan for scan, _ in owners):
        yield "cases.patient_id", f"must be the same for all cases of a scan; wrong for {quoted(shared)}."


def _of_labels(dataset: Dataset) -> Faults:
    if dataset.task.has_maps:
        if any(case.label is not None for case in dataset.cases):
            yield "cases.label", "must be None in segmentation: labels are read with the images."
        wrong = [case.case_id for case in dataset.cases if not _is_count(case.foreground, least=0)]
        if wrong:
            says = f"must be the number of pixels with a class above 0; wrong for {quoted(wrong)}."
            yield "cases.foreground", says
        if not any(case.is_labelled for case in dataset.cases):
            yield "cases.foreground", "must be above 0 in some case: nothing can be learned or scored."
        return
    if any(case.foreground != 0 for case in dataset.cases):
        yield "cases.foreground", "must be 0 where images as a whole have labels."
    yield from (_of_findings if dataset.task is Task.MULTILABEL else _of_classes)(dataset)


def _of_classes(dataset: Dataset) -> Faults:
    known = range(len(dataset.classes))
    wrong = [
        case.case_id for case in dataset.cases if case.label not in known or isinstance(case.label, bool)
    ]
    if wrong:
        yield "cases.label", f"must be a number of a class, 0 to {known[-1]}; wrong for {quoted(wrong)}."
    present = {case.label for case in dataset.cases}
    absent = [name for index, name in enumerate(dataset.classes) if index not in present]
    if absent:
        yield "classes", f"must all have cases; without any: {quoted(absent)}."


def _of_findings(dataset: Dataset) -> Faults:
    known = {0, 1, UNKNOWN}
    for case in dataset.cases:
        if not isinstance(case.label, tuple) or len(case.label) != len(dataset.classes):
            says = (
                f"must be a tuple of {len(dataset.classes)} numbers, one for each finding; got {case.label!r}"
            )
            yield "cases.label", f"{says} in '{case.case_id}'."
        elif not known >= set(case.label) or set(case.label) == {UNKNOWN}:
            yield (
                "cases.label",
                f"must be 1 (present), 0 (absent) or {UNKNOWN} (not known) for each finding, and known for "
                f"one or more; got {case.label!r} in '{case.case_id}'.",
            )
    answers = np.array([case.label for case in dataset.cases])
    lacking = ((answers != 0).all(0) | (answers != 1).all(0)).tolist()
    if any(lacking):
        names = [name for name, lacks in zip(dataset.classes, lacking, strict=True) if lacks]
        yield "classes", f"must each be present in some case and absent in another; not so: {quoted(names)}."


def _of_the_rest(dataset: Dataset) -> Faults:
    if dataset.official is not None:
        patients = {case.patient_id for case in dataset.cases}
        if not all(isinstance(part, Part) for part in dataset.official.values()):
            yield "official", "must give each patient a medrobust.core.Part."
        missing = sorted(patients - dataset.official.keys())
        if missing:
            yield "official", f"must give every patient a part; without one: {quoted(missing)}."
    facts = dataset.facts or {}
    if not all(isinstance(text, str) and text for pair in facts.items() for text in pair):
        yield "facts", f"must map names to strings; got {facts!r}."
    yield from _of_attributes(dataset)
    colours = [colour for colour in dataset.colours if colour is not None]
    if len(dataset.colours) not in (0, len(dataset.classes)) or any(len(colour) != 3 for colour in colours):
        yield "colours", f"must be (red, green, blue) or None for each class; got {dataset.colours!r}."
    if not all(isinstance(part, int) and 0 <= part <= 255 for colour in colours for part in colour):
        yield "colours", f"must be whole numbers from 0 to 255; got {dataset.colours!r}."
    yield from _of_regions(dataset)
    yield from _of_places(dataset)


def _of_regions(dataset: Dataset) -> Faults:
    regions = dataset.regions or {}
    if regions and not dataset.task.has_maps:
        yield "regions", f"are of segmentation; got {dataset.task}."
    if not all(isinstance(name, str) and name and name != dataset.classes[0] for name in regions):
        yield "regions", f"must have names other than that of the background; got {quoted([*regions])}."
    for name, own in regions.items():
        if not own or not all(
            isinstance(number, int) and 0 < number < len(dataset.classes) for number in own
        ):
            last = len(dataset.classes) - 1
            yield "regions", f"must hold numbers of classes, 1 to {last}; got {own!r} in '{name}'."
    if twice := _repeated(str(sorted({*own})) for own in regions.values()):
        yield "regions", f"must each hold other classes; twice: {quoted(twice)}."


def _of_places(dataset: Dataset) -> Faults:
    scan = dataset.cases[0].scan_id
    affines = [("affine", dataset.affine(scan))] if dataset.affine else []
    affines += [("original", dataset.original(scan).affine)] if dataset.original else []
    for field, affine in affines:
        if np.shape(affine) != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
            yield field, f"must give 4 x 4 numbers that span a volume; got {np.asarray(affine).tolist()}."
    if dataset.patches is not None:
        last = max(case.position for case in dataset.cases)
        if len(dataset.patches) != len(dataset.shape) or last >= math.prod(dataset.patches):
            yield (
                "patches",
                f"must be as many along each axis as positions count (up to {last}); got {dataset.patches}.",
            )


def _of_attributes(dataset: Dataset) -> Faults:
    attributes = dataset.attributes or {}
    stray = sorted(attributes.keys() - {case.scan_id for case in dataset.cases})
    if stray:
        yield "attributes", f"must be keyed by scan id, as in cases; wrong for {quoted(stray)}."
    for scan, values in attributes.items():
        for name, value in values.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not isinstance(name, str) or not name or not (is_number or isinstance(value, str)):
                yield (
                    "attributes",
                    f"must map names to strings or numbers; got {name!r}: {value!r} of '{scan}'. Leave out "
                    "what is unknown.",
                )


def _of_sample(dataset: Dataset, case: Case, sample: Sample) -> Faults:
    yield from _of_array("image", sample.image, np.float32, (dataset.channels, *dataset.shape))
    if not np.isfinite(sample.image).all():
        yield "image", "must be finite; it holds NaN or infinity."
    low, high = sample.image.min(), sample.image.max()
    if low < 0 or high > 1:
        yield "image", f"must lie in [0, 1]; got {low:g} to {high:g}. Divide by the largest possible value."
    maps = dataset.task.has_maps
    yield from _of_array("label", sample.label, np.int64, dataset.labelspace)
    low, high = sample.label.min(), sample.label.max()
    if maps and (low < UNKNOWN or high >= len(dataset.classes)):
        says = f"must number the {len(dataset.classes)} classes from 0, or be {UNKNOWN} where it is not known"
        yield "label", f"{says}; got {low} to {high}."
    if maps and high == UNKNOWN:
        yield "label", f"must be known in some pixel; got {UNKNOWN} in all. Leave the case out."
    if not maps and not np.array_equal(sample.label, np.asarray(case.label)):
        yield "label", f"must be that of its case, {case.label}; got {sample.label.tolist()}."
    if maps and np.count_nonzero(sample.label > 0) != case.foreground:
        labelled = np.count_nonzero(sample.label > 0)
        yield "label", f"must have {case.foreground} pixels (cases.foreground); got {labelled}."


def _of_array(field: str, array: Any, dtype: Any, shape: tuple[int, ...]) -> Faults:
    if not isinstance(array, np.ndarray):
        yield field, f"must be a NumPy array; got {type(array).__name__}."
    elif array.dtype != dtype:
        yield field, f"must be {np.dtype(dtype)}; got {array.dtype}."
    elif array.shape != shape:
        yield field, f"must have the shape {shape}; got {array.shape}."


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def _is_tuple_of(values: object, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)

"""Each rule of the contract, broken alone: the message names the field."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from made_data import squares, stripes
from medrobust.core import Case, Dataset, Grid, Part, Sample
from medrobust.data.contract import check_dataset, check_sample, checked
from medrobust.errors import DataError

PHOTOS, SCANS = stripes(), squares()


def with_case(dataset: Dataset, place: int = 0, **changes: Any) -> tuple[Case, ...]:
    cases = list(dataset.cases)
    cases[place] = replace(cases[place], **changes)
    return tuple(cases)


def test_what_is_right_passes_as_it_is() -> None:
    for dataset in (PHOTOS, SCANS):
        same = checked(dataset)
        for case in dataset.cases:
            for one, other in zip(same.read(case), dataset.read(case), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("dataset", "changes", "message"),
    [
        (PHOTOS, {"name": ""}, "name must be a string"),
        (PHOTOS, {"task": "classification"}, r"task must be a medrobust\.core\.Task; got 'classification'"),
        (PHOTOS, {"classes": ["a", "b"]}, "classes must be a tuple of at least two names"),
        (PHOTOS, {"classes": ("a",)}, "classes must be a tuple of at least two names"),
        (PHOTOS, {"classes": ("a", "a")}, "classes must be different names"),
        (PHOTOS, {"classes": ("a", "b", "c")}, "classes must all have cases; without any: 'c'"),
        (PHOTOS, {"unit": "person"}, "unit must be one of patient, lesion, .*; got 'person'"),
        (
            PHOTOS,
            {"fingerprint": None},
            r"fingerprint must be a string .*`medrobust\.data\.own\.fingerprint`",
        ),
        (PHOTOS, {"channels": 0}, "channels must be a whole number of at least 1; got 0"),
        (PHOTOS, {"channels": True}, "channels must be a whole number"),
        (PHOTOS, {"shape": [32, 32]}, "shape must be a tuple of whole numbers"),
        (PHOTOS, {"shape": (32,)}, "shape must have 2 or 3 sides"),
        (SCANS, {"spacing": (1.0,)}, "spacing must have a size in mm for each side"),
        (SCANS, {"spacing": (1.0, -1.0)}, "spacing must be sizes above 0 mm"),
        (SCANS, {"spacing": ("a", "b")}, "a field has the wrong type"),
        (PHOTOS, {"bits": 17}, "bits must be a whole number from 1 to 16; got 17"),
        (PHOTOS, {"attributes": {"c99": {"sex": "f"}}}, "attributes must be keyed by scan id, .*'c99'"),
        (
            PHOTOS,
            {"attributes": {"c00": {"sex": None}}},
            "attributes must map names to strings or numbers.*'sex': None",
        ),
        (PHOTOS, {"colours": ((0, 0, 0),)}, r"colours must be \(red, green, blue\) or None for each class"),
        (PHOTOS, {"colours": ((0, 0, 0), (0, 0))}, "colours must be .* for each class"),
        (PHOTOS, {"colours": (None, (0, 0, 256))}, "colours must be whole numbers from 0 to 255"),
        (PHOTOS, {"attributes": {"c00": ["f"]}}, "a field has the wrong type"),
        (PHOTOS, {"cases": ()}, "cases must be a tuple of at least one"),
        (PHOTOS, {"cases": list(PHOTOS.cases)}, "cases must be a tuple"),
        (PHOTOS, {"cases": with_case(PHOTOS, case_id=3)}, r"cases\.case_id must be a non-empty string"),
        (
            PHOTOS,
            {"cases": with_case(PHOTOS, patient_id="")},
            r"cases\.patient_id must be a non-empty string",
        ),
        (
            PHOTOS,
            {"cases": tuple(replace(case, patient_id="nan") for case in PHOTOS.cases)},
            r"cases\.patient_id must say whose scan it is; got 'nan' for \d+ scans",
        ),
        (PHOTOS, {"cases": with_case(PHOTOS, case_id="c01")}, r"cases\.case_id must be unique; twice: 'c01'"),
        (PHOTOS, {"cases": PHOTOS.cases[::-1]}, "cases must be sorted by case_id"),
        (
            SCANS,
            {"cases": with_case(SCANS, position=1)},
            r"cases\.position must be unique in a scan; .*'s0 at 1'",
        ),
        (
            SCANS,
            {"cases": with_case(SCANS, patient_id="other")},
            r"cases\.patient_id must be the same for all cases of a scan; wrong for 's0'",
        ),
        (PHOTOS, {"cases": with_case(PHOTOS, label=2)}, r"cases\.label must be a number of a class, 0 to 1"),
        (PHOTOS, {"cases": with_case(PHOTOS, label=None)}, r"cases\.label must be a number of a class"),
        (PHOTOS, {"cases": with_case(PHOTOS, label="1")}, r"cases\.label must be a number of a class"),
        (
            PHOTOS,
            {"cases": with_case(PHOTOS, foreground=1)},
            r"cases\.foreground must be 0 where images as a whole",
        ),
        (SCANS, {"cases": with_case(SCANS, label=1)}, r"cases\.label must be None in segmentation"),
        (
            SCANS,
            {"cases": with_case(SCANS, foreground=-1)},
            r"cases\.foreground must be the number of pixels",
        ),
        (SCANS, {"cases": with_case(SCANS, foreground=True)}, r"cases\.foreground must be the number"),
        (
            SCANS,
            {"cases": tuple(replace(case, foreground=0) for case in SCANS.cases)},
            r"cases\.foreground must be above 0 in some case",
        ),
        (PHOTOS, {"official": {"p0": Part.TEST}}, "official must give every patient a part"),
        (PHOTOS, {"official": dict.fromkeys(("p0",), "test")}, "official must give each patient a medrobust"),
        (PHOTOS, {"facts": {"size": 3}}, "facts must map names to strings"),
        (PHOTOS, {"regions": {"a": (1,)}}, "regions are of segmentation; got classification"),
        (SCANS, {"regions": {"a": (0, 1)}}, r"regions must hold numbers of classes, 1 to 2; got \(0, 1\)"),
        (SCANS, {"regions": {"a": ()}}, "regions must hold numbers of classes"),
        (SCANS, {"regions": {"a": (1, 2), "b": (2, 1)}}, "regions must each hold other classes"),
        (
            SCANS,
            {"regions": {"background": (1,)}},
            "regions must have names other than that of the background",
        ),
        (SCANS, {"affine": lambda scan: np.zeros((4, 4))}, "affine must give 4 x 4 numbers that span"),
        (SCANS, {"affine": lambda scan: np.eye(3)}, "affine must give 4 x 4 numbers"),
        (SCANS, {"original": lambda scan: Grid((4, 4, 4), np.eye(3))}, "original must give 4 x 4 numbers"),
    ],
)
def test_fields(dataset: Dataset, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_dataset(replace(dataset, **changes))


@pytest.mark.parametrize(
    ("dataset", "change", "message"),
    [
        (PHOTOS, lambda s: Sample(s.image.tolist(), s.label), "image must be a NumPy array; got list"),
        (PHOTOS, lambda s: Sample(s.image.astype(np.float64), s.label), "image must be float32; got float64"),
        (
            PHOTOS,
            lambda s: Sample(s.image[0], s.label),
            r"image must have the shape \(3, 32, 32\); got \(32, 32\)",
        ),
        (PHOTOS, lambda s: Sample(s.image * np.float32("nan"), s.label), "image must be finite"),
        (PHOTOS, lambda s: Sample(s.image * 255, s.label), r"image must lie in \[0, 1\]; got .* Divide by"),
        (PHOTOS, lambda s: Sample(s.image - 1, s.label), r"image must lie in \[0, 1\]; got -"),
        (PHOTOS, lambda s: Sample(s.image, np.int64(0)), "label must be a NumPy array; got int64"),
        (
            PHOTOS,
            lambda s: Sample(s.image, np.array(1 - s.label)),
            "label must be that of its case, 0; got 1",
        ),
        (PHOTOS, lambda s: Sample(s.image, s.label.astype(np.int32)), "label must be int64; got int32"),
        (SCANS, lambda s: Sample(s.image, s.label[:5]), "label must have the shape"),
        (
            SCANS,
            lambda s: Sample(s.image, s.label + 1),
            "label must number the 3 classes from 0, or be .*; got 1 to 3",
        ),
        (SCANS, lambda s: Sample(s.image, s.label * 0), "label must have 72 pixels .*; got 0"),
        (SCANS, lambda s: Sample(s.image, s.label - 2), "label must number .*; got -2 to 0"),
        (
            SCANS,
            lambda s: Sample(s.image, s.label * 0 - 1),
            "label must be known in some pixel; got -1 in all",
        ),
    ],
)
def test_samples(dataset: Dataset, change: Callable[[Sample], Any], message: str) -> None:
    case = dataset.cases[0]
    broken = checked(replace(dataset, read=lambda case: change(dataset.read(case))))
    with pytest.raises(DataError, match=f"case '{case.case_id}': {message}"):
        broken.read(case)
    with pytest.raises(DataError, match=message):
        check_sample(dataset, case, change(dataset.read(case)))


def test_a_read_that_fails_or_gives_something_else() -> None:
    def fails(case: Case) -> Sample:
        raise KeyError("a bug")

    case = PHOTOS.cases[0]
    with pytest.raises(DataError, match="case 'c00': `read` failed: KeyError: 'a bug'"):
        checked(replace(PHOTOS, read=fails)).read(case)
    with pytest.raises(DataError, match="case 'c00': `read` failed: TypeError"):
        checked(replace(PHOTOS, read=lambda case: None)).read(case)
    with pytest.raises(DataError, match="image must be a NumPy array"):
        checked(replace(PHOTOS, read=lambda case: (1, 2))).read(case)

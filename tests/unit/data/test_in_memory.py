"""Arrays, tensors and PyTorch data as a data set."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from made_data import stripes
from medrobust.core import Dataset, Task
from medrobust.data import as_dataset, in_memory
from medrobust.data.splitting.splits import make_folds, make_split
from medrobust.errors import DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 3, 8, 6), np.float32)
LABELS = np.arange(12) % 3
MASKS = RNG.integers(0, 3, (12, 8, 6))
PATIENTS = [f"p{place // 2}" for place in range(12)]


def test_a_classification_of_arrays() -> None:
    data = in_memory(IMAGES, LABELS, patients=PATIENTS, classes=["a", "b", "c"], name="mine")
    assert (data.name, data.task, data.unit, data.classes) == (
        "mine",
        Task.CLASSIFICATION,
        "patient",
        ("a", "b", "c"),
    )
    assert [case.case_id for case in data.cases] == [f"{place:02d}" for place in range(12)]
    assert [case.patient_id for case in data.cases] == PATIENTS
    for case, image, label in zip(data.cases, IMAGES, LABELS, strict=True):
        sample = data.read(case)
        np.testing.assert_array_equal(sample.image, image)
        assert (sample.label, case.label) == (label, label)


def test_a_segmentation_of_tensors_whose_slices_belong_to_scans() -> None:
    images = torch.from_numpy(IMAGES).requires_grad_()
    data = in_memory(
        images, torch.from_numpy(MASKS), scans=[place // 4 for place in range(12)], spacing=(1, 2)
    )
    assert (data.task, data.unit, data.classes, data.spacing) == (
        Task.SEGMENTATION,
        "scan",
        ("background", "1", "2"),
        (1.0, 2.0),
    )
    assert [(case.scan_id, case.position) for case in data.cases[3:5]] == [("0", 3), ("1", 0)]
    np.testing.assert_array_equal(data.read(data.cases[5]).label, MASKS[5])
    assert data.cases[5].foreground == np.count_nonzero(MASKS[5])


def test_volumes() -> None:
    data = in_memory(np.zeros((2, 1, 4, 5, 6)), np.ones((2, 4, 5, 6), np.uint8))
    assert (data.shape, data.unit, data.classes) == ((4, 5, 6), "image", ("background", "1"))


class Items(torch.utils.data.Dataset[Any]):
    """A data set by index, without an end of its own."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, place: int) -> Any:
        return {"image": torch.from_numpy(IMAGES[place]), "label": int(LABELS[place])}


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, LABELS),
        {"images": IMAGES, "labels": LABELS},
        TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
        DataLoader(TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)), batch_size=5),
        DataLoader(Items(), batch_size=None),
        DataLoader(Items(), batch_size=5),
        Items(),
        (torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
    ],
    ids=["pair", "mapping", "dataset", "loader", "uncollated", "loader of dicts", "by index", "tensors"],
)
def test_all_kinds_are_the_same_data(data: Any) -> None:
    assert as_dataset(data).fingerprint == in_memory(IMAGES, LABELS).fingerprint


def test_a_data_set_stays_what_it_is() -> None:
    made = stripes()
    assert as_dataset(made).fingerprint == made.fingerprint
    with pytest.raises(DataError, match=r"^patients: a medrobust\.core\.Dataset has its own"):
        as_dataset(made, patients=["a"])


def test_the_fingerprint_is_of_contents_and_options() -> None:
    other, label = IMAGES.copy(), LABELS.copy()
    other[-1, -1, -1, -1] += 1e-3 if other[-1, -1, -1, -1] < 0.5 else -1e-3
    label[-1] = 0
    made = [
        in_memory(IMAGES, LABELS),
        in_memory(other, LABELS),
        in_memory(IMAGES, label),
        in_memory(IMAGES, LABELS, patients=PATIENTS),
        in_memory(IMAGES, LABELS, classes=["a", "b", "c"]),
        in_memory(IMAGES, LABELS, spacing=(1, 1)),
    ]
    assert len({data.fingerprint for data in made}) == len(made)


def test_later_changes_of_the_arrays_do_not_reach_it() -> None:
    images = IMAGES.copy()
    data = in_memory(images, LABELS)
    images[:] = 0
    data.read(data.cases[0]).image[:] = 0
    np.testing.assert_array_equal(data.read(data.cases[0]).image, IMAGES[0])


def test_it_can_be_split_and_sent_to_workers() -> None:
    data: Dataset = pickle.loads(pickle.dumps(in_memory(IMAGES, LABELS, patients=PATIENTS)))
    assert set(make_split(data, {"test": "all"}, seed=0)) == set(PATIENTS)
    assert len(make_folds(data, {"folds": 3}, seed=0)) == 3


def with_value(value: float) -> np.ndarray:
    images = IMAGES.copy()
    images[4, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"images": (IMAGES * 255).astype(np.uint8)},
            r"^images: must be floating-point .* got uint8\. Divide",
        ),
        ({"images": IMAGES * 255}, r"^images: must lie in \[0, 1\]; got 0\.\d+ to 2\d\d"),
        ({"images": with_value(-0.5)}, r"^images: must lie in \[0, 1\]; got -0\.5"),
        ({"images": with_value(np.nan)}, r"^images: must be finite; 1 hold NaN or infinity, .* number 4"),
        ({"images": IMAGES[:, 0]}, r"^images: must have the shape .*; got \(12, 8, 6\)"),
        ({"images": IMAGES[:0]}, r"^images: must have the shape .*; got \(0, 3, 8, 6\)"),
        ({"images": [[0.5], [0.5, 0.5]]}, r"^images: must be one array or tensor; ValueError"),
        (
            {"labels": LABELS[:5]},
            r"^labels: must have the shape \(12,\) or \(12, 8, 6\), as the images; got \(5,\)\.",
        ),
        ({"labels": LABELS[:, None]}, r"got \(12, 1\): remove the axis of length 1"),
        ({"labels": MASKS[:, None]}, r"got \(12, 1, 8, 6\): remove the axis of length 1"),
        (
            {"labels": np.eye(3)[LABELS]},
            r"exactly one column is 1 in every row, so these are classes",
        ),
        (
            {"labels": 2 * np.eye(3)[LABELS]},
            r"1 \(present\), 0 \(absent\) or -1 .*; got .*Regression",
        ),
        ({"labels": LABELS * 1.0}, r"^labels: must be whole numbers; got float64"),
        ({"labels": LABELS - 1}, r"^labels: must number the classes from 0; got -1"),
        ({"labels": LABELS * 10**6}, r"^labels: must number the classes from 0 without gaps; got 2000000"),
        ({"labels": LABELS * 2}, r"classes must all have cases; without any: '1', '3'"),
        ({"labels": MASKS * 0}, r"cases\.foreground must be above 0"),
        (
            {"classes": ["a", "b"]},
            r"^labels: must be below 2, the number of classes given; got 2\. Name every",
        ),
        ({"classes": "abc"}, r"^classes: must be a sequence of names; got 'abc'"),
        ({"classes": ["a", "a", "b"]}, r"classes must be different names"),
        ({"patients": PATIENTS[:-1]}, r"^patients: must have one entry per image, 12 in all; got 11"),
        ({"patients": [*PATIENTS[:-1], None]}, r"^patients: must be known .* but number '11' has none"),
        (
            {"scans": ["a"] * 12, "patients": PATIENTS},
            r"cases\.patient_id must be the same for all cases of a scan",
        ),
        ({"spacing": (1,)}, r"spacing must have a size in mm for each side of \(8, 6\); got \(1\.0,\)"),
        ({"spacing": (1, -1)}, r"spacing must be sizes above 0 mm"),
    ],
)
def test_what_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        in_memory(**{"images": IMAGES, "labels": LABELS, **given})


class Broken(Items):
    """A data set whose third item fails."""

    def __getitem__(self, place: int) -> Any:
        if place == 2:
            raise KeyError("the user's bug")
        return super().__getitem__(place)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, r"^data: must be a tuple \(images, labels\), .* got int"),
        (Broken(), r"^data: reading item 2 failed: KeyError: .*the user's bug"),
        ([IMAGES[0]] * 3, r"^data: items must be pairs .* item 0 is ndarray"),
        ([{"img": 1}] * 3, r"item 0 is a mapping with 'img'"),
        (
            [(IMAGES[0], 0), (IMAGES[0, :, 1:], 1), (IMAGES[0], 0)],
            r"all images must have one shape; got \(3, 7, 6\) and",
        ),
        ([(IMAGES[0], 0), (IMAGES[0], MASKS[0]), (IMAGES[0], 0)], r"^data: labels must all have one shape"),
        (iter(()), r"^data: must hold at least one image"),
    ],
)
def test_what_cannot_be_gathered(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_dataset(data)

"""Every data set of the catalogue keeps the contract of `core.Dataset`."""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import numpy as np
import pytest

import made_dicom
import made_folders
import made_photos
import made_scans
from medrobust import api
from medrobust.core import Dataset, Part, Task
from medrobust.data import DATASETS, check_data, open_dataset
from medrobust.data.attributes import with_attributes
from medrobust.data.regions import with_regions
from medrobust.data.splitting.case_sets import select_cases
from medrobust.data.splitting.splits import make_split, split_cases

SMALL: dict[str, dict[str, Any]] = {
    "phantom_brains": {"subjects": 3, "spacing": 4.0},
    "phantom_lesions": {"images": 100, "size": 32},
    "phantom_chests": {"images": 60, "size": 32},
    "ham10000": {"root": "ham10000", "size": 32},
    "dermofit": {"root": "dermofit", "size": 32},
    "isic": {"root": "isic", "size": 32},
    "medmnist": {"root": "medmnist", "file": "breastmnist.npz", "size": 28},
    "image_folder": {"root": "image_folder", "size": 32, "patient_pattern": "(P[0-9]+)_"},
    "dicom_images": {"root": "dicom_images", "size": 32},
    "isic_segmentation": {"root": "isic_segmentation", "size": 32},
    "malc2012": {"root": "malc2012"},
    "nifti_pairs": {"root": "nifti_pairs"},
    "dicom_seg": {"root": "dicom_seg"},
    "bids": {"root": "bids"},
    "decathlon": {"root": "decathlon"},
    "freesurfer": {"root": "freesurfer"},
}
TWINS: dict[str, Callable[[Path], Path]] = {
    "ham10000": made_folders.ham10000,
    "dermofit": made_photos.dermofit,
    "isic": made_photos.isic,
    "medmnist": made_photos.medmnist,
    "image_folder": made_photos.image_folder,
    "dicom_images": made_photos.dicom_images,
    "isic_segmentation": made_photos.isic_segmentation,
    "malc2012": made_folders.malc2012,
    "nifti_pairs": made_scans.nifti_pairs,
    "dicom_seg": made_dicom.dicom_seg,
    "bids": made_scans.bids,
    "decathlon": made_scans.decathlon,
    "freesurfer": made_scans.freesurfer,
}
OTHER: dict[str, dict[str, Any]] = {
    "phantom_brains": {"seed": 1},
    "phantom_lesions": {"seed": 1},
    "phantom_chests": {"seed": 1},
    **{
        name: {"intensity": "min-max"}
        for name in ("malc2012", "nifti_pairs", "dicom_seg", "bids", "decathlon", "freesurfer")
    },
}
"""What makes other images; photographs of every kind have a size."""


class Known(NamedTuple):
    """What a data set is known to hold; of two cases the label, or the number of labelled pixels."""

    cases: int
    patients: int
    classes: int
    names: tuple[str, str]
    first: tuple[str, int | tuple[int, ...]]
    last: tuple[str, int | tuple[int, ...]]


BRAIN = (28, ("background", "right ventral diencephalon"))
ORGANS = (3, ("background", "tumour"))
KNOWN: dict[str, Known] = {
    "phantom_brains": Known(124, 3, *BRAIN, ("brain000-s000", 17), ("brain002-s040", 43)),
    "phantom_lesions": Known(100, 46, 10, ("AK", "DF"), ("A001a", 2), ("T044", 0)),
    "phantom_chests": Known(
        60, 35, 4, ("cardiomegaly", "pneumothorax"), ("C00001-0", (0, 0, 0, 1)), ("C00035-0", (1, 0, 0, 1))
    ),
    "ham10000": Known(42, 28, 7, ("akiec", "vasc"), ("ISIC_00000", 0), ("ISIC_00271", 6)),
    "dermofit": Known(75, 50, 10, ("ak", "vasc"), ("A10", 0), ("P57b", 7)),
    "isic": Known(60, 44, 8, ("MEL", "SCC"), ("ISIC_00000_downsampled", 0), ("ISIC_00391_downsampled", 7)),
    "medmnist": Known(56, 56, 2, ("malignant", "normal or benign"), ("test-000000", 0), ("val-000013", 1)),
    "image_folder": Known(
        30, 10, 2, ("benign", "malignant"), ("benign/P000_0.png", 0), ("malignant/P009_2.tif", 1)
    ),
    "dicom_images": Known(
        20, 10, 2, ("normal", "pneumonia"), ("normal/0000.dcm", 0), ("pneumonia/0019.dcm", 1)
    ),
    "isic_segmentation": Known(
        12, 12, 2, ("background", "lesion"), ("ISIC_0000000", 28), ("ISIC_0000011", 248)
    ),
    "malc2012": Known(52, 4, *BRAIN, ("1000_3-coronal-001", 12), ("1003_3-coronal-013", 12)),
    "nifti_pairs": Known(52, 4, *ORGANS, ("case0-coronal-000", 0), ("case3-coronal-012", 0)),
    "dicom_seg": Known(52, 4, *ORGANS, ("PAT0_63dd1f11-coronal-000", 0), ("PAT3_1990f0ab-coronal-012", 0)),
    "bids": Known(65, 4, *ORGANS, ("sub-01_ses-1-coronal-000", 0), ("sub-04_ses-1-coronal-012", 0)),
    "decathlon": Known(
        52,
        4,
        4,
        ("background", "enhancing tumour"),
        ("BRATS_000-coronal-000", 0),
        ("BRATS_003-coronal-012", 0),
    ),
    "freesurfer": Known(36, 4, *BRAIN, ("bert0-coronal-000", 0), ("bert3-coronal-008", 0)),
}

names = pytest.mark.parametrize("name", list(DATASETS))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, make in TWINS.items():
        make(folder / name)
    return folder


@pytest.fixture(scope="module")
def opened(home: Path) -> Callable[..., Dataset]:
    """Opens a data set of the catalogue, small, with decoded arrays in a cache unless told otherwise."""

    def opened(name: str, cache: str | None = "cache", **keys: Any) -> Dataset:
        block = {"name": name, **SMALL[name], **keys}
        return open_dataset(block, home / cache if cache else None, home)

    return opened


Open = Callable[..., Dataset]


def few(dataset: Dataset) -> list[Any]:
    return list(dataset.cases[:: max(1, len(dataset.cases) // 12)])


def test_every_data_set_is_under_contract() -> None:
    assert SMALL.keys() == KNOWN.keys() == DATASETS.keys()
    assert TWINS.keys() == {name for name, entry in DATASETS.items() if entry.list}


@names
def test_self_check(name: str, opened: Open) -> None:
    """Counts, classes, and the first and last case; a new data set fails here until it has a line."""
    dataset = opened(name)
    ends = [
        (case.case_id, case.foreground if case.label is None else case.label)
        for case in (dataset.cases[0], dataset.cases[-1])
    ]
    patients = len({case.patient_id for case in dataset.cases})
    names = (dataset.classes[0], dataset.classes[-1])
    seen = Known(len(dataset.cases), patients, len(dataset.classes), names, ends[0], ends[1])
    assert seen == KNOWN[name]


@names
def test_what_it_declares(name: str, opened: Open) -> None:
    dataset, entry = opened(name), DATASETS[name]
    assert (dataset.name, dataset.task) == (name, entry.task)
    assert dataset.phantom is (entry.list is None)
    assert 8 <= dataset.bits <= 16
    assert dataset.facts
    assert len(dataset.fingerprint) == len(hashlib.sha256().hexdigest())


@names
def test_it_keeps_the_contract_that_own_data_are_held_to(name: str, home: Path) -> None:
    block = {"name": name, **SMALL[name]}
    dataset, findings = check_data(block, cache=home / "cache", data_dir=home, most=12)
    assert dataset is not None
    assert findings == ()


@names
def test_cache_and_memory_hold_the_same_bits(name: str, opened: Open) -> None:
    cached, fresh = opened(name), opened(name, cache=None)
    assert (cached.cases, cached.fingerprint) == (fresh.cases, fresh.fingerprint)
    for case in few(cached)[:3]:
        for one, other in zip(cached.read(case), fresh.read(case), strict=True):
            np.testing.assert_array_equal(one, other)


@names
def test_its_parameters_are_in_the_fingerprint(name: str, opened: Open) -> None:
    other = OTHER.get(name, {"size": 33})
    assert opened(name).fingerprint != opened(name, **other).fingerprint


@names
def test_splits_and_case_sets(name: str, opened: Open) -> None:
    dataset = opened(name)
    split = make_split(dataset, {"rule": "patient", "test": 0.4}, seed=0)
    parts = {part: {case.patient_id for case in split_cases(dataset, split, part)} for part in Part}
    assert all(parts[part] for part in (Part.TRAIN, Part.VALIDATION, Part.TEST))
    chosen = select_cases(dataset, split, seed=0, per_patient=2)
    assert {case.patient_id for case in chosen} == parts[Part.TEST]


@names
def test_parameters_are_keywords_with_ranges(name: str) -> None:
    """Numbers carry their range; what else there is, is a choice."""
    entry = DATASETS[name]
    leading = {
        entry.list: ["root", "task"] if entry.also else ["root"],
        entry.open: ["name", "listing", "cache", "progress"] if entry.list else ["cache"],
    }
    leading |= {with_attributes: ["listing", "root"], with_regions: ["dataset"]}
    for function in entry.functions:
        parameters = inspect.signature(function).parameters.values()
        places = [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
        assert places == leading[function]
        for parameter in list(parameters)[len(places) :]:
            if get_origin(parameter.annotation) is Annotated:
                assert get_args(parameter.annotation)[1:], parameter.name
            else:
                assert parameter.annotation not in (int, float, str), parameter.name


@names
def test_what_lists_show(name: str) -> None:
    assert DATASETS[name].summary
    assert DATASETS[name].source


@pytest.mark.parametrize("name", list(TWINS))
def test_an_audit_reads_all_of_it(name: str, home: Path) -> None:
    """What is said of the miniatures is about their contents: few, and made alike."""
    task = DATASETS[name].task
    network = {"name": "mobilenet_v1", "weights": "none"} if task is Task.CLASSIFICATION else {"name": "unet"}
    block = {"name": name, **SMALL[name]}
    split = {"rule": "patient", "test": 0.4}
    study = {"task": str(task), "data": block, "split": split, "models": [network]}
    kinds = {finding.kind for finding in api.audit(study, data=home).findings}
    assert not kinds & {"unreadable file", "split impossible", "unknown label", "left and right swapped"}
    assert not {kind for kind in kinds if kind.startswith("labels")}

"""Phantom brains as a data set: what a network sees, and what it must not be able to cheat with."""

import pickle
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from medrobust.core import Dataset, Task
from medrobust.data.phantoms import datasets
from medrobust.data.phantoms.brains import backward_map, grid_shape, phantom_brain
from medrobust.data.phantoms.datasets import fingerprint, open_phantom_brains
from medrobust.data.scans.structures import STRUCTURES
from medrobust.errors import DataError
from medrobust.rng import generator

pytest.importorskip("nilearn")

SUBJECTS, SPACING = 6, 3.0

MILLILITRES = {
    "cerebral white matter": 216,
    "cerebral cortex": 306,
    "lateral ventricle": 11.6,
    "cerebellar white matter": 14.8,
    "cerebellar cortex": 52.7,
    "thalamus": 8.3,
    "caudate": 3.3,
    "putamen": 4.7,
    "pallidum": 1.6,
    "third ventricle": 0.9,
    "fourth ventricle": 1.9,
    "brain stem": 18.5,
    "hippocampus": 3.6,
    "amygdala": 1.0,
    "ventral diencephalon": 5.1,
}
"""Mean volumes of one side in 30 scans of the challenge."""

PAIRED = [name for name in MILLILITRES if f"left {name}" in STRUCTURES]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("brains")


@pytest.fixture(scope="module")
def brains(cache: Path) -> Dataset:
    return open_phantom_brains(cache, subjects=SUBJECTS, spacing=SPACING)


@pytest.fixture(scope="module")
def volumes(brains: Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of whole subjects."""
    return [brains.read.slices(f"brain{subject:03d}") for subject in range(SUBJECTS)]


def sided(name: str) -> list[int]:
    return [index for index, structure in enumerate(STRUCTURES) if structure.endswith(name)]


def test_cases_are_the_slices_that_show_some_of_the_brain(brains: Dataset) -> None:
    assert [case.case_id for case in brains.cases] == sorted(case.case_id for case in brains.cases)
    assert {case.patient_id for case in brains.cases} == {
        f"brain{subject:03d}" for subject in range(SUBJECTS)
    }
    assert (brains.task, brains.unit, brains.phantom, brains.bits) == (Task.SEGMENTATION, "patient", True, 12)
    for case in brains.cases[::29]:
        sample = brains.read(case)
        assert case.case_id == f"{case.scan_id}-s{case.position:03d}"
        assert case.foreground == np.count_nonzero(sample.label)
        assert sample.image.shape == (1, *brains.shape)
        assert sample.label.shape == brains.shape
        assert (sample.image.dtype, sample.label.dtype) == (np.float32, np.int64)
        assert 0 <= sample.image.min() <= sample.image.max() <= 1
        shown = sample.image[0][sample.label > 0]
        assert shown.min(initial=1) > 0, "image and labels lie on each other"
    for subject in range(SUBJECTS):
        image, labels = brains.read.slices(f"brain{subject:03d}")
        own = [case for case in brains.cases if case.scan_id == f"brain{subject:03d}"]
        assert [case.position for case in own] == np.flatnonzero(image.any(axis=(1, 2))).tolist()
        assert [case.foreground for case in own] == [np.count_nonzero(labels[case.position]) for case in own]


def test_every_subject_has_all_structures_at_plausible_volumes(volumes: list) -> None:
    millilitres = np.array([np.bincount(labels.astype(int).ravel(), minlength=28) for _, labels in volumes])
    millilitres = millilitres * SPACING**3 / 1000
    for name, expected in MILLILITRES.items():
        ratios = millilitres[:, sided(name)] / expected
        low, high = (0.25, 3.0) if "ventricle" in name else (0.5, 1.6)
        assert low < ratios.min(), name
        assert ratios.max() < high, name
        assert 0.75 < ratios.mean() < 1.35, name


def test_subjects_overlap_as_registered_brains_do(volumes: list) -> None:
    shape = np.max([labels.shape for _, labels in volumes], axis=0)
    centred = [padded(labels, shape) for _, labels in volumes]
    dice = np.mean([mean_dice(a, b) for a, b in combinations(centred, 2)])
    assert 0.55 < dice < 0.80


def padded(labels: np.ndarray, shape: np.ndarray) -> np.ndarray:
    missing = shape - labels.shape
    return np.pad(labels, np.stack([missing // 2, missing - missing // 2], axis=1))


def mean_dice(a: np.ndarray, b: np.ndarray) -> float:
    both, of_a, of_b = (np.bincount(part.astype(int).ravel(), minlength=28)[1:] for part in (a[a == b], a, b))
    return float(np.mean(2 * both / (of_a + of_b)))


def auc(a: np.ndarray, b: np.ndarray) -> float:
    """Chance that a value of `a` is above one of `b`: what a classifier by intensity could reach."""
    ranks = rankdata(np.concatenate([a, b]))[: len(a)]
    return float((ranks.sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def test_intensity_tells_structures_but_not_sides(volumes: list) -> None:
    image, labels = (np.concatenate([volume[part].ravel() for volume in volumes]) for part in (0, 1))
    pairs = [sided(name) for name in PAIRED]
    sides = np.array([auc(image[labels == left], image[labels == right]) for left, right in pairs])
    assert abs(sides.mean() - 0.5) < 0.03
    assert np.abs(sides - 0.5).max() < 0.1
    white, cortex = STRUCTURES.index("left cerebral white matter"), STRUCTURES.index("left cerebral cortex")
    assert auc(image[labels == white], image[labels == cortex]) > 0.95


def test_class_means_are_ordered_as_in_real_scans(volumes: list) -> None:
    image, labels = (np.concatenate([volume[part].ravel() for volume in volumes]) for part in (0, 1))
    mean = {name: image[np.isin(labels, sided(name))].mean() for name in MILLILITRES}
    groups = [
        ("lateral ventricle", "third ventricle", "fourth ventricle"),
        ("cerebral cortex", "cerebellar cortex", "amygdala", "hippocampus"),
        ("caudate",),
        ("putamen", "thalamus"),
        ("brain stem", "ventral diencephalon"),
    ]
    for darker, brighter in zip(groups, [*groups[1:], ("pallidum", "cerebral white matter")], strict=True):
        assert max(mean[name] for name in darker) < min(mean[name] for name in brighter), (darker, brighter)


def test_air_is_exactly_zero_and_no_structure_lies_in_it(volumes: list) -> None:
    for image, labels in volumes:
        assert (image == 0).mean() > 0.3
        assert image[labels > 0].min() > 0
        assert image.max() == 1
        assert ((image > 0) & (labels == 0)).any(), (
            "fluid and hidden tissue are seen, but labelled background"
        )


def test_same_seed_same_bytes(brains: Dataset) -> None:
    again = open_phantom_brains(None, subjects=2, spacing=SPACING, canvas=brains.shape)
    case = again.cases[25]
    assert case in brains.cases
    for seen, expected in zip(again.read(case), brains.read(case), strict=True):
        assert seen.tobytes() == expected.tobytes()


def test_another_subject_or_seed_is_another_brain() -> None:
    first = phantom_brain(0, 0, SPACING)[1]
    for other in (phantom_brain(1, 0, SPACING)[1], phantom_brain(0, 1, SPACING)[1]):
        shape = np.max([first.shape, other.shape], axis=0)
        assert mean_dice(padded(first, shape), padded(other, shape)) < 0.9


def test_subjects_differ_by_more_than_an_affine_map() -> None:
    shape = grid_shape(4.0)
    points = np.indices(shape).reshape(3, -1)
    design = np.vstack([points, np.ones_like(points[:1])]).T
    sources = backward_map(generator(0, "shape"), list(shape), 4.0).reshape(3, -1).T
    bent = sources - design @ np.linalg.lstsq(design, sources, rcond=None)[0]
    assert 0.7 < np.sqrt((bent**2).mean()) < 2.5, "mm"


def test_a_filled_cache_makes_nothing_again(brains: Dataset, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(datasets, "_remembered", lambda *_: pytest.fail("made a scan again"))
    again = open_phantom_brains(cache, subjects=SUBJECTS, spacing=SPACING)
    assert again.cases == brains.cases
    assert again.fingerprint == brains.fingerprint


def test_reader_can_be_sent_to_another_process(brains: Dataset) -> None:
    case = brains.cases[40]
    assert np.array_equal(pickle.loads(pickle.dumps(brains.read))(case).image, brains.read(case).image)


def centroid(labels: np.ndarray, name: str) -> np.ndarray:
    return np.argwhere(labels == STRUCTURES.index(name)).mean(0)


@pytest.mark.parametrize(
    ("axis", "above", "below", "leftmost", "rightmost"),
    [
        ("coronal", "left cerebral cortex", "left cerebellar cortex", "right putamen", "left putamen"),
        ("axial", "left caudate", "left cerebellar cortex", "right putamen", "left putamen"),
        (
            "sagittal",
            "left cerebral cortex",
            "left cerebellar cortex",
            "left amygdala",
            "left cerebellar cortex",
        ),
    ],
)
def test_slices_are_turned_as_the_facts_say(cache: Path, axis, above, below, leftmost, rightmost) -> None:
    brains = open_phantom_brains(cache, subjects=2, spacing=SPACING, axis=axis)
    labels = brains.read.slices("brain000")[1]
    assert centroid(labels, above)[1] < centroid(labels, below)[1]
    assert centroid(labels, leftmost)[2] < centroid(labels, rightmost)[2]
    assert axis in brains.facts["orientation"]


def test_spacing_is_the_size_of_a_voxel(cache: Path, volumes: list) -> None:
    fine = open_phantom_brains(cache, subjects=2, spacing=2.0)
    assert fine.spacing == (2.0, 2.0)
    labels = fine.read.slices("brain000")[1]
    assert np.count_nonzero(labels) * 8 == pytest.approx(np.count_nonzero(volumes[0][1]) * 27, rel=0.05)


def test_canvas(brains: Dataset, cache: Path) -> None:
    assert brains.shape == (48, 48)
    assert open_phantom_brains(cache, subjects=2, spacing=SPACING, canvas=(50, 64)).shape == (50, 64)
    with pytest.raises(
        DataError,
        match=r"\[40, 64\] is too small, scan brain00\d needs .* Use at least \[4\d, 4\d\], or auto",
    ):
        open_phantom_brains(cache, subjects=2, spacing=SPACING, canvas=(40, 64))


def test_fingerprint_depends_on_every_parameter() -> None:
    base = {"subjects": 2, "seed": 0, "spacing": 2.0, "axis": "coronal", "canvas": (80, 80)}
    others = [{"subjects": 3}, {"seed": 1}, {"spacing": 3.0}, {"axis": "axial"}, {"canvas": (96, 80)}]
    assert len({fingerprint(**base | other) for other in [{}, *others]}) == 6

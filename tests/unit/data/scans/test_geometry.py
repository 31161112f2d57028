"""Where the pixels of a case lie in the world, after all that is done to a scan."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from nibabel.orientations import aff2axcodes
from scipy.ndimage import binary_erosion

from medrobust.data import open_dataset
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.geometry import VIEWS
from medrobust.data.scans.labels import LabelMap
from medrobust.data.scans.scan_cases import open_scans

SHAPE = (22, 26, 18)
PLACE = (7.0, -31.0, 12.5)
AFFINES = {
    "RAS": np.diag([1.0, 1, 1, 1]),
    "LAS": from_matvec(np.diag([-1.0, 1, 1]), PLACE),
    "LIA, no cubes": from_matvec(np.array([[-0.9, 0, 0], [0, 0, 1.2], [0, -1.7, 0]]), PLACE),
    "oblique": from_matvec(euler2mat(0.3, -0.2, 0.15) @ np.diag([-1.1, 0.9, 1.4]), PLACE),
    "oblique, thick slices": from_matvec(euler2mat(-0.25, 0.1, 0.3)[:, [2, 0, 1]] * (1, 1, 3), PLACE),
    "sheared": from_matvec(np.array([[1.0, 0.2, 0], [0, 1, 0.1], [0, 0, 1.5]]), PLACE),
}
WEIGHTS = ((1.0, 0.4, 0.2), (-0.3, 1.0, 0.5), (0.2, -0.6, 1.0))
"""Brightness may grow in any direction of the world; three that are independent settle where a pixel lies."""


MAP = LabelMap(("background", "left", "right"), ((0,), (1,), (2,)))


def opened(folder, image, labels, affine, **parameters):
    """The data set of one scan that lies in a folder."""
    for name, voxels in (("scan", image), ("labels", labels)):
        nib.save(nib.Nifti1Image(voxels, affine), folder / f"{name}.nii")
    items = (Scan("s", "p", (folder / "scan.nii",), folder / "labels.nii"),)
    listing = Scans(classes=("background", "left", "right"), unit="patient", items=items, classes_of=MAP)
    return open_scans("test", listing, None, **{"intensity": "min-max", **parameters})


def stacks(dataset):
    """Images and labels of the only scan, by slice number; slices without a label stay empty."""
    slices = 1 + max(case.position for case in dataset.cases)
    image, labels = np.zeros((slices, *dataset.shape), np.float32), np.zeros((slices, *dataset.shape), int)
    for case in dataset.cases:
        sample = dataset.read(case)
        image[case.position], labels[case.position] = sample.image[0], sample.label
    return image, labels


def box(margin):
    """A mask that leaves unequal margins around, which are cut away again."""
    inside = np.zeros(SHAPE, bool)
    inside[3 + margin : 20 - margin, 2 + margin : 23 - margin, 1 + margin : 16 - margin] = True
    return inside


def world(affine, shape=SHAPE):
    return apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


axes = pytest.mark.parametrize("axis", list(VIEWS))
affines = pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())


@axes
@affines
@pytest.mark.parametrize("spacing", [0.8, 1.0, 1.3, 2.0])
def test_pixels_lie_where_their_voxels_lay(tmp_path, affine, axis, spacing):
    """The mean of what grows linearly is its value in the middle.

    Voxels are steps, no line: a grid that cuts through them is off by up to half a step, on the mean by none.
    """
    labels = box(3).astype(np.int16)
    for weights in WEIGHTS:
        brightness = 500 + world(affine) @ weights
        image = np.where(box(0), brightness, 100).astype(np.float32)
        dataset = opened(tmp_path, image, labels, affine, axis=axis, spacing=spacing, canvas=(80, 86))
        shown, shown_labels = stacks(dataset)
        place = dataset.affine("s")
        inside = binary_erosion(shown_labels > 0)
        assert inside.any()
        off = 100 + shown * (image.max() - 100) - (500 + world(place, shown.shape) @ weights)
        steps = np.abs(affine[:3, :3].T @ weights).sum()
        assert abs(off[inside]).max() <= 0.5 * steps
        assert abs(off[inside].mean()) <= 0.04 * steps


@axes
@affines
def test_structures_overlap_the_original_in_the_world(tmp_path, affine, axis):
    labels = box(1).astype(np.int16)
    labels[box(1) & (world(affine)[..., 0] > world(affine)[..., 0].mean())] = 2
    dataset = opened(tmp_path, labels * 100, labels, affine, axis=axis, spacing=1.0)
    _, shown = stacks(dataset)
    place = dataset.affine("s")
    inside = np.argwhere(shown > 0)
    back = np.rint(apply_affine(np.linalg.inv(affine) @ place, inside)).astype(int)
    agree = labels[tuple(np.clip(back, 0, np.array(SHAPE) - 1).T)] == shown[tuple(inside.T)]
    assert agree.mean() > 0.93
    old, new = (np.abs(np.linalg.det(one)) for one in (affine, place))
    assert (shown > 0).sum() * new == pytest.approx((labels > 0).sum() * old, rel=0.1)


@axes
def test_without_resampling_every_pixel_is_a_voxel(tmp_path, axis):
    image = np.random.default_rng(0).integers(1, 1000, SHAPE).astype(np.float32) * box(0)
    affine = AFFINES["LAS"]
    dataset = opened(tmp_path, image, box(1).astype(np.int16), affine, axis=axis, spacing=1.0)
    shown, labels = stacks(dataset)
    pixels = np.argwhere(labels > 0)
    voxels = apply_affine(np.linalg.inv(affine) @ dataset.affine("s"), pixels)
    np.testing.assert_allclose(voxels, np.rint(voxels), atol=1e-9)
    there = tuple(np.rint(voxels).astype(int).T)
    np.testing.assert_array_equal(shown[tuple(pixels.T)], (image / image.max())[there])
    assert box(1)[there].all()


@axes
def test_the_cache_keeps_where_a_scan_lies(tmp_path, axis):
    (tmp_path / "malc2012").mkdir()
    labels = box(1).astype(np.int16)
    fresh = opened(tmp_path, labels, labels, AFFINES["oblique"], axis=axis)
    listing = Scans(
        classes=fresh.classes,
        unit="patient",
        items=(Scan("s", "p", (tmp_path / "scan.nii",), tmp_path / "labels.nii"),),
        classes_of=MAP,
    )
    for _ in range(2):
        cached = open_scans("test", listing, tmp_path / "cache", axis=axis, intensity="min-max")
        np.testing.assert_array_equal(cached.affine("s"), fresh.affine("s"))


@pytest.mark.parametrize("axis", list(VIEWS))
def test_phantoms_lie_in_a_world_of_their_own(axis):
    dataset = open_dataset(
        {"name": "phantom_brains", "subjects": 2, "spacing": 4.0, "axis": axis}, None, None
    )
    affine = dataset.affine("brain000")
    assert "".join(aff2axcodes(affine)) == VIEWS[axis][0]
    _, labels = stacks(dataset)
    places = apply_affine(affine, np.argwhere(labels == dataset.classes.index("left cerebral cortex")))
    assert places[:, 0].mean() < -10
    stem = apply_affine(affine, np.argwhere(labels == dataset.classes.index("brain stem")))
    assert stem[:, 2].mean() < -20


def test_a_phantom_volume_is_its_axial_slices():
    keys = {"name": "phantom_brains", "subjects": 2, "spacing": 4.0}
    whole, flat = (open_dataset({**keys, "axis": axis}, None, None) for axis in ("volume", "axial"))
    assert [case.case_id for case in whole.cases] == ["brain000", "brain001"]
    image, labels = whole.read(whole.cases[0])
    assert (whole.shape, whole.spacing) == (image.shape[1:], (4.0, 4.0, 4.0))
    assert all(side % 16 == 0 for side in whole.shape)
    assert whole.cases[0].foreground == np.count_nonzero(labels)
    images, maps = stacks(replace(flat, cases=[case for case in flat.cases if case.scan_id == "brain000"]))
    for voxels, slices in ((image[0], images), (labels, maps)):
        there, seen = (
            apply_affine(dataset.affine("brain000"), np.argwhere(array))
            for dataset, array in ((whole, voxels), (flat, slices))
        )
        np.testing.assert_allclose(np.sort(there, axis=0), np.sort(seen, axis=0), atol=1e-6)

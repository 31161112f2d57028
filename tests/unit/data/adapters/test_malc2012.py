"""The challenge's folder layout, on a miniature twin; with MEDROBUST_DATA also on the real scans."""

import os
import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medrobust.core import Part, Task
from medrobust.data import open_dataset
from medrobust.data.scans.scan_cases import open_stack
from medrobust.data.scans.structures import STRUCTURES
from medrobust.data.splitting.case_sets import described, select_cases
from medrobust.data.splitting.splits import make_split
from medrobust.errors import DataError, StudyError

TRAINING, TESTING = ("1000_3", "1001_3"), ("1003_3",)
LAS = np.diag([-1.0, 1.0, 1.0, 1.0])


def open_malc2012(root, cache, **parameters):
    return open_dataset({"name": "malc2012", "root": root, **parameters}, cache, None)


def write_scan(root, part, scan, shape=(24, 30, 20), affine=LAS):
    """A head: cortex of each side, white matter between them, brain stem on top; large x is left."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = x**2 + y**2 + z**2 < 0.8
    labels = np.where(x > 0, 101, 100) * head
    labels[head & (abs(x) < 0.2)] = 45
    labels[head & (z > 0.5)] = 35
    image = head * (500 + 10 * labels)
    for kind, array, suffix in (("images", image, ""), ("labels", labels, "_glm")):
        (root / f"{part}-{kind}").mkdir(parents=True, exist_ok=True)
        nib.save(
            nib.Nifti1Image(array.astype(np.int16), affine),
            root / f"{part}-{kind}" / f"{scan}{suffix}.nii.gz",
        )


def change_labels(path, change):
    """Apply `change` to the voxels of a label file, in place."""
    stored = nib.load(path)
    labels = np.asarray(stored.dataobj).copy()
    change(labels)
    nib.save(nib.Nifti1Image(labels, stored.affine), path)


@pytest.fixture(autouse=True)
def no_scan_in_memory():
    open_stack.cache_clear()


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "malc2012"
    for scan in TRAINING:
        write_scan(folder, "training", scan)
    for scan in TESTING:
        write_scan(folder, "testing", scan, shape=(26, 28, 44))
    return folder


def test_what_a_miniature_holds(root):
    dataset = open_malc2012(root, None)
    assert dataset.task == Task.SEGMENTATION
    assert dataset.classes == STRUCTURES
    assert (dataset.unit, dataset.channels, dataset.spacing, dataset.bits) == ("patient", 1, (2.0, 2.0), 12)
    assert dataset.shape == (32, 16)
    assert dataset.official == {"1000": Part.TRAIN, "1001": Part.TRAIN, "1003": Part.TEST}
    assert {case.scan_id for case in dataset.cases} == {*TRAINING, *TESTING}
    assert [case.case_id for case in dataset.cases] == sorted(case.case_id for case in dataset.cases)
    assert "radiological" in dataset.facts["orientation"]


def test_samples_are_what_the_case_says(root):
    dataset = open_malc2012(root, None)
    for case in dataset.cases:
        image, label = dataset.read(case)
        assert image.shape == (1, *dataset.shape)
        assert label.shape == dataset.shape
        assert (image.dtype, label.dtype) == (np.float32, np.int64)
        assert image.min() == 0
        assert image.max() <= 1
        assert np.count_nonzero(label) == case.foreground > 0


@pytest.mark.parametrize("affine", [LAS, np.eye(4)])
def test_sides_follow_the_affine(root, affine):
    write_scan(root, "training", "1000_3", affine=affine)
    dataset = open_malc2012(root, None)
    case = max(
        (case for case in dataset.cases if case.patient_id == "1000"), key=lambda case: case.foreground
    )
    label = dataset.read(case).label
    left, right, stem = (
        STRUCTURES.index(name) for name in ("left cerebral cortex", "right cerebral cortex", "brain stem")
    )
    rows, columns = np.indices(label.shape)
    # The file calls the side of large x left; with LAS it is the patient's, with RAS it is not.
    shown_right, shown_left = (left, right) if affine is LAS else (right, left)
    assert columns[label == shown_right].min() > columns[label == shown_left].max()
    assert rows[label == stem].max() < rows[label == left].min() + 3  # z is up: what was put on top is on top


@pytest.mark.parametrize("axis", ["coronal", "axial", "sagittal"])
def test_axes_cut_the_same_volume(root, axis):
    dataset = open_malc2012(root, None, axis=axis, spacing=1.0, canvas=(48, 48))
    totals = [sum(case.foreground for case in dataset.cases if case.scan_id == scan) for scan in TRAINING]
    labels = np.asarray(nib.load(root / "training-labels/1000_3_glm.nii.gz").dataobj)
    assert totals == [np.count_nonzero(labels)] * 2


def test_memory_and_cache_give_the_same_bits(root, tmp_path):
    cached, fresh = open_malc2012(root, tmp_path / "cache"), open_malc2012(root, None)
    again = open_malc2012(root, tmp_path / "cache")
    assert cached.cases == fresh.cases == again.cases
    assert cached.fingerprint == fresh.fingerprint == again.fingerprint
    for case in cached.cases:
        for one, other in zip(cached.read(case), fresh.read(case), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_filled_cache_spares_decoding(root, tmp_path, monkeypatch):
    open_malc2012(root, tmp_path / "cache")
    open_stack.cache_clear()
    monkeypatch.setattr(
        "medrobust.data.scans.scan_cases.decode", lambda *_: pytest.fail("decoded a second time")
    )
    dataset = open_malc2012(root, tmp_path / "cache")
    dataset.read(dataset.cases[0])


def test_a_reader_can_be_sent_to_another_process(root, tmp_path):
    dataset = open_malc2012(root, tmp_path / "cache")
    copied = pickle.loads(pickle.dumps(dataset.read))
    np.testing.assert_array_equal(copied(dataset.cases[3]).image, dataset.read(dataset.cases[3]).image)


@pytest.mark.parametrize(
    "parameters",
    [{"axis": "axial"}, {"spacing": 3.0}, {"intensity": "min-max"}, {"canvas": (64, 64)}],
)
def test_every_parameter_changes_the_fingerprint(root, parameters):
    usual = {"canvas": (48, 48)}
    changed = open_malc2012(root, None, **(usual | parameters))
    assert changed.fingerprint != open_malc2012(root, None, **usual).fingerprint


def test_every_voxel_changes_the_fingerprint(root):
    before = open_malc2012(root, None).fingerprint
    change_labels(
        root / "testing-labels/1003_3_glm.nii.gz", lambda labels: labels.__setitem__((13, 14, 18), 4)
    )
    assert open_malc2012(root, None).fingerprint != before


def test_the_folder_s_own_path_plays_no_part(root, tmp_path):
    shutil.copytree(root, tmp_path / "elsewhere")
    assert open_malc2012(root, None).fingerprint == open_malc2012(tmp_path / "elsewhere", None).fingerprint


def test_unpacked_files_and_hidden_ones_are_fine(root):
    packed = root / "training-images/1000_3.nii.gz"
    nib.save(nib.load(packed), root / "training-images/1000_3.nii")
    packed.unlink()
    (root / "training-images/._1001_3.nii.gz").write_bytes(b"left by a file manager")
    assert len(open_malc2012(root, None).official) == 3


def test_two_scans_of_a_patient_stay_together(root):
    write_scan(root, "training", "1000_4")
    dataset = open_malc2012(root, None)
    assert {case.patient_id for case in dataset.cases if case.scan_id in ("1000_3", "1000_4")} == {"1000"}


def test_a_patient_in_training_and_testing_is_refused(root):
    write_scan(root, "testing", "1000_4")
    with pytest.raises(DataError, match="Patients have scans in several parts of the data's split: '1000'"):
        open_malc2012(root, None)


@pytest.mark.parametrize("folder", ["training-labels", "testing-images"])
def test_a_missing_folder_is_named(root, folder):
    shutil.rmtree(root / folder)
    with pytest.raises(DataError, match=rf"{folder} is missing"):
        open_malc2012(root, None)


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(
        DataError, match=r"data\.root: the folder of 'malc2012' does not exist; got .*nowhere"
    ):
        open_malc2012(tmp_path / "nowhere", None)
    with pytest.raises(StudyError, match=r"data\.root: 'malc2012' needs the folder"):
        open_malc2012(None, None)


def test_an_empty_folder_is_named(root):
    for path in (root / "testing-images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"testing-images holds no NIfTI file such as 1000_3\.nii\.gz"):
        open_malc2012(root, None)


def test_an_image_without_labels_is_named(root):
    (root / "training-labels/1001_3_glm.nii.gz").unlink()
    with pytest.raises(DataError, match=r"scan '1001_3' has no labels: .*training-images.1001_3\.nii\.gz"):
        open_malc2012(root, None)


def test_labels_without_an_image_are_named(root):
    (root / "training-images/1001_3.nii.gz").unlink()
    with pytest.raises(DataError, match=r"scan '1001_3' has no image: .*1001_3_glm\.nii\.gz"):
        open_malc2012(root, None)


def test_a_strange_file_name_is_named(root):
    (root / "training-images/1000_3.nii.gz").rename(root / "training-images/patient-a.nii.gz")
    with pytest.raises(DataError, match=r"patient-a\.nii\.gz is not named like the challenge's files"):
        open_malc2012(root, None)


def test_a_scan_that_is_there_twice_is_named(root):
    nib.save(nib.load(root / "training-images/1000_3.nii.gz"), root / "training-images/1000_3.nii")
    with pytest.raises(DataError, match=r"1000_3\.nii and .*1000_3\.nii\.gz are the same scan"):
        open_malc2012(root, None)


def test_a_label_outside_the_map_is_named(root):
    path = root / "training-labels/1001_3_glm.nii.gz"
    change_labels(path, lambda labels: labels.__setitem__((12, 15, 10), 251))
    with pytest.raises(
        DataError,
        match=r"1001_3_glm\.nii\.gz holds the label 251, which is not among .* Are these FreeSurfer",
    ):
        open_malc2012(root, None)


def test_a_scan_in_which_nothing_is_labelled_is_named_and_evaluated(root):
    change_labels(root / "testing-labels/1003_3_glm.nii.gz", lambda labels: labels.fill(46))
    dataset = open_malc2012(root, None)
    assert dataset.facts["cases"].endswith("; nothing is labelled in '1003_3'")
    assert {case.foreground for case in dataset.cases if case.scan_id == "1003_3"} == {0}
    split = {"1000": Part.TEST, "1001": Part.TRAIN, "1003": Part.TEST}
    chosen = select_cases(dataset, split, seed=0, per_patient=4)
    assert described(chosen, dataset) == (
        "8 slices of 2 scans, 4 of them without any label; no Dice is defined for 1 patient"
    )


def test_labels_of_nothing_in_every_scan_are_refused(root):
    for path in root.glob("*-labels/*"):
        change_labels(path, lambda labels: labels.fill(46))
    with pytest.raises(DataError, match=r"1000_3_glm\.nii\.gz labels nothing but background where the image"):
        open_malc2012(root, None)


def test_a_canvas_that_is_too_small_says_what_is_needed(root):
    with pytest.raises(
        DataError, match=r"\[16, 16\] is too small, scan 1003_3 needs \[20, 11\]. Use at least \[20, 11\]"
    ):
        open_malc2012(root, None, canvas=(16, 16))


def test_a_canvas_that_is_too_narrow_is_refused_as_well(root):
    with pytest.raises(DataError, match=r"\[48, 9\] is too small, scan 1000_3 needs"):
        open_malc2012(root, None, canvas=(48, 9))


def test_what_is_not_labelled_is_shown(root):
    change_labels(root / "training-labels/1000_3_glm.nii.gz", lambda labels: labels[:, :, :14].fill(46))
    dataset = open_malc2012(root, None, spacing=1.0)
    case = max(
        (case for case in dataset.cases if case.patient_id == "1000"), key=lambda case: case.foreground
    )
    image, label = dataset.read(case)
    assert np.count_nonzero(image) > 3 * np.count_nonzero(label)


def test_a_failed_scan_leaves_the_finished_ones_in_the_cache(root, tmp_path):
    (root / "testing-labels/1003_3_glm.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"1003_3_glm\.nii\.gz: cannot be read"):
        open_malc2012(root, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 8


def test_a_study_s_block_opens_it(root):
    block = {"name": "malc2012", "root": "malc2012", "canvas": [48, 48], "spacing": 2}
    assert open_dataset(block, None, root.parent).shape == (48, 48)
    assert open_dataset({"name": "malc2012", "root": str(root)}, None, None).shape == (32, 16)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"name": "malc2021"}, "Unknown data set 'malc2021'. Did you mean 'malc2012'"),
        ({}, r"data\.name: Unknown data set 'None'"),
        ({"name": "malc2012"}, r"data\.root: 'malc2012' needs the folder of its files; got None"),
        ({"name": "malc2012", "root": "x", "spacin": 1}, "Unknown key 'spacin'. Did you mean 'spacing'"),
        ({"name": "malc2012", "root": "x", "spacing": 0}, r"data\.spacing.*greater than 0; got 0"),
        ({"name": "malc2012", "root": "x", "axis": "oblique"}, r"data\.axis.*got 'oblique'"),
        (
            {"name": "phantom_lesions", "root": "x"},
            r"data\.root: 'phantom_lesions' is generated and has no folder",
        ),
    ],
)
def test_a_wrong_block_is_refused(block, message):
    with pytest.raises(StudyError, match=message):
        open_dataset(block, None, Path())


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    data = os.environ.get("MEDROBUST_DATA")
    if not data or not (Path(data) / "malc2012").is_dir():
        pytest.skip("MEDROBUST_DATA has no malc2012")
    return open_malc2012(Path(data) / "malc2012", tmp_path_factory.mktemp("cache"))


@pytest.mark.data
class TestRealScans:
    def test_numbers_of_the_challenge(self, real):
        parts = list(real.official.values())
        assert (parts.count(Part.TRAIN), parts.count(Part.TEST)) == (15, 12)
        assert len({case.scan_id for case in real.cases}) == 27
        assert real.shape == (80, 80)
        slices = [
            sum(case.scan_id == scan for case in real.cases) for scan in {case.scan_id for case in real.cases}
        ]
        assert 75 <= min(slices) <= max(slices) <= 95

    def test_sixteen_slices_of_a_test_patient_show_nearly_every_structure(self, real):
        chosen = select_cases(real, make_split(real, {"rule": "official"}, 0), seed=0, per_patient=16)
        assert len(chosen) == 12 * 16
        shown = {
            (case.scan_id, structure) for case in chosen for structure in np.unique(real.read(case).label)[1:]
        }
        assert len(shown) >= 0.99 * 12 * 27

    def test_sides_top_and_tissues_are_where_they_belong(self, real):
        place = STRUCTURES.index
        middle = [case for case in real.cases if case.scan_id == "1000_3"][46]
        image, label = real.read(middle)
        rows, columns = np.indices(label.shape)
        assert (
            columns[label == place("left cerebral cortex")].mean() > 45
        )  # radiological: the patient's left is on the right
        assert columns[label == place("right cerebral cortex")].mean() < 35
        assert rows[label == place("brain stem")].mean() > rows[label == place("left thalamus")].mean()
        white = image[0][label == place("left cerebral white matter")].mean()
        cortex = image[0][label == place("left cerebral cortex")].mean()
        assert 0.55 < cortex / white < 0.75

    def test_volumes_survive_resampling(self, real):
        path = Path(os.environ["MEDROBUST_DATA"]) / "malc2012/training-labels/1000_3_glm.nii.gz"
        original = np.asarray(nib.load(path).dataobj)
        cases = [case for case in real.cases if case.scan_id == "1000_3"]
        stem = sum(int((real.read(case).label == STRUCTURES.index("brain stem")).sum()) for case in cases)
        assert 8 * stem == pytest.approx((original == 35).sum(), rel=0.03)

"""Slices, whole volumes, patches and channels of labelled scans."""

import json
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

import made_scans
from made_folders import write_volume
from medrobust.core import Case
from medrobust.data import list_dataset, open_dataset
from medrobust.data.scans import scan_cases
from medrobust.data.scans.geometry import resample_image, resample_labels
from medrobust.data.scans.labels import map_of_study
from medrobust.errors import DataError, StudyError


@pytest.fixture(autouse=True)
def no_scan_in_memory():
    scan_cases.open_stack.cache_clear()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return made_scans.decathlon(tmp_path_factory.mktemp("decathlon"), cases=3)


@pytest.fixture
def opened(root):
    def opened(cache=None, **keys):
        return open_dataset({"name": "decathlon", "root": root, "spacing": 1.0, **keys}, cache, None)

    return opened


def stacked(dataset, scan):
    """Images and labels of a scan's slices, one above the other."""
    cases = [case for case in dataset.cases if case.scan_id == scan]
    shape = (1 + max(case.position for case in cases), *dataset.shape)
    images, labels = np.zeros((dataset.channels, *shape), np.float32), np.zeros(shape, int)
    for case in cases:
        sample = dataset.read(case)
        images[:, case.position], labels[case.position] = sample
    return images, labels


def test_volumes_are_the_axial_slices_of_a_scan(opened):
    slices, volumes = opened(axis="axial"), opened(axis="volume")
    assert (volumes.shape, volumes.spacing, volumes.channels) == ((32, 32, 32), (1.0,) * 3, 2)
    assert [case.case_id for case in volumes.cases] == [f"BRATS_00{n}-volume-000" for n in range(3)]
    assert "whole volumes" in volumes.facts["cases"]
    for case in volumes.cases:
        image, label = volumes.read(case)
        assert image.shape == (2, *volumes.shape)
        assert case.foreground == np.count_nonzero(label)
        assert case.foreground == sum(c.foreground for c in slices.cases if c.scan_id == case.scan_id)
        _, flat = stacked(slices, case.scan_id)
        np.testing.assert_array_equal(label[label.any(axis=(1, 2))], flat[flat.any(axis=(1, 2))])


def test_a_volume_lies_where_its_slices_lie(opened):
    slices, volumes = opened(axis="axial"), opened(axis="volume")
    places = []
    for dataset in (slices, volumes):
        case = next(case for case in dataset.cases if case.scan_id == "BRATS_001")
        labels = stacked(dataset, "BRATS_001")[1] if dataset is slices else dataset.read(case).label
        places.append(apply_affine(dataset.affine("BRATS_001"), np.argwhere(labels == 2)))
    np.testing.assert_allclose(*places)


@pytest.mark.parametrize("patch", [[8, 8, 8], [5, 16, 7], [64, 64, 64]])
def test_patches_tile_a_volume(opened, patch):
    volumes, patches = opened(axis="volume"), opened(axis="volume", patch=patch)
    assert patches.shape == tuple(patch)
    assert f"patches of {' x '.join(map(str, patch))} voxels" in patches.facts["cases"]
    for whole in volumes.cases:
        own = [case for case in patches.cases if case.scan_id == whole.scan_id]
        assert sum(case.foreground for case in own) == whole.foreground
        for case in own:
            image, label = patches.read(case)
            assert image.shape == (2, *patch)
            assert np.count_nonzero(label) == case.foreground
            assert np.ptp(image) > 0
        image, label = volumes.read(whole)
        for number in np.unique(label):
            if number:
                tiles = [np.count_nonzero(patches.read(case).label == number) for case in own]
                assert sum(tiles) == np.count_nonzero(label == number)


def test_patches_put_together_are_the_volume_in_the_world(opened):
    """Position counts the tiles of the canvas in C order."""
    volumes, patches = opened(axis="volume"), opened(axis="volume", patch=[8, 8, 8])
    place = patches.affine("BRATS_000")
    own = [case for case in patches.cases if case.scan_id == "BRATS_000"]
    counts = [side // 8 for side in patches.read.canvas]
    found = []
    for case in own:
        tile = np.array(np.unravel_index(case.position, counts))
        found.append(apply_affine(place, 8 * tile + np.argwhere(patches.read(case).label == 2)))
    whole = volumes.read(volumes.cases[0]).label
    expected = apply_affine(volumes.affine("BRATS_000"), np.argwhere(whole == 2))
    np.testing.assert_allclose(sorted(map(tuple, np.concatenate(found))), sorted(map(tuple, expected)))


def test_what_fits_together_is_required(opened):
    with pytest.raises(StudyError, match=r"data\.patch: patches are cut from volumes; got axis 'axial'"):
        opened(axis="axial", patch=[8, 8, 8])
    with pytest.raises(DataError, match=r"data\.canvas: \[64, 64\] has 2 sides, and 3 are needed"):
        opened(axis="volume", canvas=[64, 64])
    with pytest.raises(DataError, match=r"data\.canvas: \[8, 64, 64\] is too small, scan BRATS_000 needs"):
        opened(axis="volume", canvas=[8, 64, 64])
    with pytest.raises(StudyError, match=r"data\.patch\.2: .*greater than or equal to 1; got 0"):
        opened(axis="volume", patch=[8, 8, 0])


@pytest.mark.parametrize("change", [{"patch": [8, 8, 8]}, {"canvas": [40, 40, 40]}, {"intensity": "z-score"}])
def test_what_changes_the_cases_changes_the_fingerprint(opened, change):
    assert opened(axis="volume").fingerprint != opened(axis="volume", **change).fingerprint


def test_what_labels_mean_is_part_of_the_fingerprint(opened):
    one, other = (
        opened(labels={"tumour": numbers, "background": rest})
        for numbers, rest in (([1, 2], [3]), ([2], [1, 3]))
    )
    assert one.fingerprint != other.fingerprint
    assert sum(case.foreground for case in one.cases) > sum(case.foreground for case in other.cases)


def written(folder, image, labels):
    """Two scans of the same image, one with labels, as `nifti_pairs` lists them."""
    for name, voxels in (("a", labels), ("b", 0 * labels)):
        write_volume(folder / f"images/{name}.nii.gz", image, np.eye(4))
        write_volume(folder / f"labels/{name}.nii.gz", voxels, np.eye(4))
    return {"name": "nifti_pairs", "root": folder, "labels": {"organ": 1}, "spacing": 1.0}


@pytest.mark.parametrize("outside", [0, 70])
@pytest.mark.parametrize(("axis", "turn"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_slices_are_cases_by_their_image_alone(tmp_path, axis, turn, outside):
    """From the first to the last that is not constant, a blank one between them as well."""
    image, labels = np.full((12, 11, 10), outside, np.float32), np.zeros((12, 11, 10), np.int16)
    body, gap, organ = (np.moveaxis(array, turn, 0) for array in (image, image, labels))
    body[2:9, 3:7, 3:7] = np.random.default_rng(0).uniform(100, 200, (7, 4, 4))
    gap[5] = outside
    organ[4:5, 4:6, 4:6] = 1
    dataset = open_dataset({**written(tmp_path, image, labels), "axis": axis}, None, None)
    cases = [case for case in dataset.cases if case.scan_id == "a"]
    assert [case.position for case in cases] == list(range(2, 9))
    assert [case.foreground for case in cases] == [0, 0, 4, 0, 0, 0, 0]
    assert [np.ptp(dataset.read(case).image) > 0 for case in cases] == [True] * 3 + [False] + [True] * 3
    assert [case.position for case in dataset.cases if case.scan_id == "b"] == list(range(2, 9))
    assert dataset.facts["cases"].endswith("; nothing is labelled in 'b'")


@pytest.mark.parametrize("keys", [{"axis": "axial"}, {"axis": "volume", "patch": [1, 16, 16]}])
def test_what_resampling_leaves_of_a_constant_shows_nothing(tmp_path, keys):
    """Air of 7 is no 0 in this window, its means over voxels differ in their last bits, and margins are 0."""
    image, labels = np.full((12, 11, 40), 7, np.float32), np.zeros((12, 11, 40), np.int16)
    image[2:10, 2:10, 12:24] = np.random.default_rng(0).uniform(100, 200, (8, 8, 12))
    labels[4:8, 4:8, 16:20] = 1
    data = {**written(tmp_path, image, labels), "spacing": 1.7, "intensity": {"centre": 40, "width": 300}}
    dataset = open_dataset({**data, **keys}, None, None)
    # 24 new slices cover 40 mm, centred; 12 to 24 mm lie in the eighth to the fifteenth.
    assert [case.position for case in dataset.cases if case.scan_id == "a"] == list(range(7, 15))


def test_labels_beyond_the_image_make_no_case_and_are_counted(tmp_path):
    image, labels = np.zeros((12, 11, 10), np.float32), np.zeros((12, 11, 10), np.int16)
    image[3:9, 2:8, 3:7] = np.random.default_rng(0).uniform(100, 200, (6, 6, 4))
    labels[4:6, 6:10, 4:6] = 1
    dataset = open_dataset(written(tmp_path, image, labels), None, None)
    assert [case.foreground for case in dataset.cases if case.scan_id == "a"] == [0, 0, 0, 0, 4, 4]
    assert "; 2 labelled slices lie beyond and take no part;" in dataset.facts["cases"]
    labels[:, :8] = 0
    with pytest.raises(DataError, match=r"a\.nii\.gz labels nothing but background where the image shows"):
        open_dataset(written(tmp_path, image, labels), None, None)


def test_where_every_slice_is_constant_all_are_cases(tmp_path):
    image = np.broadcast_to(np.arange(11, dtype=np.float32)[:, None], (12, 11, 10))
    labels = np.zeros((12, 11, 10), np.int16)
    labels[4, 5, 6] = 1
    dataset = open_dataset(written(tmp_path, image, labels), None, None)
    assert [case.position for case in dataset.cases if case.scan_id == "a"] == list(range(11))


def test_each_channel_is_normalised_by_itself(opened):
    dataset = opened(intensity="min-max", axis="volume")
    image, _ = dataset.read(dataset.cases[0])
    body = image[0] > 0
    assert image[0].max() == image[1].max() == 1
    assert np.corrcoef(image[0][body], image[1][body])[0, 1] < -0.99


def test_channels_that_differ_in_number_are_named(tmp_path):
    root = made_scans.decathlon(tmp_path, cases=3)
    write_volume(root / "imagesTr/BRATS_001.nii.gz", made_scans.belly(1)[0])
    with pytest.raises(DataError, match=r"BRATS_001\.nii\.gz has 1 channels, but .*BRATS_000\.nii\.gz has 2"):
        open_dataset({"name": "decathlon", "root": root}, None, None)


def test_a_constant_channel_is_named(tmp_path):
    root = made_scans.decathlon(tmp_path, cases=3)
    image = made_scans.belly(1)[0]
    write_volume(root / "imagesTr/BRATS_001.nii.gz", np.stack([image, 0 * image], axis=-1))
    with pytest.raises(DataError, match=r"BRATS_001\.nii\.gz, channel 1: every voxel has the intensity 0"):
        open_dataset({"name": "decathlon", "root": root}, None, None)


def test_a_spacing_that_takes_too_much_memory_is_refused_before(opened):
    with pytest.raises(DataError, match=r"data\.spacing: 0\.001 mm makes 22000 x 26000 x 18000 voxels"):
        opened(spacing=0.001)


def test_a_spacing_that_leaves_no_structure_is_refused(tmp_path):
    image, labels = made_scans.belly(0)
    labels[:] = 0
    labels[10, 10, 10] = 1
    write_volume(tmp_path / "images/a.nii.gz", image)
    write_volume(tmp_path / "labels/a.nii.gz", labels)
    block = {"name": "nifti_pairs", "root": tmp_path, "labels": {"spot": 1}, "spacing": 9.0}
    with pytest.raises(DataError, match=r"no structure fills most of any voxel of 9 mm"):
        open_dataset(block, None, None)


def test_several_scans_are_decoded_at_once(opened, monkeypatch):
    monkeypatch.setattr(scan_cases, "threads", lambda: 3)
    meeting = threading.Barrier(3, timeout=60)
    decode = scan_cases.decode

    def met(*args):
        meeting.wait()
        return decode(*args)

    monkeypatch.setattr(scan_cases, "decode", met)
    assert len({case.scan_id for case in opened().cases}) == 3


def test_large_scans_are_decoded_one_by_one(opened, monkeypatch):
    monkeypatch.setattr(scan_cases, "VOXELS_AT_ONCE", 3 * 22 * 26 * 18)
    monkeypatch.setattr(scan_cases, "threads", lambda: 3)
    running, decode = threading.Semaphore(1), scan_cases.decode

    def alone(*args):
        assert running.acquire(blocking=False)
        stack = decode(*args)
        running.release()
        return stack

    monkeypatch.setattr(scan_cases, "decode", alone)
    assert len({case.scan_id for case in opened().cases}) == 3


@pytest.mark.parametrize(("spacing", "most"), [(1.0, 12), (1.01, 25)])
def test_memory_that_decoding_takes(tmp_path, spacing, most):
    """Bytes a voxel, as NumPy counts them; 25 and more where copies are kept."""
    shape = (96, 96, 96)
    image, labels = made_scans.belly(0, shape)
    write_volume(tmp_path / "images" / "a.nii", image.astype(np.int16))
    write_volume(tmp_path / "labels" / "a.nii", np.minimum(labels, 1))
    block = {"name": "nifti_pairs", "root": tmp_path, "labels": {"liver": 1}}
    scan = list_dataset(block, None).items[0]
    decoding = scan_cases.Decoding("coronal", spacing, "percentile-99.5", map_of_study({"liver": 1}))
    scan_cases.decode(scan, decoding)
    tracemalloc.start()
    scan_cases.decode(scan, decoding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / np.prod(shape) < most


def test_voxels_that_are_not_resampled_stay_as_they_are():
    image, labels = made_scans.belly(0)
    same = (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(resample_image(image, same, 1.0), image)
    np.testing.assert_array_equal(resample_labels(labels.astype(np.uint8), same, 1.0), labels)


def test_the_number_of_threads_changes_nothing(opened, monkeypatch, tmp_path):
    one = opened(tmp_path / "one")
    monkeypatch.setattr(scan_cases, "threads", lambda: 1)
    other = opened(tmp_path / "other")
    assert (one.cases, one.fingerprint) == (other.cases, other.fingerprint)


def test_a_second_epoch_decodes_nothing(opened, monkeypatch, tmp_path):
    dataset = opened(tmp_path)
    monkeypatch.setattr(scan_cases, "decode", lambda *_: pytest.fail("decoded a second time"))
    for _ in range(2):
        scan_cases.open_stack.cache_clear()
        for case in dataset.cases:
            dataset.read(case)


def test_reading_beyond_a_scan_is_an_error(opened):
    dataset = opened()
    with pytest.raises(KeyError, match="nobody"):
        dataset.read(Case("x", "nobody", "x"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from(
            ("labels", "training", "channel_names", "file_ending", "dataset", "modality", "name")
        ),
        JSON,
    )
)
def test_any_description_of_a_decathlon_is_listed_or_refused(tmp_path, changes):
    content = {
        "labels": {"0": "background", "1": "organ"},
        "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}],
    }
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "a.nii.gz").touch()
    (tmp_path / "dataset.json").write_text(json.dumps(content | changes))
    try:
        list_dataset({"name": "decathlon", "root": tmp_path}, None)
    except DataError as error:
        if str(tmp_path) not in str(error):
            raise AssertionError(f"does not name the file: {error}") from error

"""Reading a scan with its labels, orientation, resampling, intensity and canvas."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from medrobust.data.scans.geometry import (
    VIEWS,
    bounding_box,
    fit_canvas,
    on_canvas,
    overlaps,
    resample_image,
    resample_labels,
    slices_along,
)
from medrobust.data.scans.intensity import normalise
from medrobust.data.scans.volumes import forms
from medrobust.data.scans.volumes import read_volume as read_channels
from medrobust.errors import DataError

SHAPE = (5, 6, 7)


def read_volume(image, labels):
    volume = read_channels([image], labels)
    return volume._replace(image=volume.image[0])


def save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def pair(tmp_path):
    """Writes a scan whose intensity tells the voxel, and its labels; returns both paths."""

    def write(image=None, labels=None, affine=None, labels_affine=None):
        default = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        image = default if image is None else image
        labels = (default % 50).astype(np.int16) if labels is None else labels
        labels_affine = affine if labels_affine is None else labels_affine
        return save(tmp_path / "scan.nii.gz", image, affine), save(
            tmp_path / "glm.nii.gz", labels, labels_affine
        )

    return write


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LIA", "PSR", "AIL"])
def test_the_affine_tells_the_orientation_whatever_way_the_file_is_stored(pair, codes):
    ras = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    stored = nib.orientations.apply_orientation(ras, turn)
    affine = np.diag([1.0, 1.5, 2.0, 1.0]) @ inv_ornt_aff(turn, SHAPE)
    volume = read_volume(*pair(stored, stored, affine))
    np.testing.assert_array_equal(volume.image, ras)
    np.testing.assert_array_equal(volume.labels, ras)
    np.testing.assert_allclose(volume.affine, np.diag([1.0, 1.5, 2.0, 1.0]))
    assert volume.image.dtype == np.float32
    assert volume.labels.dtype == np.uint16


def test_a_fourth_dimension_of_one_is_dropped(pair):
    image = np.ones((*SHAPE, 1), np.int16)
    assert read_volume(*pair(image, image)).image.shape == SHAPE


@pytest.mark.parametrize(
    ("axis", "place", "slice_row_column"),
    [
        # A voxel at the right, at the front and at the top of a volume in RAS.
        ("coronal", (4, 5, 6), (5, 0, 0)),
        ("axial", (4, 5, 6), (6, 0, 0)),
        ("sagittal", (4, 5, 6), (4, 0, 0)),
        # One at the left, at the back and below.
        ("coronal", (0, 0, 0), (0, 6, 4)),
        ("axial", (0, 0, 0), (0, 5, 4)),
        ("sagittal", (0, 0, 0), (0, 6, 5)),
    ],
)
def test_slices_look_as_a_radiologist_expects(axis, place, slice_row_column):
    volume = np.zeros(SHAPE)
    volume[place] = 1
    assert tuple(np.argwhere(slices_along(volume, axis))[0]) == slice_row_column


def test_every_axis_has_a_view():
    assert set(VIEWS) == {"coronal", "axial", "sagittal"}


@pytest.mark.parametrize("cut", [0, 100, 300])
def test_a_file_that_was_cut_short_is_named(pair, cut):
    image, labels = pair(np.random.default_rng(0).integers(0, 30000, SHAPE).astype(np.int16))
    image.write_bytes(image.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"scan\.nii\.gz: cannot be read as a volume \(.*download it again"):
        read_volume(image, labels)


def test_a_missing_file_is_named(pair, tmp_path):
    with pytest.raises(DataError, match=r"no\.nii\.gz: cannot be read"):
        read_volume(pair()[0], tmp_path / "no.nii.gz")


def test_shapes_that_differ_are_refused(pair):
    with pytest.raises(DataError, match=r"scan.* shape \(5, 6, 7\), but its labels .*glm.* \(5, 6, 8\)"):
        read_volume(*pair(labels=np.zeros((5, 6, 8), np.int16)))


def test_affines_that_differ_are_refused(pair):
    with pytest.raises(DataError, match=r"scan.*glm.* affines that differ by up to 4 mm"):
        read_volume(*pair(affine=np.eye(4), labels_affine=np.diag([-1.0, 1, 1, 1])))


def test_labels_have_three_dimensions(pair):
    image = np.zeros((*SHAPE, 2), np.int16)
    with pytest.raises(DataError, match=r"glm.*\(5, 6, 7, 2\); labels have 3 dimensions"):
        read_volume(*pair(image, image))


def test_more_than_four_dimensions_are_refused(pair):
    with pytest.raises(DataError, match=r"scan.*\(5, 6, 7, 2, 3\); a volume has 3 dimensions"):
        read_volume(*pair(np.zeros((*SHAPE, 2, 3), np.int16)))


@pytest.mark.parametrize("shape", [(*SHAPE, 3), (*SHAPE, 1, 3)])
def test_a_fourth_dimension_holds_channels(pair, shape):
    image = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)
    volume = read_channels([pair(image)[0]], pair(image)[1])
    assert volume.image.shape == (3, *SHAPE)
    np.testing.assert_array_equal(volume.image, np.moveaxis(image.reshape(*SHAPE, 3), 3, 0))


def test_channels_in_files_of_their_own_are_stacked_in_order(pair, tmp_path):
    image, labels = pair()
    other = save(tmp_path / "other.nii", np.full(SHAPE, 7, np.int16))
    volume = read_channels([image, other], labels)
    assert volume.image.shape == (2, *SHAPE)
    assert (volume.image[1] == 7).all()
    with pytest.raises(DataError, match=r"small\.nii has the shape \(2, 2, 2\), but its labels"):
        read_channels([image, save(tmp_path / "small.nii", np.ones((2, 2, 2), np.int16))], labels)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_intensities_that_are_no_numbers_are_refused(pair, value):
    image = np.ones(SHAPE, np.float32)
    image[1, 2, 3] = value
    with pytest.raises(DataError, match=r"scan.* NaN or infinite intensities in 1 voxels"):
        read_volume(*pair(image))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, r"the label 0\.5; labels of 1 voxels are not whole numbers\. Were they resampled"),
        (1.37, r"the label 1\.37; labels of 1 voxels are not whole numbers\. Were they resampled"),
        (0.997, r"the label 0\.997; labels of 1 voxels are not whole numbers\. Were they resampled"),
        (-1.0, "the label -1; labels are whole numbers from 0 to 65535"),
        (70000.0, "the label 70000; labels are whole numbers from 0 to 65535"),
        (np.nan, "NaN or infinity in 1 voxels, and labels are numbers"),
        (-np.inf, "NaN or infinity in 1 voxels, and labels are numbers"),
    ],
)
def test_labels_that_are_no_labels_are_refused(pair, value, message):
    labels = np.zeros(SHAPE, np.float32)
    labels[0, 0, 1] = value
    with pytest.raises(DataError, match=f"glm.* holds {message}"):
        read_volume(*pair(labels=labels))


LABELS = np.random.default_rng(1).choice([0, 1, 2, 17, 60], SHAPE)
STORAGE = {
    "uint8 with slope": (LABELS, np.uint8),
    "int16 with slope": (LABELS, np.int16),
    "uint16 with slope": (LABELS, np.uint16),
    "int32 with slope": (LABELS, np.int32),
    "float64": (LABELS, np.float64),
    "float32, off": (LABELS * np.float32(1.0000001), np.float32),
    "float32, off by arithmetic": (
        (LABELS / np.float32(255)).astype(np.float32) * np.float32(255),
        np.float32,
    ),
    "int64": (LABELS.astype(np.int64), np.int64),
    "big-endian": (LABELS.astype(">i2"), ">i2"),
}


@pytest.mark.parametrize("kind", STORAGE)
def test_labels_come_back_from_every_storage(pair, tmp_path, kind):
    values, dtype = STORAGE[kind]
    image, path = pair()
    values = values if kind in ("int64", "big-endian") else values.astype(np.float64)
    stored = nib.Nifti1Image(values, np.eye(4), dtype=values.dtype)
    stored.header.set_data_dtype(dtype)
    nib.save(stored, path)
    volume = read_volume(image, path)
    np.testing.assert_array_equal(volume.labels, LABELS)
    assert volume.labels.dtype == np.uint16


def test_scaled_storage_hides_no_interpolation(pair):
    """Half a step of what the file can hold, not half of the way to the next label."""
    image, path = pair()
    blurred = LABELS.astype(np.float64)
    blurred[0, 0, 0] = 1.37
    stored = nib.Nifti1Image(blurred, np.eye(4))
    stored.header.set_data_dtype(np.uint8)
    nib.save(stored, path)
    with pytest.raises(
        DataError, match=r"holds the label 1\.41176; labels of 1 voxels are not whole numbers"
    ):
        read_volume(image, path)


def test_a_slope_of_one_lets_no_fraction_pass(pair):
    image, path = pair()
    stored = nib.Nifti1Image(LABELS.astype(np.int16), np.eye(4))
    stored.header.set_slope_inter(1, 0.3)
    nib.save(stored, path)
    with pytest.raises(DataError, match="are not whole numbers"):
        read_volume(image, path)


def test_labels_in_colours_are_refused(pair):
    image, path = pair()
    colours = np.zeros(SHAPE, np.dtype([(band, np.uint8) for band in "RGB"]))
    nib.save(nib.Nifti1Image(colours, np.eye(4)), path)
    with pytest.raises(DataError, match="holds colours instead of numbers"):
        read_volume(image, path)


def rotated(degrees, axis=0):
    """A rotation about x, or about z."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    first, second = ((1, 2), (1, 0))[axis]
    affine[[first, second], [first, second]] = cosine
    affine[first, second], affine[second, first] = -sine, sine
    return affine


@pytest.mark.parametrize("about", [0, 1])
@pytest.mark.parametrize("degrees", [45, -45, 135, 225])
def test_axes_near_45_degrees_are_those_of_the_labels(pair, degrees, about):
    """Headers that differ by 2e-5 degrees may name their axes differently."""
    voxels = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    for sign in (1, -1):
        affines = [rotated(degrees + sign * off, about) for off in (1e-5, -1e-5)]
        volume = read_volume(*pair(voxels, voxels, *affines))
        np.testing.assert_array_equal(volume.image, volume.labels)


@pytest.mark.parametrize("codes", ["RAS", "PSR", "SAL", "AIL"])
def test_labels_may_be_stored_along_other_axes(pair, codes):
    voxels = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    turn = ornt_transform(axcodes2ornt("LAS"), axcodes2ornt(codes))
    affine = np.diag([-1.0, 1.5, 2.0, 1.0])
    labels = nib.orientations.apply_orientation(voxels, turn)
    volume = read_volume(*pair(voxels, labels, affine, affine @ inv_ornt_aff(turn, SHAPE)))
    np.testing.assert_array_equal(volume.image, volume.labels)
    np.testing.assert_array_equal(volume.labels, voxels[::-1])


@pytest.mark.parametrize(
    ("unit", "side", "wanted"), [("micron", 250, 0.25), ("meter", 0.002, 2), ("mm", 3, 3), ("unknown", 3, 3)]
)
@pytest.mark.parametrize("is_sform", [True, False])
def test_lengths_are_in_millimetres_whatever_the_unit(pair, unit, side, wanted, is_sform):
    paths = pair()
    affine = np.diag([side, side, side, 1.0])
    affine[:3, 3] = 7 * side
    for path in paths:
        header = nib.load(path)
        image = nib.Nifti1Image(np.asarray(header.dataobj), affine)
        image.set_sform(affine, int(is_sform))
        image.set_qform(affine, 1)
        image.header.set_xyzt_units(unit)
        nib.save(image, path)
    expected = np.diag([wanted, wanted, wanted, 1.0])
    expected[:3, 3] = 7 * wanted
    np.testing.assert_allclose(read_volume(*paths).affine, expected, rtol=1e-6)


def patched(path, place, form, *values):
    """Change a header in its file."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, raw, place, *values)
    path.write_bytes(gzip.compress(raw))


def test_sides_below_zero_are_repaired_in_silence(pair, capfd):
    paths = pair(affine=np.diag([2.0, 2, 3, 1]))
    for path in paths:
        patched(path, 80, "<f", -2.0)
    np.testing.assert_allclose(read_volume(*paths).affine, np.diag([2.0, 2, 3, 1]))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("side", "message"),
    [(0.0, "does not say how large its voxels are: 0 x 1 x 1"), (np.nan, "affine with NaN")],
)
def test_voxels_without_a_side_are_refused_unless_the_sform_has_it(pair, side, message):
    paths = pair()
    for path in paths:
        patched(path, 80, "<f", side)
    np.testing.assert_allclose(read_volume(*paths).affine, np.eye(4))
    patched(paths[0], 252, "<2h", 1, 0)
    with pytest.raises(DataError, match=rf"scan\.nii\.gz {message}|scan\.nii\.gz has an {message}"):
        read_volume(*paths)


def test_a_name_does_not_tell_whether_a_file_is_packed(pair, tmp_path):
    image, labels = pair()
    packed, plain = tmp_path / "packed.nii", tmp_path / "plain.nii.gz"
    packed.write_bytes(image.read_bytes())
    plain.write_bytes(gzip.decompress(image.read_bytes()))
    for path in (packed, plain):
        np.testing.assert_array_equal(read_volume(path, labels).image, read_volume(image, labels).image)


def test_forms_of_a_header(pair):
    image, labels = pair()
    header = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4))
    header.set_qform(np.diag([1.0, 1, 1, 1]), 1)
    header.set_sform(np.diag([1000.0, 1000, 4000, 1]), 2)
    header.header.set_xyzt_units("micron")
    nib.save(header, image)
    codes, differ = forms(image)
    assert (codes, differ) == ((1, 2), pytest.approx(3.999))
    patched(image, 256, "<f", 9.0)
    assert forms(image) == ((0, 2), 0.0)
    patched(image, 254, "<h", 0)
    with pytest.raises(DataError, match="has a qform that is not a rotation"):
        read_volume(image, labels)


def test_a_header_of_analyze_is_named(pair):
    image, labels = pair()
    patched(image, 344, "<4s", bytes(4))
    with pytest.raises(DataError, match="its header is not NIfTI, perhaps Analyze"):
        read_volume(image, labels)


def test_an_affine_without_volume_is_refused(pair):
    image, labels = pair()
    flat = nib.Nifti1Image(np.ones(SHAPE, np.int16), None)
    flat.header["sform_code"], flat.header["srow_x"] = 1, (0, 0, 0, 0)
    nib.save(flat, image)
    data = bytearray(nib.Nifti1Image(np.ones(SHAPE, np.int16), np.eye(4)).to_bytes())
    data[280:296] = bytes(16)  # srow_x
    image.with_suffix("").write_bytes(data)
    with pytest.raises(DataError, match="spans no volume"):
        read_volume(image.with_suffix(""), labels)


def test_percentile_ignores_air_and_clips_the_brightest():
    brain = np.linspace(1, 1000, 1000, dtype=np.float32)
    volume = np.concatenate([np.zeros(5000, np.float32), brain]).reshape(10, 20, 30)
    scaled = normalise(volume, "percentile-99.5", "scan")
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert (scaled == 0).sum() == 5000
    assert (scaled == 1).sum() == 5
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[volume == 500], 500 / np.percentile(brain, 99.5), rtol=1e-6)


def test_min_max_keeps_the_whole_range():
    volume = np.array([[[-10, 0, 30]]], np.float32)
    np.testing.assert_allclose(normalise(volume, "min-max", "scan"), [[[0, 0.25, 1]]])


def test_a_constant_image_is_refused():
    with pytest.raises(DataError, match=r"scan\.nii: every voxel has the intensity 7"):
        normalise(np.full(SHAPE, 7, np.float32), "min-max", "scan.nii")


@given(n=st.integers(1, 40), spacing=st.floats(0.3, 4), new=st.floats(0.3, 4))
def test_overlaps_are_shares_of_a_grid_that_covers_the_old_one(n, spacing, new):
    weights = overlaps(n, spacing, new)
    assert len(weights) * new >= n * spacing - 1e-2
    assert (len(weights) - 1) * new < n * spacing
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-5)  # centred


def test_halving_the_resolution_takes_means_of_eight_voxels():
    image = np.random.default_rng(0).random((4, 6, 8)).astype(np.float32)
    expected = image.reshape(2, 2, 3, 2, 4, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(resample_image(image, (1.0, 1.0, 1.0), 2.0), expected, rtol=1e-5)


def test_voxels_that_are_no_cubes_become_cubes():
    image = np.random.default_rng(0).random((4, 3, 2)).astype(np.float32)
    finer = resample_image(image, (1.0, 2.0, 4.0), 2.0)
    assert finer.shape == (2, 3, 4)
    np.testing.assert_allclose(finer, image.reshape(2, 2, 3, 2).mean(axis=1).repeat(2, axis=2), rtol=1e-5)


@given(arrays(np.uint8, (4, 4, 6), elements=st.integers(0, 4)))
def test_labels_go_to_the_structure_that_fills_most_of_the_voxel(labels):
    resampled = resample_labels(labels, (1.0, 1.0, 1.0), 2.0)
    sizes = np.bincount(labels.ravel(), minlength=5)
    blocks = labels.reshape(2, 2, 2, 2, 3, 2).transpose(0, 2, 4, 1, 3, 5)
    for place in np.ndindex(2, 2, 3):
        counts = np.bincount(blocks[place].ravel(), minlength=5)
        assert counts[resampled[place]] == counts.max()
        tied = np.flatnonzero(counts == counts.max())
        assert sizes[resampled[place]] == sizes[tied].min()


@pytest.mark.parametrize(("rare", "common"), [(1, 2), (2, 1), (3, 0), (0, 3)])
def test_a_tie_goes_to_the_smaller_structure(rare, common):
    labels = np.full((2, 2, 4), common, np.uint8)
    labels[0, :, :2] = rare
    assert resample_labels(labels, (1.0, 1.0, 1.0), 2.0).ravel().tolist() == [rare, common]


def test_the_same_spacing_changes_nothing():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 28, SHAPE).astype(np.uint8)
    np.testing.assert_array_equal(resample_labels(labels, (2.0, 2.0, 2.0), 2.0), labels)
    image = rng.random(SHAPE).astype(np.float32)
    np.testing.assert_array_equal(resample_image(image, (2.0, 2.0, 2.0), 2.0), image)


def test_air_stays_exactly_zero():
    image = np.zeros((20, 20, 20), np.float32)
    image[8:12, 8:12, 8:12] = 1
    assert (resample_image(image, (1.0, 1.0, 1.0), 1.7) == 0).mean() > 0.9


def test_the_box_holds_all_slices():
    mask = np.zeros((3, 6, 7), bool)
    mask[0, 1, 5] = mask[2, 4, 2] = True
    assert bounding_box(mask) == (slice(0, 3), slice(1, 5), slice(2, 6))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 5))
def test_the_canvas_keeps_every_pixel_in_the_middle(h, w, down, right):
    image = np.arange(1, h * w + 1, dtype=np.float32).reshape(h, w)
    placed = on_canvas(image, (h + down, w + right))
    assert placed.shape == (h + down, w + right)
    np.testing.assert_array_equal(placed[down // 2 :][:h, right // 2 :][:, :w], image)
    assert np.count_nonzero(placed) == image.size


def test_the_automatic_canvas_is_the_smallest_that_four_poolings_divide() -> None:
    extents = {"a": (31, 47), "b": (33, 48)}
    assert fit_canvas("auto", extents) == (48, 48)
    assert fit_canvas((33, 50), extents) == (33, 50)
    with pytest.raises(
        DataError, match=r"\[32, 64\] is too small, scan b needs \[33, 48\]\. Use at least \[33, 48\]"
    ):
        fit_canvas((32, 64), extents)

"""DICOM series and segmentations: the same volumes as in NIfTI, pairs by headers, and what is refused."""

import re
import shutil

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import made_dicom
from damage import damaged, only_errors_that_name
from made_folders import write_volume
from made_scans import belly
from medrobust.data import list_dataset, open_dataset
from medrobust.data.dicom import rgb_of_cielab
from medrobust.data.scans import dicom_series
from medrobust.data.scans.volumes import read_volume
from medrobust.errors import DataError, StudyError

NAMES = ["liver", "tumour"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One patient; copied by those who change it."""
    return made_dicom.dicom_seg(tmp_path_factory.mktemp("dicom") / "one", patients=1)


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "dicom")


@pytest.fixture
def series(root):
    return [pydicom.dcmread(path) for path in sorted((root / "P0" / "CT").iterdir())]


@pytest.fixture
def segmentation(root):
    """A function that writes the patient's segmentation anew."""
    image, labels = belly(0)
    source = made_dicom.write_series(root / "P0" / "CT", image, "PAT0")

    def write(array=labels, names=NAMES, name="1.2.3", **keys):
        path = root / "P0" / "derived" / name
        made_dicom.write_segmentation(path, source, array, names, **keys)
        return path

    return write


def listed(root, **keys):
    return list_dataset({"name": "dicom_seg", "root": root, **keys}, None)


def volume(root, **keys):
    (scan,) = listed(root, **keys).items
    return read_volume(scan.images, scan.labels, scan.format)


def edit(path, **elements):
    """Set elements of a file; None leaves them empty."""
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def kinds(listing):
    return [(finding.kind, str(finding.severity)) for finding in listing.findings]


class TestVolumes:
    def test_values_labels_and_places_are_those_of_the_array(self, root):
        """Against the array itself: RAS, rescaled to Hounsfield units."""
        image, labels = belly(0)
        found = volume(root)
        np.testing.assert_array_equal(found.image[0], np.rint(image))
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_allclose(found.affine, made_dicom.affine())

    def test_a_study_sees_what_it_sees_of_a_nifti_file(self, root, tmp_path):
        image, labels = belly(0)
        write_volume(tmp_path / "pairs" / "images" / "a.nii.gz", np.rint(image), made_dicom.affine())
        write_volume(tmp_path / "pairs" / "labels" / "a.nii.gz", labels, made_dicom.affine())
        pairs = {"name": "nifti_pairs", "root": tmp_path / "pairs", "labels": {"liver": 1, "tumour": 2}}
        datasets = [open_dataset(block, None, None) for block in ({"name": "dicom_seg", "root": root}, pairs)]
        for one, other in zip(*(dataset.cases for dataset in datasets), strict=True):
            samples = [dataset.read(case) for dataset, case in zip(datasets, (one, other), strict=True)]
            np.testing.assert_array_equal(samples[0].image, samples[1].image)
            np.testing.assert_array_equal(samples[0].label, samples[1].label)
        places = [dataset.affine(dataset.cases[0].scan_id) for dataset in datasets]
        np.testing.assert_allclose(*places, atol=1e-6)

    def test_segments_of_one_slice_lie_where_they_are(self, root, segmentation):
        """A segmentation without frames for most slices does not say how far slices are apart."""
        labels = np.zeros_like(belly(0)[1])
        labels[3, 4, 5], labels[7, 2, 11] = 1, 2
        segmentation(labels)
        np.testing.assert_array_equal(volume(root).labels, labels)

    def test_a_segmentation_may_be_turned_and_smaller(self, root, segmentation):
        path = segmentation()
        turned = pydicom.dcmread(path)
        frames = np.packbits(turned.pixel_array[:, ::-1, 2:].ravel(), bitorder="little").tobytes()
        turned.Columns, turned.PixelData = turned.Columns - 2, frames + b"\0" * (len(frames) % 2)
        shared = turned.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
        for frame in turned.PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0].ImagePositionPatient
            place[0] += 2 * made_dicom.SPACING[0]
            place[1] += (turned.Rows - 1) * made_dicom.SPACING[1]
        turned.save_as(path)
        labels = belly(0)[1].copy()
        labels[-2:] = 0
        np.testing.assert_array_equal(volume(root).labels, labels)

    @pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
    def test_one_segment(self, root, segmentation, kind):
        """Its number stands in the group that all frames share."""
        labels = belly(0)[1] > 0
        segmentation(labels.astype(int), ["organ"], kind=kind)
        np.testing.assert_array_equal(volume(root).labels, labels)

    def test_any_group_may_be_shared_or_of_each_frame(self, root, segmentation):
        path = segmentation()
        other = pydicom.dcmread(path)
        shared = other.SharedFunctionalGroupsSequence[0]
        for frame in other.PerFrameFunctionalGroupsSequence:
            for group in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
                setattr(frame, group, shared[group].value)
        del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
        other.save_as(path)
        np.testing.assert_array_equal(volume(root).labels, belly(0)[1])

    def test_what_is_there_but_empty_is_absent(self, root, segmentation):
        path = segmentation()
        for slice_ in (root / "P0" / "CT").iterdir():
            empty = dict.fromkeys(("RescaleType", "SeriesDescription", "NumberOfFrames", "WindowCenter"))
            edit(slice_, RescaleSlope=None, RescaleIntercept=None, **empty)
        other = pydicom.dcmread(path)
        other.add_new("PixelPaddingValue", "US", None)
        other.ReferencedSeriesSequence = other.SeriesDescription = None
        for segment in other.SegmentSequence:
            segment.RecommendedDisplayCIELabValue = None
        for frame in other.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = pydicom.Sequence([])
            frame.PixelMeasuresSequence = pydicom.Sequence([pydicom.Dataset()])
            frame.PixelMeasuresSequence[0].PixelSpacing = None
        other.save_as(path)
        found = volume(root)
        np.testing.assert_array_equal(found.labels, belly(0)[1])
        np.testing.assert_array_equal(found.image[0], np.rint(belly(0)[0]) - made_dicom.INTERCEPT)

    def test_files_are_found_by_content(self, root, segmentation):
        """Named by their UID, without preamble and, of the slices, without file meta information."""
        segmentation()
        files = [path for path in (root / "P0").rglob("*") if path.is_file()]
        for path in files:
            dataset = pydicom.dcmread(path)
            named = path.with_name(str(dataset.SOPInstanceUID))
            if path.parent.name == "CT":
                dataset.file_meta = pydicom.dataset.FileMetaDataset()
                dataset.save_as(named, implicit_vr=True, little_endian=True)
            else:
                named.write_bytes(path.read_bytes()[132:])
            path.unlink()
        for name, content in {
            "README": b"words",
            "empty": b"",
            ".DS_Store": b"?",
            "a.txt": bytes(200),
        }.items():
            (root / "P0" / "CT" / name).write_bytes(content)
        listing = listed(root)
        assert listing.findings == ()
        found = volume(root)
        np.testing.assert_array_equal(found.image[0], np.rint(belly(0)[0]))
        np.testing.assert_array_equal(found.labels, belly(0)[1])

    def test_an_enhanced_file_holds_all_slices(self, root, segmentation, series):
        segmentation()
        for slice_ in series:
            slice_.PatientName, slice_.ImageType = "A^B", ["ORIGINAL", "PRIMARY", "AXIAL"]
            slice_.InstanceNumber = slice_.AcquisitionNumber = slice_.SeriesNumber = 1
            slice_.StudyDate = slice_.ContentDate = "20200101"
            slice_.StudyTime = slice_.ContentTime = "000000"
        enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(series, "1.2.3.5", 2, "1.2.3.6", 1)
        for path in (root / "P0" / "CT").iterdir():
            path.unlink()
        path = root / "P0" / "CT" / "all"
        enhanced.save_as(path)
        edit(root / "P0" / "derived" / "1.2.3", ReferencedSeriesSequence=None)
        found = volume(root)
        np.testing.assert_array_equal(found.image[0], np.rint(belly(0)[0]))
        np.testing.assert_array_equal(found.labels, belly(0)[1])
        np.testing.assert_allclose(found.affine, made_dicom.affine())
        frames = enhanced.PerFrameFunctionalGroupsSequence
        frames[6].PlanePositionSequence[0].ImagePositionPatient[2] = 99
        enhanced.save_as(path)
        with pytest.raises(
            DataError, match=r"all, frame \d+, at .* and .*all, frame \d+, at .* are 3 mm apart"
        ):
            volume(root)

    def test_positions_may_be_rounded(self, root):
        for path in (root / "P0" / "CT").iterdir():
            x, y, z = map(float, pydicom.dcmread(path).ImagePositionPatient)
            edit(path, ImagePositionPatient=[x, y, z + 0.05 * (-1) ** int(path.name)])
        np.testing.assert_array_equal(volume(root).labels, belly(0)[1])

    def test_label_maps_and_whole_fractions(self, root, segmentation):
        labels = belly(0)[1]
        segmentation(kind="LABELMAP")
        np.testing.assert_array_equal(volume(root).labels, labels)
        segmentation(kind="FRACTIONAL")
        np.testing.assert_array_equal(volume(root).labels, labels)

    def test_the_digest_changes_with_pixels_and_with_what_segments_mean(self, root):
        block = {"name": "dicom_seg", "root": root}
        first = open_dataset(block, None, None).fingerprint
        other = {**block, "labels": {"liver": "tumour", "tumour": "liver"}}
        assert open_dataset(other, None, None).fingerprint != first
        path = root / "P0" / "CT" / "0009"
        slice_ = pydicom.dcmread(path)
        slice_.PixelData = bytes(len(slice_.PixelData))
        slice_.save_as(path)
        assert open_dataset(block, None, None).fingerprint != first


class TestClasses:
    def test_names_tell_classes_and_numbers_do_not(self, tmp_path):
        root = made_dicom.dicom_seg(tmp_path / "two", patients=2)
        listing = listed(root)
        assert listing.classes == ("background", *NAMES)
        assert [scan.format.segments for scan in listing.items] == [((1, 1), (2, 2)), ((1, 2), (2, 1))]
        for number, scan in enumerate(listing.items):
            found = read_volume(scan.images, scan.labels, scan.format)
            np.testing.assert_array_equal(found.labels, belly(number)[1])

    def test_several_labels_may_be_one_class_or_background(self, root):
        labels = belly(0)[1]
        both = listed(root, labels={"organ": NAMES})
        assert (both.classes, both.findings) == (("background", "organ"), ())
        np.testing.assert_array_equal(volume(root, labels={"organ": NAMES}).labels, labels > 0)
        one = {"spot": "tumour", "background": "liver"}
        np.testing.assert_array_equal(volume(root, labels=one).labels, labels == 2)

    def test_a_label_that_the_study_does_not_name(self, root):
        listing = listed(root, labels={"spot": "tumour"})
        assert kinds(listing) == [("unknown label", "error")]
        assert "do not name: 'liver'" in listing.findings[0].says
        with pytest.raises(StudyError, match="'liver' is both 'a' and 'b'"):
            listed(root, labels={"a": "liver", "b": NAMES})

    def test_segments_that_overlap_need_one_class(self, root, segmentation):
        labels = belly(0)[1]
        segmentation(np.stack([labels > 0, labels == 2], axis=-1))
        with pytest.raises(
            DataError, match=r"1\.2\.3: segments overlap: a voxel is both 'liver' and 'tumour'"
        ):
            volume(root)
        np.testing.assert_array_equal(volume(root, labels={"organ": NAMES}).labels, labels > 0)

    def test_shares_of_segments(self, root, segmentation):
        segmentation((belly(0)[1] > 0) * 0.5, ["liver"], kind="FRACTIONAL")
        with pytest.raises(DataError, match="fractions of segments between none and all"):
            volume(root)


class TestPairs:
    def test_patients_modality_and_attributes_are_in_the_headers(self, root):
        listing = listed(root)
        (scan,) = listing.items
        assert (scan.patient_id, listing.unit, listing.findings) == ("PAT0", "patient", ())
        assert listing.attributes == {scan.scan_id: {"sex": "F", "age": "62", "manufacturer": "maker"}}
        assert listing.facts["modality"] == "CT 1"

    def test_colours_are_those_of_the_segments(self, root):
        colours = listed(root).classes_of.colours
        assert colours[0] is None
        np.testing.assert_allclose(np.array(colours[1:]), made_dicom.COLOURS, atol=2)
        both = listed(root, labels={"organ": NAMES}).classes_of.colours
        assert both == colours[:2]

    def test_a_series_that_it_does_not_refer_to_shares_its_frame_of_reference(self, root, segmentation):
        path = segmentation()
        other = pydicom.dcmread(path)
        del other.ReferencedSeriesSequence
        other.save_as(path)
        assert kinds(listed(root)) == []

    def test_two_segmentations_of_a_series(self, root, segmentation):
        segmentation(SeriesDescription="by reader A")
        segmentation(name="second", SeriesDescription="by reader B", names=["Leber", "Tumor"])
        listing = listed(root)
        assert kinds(listing) == [("listed twice", "error")]
        assert len(listing.findings[0].files) == 2
        chosen = listed(root, segmentation="reader B$")
        assert (chosen.classes[1:], chosen.findings) == (("Leber", "Tumor"), ())
        with pytest.raises(DataError, match="which are 'by reader A', 'by reader B'"):
            listed(root, segmentation="reader C")
        with pytest.raises(StudyError, match="is not a valid regular expression"):
            listed(root, segmentation="(")

    def test_a_series_without_and_a_segmentation_without(self, made, root, tmp_path):
        made_dicom.write_series(root / "other", belly(1)[0], "PAT1")
        assert kinds(listed(root)) == [("labels missing", "warning")]
        for path in (root / "P0" / "CT").iterdir():
            path.unlink()
        with pytest.raises(DataError, match=r"1\.2\.3 segments a series that is missing: '1\.2"):
            listed(root)
        (root / "P0" / "derived" / "1.2.3").unlink()
        with pytest.raises(DataError, match="none of 1 series of images"):
            listed(root)
        shutil.copytree(made / "P0" / "derived", root / "P0" / "derived", dirs_exist_ok=True)
        made_dicom.dicom_seg(tmp_path / "two", patients=2)
        shutil.copytree(tmp_path / "two" / "P1", root / "P1")
        shutil.rmtree(root / "other")
        assert kinds(listed(root)) == [("image missing", "error")]

    def test_the_images_that_a_segmentation_was_derived_from_tell_its_series(self, root, segmentation):
        path = segmentation()
        edit(path, FrameOfReferenceUID="", ReferencedSeriesSequence=None)
        made_dicom.write_series(root / "other", belly(1)[0], "PAT1")
        np.testing.assert_array_equal(volume(root).labels, belly(0)[1])
        edit(path, PerFrameFunctionalGroupsSequence=None)
        with pytest.raises(DataError, match=r"1\.2\.3 segments a series that is missing: one in"):
            listed(root)

    def test_where_no_pair_is_left_the_reason_is_said(self, root, segmentation):
        edit(segmentation(), FrameOfReferenceUID="1.2.3")
        with pytest.raises(
            DataError, match=r"1\.2\.3 lies in the frame of reference '1\.2\.3', and its series"
        ):
            listed(root)

    def test_a_segmentation_in_another_frame_of_reference(self, root, segmentation):
        made_dicom.dicom_seg(root / "more", patients=2)
        segmentation(FrameOfReferenceUID="1.2.3")
        assert ("other frame of reference", "error") in kinds(listed(root))

    def test_series_without_a_patient(self, tmp_path):
        image, labels = belly(0)
        for number in (0, 1):
            source = made_dicom.write_series(tmp_path / str(number), image, f"PAT{number}", PatientID="")
            made_dicom.write_segmentation(tmp_path / f"{number}.dcm", source, labels, NAMES)
        listing = listed(tmp_path)
        assert (listing.unit, kinds(listing)) == ("scan", [])
        made_dicom.dicom_seg(tmp_path / "known", patients=3)
        shutil.rmtree(tmp_path / "1")
        shutil.rmtree(tmp_path / "known" / "P0")
        (tmp_path / "1.dcm").unlink()
        listing = listed(tmp_path)
        assert (listing.unit, kinds(listing)) == ("patient", [("group missing", "warning")])

    def test_ids_are_safe_whatever_a_header_says(self, tmp_path):
        image, labels = belly(0)
        source = made_dicom.write_series(tmp_path / "a", image, "x", PatientID="../../etc/passwd&<b>&")
        made_dicom.write_segmentation(tmp_path / "seg", source, labels, NAMES)
        (scan,) = listed(tmp_path).items
        assert re.fullmatch("-etc-passwd-b-_[0-9a-f]{8}", scan.scan_id)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=3, max_size=3))
def test_colours_are_those_of_highdicom(stored):
    theirs = hd.color.CIELabColor.from_dicom_value(stored).to_rgb(clip=True)
    assert rgb_of_cielab(stored) == pytest.approx(theirs, abs=1)


class TestRefusals:
    def test_a_missing_slice(self, root):
        (root / "P0" / "CT" / "0000").unlink()
        volume(root)  # an end
        (root / "P0" / "CT" / "0009").unlink()
        message = (
            r"0002 at \(40, -30, 24\) mm and .*0016 at \(40, -30, 27\) mm are 3 mm apart, and other slices "
        )
        with pytest.raises(
            DataError, match=rf"{message}of series [\d.]+ 1\.5 mm: some between them are missing"
        ):
            volume(root)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {},
                r"0009 at .* and .*extra at .* are in the same place, and both belong to series 'Thorax' \(",
            ),
            (
                {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
                "extra at .* is oriented differently from the others",
            ),
            ({"PixelSpacing": [1.2, 1.2]}, r"extra at .* has pixels of 1\.2 x 1\.2 mm, others 1 x 1 mm, of"),
            (
                {"Rows": 13, "PixelData": bytes(572)},
                "extra at .* has 13 x 22 pixels, others 26 x 22, of which",
            ),
            ({"ImagePositionPatient": None}, "extra does not say its ImagePositionPatient"),
            ({"PixelSpacing": [0, 0]}, "extra gives an impossible position or spacing"),
            (
                {"ImagePositionPatient": [40, -30, 25.1]},
                r"0002 at .* and .*extra at .* are 1\.1 mm apart, and other .* 1\.5 mm: that is uneven",
            ),
            (
                {"ImagePositionPatient": [40, -30, 99]},
                r"0011 at .* and .*extra at .* are 61\.5 mm apart, .* missing",
            ),
        ],
    )
    def test_a_slice_that_is_none_of_its_series_is_named(self, root, changes, message):
        for path in (root / "P0" / "CT").iterdir():
            edit(path, SeriesDescription="Thorax")
        extra = root / "P0" / "CT" / "extra"
        shutil.copy(root / "P0" / "CT" / "0009", extra)
        edit(extra, SOPInstanceUID="1.2.3", **changes)
        with pytest.raises(DataError, match=message) as error:
            volume(root)
        assert any(words in str(error.value) for words in ("Thorax", "does not say", "gives an impossible"))

    def test_a_tilted_gantry(self, root):
        for path in (root / "P0" / "CT").iterdir():
            x, y, z = map(float, pydicom.dcmread(path).ImagePositionPatient)
            edit(path, ImagePositionPatient=[x, round(y + np.tan(np.radians(12)) * z, 4), z])
        with pytest.raises(
            DataError, match=r"0000 at .* series [\d.]+ are slanted by 12 degrees, as with a tilted"
        ):
            volume(root)

    def test_distances_that_grow_slowly(self, root):
        for path in (root / "P0" / "CT").iterdir():
            x, y, z = map(float, pydicom.dcmread(path).ImagePositionPatient)
            edit(path, ImagePositionPatient=[x, y, z + 0.005 * (z - 12) ** 2])
        with pytest.raises(DataError, match=r"mm off its place: the slices of series .* not evenly spaced"):
            volume(root)

    def test_one_slice(self, root):
        for path in (root / "P0" / "CT").iterdir():
            if path.name != "0009":
                path.unlink()
        with pytest.raises(DataError, match=r"0009 at \(40, -30, 25\.5\) mm is the only slice of series"):
            volume(root)

    def test_the_damaged_file_of_a_series_is_named(self, root):
        path = root / "P0" / "CT" / "0009"
        path.write_bytes(path.read_bytes()[:-300])
        with pytest.raises(DataError, match="CT/0009: cannot be read as a DICOM image of a series"):
            volume(root)

    def test_several_frames_that_lie_nowhere(self, root):
        for path in (root / "P0" / "CT").iterdir():
            if path.name != "0009":
                path.unlink()
        edit(path.with_name("0009"), NumberOfFrames=3, PixelData=bytes(3 * 1144))
        with pytest.raises(DataError, match="0009 holds 3 frames and does not say where each lies"):
            volume(root)

    def test_a_segmentation_on_another_grid(self, root, segmentation):
        path = segmentation()
        other = pydicom.dcmread(path)
        for frame in other.PerFrameFunctionalGroupsSequence:
            frame.PlanePositionSequence[0].ImagePositionPatient[0] += 0.3
        other.save_as(path)
        with pytest.raises(DataError, match="lies on another grid than its series"):
            volume(root)
        for frame in other.PerFrameFunctionalGroupsSequence:
            frame.PlanePositionSequence[0].ImagePositionPatient[0] += 29.7
        other.save_as(path)
        with pytest.raises(DataError, match="labels voxels outside of its series"):
            volume(root)

    def test_a_series_that_is_too_large(self, root, monkeypatch):
        monkeypatch.setattr(dicom_series, "MOST_VOXELS", 100)
        with pytest.raises(DataError, match="its series has 10,296 voxels; at most 100 are read"):
            volume(root)

    def test_a_header_that_claims_too_much(self, root):
        path = root / "P0" / "CT" / "0009"
        claims = pydicom.dcmread(path)
        claims.Rows = claims.Columns = 65535
        claims.save_as(path)
        with pytest.raises(DataError, match="0009: claims 65535 x 65535 pixels"):
            volume(root)

    @given(data=st.data(), name=st.sampled_from(["CT/0009", "derived/1.2.3"]))
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_damaged_files_are_refused_by_name(self, made, tmp_path, data, name):
        root = shutil.copytree(made, tmp_path / "damaged", dirs_exist_ok=True)
        path = root / "P0" / name
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        with only_errors_that_name(root):
            for scan in listed(root).items:
                read_volume(scan.images, scan.labels, scan.format)

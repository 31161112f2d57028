"""DICOM pictures: windows, rescaling, inverted greys, patients; and damaged files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

import made_photos
from damage import damaged, only_errors_that_name
from made_photos import write_dicom
from medrobust.data import open_dataset
from medrobust.data.adapters.dicom_images import list_dicom_images
from medrobust.data.findings import Severity
from medrobust.data.photographs.dicom import DicomFiles
from medrobust.errors import DataError, StudyError

RAMP = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)


def shown(path: Path, values: np.ndarray = RAMP, window=None, bits: int = 12, **elements) -> np.ndarray:
    """What a file shows, from 0 to 1."""
    write_dicom(path, values, bits, **{"PhotometricInterpretation": "MONOCHROME2", **elements})
    picture = DicomFiles(window).picture(path, None)
    assert picture.bits == bits
    return picture.pixels[0] / 65535


class TestGreyValues:
    """The window of DICOM PS3.3, C.11.2.1.2, worked out by hand."""

    def test_without_a_window_all_that_the_bits_hold(self, tmp_path):
        assert shown(tmp_path / "a.dcm") == pytest.approx(RAMP / 4095, abs=1e-5)
        signed = RAMP.astype(np.int16) - 2048
        assert shown(tmp_path / "b.dcm", signed) == pytest.approx(RAMP / 4095, abs=1e-5)

    def test_low_values_are_bright_in_monochrome1(self, tmp_path):
        values = shown(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
        assert values == pytest.approx(1 - RAMP / 4095, abs=1e-5)

    def test_the_window_of_the_file_is_in_rescaled_units(self, tmp_path):
        elements = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 401}
        low, high = 40 - 0.5 - 200, 40 - 0.5 + 200
        expected = np.clip((RAMP * 2.0 - 1000 - low) / (high - low), 0, 1)
        assert shown(tmp_path / "a.dcm", **elements) == pytest.approx(expected, abs=1e-5)
        low, high = 40 - 200.5, 40 + 200.5
        expected = np.clip((RAMP * 2.0 - 1000 - low) / (high - low), 0, 1)
        exact = shown(tmp_path / "b.dcm", VOILUTFunction="LINEAR_EXACT", **elements)
        assert exact == pytest.approx(expected, abs=1e-5)

    def test_the_first_of_several_windows(self, tmp_path):
        several = shown(tmp_path / "a.dcm", WindowCenter=[500, 2000], WindowWidth=[100, 300])
        one = shown(tmp_path / "b.dcm", WindowCenter=500, WindowWidth=100)
        np.testing.assert_array_equal(several, one)

    def test_the_window_of_the_study_goes_first(self, tmp_path):
        values = shown(tmp_path / "a.dcm", window=(1000, 500), WindowCenter=40, WindowWidth=400)
        assert values == pytest.approx(np.clip((RAMP - 750.0) / 500, 0, 1), abs=1e-5)

    def test_a_table_instead_of_a_window(self, tmp_path):
        table = Dataset()
        table.LUTDescriptor = [4096, 0, 12]
        table.LUTData = (np.arange(4096)[::-1] // 2).astype("<u2").tobytes()
        values = shown(tmp_path / "a.dcm", VOILUTSequence=[table])
        assert values == pytest.approx((4095 - RAMP) // 2 / 4095, abs=1e-5)

    @pytest.mark.parametrize("elements", [{"WindowWidth": 1}, {"VOILUTFunction": "SIGMOID"}])
    def test_windows_that_cannot_be(self, tmp_path, elements):
        with pytest.raises(DataError, match=r"a\.dcm: cannot be read as a DICOM picture \(.*window"):
            shown(tmp_path / "a.dcm", **{"WindowCenter": 5, "WindowWidth": 9, **elements})

    def test_colour(self, tmp_path):
        values = made_photos.pixels(1, (8, 10, 3))
        path = tmp_path / "a.dcm"
        write_dicom(path, values, 8, PhotometricInterpretation="RGB")
        assert DicomFiles().header(path)[:3] == ((10, 8), 3, 8)
        np.testing.assert_array_equal(DicomFiles().picture(path).pixels, values.transpose(2, 0, 1))


class TestFolder:
    def test_counts_classes_patients_and_pixels(self, tmp_path):
        root = made_photos.dicom_images(tmp_path)
        dataset = open_dataset(
            {"name": "dicom_images", "root": root, "size": 32, "fit": "stretch"}, None, None
        )
        assert (dataset.classes, dataset.unit) == (("normal", "pneumonia"), "patient")
        assert (dataset.channels, dataset.bits, len(dataset.cases)) == (1, 12, 20)
        assert {case.patient_id for case in dataset.cases} == {f"PAT{number}" for number in range(10)}
        first, last = dataset.cases[0], dataset.cases[-1]
        assert (first.case_id, first.label) == ("normal/0000.dcm", 0)
        assert (last.case_id, last.label) == ("pneumonia/0019.dcm", 1)
        expected = made_photos.pixels(0, (48, 40)).mean() / 256
        assert dataset.read(first).image.mean() == pytest.approx(1 - expected, abs=0.01)  # MONOCHROME1

    def test_a_window_of_the_study(self, tmp_path):
        root = made_photos.dicom_images(tmp_path)
        block = {"name": "dicom_images", "root": root, "size": 32}
        narrow = open_dataset({**block, "window": [2000, 500]}, None, None)
        assert narrow.fingerprint != open_dataset(block, None, None).fingerprint
        assert narrow.facts["window"] == "centre 2000, width 500"
        with pytest.raises(StudyError, match=r"data\.window"):
            open_dataset({**block, "window": [2000, 0]}, None, None)

    def test_files_without_a_patient(self, tmp_path):
        root = made_photos.dicom_images(tmp_path)
        for number, path in enumerate(sorted(root.rglob("*.dcm"))):
            dataset = dcmread(path)
            if number < 3:
                del dataset.PatientID
                dataset.save_as(path)
        (finding,) = list_dicom_images(root).findings
        assert (finding.severity, finding.kind) == (Severity.WARNING, "group missing")
        assert "3 photographs have no PatientID: 'normal/0000.dcm'" in finding.says

    def test_what_is_not_a_picture_is_a_finding(self, tmp_path):
        root = made_photos.dicom_images(tmp_path)
        (root / "normal" / "notes").write_text("hello")
        write_dicom(
            root / "normal" / "film.dcm", RAMP, PhotometricInterpretation="MONOCHROME2", NumberOfFrames=9
        )
        listing = list_dicom_images(root)
        assert [finding.kind for finding in listing.findings] == ["unreadable", "unreadable"]
        assert len(listing.items) == 20
        assert "film.dcm: holds 9 pictures, and one is read" in listing.findings[0].says
        assert "notes: cannot be read as a DICOM picture" in listing.findings[1].says


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("dicom") / "a.dcm"
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "PatientID": "PAT1"}
    write_dicom(path, RAMP, PhotometricInterpretation="MONOCHROME1", **window)
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore")  # as in a run: what decoders remark ends nothing
class TestHostileFiles:
    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_damage_is_a_message_that_names_the_file(self, tmp_path, content, data):
        path = tmp_path / "a.dcm"
        path.write_bytes(data.draw(damaged(content)))
        with only_errors_that_name(path):
            picture = DicomFiles().picture(path)
            assert picture.size == DicomFiles().header(path).size

    def test_no_file_that_was_cut_short_goes_unseen(self, tmp_path, content):
        path = tmp_path / "a.dcm"
        for length in range(0, len(content), 11):
            path.write_bytes(content[:length])
            with pytest.raises(DataError, match=r"a\.dcm: "):
                DicomFiles().picture(path)

    @pytest.mark.parametrize(
        ("elements", "message"),
        [
            ({"Rows": 60_000, "Columns": 60_000}, "claims to be of 60000 x 60000 pixels"),
            ({"Rows": 4000, "Columns": 4000}, "cannot be read as a DICOM picture"),
            ({"Rows": 1}, "cannot be read as a DICOM picture"),
            ({"BitsStored": 32}, "pictures of MONOCHROME2 in 32 bits cannot be read"),
            ({"PhotometricInterpretation": "HSV"}, "pictures of HSV in 12 bits cannot be read"),
            ({"RescaleSlope": "1e308", "RescaleIntercept": "1e308"}, "cannot be read as a DICOM picture"),
        ],
    )
    def test_headers_that_lie(self, tmp_path, elements, message):
        path = tmp_path / "a.dcm"
        write_dicom(path, RAMP, PhotometricInterpretation="MONOCHROME2")
        dataset = dcmread(path)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
        with pytest.raises(DataError, match=rf"a\.dcm: {message}"):
            DicomFiles().picture(path)

    def test_a_file_that_is_deflated_is_not_inflated(self, tmp_path):
        path = tmp_path / "a.dcm"
        write_dicom(path, RAMP, PhotometricInterpretation="MONOCHROME2")
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        dataset.save_as(path)
        with pytest.raises(DataError, match=r"a\.dcm: is compressed as a whole"):
            DicomFiles().picture(path)

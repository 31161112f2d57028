"""DICOM pictures: windows, rescaling, inverted greys, patients; and damaged files."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    MPEG2MPML,
    UID,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

import made_photos
from damage import damaged, only_errors_that_name
from made_photos import write_dicom
from medrobust.data import open_dataset
from medrobust.data.adapters.image_folder import list_dicom_images
from medrobust.data.findings import Severity
from medrobust.data.photographs.dicom_pictures import DicomFiles
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

    @pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # pydicom's
    @pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize(("centre", "width"), [(40, 400), (1024.5, 2000.5), (0, 1.5), (-100, 2)])
    def test_every_function_is_that_of_pydicom(self, tmp_path, function, centre, width):
        elements = {
            "RescaleSlope": 1.5,
            "RescaleIntercept": -1024,
            "WindowCenter": centre,
            "WindowWidth": width,
        }
        elements |= {"VOILUTFunction": function} if function else {}
        values = shown(tmp_path / "a.dcm", **elements)
        dataset = dcmread(tmp_path / "a.dcm")
        reference = apply_voi_lut(apply_modality_lut(RAMP, dataset), dataset)
        low, high = np.array([0, 4095]) * 1.5 - 1024  # pydicom's black and white
        assert values == pytest.approx((reference - low) / (high - low), abs=1e-5)

    def test_the_narrowest_window_is_a_threshold(self, tmp_path):
        """DICOM PS3.3, C.11.2.1.2.1: a width of 1 is allowed."""
        values = shown(tmp_path / "a.dcm", WindowCenter=129, WindowWidth=1)
        np.testing.assert_array_equal(values, RAMP > 128.5)

    @pytest.mark.parametrize(
        "elements",
        [
            {"WindowWidth": 0},
            {"WindowWidth": -4},
            {"WindowWidth": 0, "VOILUTFunction": "SIGMOID"},
            {"VOILUTFunction": "GAMMA"},
        ],
    )
    def test_windows_that_cannot_be(self, tmp_path, elements):
        with pytest.raises(
            DataError, match=r"a\.dcm: cannot be read as a DICOM picture \(.*window.* data\.window"
        ):
            shown(tmp_path / "a.dcm", **{"WindowCenter": 5, "WindowWidth": 9, **elements})

    def test_low_values_are_bright_in_an_inverse_presentation(self, tmp_path):
        for name, kind in (("a.dcm", "MONOCHROME1"), ("b.dcm", "MONOCHROME2")):
            elements = {"PhotometricInterpretation": kind, "PresentationLUTShape": "INVERSE"}
            assert shown(tmp_path / name, **elements) == pytest.approx(1 - RAMP / 4095, abs=1e-5)

    @pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_black(self, tmp_path, kind):
        signed = RAMP.astype(np.int16) - 2000
        expected = np.where(signed <= -2000 + 64, 0, (signed + 2048) / 4095)
        if kind == "MONOCHROME1":
            expected = np.where(signed <= -2000 + 64, 0, 1 - (signed + 2048) / 4095)
        padding = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -2000 + 64}
        values = shown(tmp_path / "a.dcm", signed, PhotometricInterpretation=kind, **padding)
        assert values == pytest.approx(expected, abs=1e-5)


EMPTY = {
    "window": {"WindowCenter": None, "WindowWidth": None},
    "width": {"WindowCenter": 40, "WindowWidth": None},
    "texts": {"WindowCenter": "", "WindowWidth": "", "VOILUTFunction": "", "PresentationLUTShape": ""},
    "rescaling": {"RescaleSlope": None, "RescaleIntercept": None},
    "tables": {"VOILUTSequence": [], "ModalityLUTSequence": []},
    "an empty table": {"VOILUTSequence": [Dataset()]},
    "frames": {"NumberOfFrames": "", "PixelPresentation": ""},
    "padding": {"PixelPaddingValue": None, "PixelPaddingRangeLimit": None},
    "pixels": {"SamplesPerPixel": None, "PixelRepresentation": None, "HighBit": None},
}


class TestEmptyElements:
    @pytest.mark.parametrize("elements", EMPTY.values(), ids=EMPTY)
    def test_say_as_much_as_absent_ones(self, tmp_path, elements):
        assert shown(tmp_path / "a.dcm", **elements) == pytest.approx(RAMP / 4095, abs=1e-5)
        assert DicomFiles().header(tmp_path / "a.dcm")[:3] == ((8, 8), 1, 12)

    def test_what_is_beside_them_counts(self, tmp_path):
        window = {"WindowCenter": 2048, "WindowWidth": 1025}
        expected = np.clip((RAMP - (2047.5 - 512)) / 1024, 0, 1)
        for name, elements in {
            "a.dcm": {"VOILUTSequence": [], "VOILUTFunction": "", "RescaleSlope": None},
            "b.dcm": {"VOILUTSequence": [Dataset()], "WindowCenter": ["", 2048], "WindowWidth": ["", 1025]},
            "c.dcm": {"WindowCenter": [2048, 1], "WindowWidth": 1025},
            "d.dcm": {"RescaleSlope": "", "RescaleIntercept": 0},
        }.items():
            assert shown(tmp_path / name, **{**window, **elements}) == pytest.approx(expected, abs=1e-5)

    def test_an_intercept_without_a_slope(self, tmp_path):
        elements = {"RescaleSlope": None, "RescaleIntercept": -1000, "WindowCenter": 40.5, "WindowWidth": 401}
        assert shown(tmp_path / "a.dcm", **elements) == pytest.approx(
            np.clip((RAMP - 840.0) / 400, 0, 1), abs=1e-5
        )

    @pytest.mark.parametrize("keyword", ["Rows", "BitsStored", "PhotometricInterpretation", "PixelData"])
    def test_a_picture_needs_some(self, tmp_path, keyword):
        write_dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME2")
        dataset = dcmread(tmp_path / "a.dcm")
        setattr(dataset, keyword, None)
        dataset.save_as(tmp_path / "a.dcm")
        with pytest.raises(DataError, match=r"a\.dcm: .*(without a picture|cannot be read|pixel)"):
            DicomFiles().picture(tmp_path / "a.dcm")


class TestBits:
    def test_a_picture_of_enhanced_files_has_its_window_in_functional_groups(self, tmp_path):
        values, window, shared, frame = Dataset(), Dataset(), Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = 2, -1000
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 40, 400, "LINEAR_EXACT"
        frame.FrameVOILUTSequence, shared.PixelValueTransformationSequence = [window], [values]
        elements = {"PerFrameFunctionalGroupsSequence": [frame], "SharedFunctionalGroupsSequence": [shared]}
        expected = np.clip((RAMP * 2.0 - 1000 - 40) / 400 + 0.5, 0, 1)
        assert shown(tmp_path / "a.dcm", NumberOfFrames=1, **elements) == pytest.approx(expected, abs=1e-5)

    def test_bits_above_or_below_those_of_the_picture_are_no_part_of_it(self, tmp_path):
        overlay = RAMP | np.uint16(0xF000)
        assert shown(tmp_path / "a.dcm", overlay) == pytest.approx(RAMP / 4095, abs=1e-5)
        upper = (RAMP << 4) | np.uint16(5)
        assert shown(tmp_path / "b.dcm", upper, HighBit=15) == pytest.approx(RAMP / 4095, abs=1e-5)
        signed = ((RAMP.astype(np.int32) - 2048) << 4).astype(np.int16)
        assert shown(tmp_path / "c.dcm", signed, HighBit=15) == pytest.approx(RAMP / 4095, abs=1e-5)
        with pytest.raises(DataError, match=r"d\.dcm: .*12 bits of 16 cannot end at bit 3"):
            shown(tmp_path / "d.dcm", HighBit=3)

    @pytest.mark.parametrize("bits", [10, 12, 16])
    def test_white_is_white_in_colours_of_every_depth(self, tmp_path, bits):
        values = np.random.default_rng(0).integers(0, 2**bits, (6, 5, 3)).astype(np.uint16)
        write_dicom(tmp_path / "a.dcm", values, bits, PhotometricInterpretation="RGB")
        picture = DicomFiles().picture(tmp_path / "a.dcm")
        assert picture.bits == DicomFiles().header(tmp_path / "a.dcm").bits == bits
        expected = np.moveaxis(values, 2, 0) * (65535 / (2**bits - 1))
        np.testing.assert_allclose(picture.pixels, expected, atol=0.51)

    def test_planes_of_colours(self, tmp_path):
        values = made_photos.pixels(1, (8, 10, 3))
        planes = np.ascontiguousarray(np.moveaxis(values, 2, 0))
        elements = {"PlanarConfiguration": 1, "PixelData": planes.tobytes()}
        write_dicom(tmp_path / "a.dcm", values, 8, PhotometricInterpretation="RGB", **elements)
        np.testing.assert_array_equal(DicomFiles().picture(tmp_path / "a.dcm").pixels, planes)

    def test_a_table_of_the_modality(self, tmp_path):
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "OD"
        table.add_new("LUTData", "OW", ((np.arange(4096) * 8) ^ 7).astype("<u2").tobytes())
        values = shown(tmp_path / "a.dcm", ModalityLUTSequence=[table])
        assert values == pytest.approx(((RAMP.astype(int) * 8) ^ 7) / 65535, abs=1e-5)

    def test_a_table_for_values_below_zero(self, tmp_path):
        """Its first number is below zero, whether it is stored with its sign or without."""
        for name, first, kind in (("a.dcm", -1024, "SS"), ("b.dcm", 2**16 - 1024, "US")):
            table = Dataset()
            table.add_new("LUTDescriptor", kind, [4096, first, 12])
            table.add_new("LUTData", "OW", np.arange(4096)[::-1].astype("<u2").tobytes())
            values = shown(tmp_path / name, VOILUTSequence=[table], RescaleIntercept=-1024, RescaleSlope=1)
            assert values == pytest.approx((4095 - RAMP.astype(float)) / 4095, abs=1e-5)


def palette(
    path: Path, depth: int, packed: bool, little: bool, count: int = 200, first: int = 3
) -> np.ndarray:
    """A picture through a palette; what it shows, from 0 to 1."""
    table = np.random.default_rng(0).integers(0, 2**depth, (3, count))
    table[:, -1] = 2**depth - 1
    stored = np.arange(first, first + 96, dtype=np.uint8).reshape(8, 12) * 2
    elements = {}
    for name, values in zip(("Red", "Green", "Blue"), table, strict=True):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [count, first, depth]
        words = values.astype("u1").view("<u2") if packed else values
        elements[f"{name}PaletteColorLookupTableData"] = words.astype("<u2" if little else ">u2").tobytes()
    write_dicom(path, stored, 8, PhotometricInterpretation="PALETTE COLOR", **elements)
    if not little:
        read = dcmread(path)
        dataset = Dataset(read)
        dataset.file_meta = read.file_meta
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.PixelData = stored.view("<u2").astype(">u2").tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(path, implicit_vr=False, little_endian=False, enforce_file_format=True)
    return table[:, np.clip(stored.astype(int) - first, 0, count - 1)] / (2**depth - 1)


class TestPalettes:
    @pytest.mark.parametrize("little", [True, False], ids=["little", "big"])
    @pytest.mark.parametrize(("depth", "packed"), [(16, False), (8, False), (8, True), (12, False)])
    def test_in_both_orders_of_bytes(self, tmp_path, depth, packed, little):
        expected = palette(tmp_path / "a.dcm", depth, packed, little)
        picture, header = (read(tmp_path / "a.dcm") for read in (DicomFiles().picture, DicomFiles().header))
        assert picture.bits == header.bits == depth
        assert picture.pixels / (255 if depth == 8 else 65535) == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("little", [True, False], ids=["little", "big"])
    def test_in_segments(self, tmp_path, little):
        """DICOM PS3.3, C.7.9.2: 4 values one by one, then a line of 96 steps up to 1000."""
        palette(tmp_path / "a.dcm", 16, False, little, 100, 0)
        dataset = dcmread(tmp_path / "a.dcm")
        segments = np.array([0, 4, 9, 8, 7, 40, 1, 96, 1000])
        for name in ("Red", "Green", "Blue"):
            del dataset[f"{name}PaletteColorLookupTableData"]
            data = segments.astype("<u2" if little else ">u2").tobytes()
            setattr(dataset, f"Segmented{name}PaletteColorLookupTableData", data)
        dataset.save_as(tmp_path / "a.dcm")
        table = np.concatenate([[9, 8, 7, 40], 40 + 10 * np.arange(1, 97)])
        stored = np.arange(96).reshape(8, 12) * 2
        expected = table[np.clip(stored, 0, 99)]
        np.testing.assert_array_equal(DicomFiles().picture(tmp_path / "a.dcm").pixels, [expected] * 3)

    def test_a_short_table_and_a_supplemental_one(self, tmp_path):
        palette(tmp_path / "a.dcm", 16, False, True)
        dataset = dcmread(tmp_path / "a.dcm")
        dataset.GreenPaletteColorLookupTableData = bytes(40)
        dataset.save_as(tmp_path / "a.dcm")
        with pytest.raises(DataError, match=r"a\.dcm: .*its table has 40 values instead of 200"):
            DicomFiles().picture(tmp_path / "a.dcm")
        with pytest.raises(DataError, match=r"b\.dcm: colours a part of its grey values"):
            shown(tmp_path / "b.dcm", PixelPresentation="MIXED")


def compressed(path: Path, values: np.ndarray, bits: int, syntax: UID, frame: bytes) -> Path:
    kind = "RGB" if values.ndim == 3 else "MONOCHROME2"
    write_dicom(path, values, bits, PhotometricInterpretation=kind)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


class TestCompressed:
    """What pydicom decodes by itself is not the point; what it does not, imagecodecs decodes."""

    grey = np.random.default_rng(0).integers(0, 4096, (24, 30)).astype(np.uint16)
    colour = made_photos.pixels(3, (24, 30, 3))

    @pytest.mark.parametrize(
        ("syntax", "encode"),
        [
            (
                JPEGLossless,
                lambda values, bits: imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits),
            ),
            (
                JPEGLosslessSV1,
                lambda values, bits: imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits),
            ),
            (JPEGLSLossless, lambda values, _: imagecodecs.jpegls_encode(values)),
            (
                JPEG2000Lossless,
                lambda values, bits: imagecodecs.jpeg2k_encode(
                    values, codecformat="j2k", reversible=True, bitspersample=bits
                ),
            ),
            (HTJ2KLossless, lambda values, _: imagecodecs.htj2k_encode(values, reversible=True)),
        ],
        ids=["lossless", "lossless, first order", "JPEG-LS", "JPEG 2000", "HTJ2K"],
    )
    @pytest.mark.parametrize("kind", ["grey", "colour"])
    def test_without_loss(self, tmp_path, syntax, encode, kind):
        values, bits = (self.grey, 12) if kind == "grey" else (self.colour, 8)
        path = compressed(tmp_path / "a.dcm", values, bits, syntax, encode(values, bits))
        pixels = DicomFiles().picture(path).pixels
        expected = values[None] * (65535 / 4095) if kind == "grey" else np.moveaxis(values, 2, 0)
        np.testing.assert_allclose(pixels, expected, atol=0.51)

    def test_twelve_bits_with_loss(self, tmp_path):
        smooth = (made_photos.pixels(3, (24, 30)).astype(np.uint16) * 16).astype(np.uint16)
        frame = imagecodecs.jpeg8_encode(smooth, level=98, bitspersample=12)
        path = compressed(tmp_path / "a.dcm", smooth, 12, JPEGExtended12Bit, frame)
        assert DicomFiles().picture(path).pixels[0] / 65535 == pytest.approx(smooth / 4095, abs=0.01)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
            ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
            ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
            ("MR_small_expb.dcm", "MR_small.dcm"),
            ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
        ],
    )
    def test_files_of_other_programs(self, one, other):
        """Files that pydicom brings along, each the same picture in two transfer syntaxes."""
        pictures = [DicomFiles().picture(Path(get_testdata_file(name))) for name in (one, other)]
        np.testing.assert_array_equal(pictures[0].pixels, pictures[1].pixels)

    def test_a_frame_of_another_size_is_not_decoded(self, tmp_path):
        frame = imagecodecs.jpeg2k_encode(np.zeros((900, 800), np.uint16), codecformat="j2k")
        frame = frame.replace((800).to_bytes(4, "big"), (2**31).to_bytes(4, "big"), 1)
        path = compressed(tmp_path / "a.dcm", self.grey, 12, HTJ2KLossless, frame)
        with pytest.raises(
            DataError, match=r"a\.dcm: its pixels .*compressed picture has .* unlike its header"
        ):
            DicomFiles().picture(path)

    def test_what_nothing_decodes_is_said_in_full(self, tmp_path):
        path = compressed(tmp_path / "a.dcm", self.grey, 12, MPEG2MPML, bytes(16))
        with pytest.raises(
            DataError, match=r"a\.dcm: its pixels \(MPEG2 .*\) cannot be decoded \(.*save it unc"
        ):
            DicomFiles().picture(path)


class TestColour:
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
        assert len(listing.items) == 20
        assert [finding.kind for finding in listing.findings] == ["files left out", "unreadable"]
        assert "'normal/notes'" in listing.findings[0].says
        assert "film.dcm: holds 9 pictures, but a case is one" in listing.findings[1].says

    @pytest.fixture
    def plain(self, tmp_path) -> Path:
        """A folder of pictures, the first of which are to be changed."""
        root = made_photos.dicom_images(tmp_path, 4)
        for number, path in enumerate(sorted(root.rglob("*.dcm"))):
            path.rename(path.with_name(f"1.2.826.0.1.{number}")) if number < 4 else None
        return root

    def test_pictures_are_found_by_their_content(self, plain):
        """Named by their UID, without ending, without preamble, without file meta information."""
        pictures = [DicomFiles().picture(photo.path).pixels for photo in list_dicom_images(plain).items]
        whole = sorted(path for path in plain.rglob("*") if path.is_file())
        whole[0].write_bytes(whole[0].read_bytes()[132:])
        dataset = dcmread(whole[1])
        dataset.save_as(whole[1], implicit_vr=False, little_endian=True)
        content = whole[1].read_bytes()
        whole[1].write_bytes(content[content.index(b"\x08\x00\x16\x00UI") :])
        whole[2].rename(whole[2].with_name("noending"))
        listing = list_dicom_images(plain)
        assert (len(listing.items), listing.findings) == (8, ())
        changed = {photo.path.name: DicomFiles().picture(photo.path).pixels for photo in listing.items}
        for path, before in zip(whole, pictures, strict=True):
            name = "noending" if path == whole[2] else path.name
            np.testing.assert_array_equal(changed[name], before)

    def test_files_beside_the_pictures_harm_nobody(self, plain):
        for name in (
            "README",
            "notes.txt",
            "normal/Thumbs.db",
            "normal/x.json",
            "normal/.DS_Store",
            "DICOMDIR",
        ):
            (plain / name).write_bytes(b"\0" * 128 + b"DICM" if name == "DICOMDIR" else b"words")
        listing = list_dicom_images(plain)
        (finding,) = listing.findings
        assert (len(listing.items), finding.severity) == (8, Severity.NOTE)
        assert finding.says.startswith(f"5 files in {plain} are of other kinds")
        assert not any(".DS_Store" in str(path) for path in finding.files)

    @pytest.mark.parametrize("name", ["a.dcm", "A.DCM", "a.ima"])
    def test_a_file_that_only_its_name_calls_dicom(self, plain, name):
        (plain / "normal" / name).write_text("words")
        (finding,) = list_dicom_images(plain).findings
        assert (finding.kind, finding.severity) == ("unreadable", Severity.ERROR)
        assert finding.says.endswith(f"{name}: cannot be read (its content is not DICOM).")
        assert finding.advice == "Remove it from the data."


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
            ({"Rows": 60_000, "Columns": 60_000}, "claims 60000 x 60000 pixels"),
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

"""A miniature of DICOM series with segmentation objects, told apart by their headers only."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, generate_uid

from made_photos import write_dicom
from made_scans import SUBJECTS, belly

SPACING = (1.0, 1.0, 1.5)
"""Of the miniature's voxels along x, y, z in mm."""

ORIGIN = (40.0, -30.0, 12.0)
"""LPS of the first pixel of the first slice."""

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
INTERCEPT = -1024
COLOURS = ((220, 20, 60), (0, 0, 255))
"""Of the first and the second segment."""

ORGANS = {1: "liver", 2: "tumour"}


def dicom_seg(root: Path, patients: int = SUBJECTS) -> Path:
    """A CT per patient and its segmentation; every second one numbers the segments the other way round."""
    for patient in range(patients):
        image, labels = belly(patient)
        series = write_series(root / f"P{patient}" / "CT", image, f"PAT{patient}")
        order = (1, 2) if patient % 2 == 0 else (2, 1)
        numbered = np.select([labels == organ for organ in order], [1, 2])
        names = [ORGANS[organ] for organ in order]
        write_segmentation(root / f"P{patient}" / "derived" / "1.2.3", series, numbered, names)
    (root / "LICENSE").write_text("no DICOM file")
    return root


def write_series(folder: Path, image: np.ndarray, patient: str, **elements: object) -> list[pydicom.Dataset]:
    """A CT of an array in RAS, a file for each slice, in an order that says nothing."""
    uid, frame = generate_uid(entropy_srcs=[patient, "series"]), generate_uid(entropy_srcs=[patient, "frame"])
    stored = np.rint(slices(image) - INTERCEPT).astype(np.uint16)
    files = []
    for place, pixels in enumerate(stored):
        path = folder / f"{(7 * place) % len(stored):04d}"
        header = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": generate_uid(entropy_srcs=[uid, str(place)]),
            "StudyInstanceUID": generate_uid(entropy_srcs=[patient, "study"]),
            "SeriesInstanceUID": uid,
            "FrameOfReferenceUID": frame,
            "Modality": "CT",
            "PatientID": patient,
            "PatientName": "",
            "PatientSex": "F",
            "PatientAge": "062Y",
            "PatientBirthDate": "",
            "StudyDate": "",
            "StudyTime": "",
            "StudyID": "",
            "AccessionNumber": "",
            "ReferringPhysicianName": "",
            "Manufacturer": "maker",
            "SliceThickness": SPACING[2],
            "PixelSpacing": [SPACING[1], SPACING[0]],
            "ImageOrientationPatient": list(AXIAL),
            "ImagePositionPatient": [*ORIGIN[:2], ORIGIN[2] + place * SPACING[2]],
            "PhotometricInterpretation": "MONOCHROME2",
            "RescaleSlope": 1,
            "RescaleIntercept": INTERCEPT,
        }
        write_dicom(path, pixels, 16, **{**header, **elements})
        files.append(pydicom.dcmread(path))
    return files


def write_segmentation(
    path: Path,
    series: list[pydicom.Dataset],
    labels: np.ndarray,
    names: list[str],
    kind: str = "BINARY",
    **elements: object,
) -> None:
    """A segmentation of a series: an array in RAS of numbers from 1, or of shares of segments (last axis)."""
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="MANUAL",
            display_color=hd.color.CIELabColor.from_rgb(*COLOURS[number - 1]),
        )
        for number, name in enumerate(names, start=1)
    ]
    array = slices(labels)
    segmentation = hd.seg.Segmentation(
        source_images=series,
        pixel_array=array if array.dtype.kind == "f" else array.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(entropy_srcs=[str(path)]),
        series_number=9,
        sop_instance_uid=generate_uid(entropy_srcs=[str(path), "instance"]),
        instance_number=1,
        manufacturer="maker",
        manufacturer_model_name="model",
        software_versions="1",
        device_serial_number="1",
    )
    for keyword, value in elements.items():
        setattr(segmentation, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)


def slices(volume: np.ndarray) -> np.ndarray:
    """A volume in RAS as axial slices of DICOM: rows to the back, columns to the left."""
    return np.moveaxis(volume[::-1, ::-1], (0, 1, 2), (2, 1, 0))


def affine() -> np.ndarray:
    """Where the voxels of an array in RAS lie, from x, y, z to world millimetres."""
    shape = belly(0)[0].shape
    origin = [-ORIGIN[0] - (shape[0] - 1) * SPACING[0], -ORIGIN[1] - (shape[1] - 1) * SPACING[1], ORIGIN[2]]
    return np.array(
        [
            [SPACING[0], 0, 0, origin[0]],
            [0, SPACING[1], 0, origin[1]],
            [0, 0, SPACING[2], origin[2]],
            [0, 0, 0, 1],
        ]
    )

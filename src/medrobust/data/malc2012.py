"""Brain MRI of the MICCAI 2012 Multi-Atlas Labelling Challenge: the paper's own segmentation data.

    training-images/1000_3.nii.gz    training-labels/1000_3_glm.nii.gz    (15 patients)
    testing-images/1003_3.nii.gz     testing-labels/1003_3_glm.nii.gz     (12 or more)

Source: Landman & Warfield (eds.), MICCAI 2012 Workshop on Multi-Atlas Labeling. The scans are of the OASIS
project; the labels were provided by Neuromorphometrics, Inc. under academic subscription. CC BY-NC.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import UInt8, UInt16

from medrobust.core import Dataset, Part, Task
from medrobust.data.scans import Decoding, ScanFiles, open_slices
from medrobust.data.structures import STRUCTURES, to_structures, unknown_labels
from medrobust.data.volumes import CANVAS_STEP, VIEWS, Axis, Intensity
from medrobust.errors import DataError

REVISION = 1
"""Raised with every change of what the images or labels hold."""

FOLDERS = {Part.TRAIN: "training", Part.TEST: "testing"}
SCAN_NAME = re.compile(r"(?P<scan>(?P<patient>\d{4})_\d+)\.nii(\.gz)?")
LABELS_NAME = re.compile(r"(?P<scan>\d{4}_\d+)_glm\.nii(\.gz)?")

Side = Annotated[int, Ge(1)]


def open_malc2012(
    root: Path | None,
    cache: Path | None,
    *,
    axis: Axis = "coronal",
    spacing: Annotated[float, Gt(0)] = 2.0,
    canvas: Literal["auto"] | tuple[Side, Side] = "auto",
    intensity: Intensity = "percentile-99.5",
) -> Dataset:
    """Open the challenge's folder; a case is a slice that holds at least one of the 27 structures.

    Args:
        root: Folder that holds `training-images` and the others.
        cache: Folder for decoded scans; None decodes a scan again whenever others were read in between.
        axis: Along which the scans are cut.
        spacing: Size of a voxel in mm, along all axes, to which scans are resampled before they are cut.
        canvas: Height and width in pixels of every slice, the scan in its middle; "auto" takes the smallest
            multiples of 16 that every scan fits in.
        intensity: Per scan, what becomes 1, the minimum becoming 0.

    Raises:
        DataError: A folder or a partner file is missing, a file cannot be used (see `volumes.read_volume`), a
            label is none of BrainCOLOR's, a patient is in training and testing, or the canvas is too small.
    """
    if root is None:
        raise DataError("data.root: 'malc2012' needs the folder that holds training-images. Give its path.")
    parts = {part: _scans(root, folder) for part, folder in FOLDERS.items()}
    official = _official(parts)
    decoding = Decoding(axis, spacing, intensity, brain_structures)
    slices = open_slices(
        [scan for scans in parts.values() for scan in scans], decoding, canvas, cache, REVISION
    )
    return Dataset(
        name="malc2012",
        task=Task.SEGMENTATION,
        classes=STRUCTURES,
        unit="patient",
        channels=1,
        shape=slices.read.canvas,
        spacing=(spacing, spacing),
        cases=slices.cases,
        read=slices.read,
        fingerprint=slices.fingerprint,
        official=official,
        facts=_facts(decoding, slices.read.canvas),
        bits=12,
    )


def brain_structures(labels: UInt16[np.ndarray, "x y z"], path: Path) -> UInt8[np.ndarray, "x y z"]:
    """Class indices of BrainCOLOR labels.

    Raises:
        DataError: A label that BrainCOLOR does not use.
    """
    unknown = unknown_labels(labels)
    if unknown:
        raise DataError(
            f"{path} holds the label {', '.join(map(str, unknown[:5]))}, which is no region of BrainCOLOR. "
            "Are these FreeSurfer labels? Use the challenge's *_glm files."
        )
    return to_structures(labels)


def _scans(root: Path, folder: str) -> list[ScanFiles]:
    """The scans of the training or testing folders, sorted by id."""
    images = _files(root / f"{folder}-images", SCAN_NAME, "1000_3.nii.gz")
    labels = _files(root / f"{folder}-labels", LABELS_NAME, "1000_3_glm.nii.gz")
    for scan_id in sorted(set(images) ^ set(labels)):
        here, lacking = (images, "labels") if scan_id in images else (labels, "image")
        raise DataError(f"{here[scan_id]} has no {lacking} in {root / folder}-{lacking.removesuffix('s')}s.")
    return [ScanFiles(scan_id, scan_id[:4], images[scan_id], labels[scan_id]) for scan_id in sorted(images)]


def _files(folder: Path, name: re.Pattern[str], example: str) -> dict[str, Path]:
    """NIfTI files of a folder by scan id."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is missing. The root needs the folders training-images, training-labels, "
            "testing-images and testing-labels."
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("[!.]*.nii*")):
        match = name.fullmatch(path.name)
        if match is None:
            raise DataError(
                f"{path} is not named as the challenge's files are, e.g. {example}. Rename or move it."
            )
        if match["scan"] in files:
            raise DataError(f"{files[match['scan']]} and {path} are the same scan. Keep one.")
        files[match["scan"]] = path
    if not files:
        raise DataError(f"{folder} holds no NIfTI file such as {example}.")
    return files


def _official(parts: dict[Part, list[ScanFiles]]) -> dict[str, Part]:
    train, test = ({scan.patient_id for scan in parts[part]} for part in (Part.TRAIN, Part.TEST))
    if train & test:
        raise DataError(
            f"Patient {min(train & test)} has scans in training-images and in testing-images: networks would "
            "be tested on what they learned. Move them to one side."
        )
    return dict.fromkeys(sorted(train), Part.TRAIN) | dict.fromkeys(sorted(test), Part.TEST)


def _facts(decoding: Decoding, canvas: tuple[int, int]) -> dict[str, str]:
    brightest = (
        "maximum" if decoding.intensity == "min-max" else "99.5th percentile of the voxels above the minimum"
    )
    return {
        "orientation": f"read from the affine; {decoding.axis} slices, {VIEWS[decoding.axis][1]}",
        "spacing": (
            f"resampled to {decoding.spacing:g} mm: images by the mean over the new voxel, "
            "labels by the structure that fills most of it"
        ),
        "canvas": f"{canvas[0]} x {canvas[1]} pixels, head centred; auto: multiples of {CANVAS_STEP}",
        "intensity": f"per scan, minimum to 0 and {brightest} to 1, clipped",
        "labels": (
            "27 structures from BrainCOLOR's regions; the lateral ventricles include their inferior horns; "
            "accumbens, vermis, basal forebrain, optic chiasm, vessels and other CSF are background"
        ),
        "cases": "slices that hold at least one structure",
        "credit": "OASIS project; labels by Neuromorphometrics, Inc. under academic subscription; CC BY-NC",
    }

"""Brain MRI of the MICCAI 2012 Multi-Atlas Labelling Challenge: the paper's own segmentation data.

    training-images/1000_3.nii.gz    training-labels/1000_3_glm.nii.gz    (15 patients)
    testing-images/1003_3.nii.gz     testing-labels/1003_3_glm.nii.gz     (12 or more)

Source: Landman & Warfield (eds.), MICCAI 2012 Workshop on Multi-Atlas Labeling. The scans are of the OASIS
project; the labels were provided by Neuromorphometrics, Inc. under academic subscription. CC BY-NC.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from medrobust.core import Part
from medrobust.data.findings import Finding, Severity
from medrobust.data.listing import Scan, Scans
from medrobust.data.structures import STRUCTURES, to_structures, unknown_labels
from medrobust.errors import DataError

FOLDERS = {Part.TRAIN: "training", Part.TEST: "testing"}
SCAN_NAME = re.compile(r"(?P<scan>(?P<patient>\d{4})_\d+)\.nii(\.gz)?")
LABELS_NAME = re.compile(r"(?P<scan>\d{4}_\d+)_glm\.nii(\.gz)?")


def list_malc2012(root: Path) -> Scans:
    """The challenge's folders, with the 27 structures of the paper.

    Args:
        root: Folder that holds `training-images` and the others.

    Raises:
        DataError: A folder is missing or empty. Partner files that are missing, strange file names, a scan
            that is there twice and a patient in training and testing are findings.
    """
    findings: list[Finding] = []
    parts = {part: _scans(root, folder, findings) for part, folder in FOLDERS.items()}
    findings += _on_both_sides(parts)
    return Scans(
        classes=STRUCTURES,
        unit="patient",
        items=tuple(sorted((scan for scans in parts.values() for scan in scans), key=lambda s: s.scan_id)),
        classes_of=brain_structures,
        facts={
            "labels": (
                "27 structures from BrainCOLOR's regions; the lateral ventricles include their inferior "
                "horns; accumbens, vermis, basal forebrain, optic chiasm, vessels and other CSF are "
                "background"
            ),
            "credit": (
                "OASIS project; labels by Neuromorphometrics, Inc. under academic subscription; CC BY-NC"
            ),
        },
        findings=tuple(findings),
        official={scan.patient_id: part for part, scans in parts.items() for scan in scans},
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


def _scans(root: Path, folder: str, findings: list[Finding]) -> list[Scan]:
    """The scans of the training or testing folders, sorted by id."""
    images = _files(root / f"{folder}-images", SCAN_NAME, "1000_3.nii.gz", findings)
    labels = _files(root / f"{folder}-labels", LABELS_NAME, "1000_3_glm.nii.gz", findings)
    for scan_id in sorted(set(images) ^ set(labels)):
        here, lacking = (images, "labels") if scan_id in images else (labels, "image")
        says = f"{here[scan_id]} has no {lacking} in {root / folder}-{lacking.removesuffix('s')}s."
        advice = f"Add the {lacking}, or move the file away."
        findings.append(Finding(f"{lacking} missing", Severity.ERROR, says, advice, (here[scan_id],)))
    return [
        Scan(scan_id, scan_id[:4], images[scan_id], labels[scan_id])
        for scan_id in sorted(set(images) & set(labels))
    ]


def _files(folder: Path, name: re.Pattern[str], example: str, findings: list[Finding]) -> dict[str, Path]:
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
            says = f"{path} is not named as the challenge's files are, e.g. {example}."
            findings.append(Finding("strange name", Severity.ERROR, says, "Rename or move it.", (path,)))
        elif match["scan"] in files:
            says, both = f"{files[match['scan']]} and {path} are the same scan.", (files[match["scan"]], path)
            findings.append(Finding("listed twice", Severity.ERROR, says, "Keep one.", both))
        else:
            files[match["scan"]] = path
    if not files:
        raise DataError(f"{folder} holds no NIfTI file such as {example}.")
    return files


def _on_both_sides(parts: Mapping[Part, list[Scan]]) -> list[Finding]:
    train, test = ({scan.patient_id: scan.image for scan in parts[part]} for part in (Part.TRAIN, Part.TEST))
    return [
        Finding(
            "patient on both sides",
            Severity.ERROR,
            f"Patient {patient} has scans in training-images and in testing-images: networks would be tested "
            "on what they learned.",
            "Move them to one side.",
            (train[patient], test[patient]),
        )
        for patient in sorted(train.keys() & test.keys())
    ]

"""Brain MRI of the MICCAI 2012 Multi-Atlas Labelling Challenge: the paper's own segmentation data.

    training-images/1000_3.nii.gz    training-labels/1000_3_glm.nii.gz    (15 patients)
    testing-images/1003_3.nii.gz     testing-labels/1003_3_glm.nii.gz     (12 or more)

or the second release, skull-stripped, as the R package malf.templates carries it in `inst/extdata`:

    1000_SS.nii.gz    1000_glm.nii.gz

Source: Landman & Warfield (eds.), MICCAI 2012 Workshop on Multi-Atlas Labeling. The scans are of the OASIS
project; the labels were provided by Neuromorphometrics, Inc. under academic subscription. CC BY-NC.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from medrobust.core import Part
from medrobust.data.adapters.pairing import pair
from medrobust.data.findings import Finding, Severity, is_sound, quoted
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.structures import BRAINCOLOR_LABELS, STRUCTURES
from medrobust.errors import DataError

FOLDERS = {Part.TRAIN: "training", Part.TEST: "testing"}
TRAINING = frozenset(map(str, (1000, 1001, 1002, *range(1006, 1016), 1017, 1036)))
"""The challenge's training patients, whom the names of the second release do not tell."""

RESCANS = frozenset(("1023", "1024", "1025", "1038", "1039"))
"""Second scans of five of the patients; whose they are, the data do not say."""

SECOND_NAME = re.compile(r"(?P<scan>\d{4})_SS\.nii(\.gz)?")
SECOND_LABELS_NAME = re.compile(r"(?P<scan>\d{4})_glm\.nii(\.gz)?")
SCAN_NAME = re.compile(r"(?P<scan>(?P<patient>\d{4})_\d+)\.nii(\.gz)?")
LABELS_NAME = re.compile(r"(?P<scan>\d{4}_\d+)_glm\.nii(\.gz)?")


def list_malc2012(root: Path) -> Scans:
    """The challenge's folders, of either release, with the 27 structures of the paper.

    Args:
        root: Folder that holds `training-images` and the others, or the files of the second release (or its
            `inst/extdata`).

    Raises:
        DataError: A folder is missing or empty. Partner files that are missing, strange file names, a scan
            that is there twice and a patient in training and testing are findings, and so are rescans, which
            are left out.
    """
    findings: list[Finding] = []
    second = _second_release(root)
    parts = (
        {part: _scans(root, folder, findings) for part, folder in FOLDERS.items()}
        if second is None
        else _second_parts(second, findings)
    )
    findings += _on_both_sides(parts)
    parts = {part: _without_rescans(scans, findings) for part, scans in parts.items()}
    return Scans(
        classes=STRUCTURES,
        unit="patient",
        items=tuple(sorted((scan for scans in parts.values() for scan in scans), key=lambda s: s.scan_id)),
        classes_of=BRAINCOLOR_LABELS,
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


def _second_release(root: Path) -> Path | None:
    """The folder of the second release's files, where it is that."""
    folders = (root, root / "inst" / "extdata")
    return next((folder for folder in folders if any(folder.glob("[!.]*_SS.nii*"))), None)


def _second_parts(folder: Path, findings: list[Finding]) -> dict[Part, list[Scan]]:
    """Files such as masks and tissues, which the release holds as well, are passed over."""
    images, labels = (
        {match["scan"]: path for path in sorted(folder.iterdir()) if (match := name.fullmatch(path.name))}
        for name in (SECOND_NAME, SECOND_LABELS_NAME)
    )
    scans = pair([images], labels, findings)
    is_training = {True: Part.TRAIN, False: Part.TEST}
    parts: dict[Part, list[Scan]] = {part: [] for part in FOLDERS}
    for scan in scans:
        parts[is_training[scan.patient_id in TRAINING]].append(scan)
    return parts


def _without_rescans(scans: list[Scan], findings: list[Finding]) -> list[Scan]:
    again = [scan for scan in scans if scan.patient_id in RESCANS]
    if again:
        says = f"{quoted([scan.scan_id for scan in again])} are second scans of patients with other numbers."
        advice = "They are left out: with them, one patient could train and test."
        files = tuple(scan.image for scan in again)
        findings.append(Finding("rescan", Severity.WARNING, says, advice, files))
    return [scan for scan in scans if scan not in again]


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
        Scan(scan_id, scan_id[:4], (images[scan_id],), labels[scan_id])
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
    if not files and is_sound(findings):
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

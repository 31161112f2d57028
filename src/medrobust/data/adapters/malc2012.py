"""Brain MRI of the MICCAI 2012 Multi-Atlas Labelling Challenge: the paper's own segmentation data.

    training-images/1000_3.nii.gz    training-labels/1000_3_glm.nii.gz    (15 patients)
    testing-images/1003_3.nii.gz     testing-labels/1003_3_glm.nii.gz     (12 or more)

or the second release, skull-stripped, as the R package malf.templates carries it in `inst/extdata`:

    1000_SS.nii.gz    1000_glm.nii.gz

Source: Landman & Warfield (eds.), MICCAI 2012 Workshop on Multi-Atlas Labeling. The scans are of the OASIS
project; the labels were provided by Neuromorphometrics, Inc. under academic subscription. CC BY-NC.
"""

import re
from dataclasses import replace
from pathlib import Path

from medrobust.core import Part
from medrobust.data.adapters.pairing import official_split, pair, scans_of
from medrobust.data.findings import Finding, error, is_sound, quoted, warning
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.structures import BRAINCOLOR_LABELS
from medrobust.errors import DataError

FOLDERS = {Part.TRAIN: "training", Part.TEST: "testing"}
TRAINING = frozenset(map(str, (1000, 1001, 1002, *range(1006, 1016), 1017, 1036)))
"""The challenge's training patients, who cannot be told from the names of the second release."""

RESCANS = frozenset(("1023", "1024", "1025", "1038", "1039"))
"""Second scans of five of the patients; the data do not say which."""

SECOND_NAME = re.compile(r"(?P<scan>\d{4})_SS\.nii(\.gz)?")
SECOND_LABELS_NAME = re.compile(r"(?P<scan>\d{4})_glm\.nii(\.gz)?")
SCAN_NAME = re.compile(r"(?P<scan>\d{4}_\d+)\.nii(\.gz)?")
LABELS_NAME = re.compile(r"(?P<scan>\d{4}_\d+)_glm\.nii(\.gz)?")


def list_malc2012(root: Path) -> Scans:
    """The challenge's data, of either release, with the 27 structures of the paper.

    Raises:
        DataError: A folder is missing or empty. Missing partner files, strange file names, duplicate scans,
            patients in training and testing, and rescans, which are left out, are findings.
    """
    findings: list[Finding] = []
    second = next(
        (each for each in (root, root / "inst" / "extdata") if any(each.glob("[!.]*_SS.nii*"))), None
    )
    if second is None:
        sides = {part: _of_folders(root, folder, findings) for part, folder in FOLDERS.items()}
        placed = [(scan, part) for part, scans in sides.items() for scan in scans]
    else:
        scans = pair([_named(second, SECOND_NAME)], _named(second, SECOND_LABELS_NAME), findings)
        placed = [(scan, Part.TRAIN if scan.patient_id in TRAINING else Part.TEST) for scan in scans]
    if again := [scan for scan, _ in placed if scan.patient_id in RESCANS]:
        says = f"{quoted([scan.scan_id for scan in again])} are rescans of patients under other numbers."
        advice = "They are left out: otherwise one patient could be in both training and test."
        findings.append(warning("rescan", says, advice, *(scan.image for scan in again)))
    placed = [(scan, part) for scan, part in placed if scan.patient_id not in RESCANS]
    labels = (
        "27 structures from BrainCOLOR's regions; the lateral ventricles include their inferior horns; "
        "accumbens, vermis, basal forebrain, optic chiasm, vessels and other CSF are background"
    )
    credit = "OASIS project; labels by Neuromorphometrics, Inc. under academic subscription; CC BY-NC"
    official, facts = official_split(placed, findings), {"labels": labels, "credit": credit}
    kept = [scan for scan, _ in placed]
    return scans_of(kept, BRAINCOLOR_LABELS, "patient", findings, facts, official=official)


def _named(folder: Path, name: re.Pattern[str]) -> dict[str, Path]:
    """Files of the second release by scan; others, such as masks and tissues, are ignored."""
    return {match["scan"]: path for path in sorted(folder.iterdir()) if (match := name.fullmatch(path.name))}


def _of_folders(root: Path, folder: str, findings: list[Finding]) -> list[Scan]:
    images = _files(root / f"{folder}-images", SCAN_NAME, "1000_3.nii.gz", findings)
    labels = _files(root / f"{folder}-labels", LABELS_NAME, "1000_3_glm.nii.gz", findings)
    scans = pair([images], labels, findings, unlabelled=error)
    return [replace(scan, patient_id=scan.scan_id[:4]) for scan in scans]


def _files(folder: Path, name: re.Pattern[str], example: str, findings: list[Finding]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is missing. The root needs the folders training-images, training-labels, "
            "testing-images and testing-labels."
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("[!.]*.nii*")):
        match = name.fullmatch(path.name)
        if match is None:
            says = f"{path} is not named like the challenge's files, e.g. {example}."
            findings.append(error("strange name", says, "Rename or move it.", path))
        elif match["scan"] in files:
            says = f"{files[match['scan']]} and {path} are the same scan."
            findings.append(error("listed twice", says, "Keep one.", files[match["scan"]], path))
        else:
            files[match["scan"]] = path
    if not files and is_sound(findings):
        raise DataError(f"{folder} holds no NIfTI file such as {example}.")
    return files

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
from medrobust.data.adapters.pairing import files_by_scan, official_split, pair, scans_of
from medrobust.data.findings import Finding, error, quoted, warning
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.structures import BRAINCOLOR_LABELS
from medrobust.errors import DataError

FOLDERS = {Part.TRAIN: "training", Part.TEST: "testing"}
TRAINING = frozenset(map(str, (1000, 1001, 1002, *range(1006, 1016), 1017, 1036)))
"""The challenge's training patients, who cannot be told from the names of the second release."""

RESCANS = frozenset(("1023", "1024", "1025", "1038", "1039"))
"""Second scans of five of the patients; the data do not say which."""

NAMES, SECOND_NAMES = (
    tuple(re.compile(rf"(?P<scan>{scan}){kind}\.nii(\.gz)?") for kind in kinds)
    for scan, kinds in ((r"\d{4}_\d+", ("", "_glm")), (r"\d{4}", ("_SS", "_glm")))
)
"""Of images and labels, in the two releases."""


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
        files = sorted(second.iterdir())  # some are masks and tissues
        images, segmentations = (files_by_scan(second, files, name, findings) for name in SECOND_NAMES)
        scans = pair([images], segmentations, findings)
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


def _of_folders(root: Path, name: str, findings: list[Finding]) -> list[Scan]:
    files = []
    for kind, named, example in zip(("images", "labels"), NAMES, ("1000_3", "1000_3_glm"), strict=True):
        folder, example = root / f"{name}-{kind}", f"{example}.nii.gz"
        if not folder.is_dir():
            raise DataError(
                f"{folder} is missing. The root needs the folders training-images, training-labels, "
                "testing-images and testing-labels."
            )
        paths = sorted(folder.glob("[!.]*.nii*"))
        if not paths:
            raise DataError(f"{folder} holds no NIfTI file such as {example}.")
        files.append(files_by_scan(folder, paths, named, findings, f"the challenge's files, e.g. {example}"))
    scans = pair(files[:1], files[1], findings, unlabelled=error)
    return [replace(scan, patient_id=scan.scan_id[:4]) for scan in scans]

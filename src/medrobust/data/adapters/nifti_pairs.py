"""Scans and their labels in files whose names say what belongs together.

    images/case01.nii.gz    labels/case01.nii.gz    labels.tsv (index, name)

or any other layout that patterns describe, e.g. `images: "{patient}/{scan}/t1.nii.gz"`.
"""

from pathlib import Path
from typing import Annotated

from annotated_types import MinLen

from medrobust.data.adapters.pairing import (
    by_patient,
    files_by_scan,
    of_patients,
    pair,
    pattern,
    scans_of,
    volumes_below,
)
from medrobust.data.findings import Finding
from medrobust.data.listing import Scans
from medrobust.data.scans.labels import Ignored, Labels, label_map
from medrobust.errors import DataError, StudyError


def list_nifti_pairs(
    root: Path,
    *,
    images: str | list[str] = "images/{scan}.nii*",
    segmentations: Annotated[str, MinLen(1)] = "labels/{scan}.nii*",
    labels: Labels | str = "labels.tsv",
    ignore: Ignored | None = None,
    patient: str | None = None,
) -> Scans:
    """Files of images and labels that belong together by their names.

    Args:
        root: Folder of all files.
        images: Pattern of the images' paths below the root; several are the channels, in this order. {scan}
            and {patient} stand for what distinguishes scans and patients; *, ? and **/ for anything.
        segmentations: Pattern of the label files.
        labels: Numbers of each class, e.g. {liver: [1, 2], tumour: 3, background: 4}, or a file with them.
        ignore: Numbers of voxels that nobody labelled, which count nowhere, e.g. 255.
        patient: Regular expression that finds the patient in a scan's id, unless {patient} is in `images`.

    Raises:
        StudyError: A pattern or the mapping cannot be used.
        DataError: No scan has labels, or the label file is wrong.
    """
    own = label_map(labels, root, ignore)
    channels = [images] if isinstance(images, str) else images
    if not channels:
        raise StudyError("data.images: at least one pattern is needed; got [].")
    named = [pattern(text, "data.images") for text in channels]
    truth = pattern(segmentations, "data.segmentations")
    paths, findings = volumes_below(root), list[Finding]()
    targets = files_by_scan(root, paths, truth, findings)
    left = sorted(set(paths) - set(targets.values()))
    found = [files_by_scan(root, left, one, findings) for one in named]
    if not any(found) or not targets:
        raise DataError(
            f"{root}: {sum(map(len, found))} images match {', '.join(map(repr, channels))}, and "
            f"{len(targets)} label files match {segmentations!r}. Correct the patterns."
        )
    scans = pair(found, targets, findings)
    if "patient" in named[0].groupindex:
        matches = {
            scan: named[0].fullmatch(path.relative_to(root).as_posix()) for scan, path in found[0].items()
        }
        patients = {scan: match and match["patient"] for scan, match in matches.items()}
        items = of_patients(scans, patients, "{patient} in data.images", findings)
        facts = {"patients": "from the files' names, by {patient} in data.images"}
        return scans_of(items, own, "patient", findings, facts)
    those, unit, how = by_patient(scans, patient, findings)
    return scans_of(those, own, unit, findings, {"patients": how})

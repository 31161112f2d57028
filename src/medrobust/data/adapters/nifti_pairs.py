"""Scans and their labels in files whose names say what belongs together.

    images/case01.nii.gz    labels/case01.nii.gz    labels.tsv (index, name)

or any other layout that patterns describe, e.g. `images: "{patient}/{scan}/t1.nii.gz"`. Labels are numbers of
classes, or masks of structures, which may overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from medrobust.data.regions import MOST_MASKS
from medrobust.data.scans.labels import Ignored, Labels, label_map
from medrobust.data.scans.masks import MaskFiles, classes_of_masks
from medrobust.errors import DataError, StudyError

LABELS = "labels.tsv"
Pattern = Annotated[str, MinLen(1)]


def list_nifti_pairs(
    root: Path,
    *,
    images: str | list[str] = "images/{scan}.nii*",
    segmentations: Pattern | Annotated[dict[str, Pattern], MinLen(1)] = "labels/{scan}.nii*",
    labels: Labels | str = LABELS,
    masks: Annotated[list[str], MinLen(1)] | None = None,
    ignore: Ignored | None = None,
    patient: str | None = None,
) -> Scans:
    """Files of images and labels that belong together by their names.

    Args:
        root: Folder of all files.
        images: Pattern of the images' paths below the root; several are the channels, in this order. {scan}
            and {patient} stand for what distinguishes scans and patients; *, ? and **/ for anything.
        segmentations: Pattern of the label files; or, for masks that may overlap, the patterns of each
            structure's masks, e.g. {tumour: "{scan}/tumour.nii*", core: "{scan}/core.nii*"}.
        labels: Numbers of each class, e.g. {liver: [1, 2], tumour: 3, background: 4}, or a file with them.
        masks: Names of the structures where a label file holds a mask for each as its fourth dimension.
        ignore: Numbers of voxels that nobody labelled, which count nowhere, e.g. 255.
        patient: Regular expression that finds the patient in a scan's id, unless {patient} is in `images`.

    Raises:
        StudyError: A pattern or the mapping cannot be used.
        DataError: No scan has labels, or the label file is wrong.
    """
    structures = list(segmentations) if isinstance(segmentations, dict) else masks
    _check_masks(segmentations, labels, masks, structures)
    channels = [images] if isinstance(images, str) else images
    if not channels:
        raise StudyError("data.images: at least one pattern is needed; got [].")
    named = [pattern(text, "data.images") for text in channels]
    patterns = list(segmentations.values()) if isinstance(segmentations, dict) else [segmentations]
    truths = [pattern(text, "data.segmentations") for text in patterns]
    paths, findings = volumes_below(root), list[Finding]()
    of_each = [files_by_scan(root, paths, truth, findings) for truth in truths]
    targets = {scan: path for scan, path in of_each[0].items() if all(scan in each for each in of_each)}
    left = sorted(set(paths).difference(*(each.values() for each in of_each)))
    found = [files_by_scan(root, left, one, findings) for one in named]
    if not any(found) or not targets:
        raise DataError(
            f"{root}: {sum(map(len, found))} images match {', '.join(map(repr, channels))}, and "
            f"{len(targets)} label files match {', '.join(map(repr, patterns))}. Correct the patterns."
        )
    scans = pair(found, targets, findings)
    if structures is None:
        own = label_map(labels, root, ignore)
    else:
        values = (ignore,) if isinstance(ignore, int) else tuple(ignore or ())
        scans = [
            replace(
                scan,
                format=MaskFiles(tuple(each[scan.scan_id] for each in of_each), len(structures), values),
            )
            for scan in scans
        ]
        scans, own = classes_of_masks(scans, structures, findings)
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


def _check_masks(
    segmentations: str | Mapping[str, str],
    labels: Labels | str,
    masks: Sequence[str] | None,
    structures: Sequence[str] | None,
) -> None:
    """See that masks, if there are any, are described once; a StudyError otherwise."""
    if structures is None:
        return
    if masks is not None and not isinstance(segmentations, str):
        raise StudyError(
            "data.masks: is for files that hold all masks, and data.segmentations names those of each "
            "structure. Leave one of the two out."
        )
    if labels != LABELS:
        raise StudyError("data.labels: masks have no numbers that mean anything. Leave the key out.")
    if len(structures) > MOST_MASKS or len({*structures}) < len(structures):
        key = "segmentations" if masks is None else "masks"
        raise StudyError(
            f"data.{key}: at most {MOST_MASKS} structures, with different names, are possible; got "
            f"{', '.join(structures)}."
        )
